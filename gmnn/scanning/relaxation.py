"""Relaxation from overlapping random positions: does a molecule come apart, or do nuclei fuse?

FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)) runs on many independent systems at once, with unit masses.
"""

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from gmnn.scanning.evaluate import Evaluate
from gmnn.scanning.judge import Progress
from gmnn.scanning.paths import RHO, Array, Integers, contacts

FUSED_BELOW = 0.5  # contact
CLOSEST, N_OVERLAPS = (0.2, 0.5), 3  # at the start: contact of the closest pair; pairs below contact 0.8
FORCE_LIMIT, STEP_LIMIT, N_STEPS = 0.1, 0.1, 500  # eV/Å; Å, largest move of an atom in one step; steps
TIME_STEP, LONGEST_STEP, MIXING, PATIENCE = 0.1, 1.0, 0.1, 5  # FIRE: dt, its maximum, α, steps before dt grows
GROWTH, SHRINKAGE, MIXING_DECAY = 1.1, 0.5, 0.99


@dataclass(frozen=True)
class Relaxation:
    """The end of the relaxation of one start.

    fused: a pair is inside contact 0.5, or a number is not finite. converged: force (eV/Å), the largest on an atom, is
    below 0.1. closest: the smallest contact at the end, that of `pair`. reason: one line, "" if not fused.
    """

    label: str
    fused: bool
    converged: bool
    closest: float
    pair: str
    force: float
    n_steps: int
    reason: str


def overlapping_starts(numbers: Integers, n: int, rng: np.random.Generator) -> Array:
    """Positions [n, N, 3] (Å) of the atoms at random in a sphere so small that several pairs overlap.

    The closest contact of each start is uniform in 0.2 to 0.5. At least three pairs, or all if fewer, are below 0.8.
    """
    starts: list[Array] = []
    n_pairs = len(numbers) * (len(numbers) - 1) // 2
    while len(starts) < n:
        directions = rng.standard_normal((n, len(numbers), 3))
        radii = rng.random((n, len(numbers), 1)) ** (1 / 3)
        positions = radii * directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        close = contacts(positions, numbers)
        scale = rng.uniform(*CLOSEST, n) / close.min(axis=1)
        overlaps = np.sum(scale[:, None] * close < RHO, axis=1)
        starts += list((scale[:, None, None] * positions)[overlaps >= min(N_OVERLAPS, n_pairs)])
    return np.array(starts[:n]).reshape(n, len(numbers), 3)


def relax(
    starts: Array,
    numbers: Integers,
    evaluate: Evaluate,
    *,
    n_steps: int = N_STEPS,
    progress: Progress | None = None,
) -> list[Relaxation]:
    """Relax every start [B, N, 3] (Å) until its largest force is below 0.1 eV/Å, in at most n_steps steps.

    An atom moves at most 0.1 Å in a step. evaluate is as for `judge`. A start passes if it does not fuse, converged or
    not. progress(done, total, label) is called after every step with the number of finished starts.
    """
    x = np.array(starts, float)
    v, dt, alpha = np.zeros_like(x), np.full(len(x), TIME_STEP), np.full(len(x), MIXING)
    n_good, taken, force = np.zeros(len(x), int), np.zeros(len(x), int), np.full(len(x), np.nan)
    messages: dict[int, str] = {}
    active = np.arange(len(x))
    for step in range(n_steps + 1):
        with np.errstate(all="ignore"):
            energies, forces = evaluate(x[active], np.broadcast_to(numbers, x[active].shape[:2]))
        f = np.asarray(forces, float)
        for k, text in getattr(evaluate, "messages", {}).items():
            messages[int(active[k])] = text
        finite = np.isfinite(energies) & np.isfinite(f).all(axis=(1, 2))
        largest = np.sqrt(np.max(np.sum(f**2, axis=-1), axis=1))
        force[active] = np.where(finite, largest, np.nan)
        going = finite & (largest >= FORCE_LIMIT)
        active, f = active[going], f[going]
        if progress is not None:
            progress(len(x) - len(active), len(x), f"relaxation, step {step}")
        if step == n_steps or not len(active):
            break
        v[active], dt[active], alpha[active], n_good[active] = _steered(
            v[active], f, dt[active], alpha[active], n_good[active]
        )
        move = dt[active, None, None] * v[active]
        longest = np.max(np.linalg.norm(move, axis=-1), axis=1)
        x[active] += move * (STEP_LIMIT / np.maximum(longest, STEP_LIMIT))[:, None, None]
        taken[active] += 1
    return [
        _outcome(k, x[k], numbers, float(force[k]), int(taken[k]), messages.get(k, "energy or force not finite"))
        for k in range(len(x))
    ]


def _steered(v: Array, f: Array, dt: Array, alpha: Array, n_good: Integers) -> tuple[Array, Array, Array, Integers]:
    """Velocities, time steps, mixing and numbers of downhill steps of FIRE after an update with the forces f."""
    downhill = np.sum(v * f, axis=(1, 2)) > 0
    speed, size = (np.sqrt(np.sum(field**2, axis=(1, 2)))[:, None, None] for field in (v, f))
    mix = alpha[:, None, None]
    v = np.where(downhill[:, None, None], (1 - mix) * v + mix * f / size * speed, 0.0)
    patient = downhill & (n_good > PATIENCE)
    faster = np.where(patient, np.minimum(dt * GROWTH, LONGEST_STEP), dt)
    dt = np.where(downhill | (speed[:, 0, 0] == 0), faster, dt * SHRINKAGE)
    alpha = np.where(downhill, np.where(patient, alpha * MIXING_DECAY, alpha), MIXING)
    return v + dt[:, None, None] * f, dt, alpha, np.where(downhill, n_good + 1, 0)


def _outcome(index: int, x: Array, numbers: Integers, force: float, n_steps: int, message: str) -> Relaxation:
    close = contacts(x, numbers)
    nearest = int(np.argmin(close))
    i, j = (int(row[nearest]) for row in np.triu_indices(len(numbers), 1))
    pair = f"{chemical_symbols[numbers[i]]}{i}-{chemical_symbols[numbers[j]]}{j}"
    closest, reason = float(close[nearest]), ""
    if not np.isfinite(force):
        reason = f"{message} after {n_steps} steps"
    elif closest < FUSED_BELOW:
        reason = f"{pair} ends at {closest:.2f} of its covalent sum"
    converged = bool(np.isfinite(force) and force < FORCE_LIMIT)
    return Relaxation(f"start {index}", reason != "", converged, closest, pair, force, n_steps, reason)
