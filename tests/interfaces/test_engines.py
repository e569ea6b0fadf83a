"""Other engines move atoms as our dynamics do, and an exported potential says the same without the package."""

import importlib.util
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLength

from gmnn import Calculator, md
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.model import folder
from tests.support import processes
from tests.support.paths import ROOT

MODEL = ROOT / "examples" / "ethanol"
STEPS, STEP_FS = 12, 0.5


def distorted() -> Atoms:
    """Ethanol at rest, away from its minimum."""
    frame = ethanol()[4]
    atoms = Atoms(frame.numbers, frame.positions - frame.positions.mean(axis=0))
    atoms.rattle(0.03, seed=1)
    return atoms


@pytest.fixture(scope="module")
def ours() -> tuple[np.ndarray, np.ndarray]:
    """Positions and potential energies of velocity Verlet with our own program, [T, N, 3] and [T]."""
    start = distorted()
    start.set_velocities(np.full((len(start), 3), 1e-30))  # at rest, but not without velocities
    moving = md.Dynamics(start, folder.load(MODEL), md.Bath("nve"), STEP_FS, "float64", "reference")
    found = [moving.run(1) for _ in range(STEPS)]
    return np.array([one.state.positions for one in found]), np.array([one.energy for one in found])


@pytest.mark.slow
def test_openmm_moves_the_molecule_as_we_do(ours: tuple[np.ndarray, np.ndarray]) -> None:
    """Leapfrog from half a step back is velocity Verlet: positions to 1e-9 Å, energies to 1e-8 eV."""
    processes.engine("openmm")
    import openmm

    from gmnn.interfaces.openmm import KJ_PER_MOL, NM, system

    atoms, calculator = distorted(), Calculator(MODEL, dtype="float64")
    atoms.calc = calculator
    context = openmm.Context(
        system(atoms, calculator),
        openmm.VerletIntegrator(STEP_FS / 1000),
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPositions(atoms.positions / NM)
    back = -0.5 * STEP_FS * units.fs * atoms.get_forces() / atoms.get_masses()[:, None]  # Å in ASE's unit of time
    context.setVelocities(back * (units.fs * 1000) / NM)
    positions, energies = [], []
    for _ in range(STEPS):
        context.getIntegrator().step(1)
        state = context.getState(getPositions=True, getEnergy=True)
        positions.append(state.getPositions(asNumpy=True)._value * NM)
        energies.append(state.getPotentialEnergy()._value * KJ_PER_MOL)
    assert np.ptp(ours[1]) > 0.05  # eV; it does move
    np.testing.assert_allclose(positions, ours[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(energies, ours[1], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_openmm_in_a_cell() -> None:
    """Forces of a periodic box; cells OpenMM cannot take, mixed periodicity and constraints are refused in words."""
    processes.engine("openmm")
    import openmm

    from gmnn.interfaces.openmm import KJ_PER_MOL, NM, system

    calculator, atoms = Calculator(MODEL, dtype="float64"), distorted()
    atoms.set_cell([[7.0, 0, 0], [1.0, 7.5, 0], [0.5, -1.0, 8.0]])
    atoms.pbc = True
    atoms.set_constraint(FixAtoms([2]))
    made = system(atoms, calculator)
    context = openmm.Context(made, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions((atoms.positions + atoms.cell.array[2]) / NM)
    forces = context.getState(getForces=True).getForces(asNumpy=True)._value * KJ_PER_MOL / NM
    atoms.calc = calculator
    np.testing.assert_allclose(forces, atoms.get_forces(apply_constraint=False), rtol=0, atol=1e-7)
    assert [made.getParticleMass(k)._value for k in (1, 2)] == [atoms.get_masses()[1], 0.0]
    for change, words in (
        ({"pbc": [True, True, False]}, "three directions or none"),
        ({"cell": [[7, 1, 0], [0, 7, 0], [0, 0, 7]]}, "OpenMM refuses the cell"),
        ({"constraint": FixBondLength(0, 1)}, "only FixAtoms"),
    ):
        other = atoms.copy()
        for name, value in change.items():
            getattr(other, f"set_{name}")(value)
        with pytest.raises(UserError, match=words):
            system(other, calculator)


@pytest.mark.slow
def test_kind_16_openmm_in_a_box_that_changes() -> None:
    """Under a barostat and after a change by hand, energies and forces are the calculator's for the same box."""
    processes.engine("openmm")
    import openmm

    from gmnn.interfaces.openmm import KJ_PER_MOL, NM, system

    atoms, cell = distorted(), np.array([[7.0, 0, 0], [1.0, 7.5, 0], [0.5, -1.0, 8.0]])
    atoms.set_cell(cell)
    atoms.pbc = True
    made = system(atoms, Calculator(MODEL, dtype="float64"))
    made.addForce(openmm.MonteCarloBarostat(1000.0, 300.0, 1))
    made = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(made))  # as a checkpoint does
    context = openmm.Context(
        made, openmm.LangevinMiddleIntegrator(300, 1, 0.0005), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(atoms.positions / NM)
    boxes = []
    for scale, steps in ((None, 20), (0.9, 0), (0.6, 0)):  # the last one is narrower than the cutoff
        if scale:
            context.setPeriodicBoxVectors(*(scale * cell / NM))
        context.getIntegrator().step(steps)
        state = context.getState(getEnergy=True, getPositions=True, getForces=True)
        boxes.append(state.getPeriodicBoxVectors(asNumpy=True)._value * NM)
        same = Atoms(atoms.numbers, state.getPositions(asNumpy=True)._value * NM, cell=boxes[-1], pbc=True)
        same.calc = Calculator(MODEL, dtype="float64")
        assert state.getPotentialEnergy()._value * KJ_PER_MOL == pytest.approx(same.get_potential_energy(), abs=1e-8)
        forces = state.getForces(asNumpy=True)._value * KJ_PER_MOL / NM
        np.testing.assert_allclose(forces, same.get_forces(), atol=1e-8 * np.abs(forces).max())
    assert np.abs(boxes[0] - cell).max() > 1e-6


@pytest.mark.slow
def test_kind_12_openmm_particles_that_are_no_atoms() -> None:
    """Dummy atoms, unknown elements, virtual sites and another number of particles are refused with one sentence."""
    processes.engine("openmm")
    import openmm

    from gmnn.interfaces.openmm import NM, python_force, system

    calculator, atoms = Calculator(MODEL, dtype="float64"), distorted()
    for number, words in ((0, "not trained on the dummy X"), (92, "not trained on U")):
        other = atoms.copy()
        other.numbers[0] = number
        for make in (system, python_force):
            with pytest.raises(UserError, match=words):
                make(other, calculator)
    with pytest.raises(UserError, match="no atoms"):
        system(Atoms(), calculator)
    charged = atoms.copy()
    charged.info["charge"] = 1
    with pytest.warns(UserWarning, match="total charge"):
        system(charged, calculator)

    def energy(made: Any, positions: np.ndarray) -> Any:
        context = openmm.Context(made, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(positions / NM)
        return context.getState(getEnergy=True)

    sites = system(atoms, calculator)
    sites.addParticle(0)
    sites.setVirtualSite(9, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    single = openmm.System()
    single.addParticle(12.0)
    single.addForce(python_force(atoms, calculator))
    for made, positions in ((sites, np.vstack([atoms.positions, np.zeros(3)])), (single, np.zeros((1, 3)))):
        with pytest.raises(openmm.OpenMMException, match="particles, but the structure has 9 atoms"):
            energy(made, positions)
    held = system(atoms, calculator)
    held.addConstraint(0, 1, 0.15)
    context = openmm.Context(held, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / NM)
    context.applyConstraints(1e-8)
    context.getIntegrator().step(3)
    now = context.getState(getPositions=True).getPositions(asNumpy=True)._value * NM
    assert np.linalg.norm(now[0] - now[1]) == pytest.approx(1.5, abs=1e-4)


def ipi_input(folder: Path, beads: int, dynamics: str) -> str:
    """An input of i-PI for the distorted molecule, whose files are in `folder`; masses are ASE's, not i-PI's own."""
    from gmnn.interfaces import ipi

    atoms = distorted()
    atoms.write(folder / "template.extxyz")
    rows = [f"{s} {x:.15f} {y:.15f} {z:.15f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)]
    box = "# CELL(abcABC): 40 40 40 90 90 90 positions{angstrom} cell{angstrom}"
    (folder / "start.xyz").write_text("\n".join([str(len(atoms)), box, *rows, ""]), encoding="utf-8")
    masses = ", ".join(map(repr, atoms.get_masses().tolist()))
    return f"""
<simulation verbosity='quiet' threading='false' safe_stride='1000'>
  <ffdirect name='gmnn' threaded='false'>
    <pes>custom</pes> <pes_path> {ipi.__file__} </pes_path> <batch_size> {beads} </batch_size>
    <parameters> {{model: {MODEL}, template: {folder / "template.extxyz"}, dtype: float64}} </parameters>
  </ffdirect>
  <output prefix='{folder / "out"}'>
    <properties filename='log' stride='1'> [ step, potential{{electronvolt}} ] </properties>
  </output>
  <total_steps> {STEPS} </total_steps>
  <prng> <seed> 1 </seed> </prng>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz'> {folder / "start.xyz"} </file> <masses mode='manual' units='dalton'> [ {masses} ] </masses>
    </initialize>
    <forces> <force forcefield='gmnn'/> </forces>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
    <motion mode='dynamics'> <fixcom> False </fixcom> {dynamics} </motion>
  </system>
</simulation>"""


@pytest.fixture
def simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """i-PI in this process; it writes into the working directory and takes over signals, which are given back."""
    processes.engine("ipi")
    from ipi.utils import scripting

    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield scripting.InteractiveSimulation
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_ipi_moves_the_molecule_as_we_do(
    ours: tuple[np.ndarray, np.ndarray], tmp_path: Path, simulation: Callable
) -> None:
    """One bead in NVE from rest: the same positions and the same energies along them."""
    step = f"<dynamics mode='nve'> <timestep units='femtosecond'> {STEP_FS} </timestep> </dynamics>"
    run = simulation(ipi_input(tmp_path, 1, step))
    positions, energies = [], []
    for _ in range(STEPS):
        run.run(1)
        positions.append(run.get_structures().positions)
        energies.append(float(run.properties("potential")))
    np.testing.assert_allclose(positions, ours[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(energies, ours[1], rtol=2e-7)


@pytest.mark.slow
def test_ipi_path_integral(tmp_path: Path, simulation: Callable) -> None:
    """Four beads under a thermostat: all in one batch, each with the calculator's energy; quantum atoms spread out."""
    thermostat = (
        "<thermostat mode='pile_g'> <tau units='femtosecond'> 20 </tau> <pile_lambda> 0.5 </pile_lambda> </thermostat>"
    )
    run = simulation(
        ipi_input(
            tmp_path,
            4,
            f"<dynamics mode='nvt'> {thermostat} <timestep units='femtosecond'> 0.25 </timestep> </dynamics>",
        )
    )
    run.run(STEPS)
    beads = run.syslist[0].beads.q.reshape(4, -1, 3) * units.Bohr
    spread = np.sqrt(np.mean(beads.var(axis=0).sum(axis=-1)))
    assert 0.02 < spread < 0.5  # Å; rings that began as points
    energies = []
    for positions in beads:
        atoms = Atoms(distorted().numbers, positions, calculator=Calculator(MODEL, dtype="float64"))
        energies.append(atoms.get_potential_energy())
    assert np.ptp(energies) > 1e-3
    np.testing.assert_allclose(run.properties("potential"), np.mean(energies), rtol=2e-7)


@pytest.mark.slow
def test_ipi_gets_the_virial_it_expects(tmp_path: Path) -> None:
    """For a sheared cell, vectors as columns: minus dE/d(strain) by finite differences, Hartree."""
    processes.engine("ipi")
    from gmnn.interfaces.ipi import Driver

    atoms = distorted()
    atoms.set_cell([[6.0, 0, 0], [1.0, 6.5, 0], [0.5, -1.0, 7.0]])
    atoms.pbc = True
    atoms.write(tmp_path / "template.extxyz")
    driver = Driver(str(MODEL), str(tmp_path / "template.extxyz"), dtype="float64")

    def energy(strain: np.ndarray) -> tuple:
        deform = np.eye(3) + strain
        return driver((atoms.cell.array @ deform).T / units.Bohr, atoms.positions @ deform / units.Bohr)

    virial, h = energy(np.zeros((3, 3)))[2], 1e-4
    for a, b in ((0, 0), (1, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] = strain[b, a] = h if a == b else 0.5 * h
        slope = (energy(strain)[0] - energy(-strain)[0]) / (2 * h)
        assert abs(slope) > 1e-4
        np.testing.assert_allclose(virial[a, b], -slope, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_kind_10_ipi_sends_what_is_no_structure(tmp_path: Path) -> None:
    """Another number of atoms, positions or cells that are no numbers, cells without volume or in another unit."""
    processes.engine("ipi")
    from gmnn.interfaces.ipi import Driver

    atoms = distorted()
    atoms.write(tmp_path / "molecule.extxyz")
    atoms.set_cell([9.0, 9.0, 9.0])
    atoms.pbc = True
    atoms.write(tmp_path / "cell.extxyz")
    molecule, periodic = (Driver(str(MODEL), str(tmp_path / f"{name}.extxyz")) for name in ("molecule", "cell"))
    x, cell = atoms.positions / units.Bohr, atoms.cell.array / units.Bohr
    energy = molecule(cell, x)[0]
    for driver, box, positions, words in (
        (molecule, cell, x[:3], r"of the shape \(3, 3\), but the template has 9 atoms"),
        (periodic, cell, np.vstack([x, x + 9]), r"of the shape \(18, 3\), but the template has 9 atoms"),
        (molecule, cell, x.ravel(), "the template has 9 atoms"),
        (molecule, cell, np.nan * x, "must be finite numbers"),
        (periodic, cell, np.inf * x, "must be finite numbers"),
        (periodic, np.nan * cell, x, "which has no volume"),
        (periodic, 0.0 * cell, x, "which has no volume"),
        (periodic, np.ones((3, 3)), x, "which has no volume"),
        (periodic, cell[:2], x, "which has no volume"),
        (periodic, 1e-3 * cell, x, "give a real cell"),
        (periodic, 1e9 * cell, x, "check the unit"),
    ):
        for several in (False, True):
            with pytest.raises(UserError, match=words):
                driver([cell, box] if several else box, [x, positions] if several else positions)
        assert molecule(cell, x)[0] == pytest.approx(energy, abs=1e-9)
    atoms.numbers[0] = 92
    atoms.write(tmp_path / "uranium.extxyz")
    with pytest.raises(UserError, match="not trained on U"):
        Driver(str(MODEL), str(tmp_path / "uranium.extxyz"))
    with pytest.raises(UserError, match="gmnn has no parameters dtpye; it takes model, template, dtype and path"):
        Driver(str(MODEL), str(tmp_path / "molecule.extxyz"), dtpye="float64", verbosity=1)


@pytest.mark.slow
def test_the_example_of_ipi_runs(tmp_path: Path) -> None:
    """examples/ipi as a user would copy it; its log and its beads are written."""
    processes.engine("ipi")
    for file in (ROOT / "examples" / "ipi").iterdir():
        text = file.read_text(encoding="utf-8").replace("../ethanol", str(MODEL)).replace("> 2000 <", "> 4 <")
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    program = Path(sys.executable).with_name("i-pi")
    done = processes.run(program, "input.xml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    log = np.loadtxt(tmp_path / "ethanol.properties")
    assert log.shape[0] == 5
    assert np.isfinite(log).all()
    assert len(list(tmp_path.glob("ethanol.beads*"))) == 8


ALONE = """
import sys, json
sys.modules["gmnn"] = None
import ase.io
from ase import Atoms
from exported import Exported
calculator = Exported("out")
for atoms in ase.io.read("frames.traj", ":"):
    atoms.calc = calculator
    stress = atoms.get_stress().tolist() if atoms.pbc.all() else None
    print(json.dumps([atoms.get_potential_energy(), atoms.get_forces().tolist(), stress]))
try:
    Atoms("Si", calculator=calculator).get_potential_energy()
except SystemExit as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_exported_program_needs_no_gmnn(dtype: str, tmp_path: Path) -> None:
    """In a process that cannot import gmnn: the calculator's energies, forces and stress, to rounding."""
    from gmnn.__main__ import main

    assert main(["export", str(MODEL), str(tmp_path / "out"), "--dtype", dtype]) == 0
    cell = distorted()
    cell.set_cell([[4.0, 0.3, 0.2], [1.0, 4.5, 0.0], [0.0, 1.0, 5.0]])  # smaller than the cutoff: images
    cell.pbc = True
    frames = [distorted(), cell]
    ase.io.write(tmp_path / "frames.traj", frames)
    shutil.copy(ROOT / "examples" / "exported.py", tmp_path)
    done = processes.python("-c", ALONE, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    *found, refused = map(json.loads, done.stdout.splitlines())
    assert "Si" in refused
    tolerance = {"float32": 2e-4, "float64": 1e-11}[dtype]  # eV/Å
    for atoms, (energy, forces, stress) in zip(frames, found, strict=True):
        atoms.calc = Calculator(MODEL, dtype=dtype, path="reference")
        assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-14, abs=tolerance)
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=tolerance)
        if stress:
            np.testing.assert_allclose(stress, atoms.get_stress(), rtol=0, atol=tolerance)


def test_exported_program_refuses_strangers(tmp_path: Path) -> None:
    """Called as it is, without the calculator around it: NaN for an element that was not trained, not a number."""
    import jax

    from gmnn.interfaces.export import export

    export(folder.load(MODEL), tmp_path)
    program = jax.export.deserialize(bytearray((tmp_path / "potential.bin").read_bytes()))
    neighbors, shifts = np.array([[1], [0]], "int32"), np.zeros((2, 1, 3), "int32")
    for numbers, finite in (([8, 1], True), ([8, 14], False)):
        positions = np.array([[0, 0, 0], [0, 0, 1.0]], "float32")
        found = program.call(positions, np.array(numbers, "int32"), np.zeros((3, 3), "float32"), neighbors, shifts)
        assert [bool(np.isfinite(value).all()) for value in found[:3]] == [finite] * 3


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_examples_with_ase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Barrier of a hydroxyl group, elastic constants and phonons of silicon, within a tenth or so of what is known."""
    monkeypatch.chdir(tmp_path)
    assert 0.03 < example("neb").main() < 0.1  # eV; measured 0.05
    found = example("elastic").main()
    assert found["a_A"] == pytest.approx(5.469, abs=0.01)  # PBE
    assert found["B_GPa"] == pytest.approx(89, abs=9)
    assert found["C11_GPa"] == pytest.approx(153, abs=15)
    assert found["C44_GPa"] == pytest.approx(75, abs=12)
    phonons = example("phonons")
    monkeypatch.setattr(phonons, "SUPERCELL", (2, 2, 2))
    assert phonons.main()["optical at Γ"] == pytest.approx(15.2, abs=2.0)  # THz, PBE
    assert (tmp_path / "phonons.png").stat().st_size > 10_000
    assert (tmp_path / "neb.png").stat().st_size > 10_000


@pytest.mark.slow
def test_example_of_openmm(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten lines with finite energies and temperatures of a molecule near 300 K."""
    processes.engine("openmm")
    example("openmm_ethanol").main(steps="100")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert all(50 < float(line.split()[-2]) < 900 for line in lines)


def test_completions_name_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    from gmnn.__main__ import main
    from gmnn.commands import COMMANDS

    for shell in ("bash", "zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(name in script for name in COMMANDS)
        assert "resume" in script
