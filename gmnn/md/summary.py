"""What a run of dynamics did, from its log, and whether it stayed near the data of its potential."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LONG = 0.25  # share of a replica's steps with a grade above 1 from which it has left the data
APART = 0.1  # of the density, beyond the range of the data
CHANGED = 1.5  # factor of the density since the start, where the range of the data is not known
LEAST_FALL, FALL_PER_ATOM = 1.0, 0.1  # eV, eV per atom below the start, to warn of; melts and reactions fall less
LISTED = 5  # replicas named in a sentence


@dataclass(frozen=True)
class DataRange:
    """What is known of the data of a potential, by pair of elements as `C-H`; whatever is not known is absent."""

    closest: dict[str, float] = field(default_factory=dict)
    """Smallest distance in the training frames, Å."""
    longest: dict[str, float] = field(default_factory=dict)
    """Longest of the bonds of this molecule in the training frames, Å."""
    density: tuple[float, float] | None = None
    """Smallest and largest density of training frames of this composition, g/cm³."""


@dataclass(frozen=True)
class Record:
    """The columns of a log, [L, R] each: L lines of R replicas."""

    columns: dict[str, np.ndarray]

    @property
    def replicas(self) -> int:
        """Number of replicas."""
        return int(self.columns["step"].shape[1])

    @property
    def times(self) -> np.ndarray:
        """Time of every line, ps.  [L]"""
        return self.columns["time_ps"][:, 0]

    @property
    def warm(self) -> np.ndarray:
        """Whether a line belongs to the last four fifths, as far as there are some.  [L]"""
        steps = self.columns["step"][:, 0]
        late = steps > steps[-1] // 5
        return late if late.any() else np.ones(len(steps), bool)

    def named(self, prefix: str) -> dict[str, np.ndarray]:
        """Columns in Å whose name begins so, by pair of elements."""
        names = [name for name in self.columns if name.startswith(prefix)]
        return {name.removeprefix(prefix).removesuffix("_A"): self.columns[name] for name in names}

    def who(self, replicas: np.ndarray, noun: str = "") -> str:
        """Name some of the replicas, as ` of replicas 1, 4`; nothing if there is only one."""
        if self.replicas == 1:
            return ""
        numbers = ", ".join(map(str, replicas[:LISTED].tolist())) + (" and others" if len(replicas) > LISTED else "")
        return f"{noun} of replica{'s' if len(replicas) > 1 else ''} {numbers}"


def read_record(log: Path) -> Record:
    """Read a log."""
    with open(log, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return record_of(rows)


def record_of(rows: list[dict[str, str]]) -> Record:
    """The record of the lines of a log."""
    replicas = 1 + max(int(row.get("replica", 0)) for row in rows)
    whole = len(rows) // replicas * replicas
    columns = {
        name: np.array([float(row[name] or "nan") for row in rows[:whole]]).reshape(-1, replicas) for name in rows[0]
    }
    return Record(columns)


def departures(record: Record, data: DataRange) -> list[str]:
    """Say how a run left the data of its potential, one clause each; nothing if it stayed near them."""
    clauses = []
    if "steps_above_1" in record.columns and len(record.times) > 1:
        steps = np.diff(record.columns["step"], axis=0).sum(axis=0)
        above = record.columns["steps_above_1"][1:].sum(axis=0) / np.maximum(steps, 1)
        if (left := np.flatnonzero(above > LONG)).size:
            clauses.append(f"the grade{record.who(left)} was above 1 for {100 * above[left].max():.0f} % of the time")
    if "pieces" in record.columns:
        pieces = record.columns["pieces"]
        if (left := np.flatnonzero(pieces[-1] > pieces[0])).size:
            most = int(pieces[-1, left].max())
            clauses.append(f"the structure{record.who(left)} is in {most} pieces, not {int(pieces[0, 0])}")
    if "density_g_per_cm3" in record.columns and "held_GPa" in record.columns:
        clauses += _of_density(record, data)
    return clauses


def _of_density(record: Record, data: DataRange) -> list[str]:
    density = record.columns["density_g_per_cm3"]
    late = density[len(density) // 2 :].mean(axis=0)
    if data.density is not None:
        low, high = (1 - APART) * data.density[0], (1 + APART) * data.density[1]
        beside = f"{data.density[0]:.4g} to {data.density[1]:.4g} in the data"
    else:
        low, high = density[0] / CHANGED, density[0] * CHANGED
        beside = f"{density[0, 0]:.4g} at the start"
    left = np.flatnonzero((late < low) | (late > high))
    return [f"the density{record.who(left)} became {late[left[0]]:.4g} g/cm³, {beside}"] if left.size else []


def fall(record: Record, atoms: int) -> str:
    """Say how far the potential energy fell below the start; nothing if that is what a real structure might do."""
    energies = record.columns["potential_eV"]
    falls = energies[0] - energies
    step, replica = np.unravel_index(np.argmax(falls), falls.shape)
    if falls[step, replica] <= max(LEAST_FALL, FALL_PER_ATOM * atoms):
        return ""
    whose, at = record.who(np.array([replica])), int(record.columns["step"][step, replica])
    return f"at step {at} the potential energy{whose} is {falls[step, replica]:.2f} eV below the start's"


def table(record: Record, data: DataRange, proved: dict[str, float] | None = None) -> list[str]:
    """Lines of a table: the closest distance of every pair of elements and the longest bonds, beside the data's.

    `proved`: distances in Å that were proved to be out of reach, NaN where nothing was.
    """
    closest, longest = record.named("closest_"), record.named("longest_")
    if not closest:
        return []
    head = f"{'pair':<6}{'closest, Å':>11}{'in the data':>13}"
    head += f"{'never closer than':>19}" if proved is not None else ""
    lines = [head + (f"{'longest bond, Å':>17}{'in the data':>13}" if longest else "")]
    for pair, values in closest.items():
        least = float(np.min(values))
        line = f"{pair:<6}{_or_dash(least):>11}{_or_dash(data.closest.get(pair, np.nan)):>13}"
        if proved is not None:
            line += f"{_or_dash(proved.get(pair, np.nan), 'nothing proved'):>19}"
        if longest:
            most = float(np.max(longest[pair])) if pair in longest else np.nan
            line += f"{_or_dash(most):>17}{_or_dash(data.longest.get(pair, np.nan)):>13}"
        lines.append(line.rstrip())
    return lines


def _or_dash(value: float, otherwise: str = "-") -> str:
    return f"{value:.3f}" if np.isfinite(value) else otherwise


def temperatures(record: Record) -> list[str]:
    """A line with the mean temperature of the replicas of every bath, where there are several."""
    if "bath_K" not in record.columns:
        return []
    bath, temperature = (record.columns[name][record.warm] for name in ("bath_K", "temperature_K"))
    starts = record.columns["bath_K"][0]
    of_each = [
        f"{bath[:, starts == T].mean():.4g}: {temperature[:, starts == T].mean():.4g}" for T in np.unique(starts)
    ]
    return [f"mean temperatures of bath and replicas, K: {', '.join(of_each)}"]


def means(record: Record, data: DataRange) -> list[str]:
    """Lines with the means of the last four fifths: volume, density and pressure, where a pressure is held."""
    if "held_GPa" not in record.columns:
        return []
    mean = {name: float(values[record.warm].mean()) for name, values in record.columns.items()}
    beside = "" if data.density is None else f"; the data have {data.density[0]:.6g} to {data.density[1]:.6g}"
    return [
        f"mean volume_A3 {mean['volume_A3']:.6g}",
        f"mean density_g_per_cm3 {mean['density_g_per_cm3']:.6g}{beside}",
        f"mean pressure_GPa {mean['pressure_GPa']:.6g}; held {mean['held_GPa']:.6g}",
    ]


def spread(record: Record, atoms: int) -> list[str]:
    """A line with the spread of an ensemble's energy."""
    if "energy_std_eV" not in record.columns:
        return []
    values = 1e3 * record.columns["energy_std_eV"] / atoms
    return [f"spread of the ensemble's energy: mean {values.mean():.3g}, at most {values.max():.3g} meV/atom"]
