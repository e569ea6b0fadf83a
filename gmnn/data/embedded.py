"""Reference data in the package: the ethanol set and the true approach curves of its bonds.

Energies in eV, forces in eV/Å, positions in Å. ``files/DATASHEET.md`` describes their making and their limits.
Each file is checked against its SHA-256 before it is read, so a damaged download is never trained on.
"""

import hashlib
import lzma
from importlib.resources import files
from io import StringIO

from ase import Atoms
from ase.io import read

CHECKSUMS: dict[str, str] = {  # SHA-256 of the compressed files as packaged
    "ethanol.extxyz.xz": "e7b69c5c4d19eb36b2c2e6b71c4438c9f7b01610a6cd9ec860441f3e5ca5c245",
    "ethanol_curves.extxyz.xz": "84a87f7f0f875aee0e5cbc866f59a188000675969b496fbaa9ea2dca03905fa8",
}


def ethanol() -> list[Atoms]:
    """1,200 frames of one ethanol molecule at 500 K with MP2/def2-SVP energy and forces.

    The order is already shuffled: any prefix is a fair sample. Atom order C C H H H H O H H.
    ``info["frame"]`` is the place in the set, ``info["start"]`` the starting conformer of the trajectory
    (0 anti, 1 and 2 gauche). RuntimeError if the packaged file is damaged.
    """
    return _frames("ethanol.extxyz.xz")


def ethanol_curves() -> list[Atoms]:
    """The 8 bonds of frame 0, each driven to 0.1 Å, with all-electron MP2 in the uncontracted def2-SVP basis.

    Each point is a frame with energy and forces. ``info`` holds ``bond`` ("C0-C1"), ``i``, ``j``, ``grid`` ("s0",
    "geometric" or "minimum"), ``distance`` [Å], ``dEdr`` [eV/Å] along the path, ``r_eq`` [Å] of that bond,
    ``reliable``, ``single_reference`` and ``starts_differ_eV``. The basis differs from that of ``ethanol()``:
    compare only energies relative to the point at ``r_eq``. RuntimeError if the packaged file is damaged.
    """
    return _frames("ethanol_curves.extxyz.xz")


def _frames(name: str) -> list[Atoms]:
    packed = (files("gmnn") / "data" / "files" / name).read_bytes()
    got = hashlib.sha256(packed).hexdigest()
    if got != CHECKSUMS[name]:
        raise RuntimeError(
            f"the packaged data file gmnn/data/files/{name} is damaged: its SHA-256 is {got}, "
            f"expected {CHECKSUMS[name]}; reinstall the package or restore the file from its source"
        )
    frames = read(StringIO(lzma.decompress(packed).decode()), ":", format="extxyz")
    assert isinstance(frames, list)  # ":" asks for a list
    return frames
