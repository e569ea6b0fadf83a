"""How much a structure yields to pressure, from its potential."""

import numpy as np
from ase import Atoms, units

from gmnn.errors import UserError
from gmnn.md.bonds import covalent_radii, within
from gmnn.md.dynamics import Dynamics

STRAIN = 0.01  # of the volume, to both sides
REMEDY = "give compressibility_per_GPa"


def compressibility(dynamics: Dynamics) -> float:
    """Compressibility of the first replica's structure in 1/GPa, two digits, at rest and with rigid molecules.

    It is -dV/dP / V from the pressure at 1 % more and less volume, where molecules keep their shapes and the atoms of
    networks move with the cell. The dynamics, which hold no pressure, are afterwards where they were. UserError if the
    structure is not periodic along three directions, or does not resist.
    """
    if not all(dynamics.pbc):
        raise UserError(f"a compressibility needs three periodic directions, but pbc is {list(dynamics.pbc)}; {REMEDY}")
    step, states = dynamics.now.step, dynamics.states
    state = states[0]
    centres = _centres(dynamics.atoms, state.positions, state.cell)
    pressures = []
    for sign in (1.0, -1.0):
        scale = (1.0 + sign * STRAIN) ** (1 / 3)
        moved = state._replace(positions=state.positions + (scale - 1.0) * centres, cell=scale * state.cell)
        dynamics.resume(step, [moved] * len(states))
        now = dynamics.now
        inside = np.trace(now.virial) + np.sum(now.forces * (state.positions - centres))
        pressures.append(-inside / (3.0 * abs(np.linalg.det(now.state.cell))) / units.GPa)
    dynamics.resume(step, states)
    modulus = (pressures[1] - pressures[0]) / (2.0 * STRAIN)
    if not modulus > 0 or not np.isfinite(modulus):
        raise UserError(
            f"the structure does not resist a change of its volume (bulk modulus {modulus:.3g} GPa), so that its "
            f"compressibility cannot be estimated; {REMEDY}, or start from a structure nearer to equilibrium"
        )
    return float(f"{1.0 / modulus:.2g}")


def _centres(atoms: Atoms, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Centre of the molecule of every atom, beside that atom; atoms of networks are their own centres.  [N, 3] Å"""
    i, j, S, _ = within(covalent_radii(atoms.numbers), positions, cell, atoms.pbc)
    bonds: dict[int, list[tuple[int, np.ndarray]]] = {}
    for a, b, shift in zip(i.tolist(), j.tolist(), S, strict=True):
        bonds.setdefault(a, []).append((b, shift))
    centres, seen = positions.copy(), np.zeros(len(atoms), bool)
    for first in range(len(atoms)):
        if seen[first]:
            continue
        images, waiting, is_network = {first: np.zeros(3, int)}, [first], False
        while waiting:
            a = waiting.pop()
            for b, shift in bonds.get(a, ()):
                if b not in images:
                    images[b] = images[a] + shift
                    waiting.append(b)
                elif (images[b] != images[a] + shift).any():
                    is_network = True
        members, shifts = list(images), np.array(list(images.values()))
        seen[members] = True
        if not is_network:
            centre = np.mean(positions[members] + shifts @ cell, axis=0)
            centres[members] = centre - shifts @ cell
    return centres
