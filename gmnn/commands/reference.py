"""`gmnn reference MODEL FILE --output NEW`: the same potential with the zero of energy of other labels."""

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmnn.commands._frame import Command

if TYPE_CHECKING:
    from gmnn.evaluation.zero import Change

KEPT = ("training", "data", "metrics", "finished", "imported")  # facts of the old folder that stay true of forces
DESCRIPTION = """Write a new model folder whose atomic energies E0 are moved so that its energies have the zero of the
labels of FILE, as of another method or pseudopotential. Forces and stresses stay bit for bit the same, and so does
MODEL. The change is a least-squares fit to the composition of the frames; frames of isolated atoms determine what
the others leave open."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, which is not changed")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="frames with energies, in any format that ASE reads, or `ethanol` for the packaged set",
    )
    parser.add_argument(
        "labels", nargs="*", metavar="key=value",
        help="settings of the labels, as in the data section of a configuration: energy_key=REF_energy, "
        "units.energy=Hartree; default: that section's defaults",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DIR", required=True, help="new model folder; it must not exist; required")


def run(arguments: argparse.Namespace) -> int:
    """Fit the change, print it, and write the new folder."""
    import numpy as np

    from gmnn import evaluation, folders
    from gmnn.config.data import LabelsConfig
    from gmnn.config.reading import read_section
    from gmnn.data import isolated_atoms, read_dataset
    from gmnn.elements import SYMBOLS
    from gmnn.errors import UserError
    from gmnn.evaluation import zero
    from gmnn.model import folder

    out, source = Path(arguments.output), Path(arguments.model)
    if os.path.lexists(out):
        raise UserError(f"{out} exists; choose another folder for --output")
    potential = folder.load(source)
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies in {source}, which is not changed; choose another folder for --output")
    description = folder.read_description(source)
    frames = read_dataset(arguments.file, read_section(LabelsConfig, arguments.labels))
    if not frames.present[:, 0].any():
        raise UserError(f"{arguments.file}: no frame has an energy to move to; name its key with energy_key=...")
    comparison = evaluation.compare(potential, frames)
    old = potential.reference
    counts, errors, there = zero.labelled(comparison, old.elements)
    if not np.isfinite(errors).all():
        raise UserError(f"{arguments.model} predicts energies that are not finite for {arguments.file}; leave frames "
                        "out that are far from its data")  # fmt: skip
    change = zero.fit_change(counts, errors, isolated_atoms(frames, potential.config.r_max)[there])
    symbols = [SYMBOLS[z] for z in old.elements]
    notes = _notes(change, symbols, arguments.file)
    new = replace(old, E0=tuple((np.array(old.E0) + change.energies).tolist()))
    print(f"{arguments.model} to the energies of {arguments.file}: {len(errors)} frames\n")
    print(f"{'E0, eV':<8}{'old':>16}{'new':>16}{'change':>14}")
    for symbol, before, after in zip(symbols, old.E0, new.E0, strict=True):
        print(f"{symbol:<8}{before:>16.6f}{after:>16.6f}{after - before:>+14.6f}")
    per_atom = [-1e3 * e / counts.sum(axis=1) for e in (errors, errors - counts @ change.energies)]
    print("\nenergy, meV/atom    before         after")
    for label, of in (("mean error", np.mean), ("mean absolute error", lambda e: np.mean(np.abs(e)))):
        print(f"{label:<20}" + "".join(f"{of(e):<14.3f}" for e in per_atom).rstrip())
    for note in notes:
        print(note)
    epoch = int(re.sub(r"\D", "", Path(str(description["parameters"]["folder"])).name))
    facts: dict[str, Any] = {key: description[key] for key in KEPT if key in description}
    facts["reference_moved"] = {
        "model": str(source), "sha256": folder.potential_digest(potential), "E0_before": list(old.E0),
        "file": arguments.file, "file_sha256": frames.sha256,
    }  # fmt: skip
    with folders.output_folder(out, "model", folder.FILES):
        folder.save(out, replace(potential, reference=new), epoch, facts)
    print(f"\nwritten to {out}; forces and stresses are those of {source}")
    return 0


def _notes(change: "Change", symbols: list[str], file: str) -> list[str]:
    """Sentences about what determined the change. UserError where several compositions leave it open."""
    from gmnn.errors import UserError

    def named(mask: Any) -> str:
        return ", ".join(symbol for symbol, there in zip(symbols, mask, strict=True) if there)

    notes = []
    if change.undetermined.any():
        loose = named(change.undetermined)
        if change.rank > 1:
            raise UserError(
                f"the compositions of {file} determine the change of {loose} only in sums, not one by one; add frames "
                f"with these elements in other proportions, or a frame with the energy of each isolated atom of {loose}"
            )
        notes.append(
            f"all frames have one composition: the changes of {loose} are right in its sum alone (the smallest ones "
            "are taken), so that energies of other compositions mean nothing"
        )
    if change.by_atoms.any():
        notes.append(f"frames of isolated atoms had a part in the change of {named(change.by_atoms)}")
    if change.absent.any():
        notes.append(
            f"E0 of {named(change.absent)} is as before, as no frame has these atoms: do not mix them with others"
        )
    return notes


COMMAND = Command("reference", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
