"""Closed-shell all-electron MP2: energy, analytic forces and orbital stability of one geometry in one go.

The equations are those of PySCF's ``grad/mp2.py``; the whole two-particle density (Hartree-Fock, response and MP2) is
contracted with the derivative integrals in a single pass, which halves the time, and the orbital Hessian that answers
the response equations also answers whether the SCF solution is stable. ``pyscf_forces`` is the cross-check.

Index letters: i j occupied, a b virtual, p q r s basis functions (or any orbital), x Cartesian. Atomic units inside;
functions take ASE ``Atoms`` and give eV and eV/Å.
"""

import time

import numpy as np
from ase import Atoms, units
from pyscf import ao2mo, gto, lib, mp, scf
from scipy.linalg import eigh, expm

BASIS = "unc-def2-svp"
ENERGY_TOLERANCE, GRADIENT_TOLERANCE = 1e-11, 1e-7  # Hartree
UNSTABLE = -1e-5  # Hartree, an eigenvalue below it is an instability
FUNCTIONS_PER_BLOCK = 6


def molecule_of(atoms: Atoms) -> gto.Mole:
    where = list(zip(atoms.get_chemical_symbols(), atoms.positions / units.Bohr, strict=True))
    return gto.M(atom=where, basis=BASIS, unit="Bohr", verbose=0)


def converge(field: scf.hf.RHF, density: np.ndarray) -> scf.hf.RHF:
    """Iterate from ``density``; the second-order solver takes over where DIIS fails."""
    field.conv_tol, field.conv_tol_grad, field.max_cycle = ENERGY_TOLERANCE, GRADIENT_TOLERANCE, 60
    field.kernel(density)
    if not field.converged:
        second = field.newton()
        second.conv_tol, second.conv_tol_grad, second.max_cycle = ENERGY_TOLERANCE, GRADIENT_TOLERANCE, 60
        second.kernel(field.mo_coeff, field.mo_occ)
        field.mo_coeff, field.mo_energy, field.mo_occ = second.mo_coeff, second.mo_energy, second.mo_occ
        field.e_tot, field.converged = second.e_tot, second.converged
    return field


def fields(atoms: Atoms, orbitals: np.ndarray | None, default: bool = True) -> list[scf.hf.RHF]:
    """Converged SCF solutions from PySCF's default guess (if wanted) and the given occupied orbitals (else "atom")."""
    molecule = molecule_of(atoms)
    integrals = molecule.intor("int2e", aosym="s8")
    found = []
    for continued in (False, True) if default else (True,):
        field = scf.RHF(molecule)
        field._eri = integrals
        if not continued:
            density = field.get_init_guess(key="minao")
        elif orbitals is None:
            density = field.get_init_guess(key="atom")
        else:
            density = 2 * orbitals @ np.linalg.solve(orbitals.T @ field.get_ovlp() @ orbitals, orbitals.T)
        found.append(converge(field, density))
    return found


def integrals_of(field: scf.hf.RHF) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pq|jb) over all orbitals p q, (ij|ab), and the amplitudes t_iajb [o, v, o, v]."""
    orbitals, energies = field.mo_coeff, field.mo_energy
    n_o, n = field.mol.nelectron // 2, orbitals.shape[1]
    occupied, virtual = orbitals[:, :n_o], orbitals[:, n_o:]
    pqjb = ao2mo.incore.general(field._eri, (occupied, virtual, orbitals, orbitals), compact=False)
    pqjb = np.ascontiguousarray(pqjb.reshape(n_o * (n - n_o), n * n).T).reshape(n, n, n_o, n - n_o)
    ijab = ao2mo.incore.general(field._eri, (occupied, occupied, virtual, virtual), compact=False)
    gap = energies[:n_o, None] - energies[n_o:]
    t = pqjb[:n_o, n_o:] / (gap[:, :, None, None] + gap)
    return pqjb, ijab.reshape(n_o, n_o, n - n_o, n - n_o), t


def orbital_hessians(field: scf.hf.RHF, iajb: np.ndarray, ijab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singlet and triplet A + B of real orbital rotations, each [o v, o v], in Hartree."""
    n_o, n_v = iajb.shape[:2]
    gap = field.mo_energy[n_o:] - field.mo_energy[:n_o, None]
    triplet = -iajb.transpose(0, 3, 2, 1) - ijab.transpose(0, 2, 1, 3)
    triplet = triplet.reshape(n_o * n_v, n_o * n_v) + np.diag(gap.ravel())
    return triplet + 4 * iajb.reshape(n_o * n_v, n_o * n_v), triplet


def lowest(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    values, vectors = eigh(matrix, subset_by_index=[0, 0])
    return float(values[0]), vectors[:, 0]


def rotated_density(field: scf.hf.RHF, vector: np.ndarray, angle: float = 0.3) -> np.ndarray:
    n_o, n = field.mol.nelectron // 2, field.mo_coeff.shape[1]
    turn = np.zeros((n, n))
    turn[n_o:, :n_o] = angle * vector.reshape(n_o, n - n_o).T
    occupied = (field.mo_coeff @ expm(turn - turn.T))[:, :n_o]
    return 2 * occupied @ occupied.T


def solve(atoms: Atoms, orbitals: np.ndarray | None) -> tuple[dict, np.ndarray]:
    """Energy [eV], forces [eV/Å] and diagnostics of the lower of two SCF solutions, and its occupied orbitals."""
    started = time.perf_counter()
    both = fields(atoms, orbitals)
    lowest_energy = min(f.e_tot for f in both)
    field = min(both, key=lambda f: (f.e_tot > lowest_energy + 1e-8, not f.converged))
    n_o = field.mol.nelectron // 2
    followed = 0
    while True:
        pqjb, ijab, t = integrals_of(field)
        singlet, triplet = orbital_hessians(field, pqjb[:n_o, n_o:], ijab)
        value, vector = lowest(singlet)
        if value > UNSTABLE or followed == 3:
            break
        followed += 1
        field = converge(field, rotated_density(field, vector))
    density_o, density_v = unrelaxed(t)
    iajb = pqjb[:n_o, n_o:]
    energy = field.e_tot + float(np.sum(t * (2 * iajb - iajb.transpose(0, 3, 2, 1))))
    gradient = forces_of(field, pqjb, t, singlet, density_o, density_v)
    overlap = np.linalg.eigvalsh(field.get_ovlp())
    return {
        "energy": energy * units.Hartree,
        "forces": (-gradient * units.Hartree / units.Bohr).tolist(),
        "scf_energy": field.e_tot * units.Hartree,
        "converged": bool(field.converged and value > UNSTABLE),
        "followed": followed,
        "starts": [f.e_tot * units.Hartree for f in both],
        "starts_converged": [bool(f.converged) for f in both],
        "starts_differ_eV": abs(both[0].e_tot - both[1].e_tot) * units.Hartree,
        "singlet": value,
        "triplet": lowest(triplet)[0],
        "gap": float(np.diff(field.mo_energy[n_o - 1 : n_o + 1])[0]),
        "occupation": float(np.linalg.eigvalsh(density_v)[-1]),
        "largest_t": float(np.abs(t).max()),
        "condition": float(overlap[-1] / overlap[0]),
        "seconds": time.perf_counter() - started,
    }, field.mo_coeff[:, :n_o]


def unrelaxed(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Occupied and virtual blocks of the spin-summed MP2 correction to the one-particle density."""
    n_o, n_v = t.shape[:2]
    mixed = 2 * t - t.transpose(0, 3, 2, 1)
    rows = t.reshape(n_o, -1) @ mixed.reshape(n_o, -1).T
    columns = t.transpose(1, 0, 2, 3).reshape(n_v, -1) @ mixed.transpose(1, 0, 2, 3).reshape(n_v, -1).T
    return -(rows + rows.T), columns + columns.T


def forces_of(
    field: scf.hf.RHF,
    pqjb: np.ndarray,
    t: np.ndarray,
    singlet: np.ndarray,
    density_o: np.ndarray,
    density_v: np.ndarray,
) -> np.ndarray:
    """The gradient [atoms, 3] in Hartree/Bohr."""
    molecule, c, energies = field.mol, field.mo_coeff, field.mo_energy
    n_o, n = molecule.nelectron // 2, c.shape[1]
    n_v = n - n_o
    two = 4 * t - 2 * t.transpose(0, 3, 2, 1)  # [o, v, o, v]
    lagrangian = np.empty((n, n))
    flat = two.transpose(1, 0, 2, 3).reshape(n_v, -1)
    lagrangian[:, n_o:] = -pqjb[:, :n_o].reshape(n, -1) @ flat.T
    lagrangian[:, :n_o] = -pqjb[:, n_o:].reshape(n, -1) @ two.reshape(n_o, -1).T

    density = np.zeros((n, n))
    density[:n_o, :n_o], density[n_o:, n_o:] = density_o, density_v
    potential = 2 * field.get_veff(molecule, c @ density @ c.T)
    right = c[:, n_o:].T @ potential @ c[:, :n_o] + lagrangian[:n_o, n_o:].T - lagrangian[n_o:, :n_o]
    response = -np.linalg.solve(singlet, right.T.ravel()).reshape(n_o, n_v)
    density[:n_o, n_o:], density[n_o:, :n_o] = response, response.T
    lagrangian[n_o:, :n_o] = lagrangian[:n_o, n_o:].T

    mean = 0.5 * (energies[:, None] + energies)
    mean[n_o:, :n_o] = energies[:n_o]
    mean[:n_o, n_o:] = energies[:n_o, None]
    hartree_fock = field.make_rdm1()
    relaxed = c @ density @ c.T
    occupied = c[:, :n_o] @ c[:, :n_o].T
    overlap_weight = (
        c @ (lagrangian - mean * density) @ c.T
        - occupied @ field.get_veff(molecule, relaxed + relaxed.T) @ occupied
        - (c[:, :n_o] * (2 * energies[:n_o])) @ c[:, :n_o].T
    )
    overlap_weight = overlap_weight + overlap_weight.T

    gradients = scf.RHF(molecule).nuc_grad_method()
    core, overlap = gradients.hcore_generator(molecule), gradients.get_ovlp(molecule)
    result = gradients.grad_nuc()
    pairs = two_electron(molecule, c[:, :n_o], c[:, n_o:], two, hartree_fock, hartree_fock + 2 * relaxed)
    for k, (_, _, p0, p1) in enumerate(molecule.offset_nr_by_atom()):
        result[k] += np.einsum("xpq,pq->x", core(k), hartree_fock + relaxed)
        result[k] += np.einsum("xpq,pq->x", overlap[:, p0:p1], overlap_weight[p0:p1]) - pairs[p0:p1].sum(0)
    return result


def two_electron(
    molecule: gto.Mole,
    occupied: np.ndarray,
    virtual: np.ndarray,
    two: np.ndarray,
    hartree_fock: np.ndarray,
    partner: np.ndarray,
) -> np.ndarray:
    """Per basis function, the derivative integrals (∇p q|rs) times the whole two-particle density, [functions, 3]."""
    n, n_o = occupied.shape
    half = np.einsum("iajb,qa->iqjb", two, virtual, optimize=True)
    half = np.ascontiguousarray(np.einsum("iqjb,rb->iqrj", half, virtual, optimize=True))
    packed_partner = lib.pack_tril(partner)
    diagonal = np.arange(n) * (np.arange(n) + 3) // 2
    offsets = molecule.ao_loc_nr()
    result = np.empty((n, 3))
    first = 0
    while first < molecule.nbas:
        last = first + 1
        while last < molecule.nbas and offsets[last + 1] - offsets[first] <= FUNCTIONS_PER_BLOCK:
            last += 1
        block = slice(offsets[first], offsets[last])
        m = offsets[last] - offsets[first]
        gamma = (occupied[block] @ half.reshape(n_o, -1)).reshape(m, n, n, n_o)
        gamma += (occupied @ half[:, block].transpose(1, 0, 2, 3).reshape(m, n_o, -1)).reshape(m, n, n, n_o)
        gamma += partner[block, :, None, None] * occupied
        gamma -= 0.5 * partner[:, :, None] * occupied[block, None, None]
        gamma -= 0.5 * partner[block, None, :, None] * occupied[:, None]
        gamma = (gamma.reshape(-1, n_o) @ occupied.T).reshape(-1, n, n)
        gamma = lib.pack_tril(lib.hermi_sum(gamma, axes=(0, 2, 1), inplace=True)).reshape(m, n, -1)
        gamma += hartree_fock[block, :, None] * packed_partner
        gamma[:, :, diagonal] *= 0.5
        shells = (first, last) + (0, molecule.nbas) * 3
        derivative = molecule.intor("int2e_ip1", comp=3, aosym="s2kl", shls_slice=shells).reshape(3, m, -1)
        result[block] = 2 * np.einsum("xpk,pk->px", derivative, gamma.reshape(m, -1))
        first = last
    return result


def scf_only(atoms: Atoms, orbitals: np.ndarray) -> tuple[float, np.ndarray]:
    """Hartree-Fock energy [eV] and occupied orbitals, continued from ``orbitals``."""
    field = fields(atoms, orbitals, default=False)[0]
    return field.e_tot * units.Hartree, field.mo_coeff[:, field.mo_occ > 0]


def energy_only(atoms: Atoms, orbitals: np.ndarray) -> float:
    field = fields(atoms, orbitals, default=False)[0]
    return float(mp.MP2(field).run(verbose=0).e_tot * units.Hartree)


def pyscf_forces(atoms: Atoms, orbitals: np.ndarray) -> np.ndarray:
    gradient = mp.MP2(fields(atoms, orbitals, default=False)[0]).run(verbose=0).nuc_grad_method().kernel()
    return -gradient * units.Hartree / units.Bohr
