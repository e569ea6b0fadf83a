"""`gmnn eval MODEL FILE`: errors of a trained potential on labelled frames."""

import argparse
from pathlib import Path

from gmnn.commands.outcome import exit_code

DESCRIPTION = """Energies, forces and stresses of every frame of FILE beside its labels: errors of all frames, by
element, by size of the force and by config_type, and the worst frames, as a table and in evaluation.json; a parity
figure. A frame without a label is left out of that quantity only. FILE is anything ASE reads, or `ethanol` for the
embedded set."""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 evaluated, 2 misuse."""
    parser = argparse.ArgumentParser(prog="gmnn eval", description=DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument("file", metavar="FILE", help="labelled frames")
    parser.add_argument("--energy-key", metavar="KEY", help="key of the energy in info; default: the calculator's")
    parser.add_argument("--forces-key", metavar="KEY", help="key of the forces in arrays; default: the calculator's")
    parser.add_argument("--out", metavar="DIR", help="where the results go; default: MODEL/eval_NAME")
    arguments = parser.parse_args(argv)
    return exit_code("eval", lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Load, compare, report."""
    from gmnn import evaluation, folder
    from gmnn.commands import tables
    from gmnn.commands.parity import parity
    from gmnn.config import LabelsConfig
    from gmnn.dataset import read_dataset

    potential = folder.load(arguments.model)
    frames = read_dataset(
        arguments.file, LabelsConfig(energy_key=arguments.energy_key, forces_key=arguments.forces_key)
    )
    comparison = evaluation.compare(potential, frames)
    report = comparison.report()
    name = Path(arguments.file).stem
    out = Path(arguments.out) if arguments.out else Path(arguments.model) / f"eval_{name}"
    out.mkdir(parents=True, exist_ok=True)
    source = {"model": str(arguments.model), "file": arguments.file, "sha256": frames.sha256}
    folder.write_json(out / "evaluation.json", {**source, **folder.provenance(), **report})
    parity(comparison, out / "parity.png", f"{Path(arguments.model).resolve().name} on {name}")
    print(f"{arguments.model} on {arguments.file}: {len(frames)} frames, {len(comparison.numbers)} atoms\n")
    print(f"{tables.evaluation(report)}\n\nwritten to {out}: evaluation.json, parity.png")
    return 0
