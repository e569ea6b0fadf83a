"""The Python side of `pair_style gmnn`: LAMMPS' atoms and neighbours in, energies, forces and virials out.

`pair_gmnn.cpp`, compiled by `gmnn lammps build`, calls the functions that `connect` gives it. A rank of LAMMPS has its
own atoms and ghosts, which are images or other ranks' atoms. Only own atoms have neighbour slots and an energy; LAMMPS
adds the forces on ghosts to the atoms that they stand for. Every image has its own row, so that there is no cell.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmnn import device
from gmnn.device import precision
from gmnn.elements import SYMBOLS
from gmnn.errors import UserError
from gmnn.kernels.blocks import Part
from gmnn.kernels.choice import choose, part_evaluator, require_memory
from gmnn.model.folder import load
from gmnn.model.potential import Potential
from gmnn.neighbors.host import capacity
from gmnn.system import Array, System

INTERFACE = 2  # version of the struct below and its meaning; pair_gmnn.cpp has the same number
LIKE = 0.01  # relative difference up to which a mass is that of an element
UNLIKE = 1.6  # factor between the masses of a type and of its element that no mass moved to hydrogen explains


class Engine:
    """A potential with arrays for one rank's atoms. They grow by a quarter at a time; each growth compiles again."""

    def __init__(self, potential: Potential, path: str, dtype: str, elements: list[str], ranks: int = 1,
                 sharing: int = 1) -> None:  # fmt: skip
        """`elements`: the symbol of every atom type; `sharing`: ranks on this machine.

        UserError for what the potential or the path does not cover.
        """
        strangers = [symbol for symbol in elements if symbol not in SYMBOLS[1:]]
        if strangers:
            raise UserError(f"{', '.join(strangers)} is no element; write a chemical symbol for each atom type")
        self.numbers_of_types = np.array([SYMBOLS.index(symbol) for symbol in elements], np.int32)
        potential.require_elements(self.numbers_of_types)
        self.potential, self.dtype, self.ranks, self.sharing = potential, dtype, ranks, sharing
        self.path = choose(potential, path).path
        self.offsets = np.zeros(len(SYMBOLS))
        self.offsets[self.numbers_of_types] = potential.offsets(self.numbers_of_types)
        self._evaluators = {False: self._evaluator(False)}  # without grades, and once they are asked for with them
        self.shape = (0, 0, 0)  # atoms N, own atoms among them C, slots K

    def _evaluator(self, graded: bool) -> Callable[[Array, Array, Array], Part]:
        """Return a compiled function of positions, numbers and neighbors; UserError for grades that there are not."""
        one_core = self.ranks > 1
        with precision(self.dtype):
            params, part = part_evaluator(self.potential, self.path, self.dtype, one_core, graded)

        def evaluate(params: Any, positions: Array, numbers: Array, neighbors: Array) -> Part:
            no_cell, no_shifts = jnp.zeros((3, 3), positions.dtype), jnp.zeros((*neighbors.shape, 3), jnp.int32)
            return part(params, System(positions, numbers, no_cell, neighbors, no_shifts))

        return partial(device.compiled(evaluate, one_core=one_core), params)

    def reserve(self, own: int, ghosts: int, widest: int) -> bool:
        """Make larger arrays if these are too small for so many atoms with `widest` neighbours; return whether so.

        The own atoms of a single rank get no spare rows, which would be evaluated in vain, until they increase. Rows
        of ghosts cost next to nothing, and there is room for an eighth more. UserError, and the old arrays are kept, if
        memory would not do.
        """
        n, c, k = self.shape
        own = max(own, 1)  # a rank without atoms has an empty row
        if own <= c and ghosts <= n - c and widest <= k:
            return False
        centres = c if own <= c else own if self.ranks == 1 and not c else capacity(own)
        room = n - c if ghosts <= n - c else capacity(ghosts + ghosts // 8)
        n, c, k = centres + room, centres, max(k, capacity(widest))
        require_memory(self.potential, self.path, self.dtype, n, c * k, self.sharing)
        self.shape = n, c, k
        self.positions, self.numbers = np.zeros((n, 3)), np.zeros(n, np.int32)
        self.neighbors = np.full((c, k), n, np.int32)
        return True

    def odd_masses(self, masses: Sequence[float]) -> list[str]:
        """Return a note on each atom type whose mass, amu, is not its element's; 0 is an unknown mass.

        UserError if types have each other's masses, or the mass of another element that cannot be an isotope's.
        """
        from ase.data import atomic_masses

        known, named, mass = np.asarray(self.potential.reference.elements), self.numbers_of_types, np.array(masses)
        off, off_known = (np.abs(mass / atomic_masses[named] - 1), np.abs(mass[:, None] / atomic_masses[known] - 1))
        other = (off_known < LIKE) & (off[:, None] > 4 * off_known + 1e-4)  # [types, elements]: it is that of another
        odd = (mass > 0) & ((off > LIKE) | other.any(axis=1))
        symbols = [SYMBOLS[z] for z in named]
        for t, e in np.argwhere(other & odd[:, None]):
            of_other, ratio = named == known[e], mass[t] / atomic_masses[named[t]]
            if (of_other.any() and other[of_other].any(axis=1).all()) or max(ratio, 1 / ratio) > UNLIKE:
                raise UserError(
                    f"atom type {t + 1} is {symbols[t]} in pair_coeff, but its mass, {mass[t]:g}, is that of "
                    f"{SYMBOLS[known[e]]}; name the elements in the order of the atom types, or correct the masses"
                )
        return [f"atom type {t + 1} is {symbols[t]}, but its mass is {mass[t]:g}" for t in np.flatnonzero(odd)]

    def evaluate(self, graded: bool = False) -> tuple[np.ndarray, ...]:
        """Energies with the atomic references [C] eV, forces [N, 3] eV/Å and virials [C, 3, 3] eV, in float64.

        They belong to the positions [N, 3] Å, numbers [N] and neighbors [C, K] in the arrays. On the reference path
        virials are summed to [1, 3, 3]. `graded` adds the grades [C]. UserError if an energy is not finite.
        """
        if graded not in self._evaluators:
            self._evaluators[graded] = self._evaluator(graded)
        with precision(self.dtype), device.enough_memory(f"{self.shape[0]:,} atoms and ghosts"):
            positions = self.positions.astype(self.dtype)
            results = jax.device_get(self._evaluators[graded](positions, self.numbers, self.neighbors))
            energies, *others = (np.asarray(x, float) for x in results if x is not None)
        if not np.isfinite(energies.sum()):
            raise UserError(
                "the energy is not a finite number, so atoms are at the same place or lost; check the start and the "
                "timestep"
            )
        return energies + self.offsets[self.numbers[: len(energies)]], *others


class Exchange(ctypes.Structure):
    """The data that the plugin and this module share; pair_gmnn.cpp explains the fields."""


_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(Exchange), ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p,
    ctypes.c_int, ctypes.c_int,
)  # fmt: skip
_CHECK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Exchange), ctypes.POINTER(ctypes.c_double))
_RESERVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Exchange), ctypes.c_int, ctypes.c_int, ctypes.c_int)
_EVALUATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Exchange))
_CLOSE = ctypes.CFUNCTYPE(None, ctypes.POINTER(Exchange))
Exchange._fields_ = [
    ("interface", ctypes.c_int), ("model", ctypes.c_int), ("r_max", ctypes.c_double),
    ("atoms", ctypes.c_int), ("centres", ctypes.c_int), ("slots", ctypes.c_int), ("by_atom", ctypes.c_int),
    ("numbers_of_types", ctypes.c_void_p), ("positions", ctypes.c_void_p), ("numbers", ctypes.c_void_p),
    ("neighbors", ctypes.c_void_p), ("energies", ctypes.c_void_p), ("forces", ctypes.c_void_p),
    ("virials", ctypes.c_void_p), ("graded", ctypes.c_int), ("grades", ctypes.c_void_p),
    ("open", _OPEN), ("check", _CHECK), ("reserve", _RESERVE), ("evaluate", _EVALUATE), ("close", _CLOSE),
    ("error", ctypes.c_char * 1024),
]  # fmt: skip

_engines: dict[int, Engine] = {}  # by the number that their pair style holds
_results: dict[int, tuple[np.ndarray, ...]] = {}  # the plugin reads their memory
_next = count(1)


def _spoken(exchange: Any, task: Callable[[], None]) -> int:
    """Run a task and return 0; if it fails, return 1 and put one sentence into `error` for LAMMPS to print."""
    try:
        task()
        return 0
    except UserError as error:
        text = str(error)
    except KeyboardInterrupt:
        text = "interrupted"
    except BaseException as error:  # no exception may pass through the frames of LAMMPS
        text = f"gmnn failed ({type(error).__name__}: {error}); please report it"
    exchange.contents.error = " ".join(text.split()).encode("ascii", "replace")[:1023]
    return 1


def _open(exchange: Any, model: bytes, path: bytes, dtype: bytes, elements: bytes, ranks: int,
          sharing: int) -> int:  # fmt: skip
    def task() -> None:
        symbols = elements.decode(errors="replace").split()
        engine = Engine(load(os.fsdecode(model)), path.decode(), dtype.decode(), symbols, ranks, sharing)
        into, number = exchange.contents, next(_next)
        _engines[number] = engine
        into.model, into.r_max = number, engine.potential.config.r_max
        into.by_atom = engine.path != "reference"
        into.numbers_of_types = engine.numbers_of_types.ctypes.data

    return _spoken(exchange, task)


def _check(exchange: Any, masses: Any) -> int:
    notes: list[str] = []

    def task() -> None:
        engine = _engines[exchange.contents.model]
        notes.extend(engine.odd_masses(masses[: len(engine.numbers_of_types)]))

    failed = _spoken(exchange, task)
    if failed or not notes:
        return failed
    exchange.contents.error = f"{'; '.join(notes)}; dynamics follow these masses".encode()[:1023]
    return 2


def _reserve(exchange: Any, own: int, ghosts: int, widest: int) -> int:
    def task() -> None:
        into = exchange.contents
        engine = _engines[into.model]
        if engine.reserve(own, ghosts, widest):
            into.atoms, into.centres, into.slots = engine.shape
            into.positions, into.numbers = engine.positions.ctypes.data, engine.numbers.ctypes.data
            into.neighbors = engine.neighbors.ctypes.data

    return _spoken(exchange, task)


def _evaluate(exchange: Any) -> int:
    def task() -> None:
        into = exchange.contents
        arrays = tuple(map(np.ascontiguousarray, _engines[into.model].evaluate(bool(into.graded))))
        _results[into.model] = arrays
        into.energies, into.forces, into.virials = (x.ctypes.data for x in arrays[:3])
        into.grades = arrays[3].ctypes.data if into.graded else None

    return _spoken(exchange, task)


def _close(exchange: Any) -> None:
    _engines.pop(exchange.contents.model, None)
    _results.pop(exchange.contents.model, None)


_functions = _OPEN(_open), _CHECK(_check), _RESERVE(_reserve), _EVALUATE(_evaluate), _CLOSE(_close)


def connect(address: int) -> None:
    """Give the plugin, whose Exchange is at this address, the functions above."""
    exchange = Exchange.from_address(address)
    exchange.interface = INTERFACE
    exchange.open, exchange.check, exchange.reserve, exchange.evaluate, exchange.close = _functions
