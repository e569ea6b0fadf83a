"""The certificate of a trained potential: all three theorems with their numbers and assumptions."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.certificate import adversary, barrier, coverage, lipschitz, monotone, stationary, wall
from gmnn.config.coverage import uncovered
from gmnn.elements import COVALENT_RADII, SYMBOLS, pair_name
from gmnn.errors import UserError
from gmnn.model import short_range
from gmnn.model.potential import Potential
from gmnn.neighbors.host import neighbor_pairs

CONTACT = 0.8  # in summed covalent radii, the default of rho
LEAST_CONTACT = 0.01  # Å, of rho
OTHERS = 8  # default number of other atoms without a structure
SAMPLED = 24  # most other atoms of a sampled environment: the work of the search grows with their square
MOST_OTHERS = 1000
ENERGY = 5.0  # eV, default of the energy above the start
Radii = dict[str, float | None]


@dataclass(frozen=True)
class Certificate:
    """Radii in Å of every pair of trained elements, symbols in alphabetical order; None where nothing is proved."""

    energy: float
    """Energy above that of the structure that T1 allows for, eV."""
    barrier: Radii
    """T1: at any distance up to this one the energy of these atoms is more than `energy` above the structure's."""
    monotone: Radii
    """T2: up to this distance the energy rises as the pair approaches, in every environment under the assumptions."""
    stationary: Radii
    """T3: no stationary point of these atoms has a pair this close."""
    network: dict[str, float | None]
    """Certified bound on the network's part of dE/dr below the clamp, eV/Å, per pair."""
    sampled: dict[str, float | None]
    """Largest such part that a search found, eV/Å, per pair; it proves nothing."""
    assumptions: list[str] = field(default_factory=list)
    """The assumptions of the numbers, and the reasons for missing numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain JSON types."""
        return {
            "energy_above_start_eV": self.energy,
            "barrier_radius": self.barrier,
            "monotone_radius": self.monotone,
            "stationary_radius": self.stationary,
            "lambda_certified_eV_per_A": _largest(self.network),
            "lambda_sampled_eV_per_A": _largest(self.sampled),
            "lambda_certified_per_pair_eV_per_A": self.network,
            "lambda_sampled_per_pair_eV_per_A": self.sampled,
            "assumptions": self.assumptions,
        }

    def table(self) -> str:
        """Format the numbers and the assumptions as text."""
        heads = ("barrier", "monotone", "stationary", "certified", "sampled")
        lines = [
            f"{'':<8}{'radius, Å':^33}{'network force, eV/Å':^24}",
            f"{'pair':<8}" + "".join(f"{h:>11}" for h in heads),
        ]
        for name in self.barrier:
            radii = (self.barrier[name], self.monotone[name], self.stationary[name])
            cells = [f"{'-' if r is None else f'{_down(r):.3f}':>11}" for r in radii]
            cells += [f"{'-' if x is None else f'{x:.3g}':>11}" for x in (self.network[name], self.sampled[name])]
            lines.append(f"{name:<8}" + "".join(cells))
        return "\n".join([*lines, "", *(f"- {sentence}" for sentence in self.assumptions)])


def certify(
    potential: Potential,
    atoms: Atoms | None = None,
    energy: float = ENERGY,
    rho: float | None = None,
    n: int | None = None,
    samples: int = 64,
) -> Certificate:
    """Compute the certificate of a potential with parameters, for `atoms` if there are any.

    `energy`: eV above that of `atoms`, for T1. `rho`: no other atom comes closer than this to the two that approach,
    Å; by default 0.8 summed covalent radii of each pair. `n`: at most this many other atoms lie within the cutoff of
    either; by default all others of `atoms`, or 8. `samples`: random environments per pair for the sampled force.
    UserError for unknown elements, negative energies and the like.
    """
    _check(potential, atoms, energy, rho, n)
    elements = potential.reference.elements
    nothing = np.full((len(elements),) * 2, np.nan)
    if unknown := uncovered(potential.config, coverage.MODEL):
        empty = [_named(elements, nothing) for _ in range(5)]
        note = f"No theorem: none covers {unknown}."
        return Certificate(float(energy), empty[0], empty[1], empty[2], empty[3], empty[4], [note])
    contacts = CONTACT * short_range.covalent_sums(elements) if rho is None else np.full(nothing.shape, float(rho))
    notes, periodic = [], atoms is not None and bool(atoms.pbc.any())
    composition = None
    if atoms is not None and not periodic:
        composition = np.array([np.count_nonzero(atoms.numbers == z) for z in elements])
    others = n if n is not None else _others(potential, atoms)
    t1 = t2 = t3 = network = sampled = nothing
    uncertified = [pair_name(elements[e], elements[f]) for e, f in _pairs(elements) if not wall.falls(potential, e, f)]
    if uncertified:
        notes.append(
            f"No theorem for {', '.join(uncertified)}, nor a barrier or stationary radius of a structure with such a "
            "pair: no repulsion that is certified to fall with the distance."
        )
    if atoms is None:
        notes.append("No barrier and no stationary radius: they hold for given atoms, and no structure was given.")
    else:
        start = barrier.barrier_radii(potential, atoms, energy)
        t1 = start.radii
        notes.append(_barrier_note(potential, start, energy, periodic))
    obstacle = lipschitz.obstacle(potential)
    if obstacle:
        notes.append(f"No monotone and no stationary radius: {obstacle}.")
    else:
        grid = monotone.make_grid(potential, lipschitz.sensitivities(potential), contacts)
        proved = monotone.monotone_radii(potential, grid, contacts, others, composition)
        t2, network = proved.radii, proved.network
        notes.append(_monotone_note(rho, others, composition))
        if composition is not None:
            t3 = stationary.stationary_radii(grid, composition)
            notes.append(
                "Stationary: isolated atoms of this composition; the network's virial is at most "
                f"{stationary.virial_bound(grid, composition):.3g} eV in any geometry."
            )
        elif periodic:
            notes.append("No stationary radius: the virial argument needs an isolated group of atoms.")
        if samples and others:
            sampled = _sample(potential, contacts, network, min(others, SAMPLED), composition, samples)
            among = f" among {SAMPLED} other atoms at most" if others > SAMPLED else ""
            notes.append(
                f"The sampled network force is the largest that gradient ascent found{among}; it proves nothing."
            )
    notes.append("The theorems hold for the energy of the stored parameters in exact arithmetic (docs/certificate.md).")
    named = [_named(elements, table) for table in (t1, t2, t3, network, sampled)]
    return Certificate(float(energy), named[0], named[1], named[2], named[3], named[4], notes)


def _check(potential: Potential, atoms: Atoms | None, energy: float, rho: float | None, n: int | None) -> None:
    _ = potential.trained
    if not (np.isfinite(energy) and energy >= 0):
        raise UserError(f"the energy above the start is {energy!r} eV, but must be zero or positive")
    if rho is not None and not LEAST_CONTACT <= rho < potential.config.r_max:
        raise UserError(f"rho is {rho!r} Å, but must be in [{LEAST_CONTACT}, r_max = {potential.config.r_max})")
    if n is not None and not 0 <= n <= MOST_OTHERS:
        raise UserError(f"the number of other atoms is {n!r}, but must be in 0 ... {MOST_OTHERS}")
    if rho is None and max(potential.reference.elements) >= len(COVALENT_RADII):
        raise UserError(
            "rho is 0.8 summed covalent radii by default, but none is tabulated for "
            f"{SYMBOLS[max(potential.reference.elements)]}; give rho in Å"
        )
    if atoms is not None:
        if len(atoms) == 0:
            raise UserError("the structure has no atoms; give one with at least two")
        potential.require_elements(atoms.numbers)


def _others(potential: Potential, atoms: Atoms | None) -> int:
    if atoms is None:
        return OTHERS
    if not atoms.pbc.any():
        return max(len(atoms) - 2, 0)
    centres, _, _ = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, potential.config.r_max)
    return int(np.bincount(centres, minlength=len(atoms)).max())


def _sample(
    potential: Potential,
    rho: np.ndarray,
    certified: np.ndarray,
    n: int,
    composition: np.ndarray | None,
    samples: int,
) -> np.ndarray:
    """Largest network force that a search finds below the clamp, [E, E] eV/Å."""
    elements, forces = potential.reference.elements, np.full(rho.shape, np.nan)
    clamp_in = short_range.pair_tables(potential.config, potential.reference).clamp_in
    for e, f in _pairs(elements):
        if np.isnan(certified[e, f]):
            continue
        upper = clamp_in[e, f] if 0 < clamp_in[e, f] < potential.config.r_max else rho[e, f]
        chosen = None
        if composition is not None:
            rest = composition.copy()
            rest[e] -= 1
            rest[f] -= 1
            chosen = np.repeat(elements, rest)
            chosen = chosen[np.linspace(0, len(chosen) - 1, min(n, len(chosen))).astype(int)]  # of every element
        size = n if chosen is None else len(chosen)
        pair = (elements[e], elements[f])
        result = adversary.search(
            potential, pair, (0.1 * upper, upper), rho, size, samples, batch=samples, others=chosen, network=True
        )
        forces[e, f] = forces[f, e] = result.network
    return forces


def _barrier_note(potential: Potential, start: barrier.Barrier, energy: float, periodic: bool) -> str:
    if setting := uncovered(potential.config, coverage.FLOOR):
        return f"No barrier radius: no floor of the network's energy is derived for {setting}."
    cell = " per cell, and the atoms of one cell with their images move alike" if periodic else ""
    return (
        f"Barrier: the same atoms at a total energy of at most {energy:g} eV above that of the structure at rest"
        f"{cell}; the structure lies {start.above_floor:.4g} eV above the energy's floor. A thermostat may exceed that."
    )


def _monotone_note(rho: float | None, n: int, composition: np.ndarray | None) -> str:
    contact = f"{CONTACT} summed covalent radii" if rho is None else f"{rho:g} Å"
    kind = "of any trained elements" if composition is None else "of this composition"
    return (
        f"Monotone: the two atoms approach along their connecting line, either or both moving; no other atom is closer "
        f"than {contact} to either, and at most {n} others {kind} lie within the cutoff of either."
    )


def _pairs(elements: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(e, f) for e in range(len(elements)) for f in range(e, len(elements))]


def _named(elements: tuple[int, ...], table: np.ndarray) -> Radii:
    names = {pair_name(elements[e], elements[f]): float(table[e, f]) for e, f in _pairs(elements)}
    return {name: value if np.isfinite(value) else None for name, value in sorted(names.items())}


def _largest(values: dict[str, float | None]) -> float | None:
    return max((value for value in values.values() if value is not None), default=None)


def _down(radius: float) -> float:
    """Round a radius down to the digits of the table, so that the printed number is proved."""
    return np.floor(1e3 * radius) / 1e3
