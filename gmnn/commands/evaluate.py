"""`gmnn eval MODEL FILE`: errors of a trained potential on labelled frames."""

import argparse
from pathlib import Path

from gmnn.commands._frame import Command

FILES = ("calibration.png", "evaluation.json", "grades.png", "parity.png")
DESCRIPTION = """Compare the energies, forces and stresses of a trained model with the labels of FILE. The command
prints errors over all frames, by element, by size of the force and by config_type, the grades of atoms, and the worst
frames. It writes them to evaluation.json and draws parity.png, grades.png and, for an ensemble, calibration.png. A
frame without a label is left out of that quantity only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "file", metavar="FILE", help="labelled frames in any format that ASE reads, or `ethanol` for the packaged set"
    )
    parser.add_argument(
        "labels", nargs="*", metavar="key=value",
        help="settings of the labels, as in the data section of a configuration: energy_key=REF_energy, "
        "units.energy=kcal/mol, stress_sign=-1; default: that section's defaults",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the results; default: MODEL/eval_NAME, with the NAME of FILE"
    )


def run(arguments: argparse.Namespace) -> int:
    """Load the potential and the frames, compare them and report."""
    from gmnn import evaluation, files, folders
    from gmnn.commands import _printing
    from gmnn.config.data import LabelsConfig
    from gmnn.config.reading import read_section
    from gmnn.data import read_dataset
    from gmnn.evaluation import figures, zero
    from gmnn.evaluation.calibration import calibrated
    from gmnn.evaluation.parity import parity
    from gmnn.model import folder

    name = Path(arguments.file).stem
    out = Path(arguments.out) if arguments.out else Path(arguments.model) / f"eval_{name}"
    folders.require_ours(out, "evaluation", FILES)
    potential = folder.load(arguments.model)
    frames = read_dataset(arguments.file, read_section(LabelsConfig, arguments.labels))
    comparison = evaluation.compare(potential, frames)
    report = comparison.report()
    title = f"{Path(arguments.model).resolve().name} on {name}"
    source = {"model": str(arguments.model), "file": arguments.file, "sha256": frames.sha256}
    with folders.output_folder(out, "evaluation", FILES):
        if potential.config.n_members > 1:
            report["uncertainty"] = calibrated(potential, frames, out / "calibration.png", title)
        files.write_json(out / "evaluation.json", {**source, **folder.provenance(), **report})
        parity(comparison, out / "parity.png", title)
        figures.errors_by_grade(comparison, out / "grades.png", title)
    print(f"{arguments.model} on {arguments.file}: {len(frames)} frames, {len(comparison.numbers)} atoms\n")
    print("\n".join([_printing.evaluation(report), *_printing.uncertainty(report.get("uncertainty", {}))]))
    if shift := zero.shift(*zero.labelled(comparison, potential.reference.elements)[:2]):
        moves = f"gmnn reference {arguments.model} {arguments.file} --output NEW moves it"
        print(f"\nNOTE: {zero.sentence(arguments.file, 'the model', shift)}; {moves}")
    print(f"\nwritten to {out}: {', '.join(name for name in FILES if (out / name).exists())}")
    return 0


COMMAND = Command("eval", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
