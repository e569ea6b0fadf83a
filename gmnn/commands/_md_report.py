"""What `gmnn md` says of its run: the summary, the figure, and whether the run left the data of its potential."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmnn.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from gmnn.config.md import DynamicsConfig
    from gmnn.md import Dynamics
    from gmnn.md.summary import DataRange, Record
    from gmnn.model.potential import Potential

LARGEST_FILE = 100e6  # bytes of training data that are read for their densities and bonds
LEFT = 4  # exit code of a run that left the data of its potential


def data_range(config: "DynamicsConfig", potential: "Potential", atoms: "Atoms") -> "DataRange":
    """What is known of the potential's data: smallest distances from its folder, the rest from its training frames."""
    from itertools import combinations_with_replacement

    from gmnn.elements import pair_name
    from gmnn.md.summary import DataRange

    pairs = combinations_with_replacement(potential.reference.elements, 2)
    known = zip(pairs, potential.reference.closest, strict=False)
    closest = {pair_name(*pair): r for pair, r in known if r is not None}
    try:
        frames = _frames(Path(config.model))
    except (UserError, OSError):
        return DataRange(closest)
    return DataRange(closest, _longest(frames, atoms), _densities(frames, atoms))


def _frames(model: Path) -> "list[Atoms]":
    from gmnn.commands._trained import training_file, training_frames

    file = training_file(model)
    if file is not None and file.is_file() and file.stat().st_size > LARGEST_FILE:
        raise UserError(f"{file} is too large to be read for a summary")
    return training_frames(model).atoms


def _longest(frames: "list[Atoms]", atoms: "Atoms") -> dict[str, float]:
    from gmnn.md.bonds import Bonds

    bonds = Bonds(atoms)
    same = [a.positions for a in frames if not a.pbc.any() and np.array_equal(a.numbers, atoms.numbers)]
    return bonds.longest(np.array(same)) if same and len(bonds.i) else {}


def _densities(frames: "list[Atoms]", atoms: "Atoms") -> tuple[float, float] | None:
    """Range of the densities of periodic frames of the same composition, else of the same elements; g/cm³."""
    from gmnn.md.log import GRAMS_PER_CM3

    def composition(structure: "Atoms") -> tuple[tuple[int, float], ...]:
        numbers, counts = np.unique(structure.numbers, return_counts=True)
        return tuple(zip(numbers.tolist(), (counts / counts.sum()).round(6).tolist(), strict=True))

    if not atoms.pbc.all():
        return None
    periodic = [a for a in frames if a.pbc.all() and abs(np.linalg.det(a.cell.array)) > 0]
    alike = [a for a in periodic if composition(a) == composition(atoms)]
    alike = alike or [a for a in periodic if set(a.numbers) == set(atoms.numbers)]
    densities = [a.get_masses().sum() / abs(np.linalg.det(a.cell.array)) * GRAMS_PER_CM3 for a in alike]
    return (min(densities), max(densities)) if densities else None


def draw(config: "DynamicsConfig", record: "Record", data: "DataRange", atoms: int) -> None:
    """Write md.png into the folder of the run."""
    from gmnn.folders import write_files
    from gmnn.md import figures

    output = Path(config.output)
    image = figures.draw(record, data, atoms, f"{output.name}: {Path(config.model).name}, {config.ensemble}")
    write_files(output, {"md.png": image}, "md")


def summarise(config: "DynamicsConfig", dynamics: "Dynamics", record: "Record", data: "DataRange") -> None:
    """Print what the run did."""
    from gmnn.md import summary

    atoms, warm = dynamics.atoms, record.warm
    if config.ensemble == "minimise":
        verdict = "converged" if dynamics.converged else "NOT converged"
        energies = ", ".join(f"{replica.energy:.6f}" for replica in dynamics.replicas)
        print(f"{verdict} after {dynamics.now.step} steps: largest force {dynamics.largest_force:.3g} eV/Å, asked for "
              f"{config.fmax_eV_per_A:g}; energy {energies} eV")  # fmt: skip
        return
    mean = record.columns["temperature_K"][warm].mean()
    print(
        f"{dynamics.now.step * config.timestep_fs / 1000:g} ps; mean temperature of the last four fifths {mean:.1f} K"
    )
    for line in summary.temperatures(record) + summary.means(record, data):
        print(line)
    _distances(dynamics, record, data)
    for line in summary.spread(record, len(atoms)):
        print(line)
    if fallen := summary.fall(record, len(atoms)):
        print(f"WARNING: {fallen}: either the start was far from any minimum, or the potential has a false one "
              "where its data end; look at the trajectory, and see docs/md.md, A fall in energy",
              file=sys.stderr)  # fmt: skip
    _drift(config, dynamics, record)


def _distances(dynamics: "Dynamics", record: "Record", data: "DataRange") -> None:
    """Print closest and longest distances beside the data's, and for an isolated structure T1's bounds."""
    from gmnn.certificate.barrier import barrier_radii
    from gmnn.elements import pair_name
    from gmnn.md import summary

    pairs, index = dynamics.now.setting.pairs, dynamics.potential.element_index
    if not pairs:
        return
    if any(dynamics.pbc):
        print("\n".join(summary.table(record, data)))
        return
    highest = float((record.columns["total_eV"] - record.columns["potential_eV"][0]).max())
    radii = barrier_radii(dynamics.potential, dynamics.atoms, max(0.0, highest)).radii
    proved = {pair_name(a, b): float(radii[index[a], index[b]]) for a, b in pairs}
    print("\n".join(summary.table(record, data, proved)))
    always = "" if dynamics.bath.ensemble == "nve" else ", the largest of the log"
    print(f"never closer with {highest:.2f} eV above the start{always}; gmnn certify says what this rests on")


def _drift(config: "DynamicsConfig", dynamics: "Dynamics", record: "Record") -> None:
    """Print the drift of the energy that the run conserves."""
    warm = record.warm
    constant = config.pressure == "none" and config.final_temperature_K is None and np.sum(warm) > 2
    conserved = {"nve": "total_eV", "nose_hoover": "conserved_eV"}.get(config.ensemble)
    if conserved and constant:
        total = record.columns[conserved][warm]
        slope = 1e3 * np.polyfit(record.times[warm], (total - total[0]).mean(axis=1), 1)[0] / len(dynamics.atoms)
        name = "total" if conserved == "total_eV" else "conserved"
        print(f"drift of the {name} energy {slope:+.2e} meV/atom/ps")


def verdict(config: "DynamicsConfig", dynamics: "Dynamics", record: "Record", data: "DataRange") -> int:
    """Say whether the run left the data of its potential, and return the exit code."""
    from gmnn.md import summary
    from gmnn.md.run import BEYOND

    advice, grade = "train on more frames where it went (docs/learn.md)", 0.0
    if dynamics.graded:
        grades = record.columns["largest_grade"]
        line, replica = np.unravel_index(np.argmax(np.nan_to_num(grades, nan=np.inf)), grades.shape)
        grade = float(grades[line, replica])
        print(f"largest grade of an atom {grade:.2f}, up to step {int(record.columns['step'][line, replica])}"
              f"{record.who(np.array([replica]))}; 1 is the largest of the validation frames")  # fmt: skip
        advice = (f"label the frames in {config.output}/beyond.extxyz and train on them, or let gmnn learn do it "
                  "(docs/learn.md)")  # fmt: skip
    if dynamics.left:
        print(f"STOPPED at step {dynamics.now.step}: {len(dynamics.left)} of {len(dynamics.replicas)} replicas left "
              f"the data, with a grade above {config.stop_above_grade:g}; {advice}", file=sys.stderr)  # fmt: skip
        return LEFT
    if config.ensemble != "minimise" and (clauses := summary.departures(record, data)):
        print(f"LEFT THE DATA: {' and '.join(clauses)}; {advice}", file=sys.stderr)
        return LEFT
    if grade > BEYOND:
        print(f"WARNING: the run left the data, with a grade of {grade:.2f}; {advice}", file=sys.stderr)
    return 0
