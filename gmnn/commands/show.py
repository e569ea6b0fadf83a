"""`gmnn show MODEL`: what a model folder holds, what it was trained on and how far it can be trusted."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmnn.commands._frame import Command

if TYPE_CHECKING:
    from gmnn.model.potential import Potential

Values = dict[str, Any]

SHOWN = 30  # pairs of elements that are printed; --json has all
BEHIND = "-"  # --json without a file
DESCRIPTION = """Print what the model folder MODEL is: elements, size, short range and the smallest distances of its
data, what it was trained on, its errors, whether it has grades, which fast paths cover it, and what made it."""
KINDS = {"none": "single potential", "shallow": "shallow ensemble of {}", "full": "full ensemble of {}"}
ERRORS = (  # label and unit, keys of MAE and RMSE, number of labels
    ("energy, meV/atom", "energy_{}_meV_per_atom", "n_energies"),
    ("forces, meV/Å", "forces_{}_meV_per_A", "n_forces"),
    ("stress, GPa", "stress_{}_GPa", "n_stresses"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "--json", metavar="OUT", nargs="?", const=BEHIND,
        help="write the same as JSON into this file, new or of an earlier `gmnn show`, or print it instead if no file "
        "is named; default: print text",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Load the potential and describe it."""
    from gmnn import files
    from gmnn.model import folder

    to_file = arguments.json not in (None, BEHIND)
    if to_file:
        files.require_sealed(Path(arguments.json))
    path = Path(arguments.model)
    potential = folder.load(path)
    about = describe(path, potential, folder.read_description(path))
    if arguments.json == BEHIND:
        print(files.json_text(about), end="")
        return 0
    print(text(about))
    if to_file:
        files.write_json(Path(arguments.json), files.sealed(about))
        print(f"written to {arguments.json}")
    return 0


def describe(path: Path, potential: "Potential", description: Values) -> Values:
    """Collect what a model folder says of itself, as JSON types; None for what older folders do not hold."""
    import jax

    from gmnn.elements import SYMBOLS
    from gmnn.model.descriptor import n_features

    config, reference = potential.config, potential.reference
    symbols = [SYMBOLS[z] for z in reference.elements]
    changed = datetime.fromtimestamp((path / "config.json").stat().st_mtime, UTC).isoformat(timespec="seconds")
    metrics = _mapping(description.get("metrics"))
    return {
        "model": str(path),
        "kind": KINDS[config.ensemble].format(config.members),
        "members": config.n_members,
        "elements": symbols,
        "atomic_energies_eV": dict(zip(symbols, reference.E0, strict=True)),
        "parameters": sum(int(leaf.size) for leaf in jax.tree.leaves(potential.trained)),
        "r_max_A": config.r_max,
        "basis": config.basis,
        "n_basis": config.n_basis,
        "n_radial": config.n_radial,
        "features": n_features(config.n_radial),
        "hidden": list(config.hidden),
        "output_activation": config.output_activation,
        "clamp": config.core.clamp,
        "gate": config.core.gate,
        "repulsion": config.repulsion,
        "pairs": _pairs(potential),
        "grades": potential.grade is not None,
        **_coverage(potential),
        "finished": bool(description.get("finished")),
        "epochs": metrics.get("epochs"),
        "best_epoch": metrics.get("best_epoch"),
        "start": _mapping(_mapping(description.get("training")).get("start")).get("model"),
        "imported": _mapping(description.get("imported")).get("program"),
        "reference_moved": description.get("reference_moved"),
        "data": _mapping(description.get("data")),
        "errors": {part: _mapping(metrics[part]) for part in ("train", "valid", "test") if part in metrics},
        "units": _mapping(description.get("units")),
        "format_version": description["format_version"],
        "written": description.get("written"),
        "file_changed": changed,
        "versions": _mapping(description.get("versions")),
        "commit": description.get("commit"),
        "dirty": description.get("dirty"),
        "device": description.get("device"),
    }


def _mapping(value: Any) -> Values:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _pairs(potential: "Potential") -> list[Values]:
    """Distances [Å] of every pair: the smallest of the data, the clamp, the window of the repulsion; its strength."""
    import numpy as np

    from gmnn.elements import SYMBOLS
    from gmnn.evaluation import repulsion_table
    from gmnn.model.short_range import pair_tables

    config, reference = potential.config, potential.reference
    tables = pair_tables(config, reference)
    strengths = {row["pair"]: row["strength"] for row in repulsion_table(potential)}
    rows: list[Values] = []
    for k, (e, f) in enumerate(zip(*np.triu_indices(len(reference.elements)), strict=True)):
        pair = "-".join(SYMBOLS[reference.elements[x]] for x in (e, f))
        clamped = config.core.clamp
        rows.append({
            "pair": pair,
            "closest_in_data_A": reference.closest[k] if reference.closest else None,
            "clamp_begins_A": float(tables.clamp_in[e, f] + tables.clamp_width[e, f]) if clamped else None,
            "clamp_ends_A": float(tables.clamp_in[e, f]) if clamped else None,
            "repulsion_full_A": float(tables.r_on[e, f]) if pair in strengths else None,
            "repulsion_ends_A": float(tables.r_off[e, f]) if pair in strengths else None,
            "strength": strengths.get(pair),
        })  # fmt: skip
    return rows


def _coverage(potential: "Potential") -> Values:
    """What covers the model: the fast paths and the theorems, each with the setting that it lacks, or None."""
    from gmnn.certificate import coverage
    from gmnn.config.coverage import uncovered
    from gmnn.kernels.cpp.predict import MOST_CHANNELS
    from gmnn.kernels.parameters import COVERED

    config = potential.config
    fast = uncovered(config, COVERED)
    many = f"model.n_radial: {config.n_radial}" if config.n_radial > MOST_CHANNELS else None
    return {"uncovered_by": {"fast": fast, "kernel": fast or many, "theorems": uncovered(config, coverage.MODEL)}}


def text(about: Values) -> str:
    """Format a description for the terminal."""
    head = f"{about['model']}: {about['kind']} for {' '.join(about['elements'])}"
    lines = [head, "", *_size(about), "", *_short_range(about), "", *_data(about), "", *_errors(about), ""]
    return "\n".join([*lines, *_made(about)])


def _size(about: Values) -> list[str]:
    layers = ", ".join(map(str, about["hidden"]))
    bound = "energy of an atom bounded below" if about["output_activation"] == "swish" else "unbounded"
    energies = ", ".join(f"{symbol} {energy:.4f}" for symbol, energy in about["atomic_energies_eV"].items())
    return [
        f"size         {about['parameters']:,} parameters; hidden layers {layers}; {bound}",
        f"descriptor   r_max {about['r_max_A']:g} Å; {about['n_basis']} {about['basis']} functions in "
        f"{about['n_radial']} channels; moments of rank 0 to 3, {about['features']} invariants",
        f"E0, eV       {energies}",
    ]


def _short_range(about: Values) -> list[str]:
    clamp = "the network sees no distance below the clamp" if about["clamp"] else "no clamp"
    repulsion = "no repulsion" if about["repulsion"] == "none" else f"{about['repulsion'].upper()} repulsion"
    heads = f"{'Å':<9}{'data from':>10}{'clamp':>14}{'repulsion':>14}{'strength':>10}"
    lines = [f"short range  {clamp}; {repulsion}", heads]
    for row in about["pairs"][:SHOWN]:
        cells = (
            _number(row["closest_in_data_A"]),
            _window(row["clamp_begins_A"], row["clamp_ends_A"], about["r_max_A"]),
            _window(row["repulsion_ends_A"], row["repulsion_full_A"]),
            _number(row["strength"]),
        )
        lines.append(f"{row['pair']:<9}{cells[0]:>10}{cells[1]:>14}{cells[2]:>14}{cells[3]:>10}")
    if len(about["pairs"]) > SHOWN:
        lines.append(f"{len(about['pairs']) - SHOWN} more pairs with --json")
    if any(row["closest_in_data_A"] is None for row in about["pairs"]):
        lines.append("a dash under `data from`: no such pair within r_max in the data, or an older folder")
    return lines


def _data(about: Values) -> list[str]:
    lines = []
    if not about["data"]:
        lines = [
            f"trained by   {about['imported']}" if about["imported"] else "trained on   what the folder does not say"
        ]
    for part, entry in about["data"].items():
        ranges = _mapping(_mapping(entry).get("ranges"))
        lines.append(f"{part:<13}{_mapping(entry).get('indices', '?')} frames of {_mapping(entry).get('source', '?')}")
        if ranges:
            lines.append(" " * 13 + _ranges(ranges))
    if about["start"]:
        lines.append(f"{'started from':<13}{about['start']}")
    if moved := _mapping(about["reference_moved"]):
        lines.append(f"{'E0 moved':<13}by gmnn reference, from {moved.get('model')} to labels of {moved.get('file')}")
    return lines


def _ranges(ranges: Values) -> str:
    low, high = ranges["atoms"]
    parts = [f"{low} atoms" if low == high else f"{low} to {high} atoms"]
    labels = [name for name in ("energies", "forces", "stresses") if ranges[f"n_{name}"]]
    parts.append("labels " + ", ".join(f"{name} {ranges[f'n_{name}']}" for name in labels))
    if "energy_eV_per_atom" in ranges:
        parts.append("E - E0 {:.3f} to {:.3f} eV/atom".format(*ranges["energy_eV_per_atom"]))
    if "largest_force_eV_per_A" in ranges:
        parts.append(f"|F| up to {ranges['largest_force_eV_per_A']:.2f} eV/Å")
    if "pressure_GPa" in ranges:
        parts.append("pressure {:.2f} to {:.2f} GPa".format(*ranges["pressure_GPa"]))
    return "; ".join(parts)


def _errors(about: Values) -> list[str]:
    lines = [f"{'MAE / RMSE':<13}" + "".join(f"{label:>22}" for label, _, _ in ERRORS)]
    for part, row in about["errors"].items():
        cells = [
            " / ".join(_number(row.get(key.format(kind))) for kind in ("mae", "rmse")) if row.get(count, 1) else "–"
            for _, key, count in ERRORS
        ]
        lines.append(f"{part:<13}" + "".join(f"{cell:>22}" for cell in cells))
    if not about["errors"]:
        lines = ["errors       none in this folder; gmnn eval MODEL FILE computes them on labelled frames"]
    if about["grades"]:
        return [
            *lines,
            "grades       yes; 1 is the largest of the validation frames, an atom above 1 is unlike the data",
        ]
    return [
        *lines,
        "grades       no: nothing warns of atoms unlike the data; gmnn.evaluation.add_grades adds them",
    ]


def _made(about: Values) -> list[str]:
    missing = about["uncovered_by"]
    words = {"fast": "fast (XLA)", "kernel": "kernel (C++, LAMMPS)", "theorems": "theorems of gmnn certify"}
    covered = [words[name] if setting is None else f"not {words[name]}: {setting}" for name, setting in missing.items()]
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("gmnn", "jax") if name in about["versions"])
    commit = f", commit {str(about['commit'])[:10]}{' (modified)' if about['dirty'] else ''}" if about["commit"] else ""
    epochs = f"; best epoch {about['best_epoch']} of {about['epochs']}" if about["best_epoch"] is not None else ""
    state = "" if about["finished"] or about["imported"] else "; its training has not ended, or the folder does not say"
    date = f"on {about['written'][:10]}" if about["written"] else f"on {about['file_changed'][:10]} (date of its file)"
    units = ", ".join(f"{name} {unit}" for name, unit in about["units"].items())
    return [
        f"covered by   {'; '.join(covered)}",
        f"made         {date} with {versions or 'an unknown version'}{commit}{epochs}{state}",
        f"units        {units}; stress positive under tension (ASE)",
    ]


def _number(value: float | None) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


def _window(outer: float | None, inner: float | None, r_max: float = float("inf")) -> str:
    """Format where something begins and is complete; a pair that the data lack is clamped everywhere."""
    if outer is None or inner is None:
        return "–"
    return "everywhere" if inner >= r_max else f"{outer:.2f} to {inner:.2f}"


COMMAND = Command("show", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
