"""A teacher that misbehaves: the x coordinate of the first atom, or its own environment, says how."""

import ctypes
import os
import signal
import sys
import time
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

RAISES, HANGS, NAN, SHAPE, PRINTS, LEAVES, EXITS, INTERRUPTS, KILLED, CRASHES, ABSURD, TEXT, MEMORY, SLOW, HOLDS = (
    range(1, 16)
)


class Odd(Calculator):
    """Energy sum(x^2) and forces -2x; x[0, 0] = 100 k makes it misbehave in the way number k.

    calls: a file that gets one byte a call. spring: eV/Å^2.
    """

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, calls: str = "", spring: float = 1.0, broken: str = "", seconds: float = 0.0) -> None:
        super().__init__()
        self.calls, self.spring, self.seconds = calls, spring, seconds
        if broken == "raise":
            raise RuntimeError("first line\nno licence left")
        if broken == "exit":
            sys.exit("gone at once")
        if broken == "crash":
            print("about to crash", file=sys.stderr, flush=True)
            os._exit(7)

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Compute, or do what no calculator should."""
        super().calculate(atoms, properties, system_changes)
        if self.calls:
            with open(self.calls, "ab", 0) as file:
                file.write(b".")
        time.sleep(self.seconds)
        x: np.ndarray = self.atoms.positions  # type: ignore[union-attr]
        way = round(float(x[0, 0]) / 100)
        energy: Any = self.spring * float((x**2).sum())
        forces = -2 * self.spring * x
        if way == RAISES:
            raise ValueError("the first line\nthe last line")
        if way == HANGS:
            os.system("sleep 1000")  # a process of the teacher's own
        if way == HOLDS:
            ctypes.PyDLL(None).sleep(1000)  # and no other thread of Python can run
        if way == NAN:
            energy = float("nan")
        if way == SHAPE:
            forces = forces[:, :2]
        if way == PRINTS:
            print("to stdout")
            os.write(1, b"\xff\x00 raw bytes\n")
            os.system("echo from a child of the teacher")
        if way == LEAVES:
            sys.exit("I leave")
        if way == EXITS:
            os._exit(3)
        if way == INTERRUPTS:
            raise KeyboardInterrupt
        if way == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if way == CRASHES:
            ctypes.string_at(0)
        if way == ABSURD:
            energy = 1e300
        if way == TEXT:
            forces = np.full(x.shape, "far", dtype=object)
        if way == MEMORY:
            raise MemoryError
        if way == SLOW:
            time.sleep(0.5)
        self.results = {"energy": energy, "forces": forces, "stress": np.arange(6.0) / 7}


class Random(Odd):
    """Fails in about a fifth of the calls, in all ways but hanging, decided by the structure."""

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Compute or fail."""
        way = int(abs(atoms.positions).sum() * 1e6) % 50
        if way < 10:
            moved = atoms.copy()
            moved.positions[0, 0] = (
                100 * [RAISES, NAN, SHAPE, LEAVES, EXITS, KILLED, CRASHES, TEXT, ABSURD, MEMORY][way]
            )
            super().calculate(moved, properties, system_changes)
        else:
            super().calculate(atoms, properties, system_changes)
