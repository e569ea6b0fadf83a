"""Chemical symbols and covalent radii, so that a saved model can be read and run without ASE."""

import numpy as np

from gmnn.errors import UserError

SYMBOLS = (
    "X "
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh "
    "Fl Mc Lv Ts Og "
).split()
"""Symbol of each atomic number; 0 is padding."""

_RADII = """
0.31 0.28 1.28 0.96 0.84 0.76 0.71 0.66 0.57 0.58 1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06 2.03 1.76 1.70 1.60
1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16 2.20 1.95 1.90 1.75 1.64 1.54 1.47 1.46
1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40 2.44 2.15 2.07 2.04 2.03 2.01 1.99 1.98 1.98 1.96 1.94 1.92
1.92 1.89 1.90 1.87 1.87 1.75 1.70 1.62 1.51 1.44 1.41 1.36 1.36 1.32 1.45 1.46 1.48 1.40 1.50 1.50 2.60 2.21
2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69
"""  # Cordero et al., Dalton Trans. 2008, 2832, table 2; C sp3, low-spin Mn, Fe, Co; Z = 1 ... 96, Å
COVALENT_RADII = np.array([np.nan, *map(float, _RADII.split())])
"""Covalent radius of each atomic number up to 96, Å."""


def covalent_radius(number: int) -> float:
    """Covalent radius in Å. UserError beyond curium, where none is tabulated."""
    if 0 < number < len(COVALENT_RADII):
        return float(COVALENT_RADII[number])
    raise UserError(
        f"no covalent radius is tabulated for {SYMBOLS[number]} (Z = {number}), only for H ... Cm; "
        "use model.zbl.window=cosine or model.repulsion=none"
    )


def pair_name(z1: int, z2: int) -> str:
    """Name of an unordered pair of elements, with the symbols in alphabetical order: C-H, H-O."""
    return "-".join(sorted((SYMBOLS[z1], SYMBOLS[z2])))


def parse_pair(name: str, key: str) -> str:
    """Return a pair name with its symbols in alphabetical order.

    UserError, which names the key where it was given, for anything but two hyphenated symbols.
    """
    parts = str(name).split("-")
    if len(parts) != 2 or any(part not in SYMBOLS[1:] for part in parts):
        raise UserError(f"{key} names {name!r}, which is no pair of elements; write two symbols with a hyphen, as C-H")
    return "-".join(sorted(parts))
