"""The three numbers of the README."""

from benchmarks.blocks import median
from benchmarks.blocks.accuracy import cores
from benchmarks.blocks.how_much_data import total
from benchmarks.blocks.speed import times
from benchmarks.stored import read, rows

ATOMS = "1536"  # of the box whose step is named


def numbers() -> str:
    """Stability, accuracy and speed, each with the page that has the rest."""
    failed, curves, models = total(row for row in rows() if row["variant"] == "default")
    run, speed = read("rmd17")["long"]["ethanol"], read("speed")
    _, ours = times(speed["compare"][ATOMS], "md")
    step, ratio = ours["kernel"]
    return (
        f"- Stability: [{failed:,} of {curves:,} curves](docs/how_much_data.md) of {models} models fail, from 10 "
        "training frames on.\n- Accuracy: the force error on rMD17 ethanol is "
        f"[{run['metrics']['test']['forces_mae_meV_per_A']:.1f} meV/Å](docs/accuracy.md) after "
        f"{run['metrics']['wall_time_s'] / 60:.0f} min of training on {cores(run)}.\n"
        f"- Speed: a step of dynamics (NVE, {int(ATOMS):,} atoms of water, {speed['cores']} cores) takes "
        f"[{median(step)} µs per atom](docs/speed.md), {median(ratio)} times as fast as Apax."
    )
