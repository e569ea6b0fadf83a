"""Methods of PySCF as an ASE calculator of energies and forces, through PySCF's own programming interface.

The file needs numpy, ASE and PySCF alone: it also works where the package is absent.
"""

from typing import Any

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes

MEAN_FIELD = ("HF", "RHF", "UHF", "ROHF", "KS", "RKS", "UKS", "ROKS")
CORRELATED = ("MP2", "CCSD", "CCSD(T)")


class PySCF(Calculator):
    """A molecule's energy (eV) and forces [N, 3] (eV/Å) by a method of PySCF with analytic gradients.

    method: one of `MEAN_FIELD`, or of `CORRELATED` upon Hartree-Fock. xc: the functional of Kohn-Sham methods. spin:
    the number of unpaired electrons. max_memory: MB. The density of the structure before is the first guess where
    `reuse` is true; a label then depends, within conv_tol, on the order of the structures.
    """

    implemented_properties = ["energy", "forces"]

    def __init__(
        self,
        method: str = "MP2",
        basis: Any = "def2-svp",
        xc: "str | None" = None,
        charge: int = 0,
        spin: int = 0,
        conv_tol: float = 1e-10,
        grid_level: int = 4,
        max_memory: float = 4000.0,
        reuse: bool = False,
    ) -> None:
        super().__init__()
        self.method = method.upper()
        if self.method not in MEAN_FIELD + CORRELATED:
            raise ValueError(f"method is {method!r}, but must be one of {', '.join(MEAN_FIELD + CORRELATED)}")
        if (xc is not None) != self.method.endswith("KS"):
            raise ValueError(f"xc is {xc!r} with the method {method}; Kohn-Sham methods need one, others have none")
        if spin and self.method == "CCSD(T)":
            raise ValueError(f"spin is {spin}, but must be 0 with CCSD(T)")
        import pyscf.grad  # gradients become methods
        import pyscf.scf  # noqa: F401

        self.basis, self.xc, self.charge, self.spin = basis, xc, charge, spin
        self.conv_tol, self.grid_level, self.max_memory, self.reuse = conv_tol, grid_level, max_memory, reuse
        self.density: Any = None

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy", "forces"), system_changes: Any = all_changes
    ) -> None:
        """Compute energy and forces; RuntimeError if a step does not converge or the structure repeats."""
        super().calculate(atoms, properties, system_changes)
        from pyscf import cc, dft, gto, mp, scf

        here: Any = self.atoms
        if here.pbc.any():
            raise RuntimeError("the structure is periodic, but this calculator is for molecules")
        molecule = gto.M(
            atom=list(zip(here.get_chemical_symbols(), here.positions.tolist())),  # noqa: B905 (3.9)
            unit="Angstrom", basis=self.basis, charge=self.charge, spin=self.spin, verbose=0,
            max_memory=self.max_memory,
        )  # fmt: skip
        kind = "HF" if self.method in CORRELATED else self.method
        solver = getattr(dft if kind.endswith("KS") else scf, kind)(molecule)
        solver.conv_tol = self.conv_tol
        if self.xc is not None:
            solver.xc, solver.grids.level = self.xc, self.grid_level
        guess = self.density if self.reuse and np.shape(self.density)[-2:] == (molecule.nao,) * 2 else None
        energy = solver.kernel(dm0=guess)
        if not solver.converged:
            raise RuntimeError("the self-consistent field did not converge")
        if self.reuse:
            self.density = solver.make_rdm1()
        if self.method == "MP2":
            solver = mp.MP2(solver).run()
            energy = solver.e_tot
        elif self.method in ("CCSD", "CCSD(T)"):
            solver = cc.CCSD(solver).run()
            if not solver.converged:
                raise RuntimeError("the coupled-cluster amplitudes did not converge")
            energy = solver.e_tot
        gradient = self._gradient(solver)
        if self.method == "CCSD(T)":
            energy = energy + solver.ccsd_t()
        self.results = {
            "energy": float(energy) * units.Hartree,
            "forces": -np.asarray(gradient, float) * (units.Hartree / units.Bohr),
        }

    def _gradient(self, solver: Any) -> Any:
        """dE/dx [N, 3], Hartree/Bohr."""
        if self.method != "CCSD(T)":
            return solver.nuc_grad_method().kernel()
        from pyscf.cc import ccsd_t_lambda_slow
        from pyscf.grad import ccsd_t

        integrals = solver.ao2mo()
        converged, l1, l2 = ccsd_t_lambda_slow.kernel(solver, integrals, solver.t1, solver.t2, verbose=0)
        if not converged:
            raise RuntimeError("the lambda equations of CCSD(T) did not converge")
        return ccsd_t.Gradients(solver).kernel(solver.t1, solver.t2, l1, l2, eris=integrals)
