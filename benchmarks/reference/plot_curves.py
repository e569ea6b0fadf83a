"""Plot the reference approach curves of ethanol and print their table.

    pip install matplotlib
    python plot_curves.py docs/figures/ethanol_curves.png          # run where gmnn is importable

The table goes to standard output as Markdown: the rise E(r) - E(r_eq) [eV] of each bond at 0.5, 0.3 and 0.1 Å beside
the universal ZBL energy of the pair alone. Between points, ln(E - E(r_eq)) is a cubic in ln r that takes the values and
slopes of the two neighbours.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from matplotlib.axes import Axes
from scipy.interpolate import CubicHermiteSpline

from gmnn.data.embedded import ethanol_curves

COULOMB = 14.3996454784  # eV Å
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
TABLE_AT = (0.5, 0.3, 0.1)  # Å
INNERMOST_RISE = 0.9  # of r_eq; the interpolation starts there, where the energy has risen by tenths of an eV
COLOURS = {"C-C": "#222222", "C-O": "#c0392b", "C-H": "#2c7fb8", "O-H": "#e08214"}


def universal_zbl(z_a: int, z_b: int, r: np.ndarray) -> np.ndarray:
    """The universal ZBL energy [eV] at r [Å] (Ziegler, Biersack, Littmark 1985)."""
    x = r * (z_a**0.23 + z_b**0.23) / 0.46850
    return COULOMB * z_a * z_b / r * sum(a * np.exp(-b * x) for a, b in SCREENING)


def by_bond(frames: list[Atoms]) -> dict[str, list[Atoms]]:
    """The frames of each bond, by increasing distance."""
    found: dict[str, list[Atoms]] = {}
    for frame in sorted(frames, key=lambda f: f.info["distance"]):
        found.setdefault(frame.info["bond"], []).append(frame)
    return found


def energy_at_minimum(frames: list[Atoms]) -> float:
    """E(r_eq) [eV]: the energy of the point at r_eq itself, which is one of the set."""
    return min(frames, key=lambda f: abs(f.info["distance"] - f.info["r_eq"])).get_potential_energy()


def rise(frames: list[Atoms]) -> CubicHermiteSpline:
    """ln(E - E(r_eq)) as a function of ln r on the compressed side, from energies and slopes of all grids."""
    lowest = energy_at_minimum(frames)
    inside: dict[float, Atoms] = {}
    for frame in frames:
        if frame.info["distance"] < INNERMOST_RISE * frame.info["r_eq"]:
            inside.setdefault(round(frame.info["distance"], 6), frame)
    r = np.array([f.info["distance"] for f in inside.values()])
    energy = np.array([f.get_potential_energy() for f in inside.values()]) - lowest
    slope = np.array([f.info["dEdr"] for f in inside.values()])
    return CubicHermiteSpline(np.log(r), np.log(energy), r * slope / energy)


def pair_of(frames: list[Atoms]) -> tuple[str, int, int]:
    symbols = sorted(frames[0].symbols[frames[0].info[key]] for key in ("i", "j"))
    symbols = symbols[::-1] if symbols == ["H", "O"] else symbols
    return "-".join(symbols), *(atomic_numbers[s] for s in symbols)


def table(curves: dict[str, list[Atoms]]) -> str:
    lines = [
        "| bond | r_eq (Å) | " + " | ".join(f"E({r}) (eV) | ZBL" for r in TABLE_AT) + " |",
        "|---|---" + "|---" * 2 * len(TABLE_AT) + "|",
    ]
    for bond, frames in curves.items():
        _, z_a, z_b = pair_of(frames)
        spline = rise(frames)
        cells = [f"{np.exp(spline(np.log(r))):,.1f} | {universal_zbl(z_a, z_b, r):,.1f}" for r in TABLE_AT]
        lines.append(f"| {bond} | {frames[0].info['r_eq']:.4f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(axes: Axes, curves: dict[str, list[Atoms]], pairs: tuple[str, ...]) -> None:
    labelled: set[str] = set()
    for frames in curves.values():
        pair, z_a, z_b = pair_of(frames)
        if pair not in pairs:
            continue
        lowest, r_eq = energy_at_minimum(frames), frames[0].info["r_eq"]
        inside = [f for f in frames if f.info["distance"] < r_eq - 0.02]
        r = np.array([f.info["distance"] for f in inside])
        energy = np.array([f.get_potential_energy() for f in inside]) - lowest
        good = np.array([f.info["reliable"] for f in inside])
        first = pair not in labelled
        axes.plot(r, energy, "-", color=COLOURS[pair], lw=1, alpha=0.8)
        axes.plot(r[good], energy[good], ".", color=COLOURS[pair], ms=4, label=f"{pair}, MP2" if first else None)
        axes.plot(r[~good], energy[~good], "o", color=COLOURS[pair], mfc="white", ms=4.5, mew=0.9)
        if first:
            fine = np.geomspace(0.1, 1.6, 200)
            axes.plot(
                fine,
                universal_zbl(z_a, z_b, fine),
                "--",
                color=COLOURS[pair],
                lw=0.9,
                alpha=0.7,
                label=f"{pair}, universal ZBL",
            )
        labelled.add(pair)
    axes.plot([], [], "o", color="grey", mfc="white", ms=4.5, mew=0.9, label="not single reference")
    axes.set(xscale="log", yscale="log", xlabel="distance (Å)", xlim=(0.095, 1.65), ylim=(0.02, 6000))
    axes.set_xticks([0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5], ["0.1", "0.2", "0.3", "0.5", "0.7", "1.0", "1.5"])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def main(path: str) -> None:
    curves = by_bond(ethanol_curves())
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
    draw(left, curves, ("C-H", "O-H"))
    draw(right, curves, ("C-C", "C-O"))
    left.set(ylabel="E(r) - E(r_eq) (eV)", title="X-H bonds: H moves")
    right.set(title="heavy bonds: both atoms move")
    figure.savefig(path, dpi=150)
    print(table({bond: curves[bond] for bond in sorted(curves)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    main(parser.parse_args().output)
