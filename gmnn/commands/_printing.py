"""Text for the terminal: reports of evaluations and of trainings."""

import resource
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmnn.config.reading import Config
    from gmnn.data import Splits
    from gmnn.reference import Reference
    from gmnn.training import TrainingResult


SHOWN = 30  # config types that are printed; evaluation.json has all
QUANTITIES = (  # label and unit, key of the number of labels, keys of MAE and RMSE
    ("energy, meV", "n_energies", "energy_{}_meV"),
    ("energy, meV/atom", "n_energies", "energy_{}_meV_per_atom"),
    ("forces, meV/Å", "n_forces", "forces_{}_meV_per_A"),
    ("stress, meV/Å³", "n_stresses", "stress_{}_meV_per_A3"),
    ("stress, GPa", "n_stresses", "stress_{}_GPa"),
)
GRADES = ("grade, 99 %", "largest", "above 1")  # columns of atoms, if the model has grades
WORST = (
    ("energy, meV/atom", "energy_meV_per_atom"),
    ("forces, meV/Å", "forces_meV_per_A"),
    ("stress, meV/Å³", "stress_meV_per_A3"),
)


def evaluation(report: dict[str, Any]) -> str:
    """Format the report of `gmnn eval`: all frames, atoms by element and by force, config types, the worst frames."""
    present = [row for row in QUANTITIES if report[row[1]]]
    lines = [_row("", "frames", "MAE", "RMSE")]
    lines += [_errors(label, report[count], report, key) for label, count, key in present]
    absent = [name for name, key in (("energy", "n_energies"), ("forces", "n_forces")) if not report[key]]
    lines += [f"no frame has a label of {name}" for name in absent]
    if report["n_forces"]:
        graded = "share_above_1" in report
        lines += ["", _row("forces, meV/Å", "atoms", "MAE", "RMSE") + " ".join(["", *GRADES] if graded else [])]
        groups = [*report["by_element"].items(), *((_range(row), row) for row in report["by_force"])]
        for label, row in groups:
            lines += [_errors(label, row["n_atoms"], row, "forces_{}_meV_per_A") + _grades(row)]
        count = sum(row["n_atoms"] for row in report["by_element"].values())
        lines += [_errors("all", count, report, "forces_{}_meV_per_A") + _grades(report)] if graded else []
    lines += _config_types(report["by_config_type"], present)
    lines += ["", "worst frames: index among those read, from 0 (error of the energy, or the largest of a component)"]
    for label, key in WORST:
        worst = ", ".join(f"{frame['frame']} ({number(frame['error'])})" for frame in report["worst"][key])
        lines += [f"{label:<19} {worst}"] if worst else []
    return "\n".join(lines)


def parts(metrics: dict[str, Any]) -> str:
    """Format the errors of the parts of a training, one line each, with stress only if a part has labels of it."""
    rows = {part: metrics[part] for part in ("train", "valid", "test") if part in metrics}
    stress = any(row["n_stresses"] for row in rows.values())
    graded = all("share_above_1" in row for row in rows.values())
    head = f"{'set':<6} {'frames':>7} {'E, meV':>9} {'E, meV/atom':>12} {'F, meV/Å':>10} {'F rmse':>8}"
    lines = [head + (f" {'S, GPa':>9}" if stress else "") + " ".join(["", *GRADES] if graded else [])]
    for part, row in rows.items():
        line = f"{part:<6} {row['n_frames']:>7} {number(row['energy_mae_meV'], 2):>9} "
        line += f"{number(row['energy_mae_meV_per_atom']):>12} {number(row['forces_mae_meV_per_A'], 2):>10} "
        line += f"{number(row['forces_rmse_meV_per_A'], 2):>8}"
        lines.append(line + (f" {number(row['stress_mae_GPa']):>9}" if stress else "") + _grades(row))
    return "\n".join(lines)


def uncertainty(found: dict[str, dict[str, Any]]) -> list[str]:
    """Format the calibration of an ensemble, one line for each quantity."""
    return [
        f"uncertainty of {key}: miscalibration {row['miscalibration_bare']:.3f}, {row['miscalibration']:.3f} after "
        f"scaling by {row['scale']:.2f} ({row['labels']} labels)"
        for key, row in found.items()
    ]


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with fixed digits; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def _errors(label: str, count: int, row: dict[str, Any], key: str) -> str:
    return _row(label, count, number(row[key.format("mae")]), number(row[key.format("rmse")]))


def _row(label: str, count: int | str, mae: str, rmse: str) -> str:
    return f"{label:<19} {count:>8} {mae:>10} {rmse:>10}"


def _grades(row: dict[str, Any]) -> str:
    """Format the columns GRADES of atoms; empty if they have no grades."""
    if "share_above_1" not in row:
        return ""
    cells = number(row["grade_99_percent"], 2), number(row["grade_largest"], 2), f"{row['share_above_1']:.1%}"
    return "".join(f" {cell:>{len(head)}}" for cell, head in zip(cells, GRADES, strict=True))


def _range(row: dict[str, Any]) -> str:
    low, high = row["from_eV_per_A"], row["to_eV_per_A"]
    return f"|F| {low:g} to {high:g} eV/Å" if high is not None else f"|F| from {low:g} eV/Å"


def _config_types(groups: dict[str, dict[str, Any]], present: list[tuple[str, str, str]]) -> list[str]:
    """Format MAE and RMSE of every config type, energies per atom."""
    if not groups:
        return []
    columns = [row for row in present if row[0] in ("energy, meV/atom", "forces, meV/Å", "stress, meV/Å³")]
    width = max(11, *(len(name) for name in groups))
    lines = [
        "",
        "MAE / RMSE",
        f"{'config_type':<{width}} {'frames':>8}" + "".join(f" {label:>21}" for label, _, _ in columns),
    ]
    for name, row in list(groups.items())[:SHOWN]:
        pairs = (f"{number(row[key.format('mae')])} / {number(row[key.format('rmse')])}" for _, _, key in columns)
        lines.append(f"{name or '(none)':<{width}} {row['n_frames']:>8}" + "".join(f" {pair:>21}" for pair in pairs))
    if len(groups) > SHOWN:
        lines.append(f"{len(groups) - SHOWN} more in evaluation.json")
    return lines


def describe(config: "Config", splits: "Splits", reference: "Reference") -> None:
    """Print the sizes, the labels and the atomic references of the data."""
    from gmnn.data import regression
    from gmnn.elements import SYMBOLS

    extra = f" ({len(splits.extra)} of them extra)" if splits.extra is not None else ""
    sizes = f"{len(splits.train)} training{extra}, {len(splits.valid)} validation"
    sizes += f" and {len(splits.test)} test frames" if splits.test is not None else " frames, no test frames"
    print(f"{config.data.train}: {sizes}, elements {' '.join(SYMBOLS[z] for z in reference.elements)}")
    for part in ("train", "valid", "test"):
        if (frames := getattr(splits, part)) is not None:
            print(f"labels, {part}: {frames.summary()}")
    energies = zip(reference.elements, reference.E0, strict=True)
    print("atomic references, eV: " + ", ".join(f"{SYMBOLS[z]} {energy:.3f}" for z, energy in energies), flush=True)
    fit = regression(splits.train)
    if config.data.atomic_energies is None and fit.undetermined:
        print(
            f"energies of {', '.join(SYMBOLS[z] for z in fit.undetermined)} are not determined one by one, only in "
            f"sums as in the frames: the compositions have rank {fit.rank} of {len(fit.elements)}"
        )


def report(result: "TrainingResult", output: str) -> None:
    """Print the errors, the cost and the folder of a training, or one line if it was stopped."""
    from gmnn.evaluation import used_up

    if not result.finished:
        print(f"stopped after epoch {result.epochs}; the best potential so far is in {output}. Continue with --resume")
        return
    metrics = result.metrics
    if metrics["repulsion"]:
        strengths = ", ".join(f"{row['pair']} {row['strength']:.3f}" for row in metrics["repulsion"])
        print(f"\nZBL strengths (1 = physical): {strengths}")
    if metrics["head_room"]:
        rooms = ", ".join(f"{symbol} {room['head_room_eV']:.2f}" for symbol, room in metrics["head_room"].items())
        print(f"head-room of the bounded readout above its floor, eV: {rooms}")
        for symbol in used_up(metrics["head_room"]):
            print(f"WARNING: {symbol} atoms sit on the floor of the bounded readout, which limits the fit")
    print(f"\n{parts(metrics)}")
    for part in ("valid", "test"):
        for line in uncertainty(metrics.get(part, {}).get("uncertainty", {})):
            print(f"{part}: {line}")
    print(
        f"mean absolute errors; best epoch {result.best_epoch} of {result.epochs}, {result.seconds:.0f} s, "
        f"{metrics['steps_per_s']:.0f} steps/s, {result.compile_seconds:.0f} s of compilation of "
        f"{result.programs} programs"
    )
    shapes = ", ".join("{} x {} atoms x {} slots".format(*shape) for shape in metrics["shapes"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    where = "sent to the device in portions" if result.streamed else "held on the device"
    print(f"training frames: {shapes}, {metrics['empty_slots']:.0%} of the slots empty, {where}")
    print(f"peak memory: {peak:.0f} MB{_device_peak()}")
    print(f"model folder: {output}")


def _device_peak() -> str:
    """Format the peak memory that an accelerator reports; empty on a CPU."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return f" on the host, {stats['peak_bytes_in_use'] / 1e6:.0f} MB on the device" if stats else ""
