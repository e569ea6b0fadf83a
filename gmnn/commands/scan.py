"""`gmnn scan`: drive every bond of a structure together with a model and check that its energy always rises."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from gmnn import folders
from gmnn.commands._calculators import declared, load_calculator, load_model, make, presets, provider
from gmnn.commands._frame import Command
from gmnn.commands._inputs import load_reference, load_structure, other_frames
from gmnn.commands._progress import progress_bar
from gmnn.errors import UserError
from gmnn.scanning import (
    SUITES,
    BulkCalculator,
    format_suites,
    run_suites,
    scan_bonds,
    write_report,
    write_suite_report,
)
from gmnn.scanning.bonds import roomy
from gmnn.scanning.comparison import StoredScan, read_scan, write_comparison
from gmnn.scanning.paths import N_FRAMES, R_MIN
from gmnn.scanning.reference import ReferenceCurve
from gmnn.scanning.report import format_table
from gmnn.scanning.suites import check_names

LONGEST = 10.0  # Å, of --cutoff
SUITE_BATCH = 4096  # structures between two lines of progress
DESCRIPTION = """Drive the atoms of every bond of a structure together to 0.1 Å and check on a dense grid that the
energy of a model rises all the way in. Bonds are pairs within 1.3 sums of covalent radii, in a periodic structure the
nearest neighbours. Plotted curves start at the length of the bond, X-H curves at twice that length. Minima of the
stretched bonds are counted, too, and are no part of the verdict. The command prints a verdict per bond and writes
scan.csv, scan.json, scan.png and panels.png.
--suites judges many more approaches instead and writes suites.csv, suites.json and suites.png. --models scans with
every model that a file declares; --compare reads finished scans, wherever they were made. Both write
comparison.md, comparison.json and comparison.png. Exit code: 0 if everything passes, 1 if a curve fails, 2 for misuse
or a model that could not be made, 130 if interrupted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        metavar="MODEL",
        help="folder of a trained model; --calculator, --models or --compare may take its place",
    )
    add(
        "--calculator", metavar="NAME",
        help=f"ASE calculator: MODULE:CALLABLE, such as ase.calculators.emt:EMT, or a preset: {', '.join(presets())}",
    )  # fmt: skip
    add(
        "--models", metavar="FILE",
        help="JSON or YAML file of models: each name has module, class and kwargs, or a preset, or a folder",
    )  # fmt: skip
    add("--compare", metavar="DIR", nargs="+", help="folders of finished scans of the same structure to compare")
    add("--kwargs", metavar="JSON", help="keyword arguments of --calculator as a JSON object; default: none")
    add(
        "--structure", metavar="FILE[@INDEX]",
        help="structure in any format that ASE reads, INDEX from 0 (default 0); default: the first training frame "
        "of MODEL, frame 0 of packaged ethanol without MODEL",
    )  # fmt: skip
    add(
        "--cutoff", type=float, metavar="R",
        help="bonds are all pairs within R Å; 1.6 is the protocol S0; default: by covalent radii, see above",
    )  # fmt: skip
    add(
        "--reference", metavar="FILE",
        help="file of curves to compare with, or 'none'; default: the packaged ones for the atoms of ethanol",
    )  # fmt: skip
    add(
        "--out", metavar="DIR",
        help="folder of the report; default: MODEL/scan, scan_NAME with --calculator, scan_models for several models",
    )  # fmt: skip
    add(
        "--frames", type=int, default=N_FRAMES, metavar="N",
        help="number of points of a plotted curve, 2 to 10,000 (default %(default)s)",
    )  # fmt: skip
    add(
        "--r-min", type=float, default=R_MIN, metavar="R",
        help="distance at which the scan ends, Å, from 0.001 to below about 0.4 (default %(default)s)",
    )  # fmt: skip
    add(
        "--window", type=float, nargs=2, metavar=("LO", "HI"),
        help="lowest and highest energy in scan.png, eV above E(r_eq); default: from below the lowest point to 60",
    )  # fmt: skip
    add(
        "--suites",
        metavar="NAMES",
        help=f"suites of approaches to judge instead of the bonds: 'all' or some, as A,B, of {', '.join(SUITES)}",
    )
    add(
        "--seed", type=int, default=0, metavar="N",
        help="seed of the random choices of the suites, 0 or more (default %(default)s)",
    )  # fmt: skip
    add(
        "--prove", type=float, nargs="?", const=0.0, metavar="R",
        help="prove dE/dr < 0 on every curve of a trained model down to contact; with R also for all places of the "
        "other atoms within R Å of theirs",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Scan, judge or compare; return 0 if everything passes, 1 if a curve fails, 2 if a model cannot be made."""
    sources = (arguments.model, arguments.calculator, arguments.models, arguments.compare)
    if sum(source is not None for source in sources) != 1:
        raise UserError("give a model folder, --calculator, --models or --compare, one of the four")
    if arguments.kwargs is not None and arguments.calculator is None:
        raise UserError("--kwargs belongs to --calculator; leave it out with a model folder")
    given = (arguments.frames, arguments.r_min, arguments.window, arguments.cutoff)
    if arguments.suites is not None and given != (N_FRAMES, R_MIN, None, None):
        raise UserError(
            "--frames, --r-min, --window and --cutoff belong to the bond scan; leave them out with --suites"
        )
    if arguments.suites is not None and arguments.model is None and arguments.calculator is None:
        raise UserError("--suites belongs to one model; give its folder or --calculator")
    if arguments.prove is not None:
        if arguments.model is None or arguments.suites is not None:
            raise UserError("--prove belongs to the bond scan of a model folder; leave it out with anything else")
        from gmnn.certificate.proved import require_radius  # loads JAX

        require_radius(arguments.prove)
    if arguments.compare:
        return _compare(arguments)
    if arguments.window is not None:
        low, high = arguments.window
        if not low < high or not np.isfinite([low, high]).all():
            raise UserError(
                f"The plot window is empty or endless, got {low:g} to {high:g} eV; LO must be below HI, and "
                "both finite; swap or correct them."
            )
    if arguments.cutoff is not None and not 0 < arguments.cutoff <= LONGEST:
        raise UserError(f"--cutoff is {arguments.cutoff:g} Å; above 0 and up to {LONGEST:g} Å are allowed; correct it")
    if arguments.out is not None:
        folders.require_ours(Path(arguments.out), "scan", ())
    names = _suite_names(arguments.suites)
    atoms, structure = load_structure(arguments.structure, arguments.model)
    if not names:
        atoms, structure = _roomy(atoms, structure)
    reference = load_reference(arguments.reference, atoms)
    if arguments.models is not None:
        return _run_models(arguments, atoms, structure, reference)
    if arguments.model is not None:
        folder = Path(arguments.model)
        calculator, name = load_model(folder), folder.resolve().name
        out = Path(arguments.out) if arguments.out else folder / "scan"
    else:
        calculator, name = load_calculator(arguments.calculator, arguments.kwargs)
        out = Path(arguments.out) if arguments.out else Path(f"scan_{name}")
    folders.require_ours(out, "scan", ())
    if names:
        return _run_suites(arguments, names, atoms, structure, reference, calculator, name, out)
    passed = _scan(arguments, atoms, structure, reference, calculator, name, out)
    return 0 if passed else 1


def _roomy(atoms: Atoms, structure: str) -> tuple[Atoms, str]:
    """Repeat the cell of a periodic structure so that no bond meets its own image, and say so in the name."""
    atoms, copies = roomy(atoms)
    return atoms, structure if max(copies) == 1 else f"{structure} repeated {' x '.join(map(str, copies))}"


def _scan(
    arguments: argparse.Namespace, atoms: Atoms, structure: str, reference: dict[str, ReferenceCurve] | None,
    calculator: BaseCalculator, name: str, out: Path,
) -> bool:  # fmt: skip
    """Scan the bonds with one calculator, write and print the report, and return whether all pass."""
    with progress_bar("bond") as progress:
        result = scan_bonds(
            atoms, calculator, reference, cutoff=arguments.cutoff, n_frames=arguments.frames, r_min=arguments.r_min,
            progress=progress,
        )  # fmt: skip
    written = write_report(
        result, out, model=name, structure=structure, packages=provider(calculator),
        window=tuple(arguments.window) if arguments.window else None,
    )  # fmt: skip
    print(f"{name}, {structure}")
    print(format_table(result))
    unused = {curve.reference_note for curve in result.curves if curve.reference is None}
    if arguments.reference not in (None, "none") and unused:
        print(f"The reference was not used for every bond: {'; '.join(sorted(unused))}.")
    if arguments.model is not None:
        _print_model(Path(arguments.model), calculator)
    print(f"Written to {out}: {', '.join(path.name for path in written.values())}")
    if arguments.prove is not None:
        from gmnn.commands._proving import prove_scan

        names = {"model": name, "structure": structure}
        return prove_scan(calculator, result, out, arguments.prove, names) and result.passed
    return result.passed


def _run_models(
    arguments: argparse.Namespace, atoms: Atoms, structure: str, reference: dict[str, ReferenceCurve] | None
) -> int:
    """Scan with every model of a file and compare the scans. Models that cannot be made are named and left out."""
    out, done, missing = Path(arguments.out or "scan_models"), [], []
    with folders.output_folder(out, "scan", ()):
        pass  # it is ours before the folders of the models lie in it
    for name, declaration in declared(arguments.models).items():
        try:
            _scan(arguments, atoms, structure, reference, make(declaration, name), name, out / name)
        except UserError as error:
            print(f"scan: {name} is left out. {error}", file=sys.stderr)
            missing.append(name)
            continue
        print()
        done.append(read_scan(out / name))
    if done:
        _show(done, out, reference)
    return 2 if missing else 0 if all(scan.summary["passed"] for scan in done) else 1


def _compare(arguments: argparse.Namespace) -> int:
    """Compare finished scans, with the reference's curves where the scans were compared with them."""
    scans = [read_scan(folder) for folder in arguments.compare]
    reference = load_reference(arguments.reference, _roomy(*load_structure(arguments.structure))[0])
    _show(scans, Path(arguments.out or "scan_models"), reference)
    return 0 if all(scan.summary["passed"] for scan in scans) else 1


def _show(scans: list[StoredScan], out: Path, reference: dict[str, ReferenceCurve] | None) -> None:
    written = write_comparison(scans, out, reference)
    print(written["comparison.md"].read_text(encoding="utf-8"), end="")
    print(f"Written to {out}: {', '.join(path.name for path in written.values())}")


def _suite_names(text: str | None) -> tuple[str, ...]:
    """Names of the suites of --suites; none without it."""
    if text is None:
        return ()
    names = SUITES if text.strip() == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
    check_names(names, ("all", *SUITES))
    return names


def _run_suites(
    arguments: argparse.Namespace, names: tuple[str, ...], atoms: Atoms, structure: str,
    reference: dict[str, ReferenceCurve] | None, calculator: BaseCalculator, name: str, out: Path,
) -> int:  # fmt: skip
    if arguments.seed < 0:
        raise UserError(f"The seed is negative, got {arguments.seed}; 0 and above are allowed; choose another.")
    hot = other_frames(arguments.structure, atoms, arguments.model) if "hot" in names else []
    with progress_bar("curve") as progress:
        results = run_suites(
            [atoms], BulkCalculator(calculator), np.random.default_rng(arguments.seed), names=names,
            reference=reference, hot_frames=hot, batch_points=SUITE_BATCH, progress=progress,
        )  # fmt: skip
    written = write_suite_report(results, out, model=name, structure=structure, seed=arguments.seed)
    print(f"{name}, {structure}, seed {arguments.seed}")
    print(format_suites(results))
    if "hot" in names and not hot:
        print("The suite hot is empty: the structure's file has no other frame of the same atoms.")
    if arguments.model is not None:
        _print_model(Path(arguments.model), calculator)
    print(f"Written to {out}: {', '.join(path.name for path in written.values())}")
    return 1 if any(result.n_failed for result in results) else 0


def _print_model(folder: Path, calculator: Any) -> None:
    """Print facts from the model folder: strengths of the repulsion and errors on its test set."""
    from gmnn.evaluation import repulsion_table
    from gmnn.model.folder import read_description

    rows = repulsion_table(calculator.potential)
    if rows:
        print("ZBL strength (1 = physical): " + ", ".join(f"{row['pair']} {row['strength']:.4f}" for row in rows))
    test = (read_description(folder).get("metrics") or {}).get("test")
    if test:
        print(
            f"test set, {test['n_frames']} frames: energy MAE {test['energy_mae_meV']:.2f} meV, "
            f"force MAE {test['forces_mae_meV_per_A']:.2f} meV/Å"
        )


COMMAND = Command("scan", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
