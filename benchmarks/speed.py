"""Speed on a CPU: energy and forces, and the step of dynamics, beside Apax 0.14 and potentials of LAMMPS.

    python benchmarks/speed.py prepare --data water.xyz --apax ENV --work DIR   an Apax model of water, imported
    python benchmarks/speed.py compare --apax ENV --work DIR                    both in turns, same weights
    python benchmarks/speed.py curve --work DIR                                 µs per atom and step over N
    python benchmarks/speed.py lammps --lammps ENV --work DIR                   SNAP, POD and UF3 of LAMMPS, in turns
    python benchmarks/speed.py all --apax ENV --lammps ENV --work DIR           all three, about 20 minutes
    python benchmarks/speed.py write                                            docs/speed.md from the results

DIR keeps the models and the structure. Results in benchmarks/results/speed.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from benchmarks.blocks.speed import PATHS  # noqa: E402
from benchmarks.peers.apax import ENVIRONMENT, Apax, write_training  # noqa: E402
from benchmarks.peers.lammps import STYLES, Lammps  # noqa: E402
from benchmarks.timing import per_atom, spread, water  # noqa: E402

CALCULATOR = Path(__file__).with_name("peers") / "apax_speed.py"
WORKER = Path(__file__).with_name("speed_worker.py")
TRAIN, VALID, EPOCHS = 100, 10, 14
MODEL = {
    "name": "gmnn", "basis": {"name": "bessel", "n_basis": 16, "r_max": 5.0}, "nn": [256, 256], "n_radial": 5,
    "n_contr": 8, "descriptor_dtype": "fp32", "readout_dtype": "fp32", "scale_shift_dtype": "fp32",
    "empirical_corrections": [{"name": "zbl", "r_max": 1.5}],
}  # fmt: skip
TURNS = 5  # of both programs; energy and forces
CALLS = {192: 20, 1536: 4}  # in a turn
SEGMENT, WARM, SEGMENTS = 200, 200, 5  # steps of a segment; of the first one; segments of a turn
APAX_STEPS = {192: (50, 650), 1536: (20, 220)}  # two lengths, whose difference leaves start and compilation out
APAX_TURNS = {192: 2, 1536: 1}
CURVE = (9, 24, 96, 192, 1536, 12288)
REPLICAS = (1, 8, 64, 512)
LAMMPS_STEPS = {192: 80, 1536: 16}


@dataclass
class Worker:
    """A process that measures what it is told to, line by line."""

    process: subprocess.Popen

    @classmethod
    def start(cls, command: list[Any], cores: int) -> "Worker":
        """A worker on the first cores."""
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
        process = subprocess.Popen(
            ["taskset", "-c", allowed, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=os.environ | ENVIRONMENT, encoding="utf-8",
        )  # fmt: skip
        return cls(process)

    def ask(self, *words: Any) -> Any:
        """Its answer."""
        assert self.process.stdin
        assert self.process.stdout
        print(*words, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line[7:])
        raise SystemExit(f"the worker stopped at {words}")

    def stop(self) -> None:
        """Close its input and wait for its end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def prepare(data: str, environment: Path, work: Path) -> None:
    """Train Apax on a part of the frames if there is no model yet, import it, compare both on the frames behind."""
    from gmnn import Calculator

    frames, apax = ase.io.read(data, ":"), Apax(environment)
    assert isinstance(frames, list)
    train, valid = frames[:TRAIN], frames[TRAIN : TRAIN + VALID]
    linear = {"schedule": {"name": "linear", "transition_begin": 0, "end_value": 1e-6}}
    write_training(work, train, valid, EPOCHS, 1, MODEL, optimizer=linear)
    if not (work / "models" / "run" / "log.csv").exists():
        apax.run(work, "train", "train.yaml")
    if not (work / "model").exists():
        subprocess.run([sys.executable, "-m", "gmnn", "import-apax", work / "models/run", work / "model"], check=True)
    unseen = frames[-4:]
    box = frames[-1].copy()
    box.calc = None
    ase.io.write(work / "water.extxyz", box)
    energies, forces = apax.predict(work, unseen)
    predicted = Calculator(work / "model", path="kernel").batch_eval(unseen)
    ours = [np.array([a.get_potential_energy() for a in predicted]),
            np.concatenate([a.get_forces() for a in predicted])]  # fmt: skip
    keep(
        "model",
        {
            "frames": len(unseen), "train": TRAIN, "valid": VALID, "epochs": EPOCHS,
            "energy_difference_eV_per_atom": float(np.max(np.abs(ours[0] - energies)) / len(box)),
            "forces_difference_eV_per_A": float(np.max(np.abs(ours[1] - forces))),
            "forces_mae_meV_per_A": float(
                1e3 * np.mean(np.abs(ours[1] - np.concatenate([a.get_forces() for a in unseen])))
            ),
        },
    )  # fmt: skip


def keep(section: str, values: Any) -> None:
    """One more section of the results."""
    results = stored.read("speed")
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    stored.keep("speed", {**results, "cpu": cpu, "cores": len(os.sched_getaffinity(0)), section: values}, "float32")


def compare(environment: Path, work: Path, sizes: list[int]) -> None:
    """Energy and forces, then dynamics, of Apax and of our paths in turns; ratios turn by turn."""
    compared = stored.read("speed").get("compare", {})
    cores = len(os.sched_getaffinity(0))
    for atoms in sizes:
        box = ase.io.read(work / "water.extxyz")
        assert isinstance(box, ase.Atoms)
        structure = work / f"water_{atoms}.extxyz"
        ase.io.write(structure, box.repeat(round((atoms / len(box)) ** (1 / 3))))
        theirs = Worker.start([environment / "bin/python", "-P", CALCULATOR, work / "models/run", structure], cores)
        ours = {
            path: Worker.start([sys.executable, WORKER, work / "model", structure, cores, path], cores)
            for path in PATHS
        }
        facts = ours["kernel"].ask("facts", 0)
        row: dict[str, Any] = {"apax": Apax(environment).version(), "cores": cores, **facts}
        rates: dict[str, list[float]] = {}
        for their, our in (("calculator", "calculator"), ("batch", "loop")):
            workers = [("apax", theirs, their), *((path, worker, our) for path, worker in ours.items())]
            for _, worker, kind in workers:  # compile
                worker.ask(kind, CALLS[atoms])
            for _ in range(TURNS):
                for name, worker, kind in workers:
                    seconds = worker.ask(kind, CALLS[atoms])
                    rates.setdefault(f"{name} {kind}", []).append(1e6 * float(np.median(seconds)) / atoms)
        theirs.stop()
        row["us_per_atom"] = rates
        row["ratio"] = {
            path: {
                "calculator": ratios(rates["apax calculator"], rates[f"{path} calculator"]),
                "batch": ratios(rates["apax batch"], rates[f"{path} loop"]),
            }
            for path in PATHS
        }
        compared[str(atoms)] = row
        keep("compare", compared)
        print(atoms, row["us_per_atom"], row["ratio"], flush=True)
        row["md"] = _md(environment, work, structure, atoms, ours)
        for worker in ours.values():
            worker.stop()
        keep("compare", compared)
        print(atoms, row["md"], flush=True)


def ratios(theirs: list[float], ours: list[float]) -> list[float]:
    """Pair by pair."""
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def _md(environment: Path, work: Path, structure: Path, atoms: int, ours: dict[str, Worker]) -> dict:
    """The step of both at constant energy: Apax by its command and the difference of two lengths."""
    first = {path: worker.ask("md", WARM) for path, worker in ours.items()}
    theirs, segments = [], {path: [[] for _ in range(APAX_TURNS[atoms])] for path in ours}  # type: ignore[var-annotated]
    for turn in range(APAX_TURNS[atoms]):
        seconds = [_apax_md(environment, work, structure, n, turn) for n in APAX_STEPS[atoms]]
        steps = APAX_STEPS[atoms][1] - APAX_STEPS[atoms][0]
        theirs.append(1e6 * (seconds[1] - seconds[0]) / (steps * atoms))
        for _ in range(SEGMENTS):
            for path, worker in ours.items():
                segments[path][turn].append(worker.ask("md", SEGMENT))
    result: dict[str, Any] = {"apax_us_per_atom_step": theirs, "apax_steps": APAX_STEPS[atoms],
                              "gmnn_steps": SEGMENTS * SEGMENT}  # fmt: skip
    for path, turns in segments.items():
        mine = [1e6 * float(np.median([s["seconds"] for s in turn])) / (SEGMENT * atoms) for turn in turns]
        every, last = [s for turn in turns for s in turn], turns[-1][-1]
        result[path] = {
            "us_per_atom_step": mine, "ratio": ratios(theirs, mine), "first_segment_s": first[path]["seconds"],
            "rebuilds_per_1000": 1000 * sum(s["rebuilds"] for s in every) / (SEGMENT * len(every)),
            "temperature_K": last["temperature_K"],
            "total_change_meV_per_atom": 1e3 * (last["total_eV"] - first[path]["total_eV"]) / atoms,
        }  # fmt: skip
    return result


def _apax_md(environment: Path, work: Path, structure: Path, steps: int, turn: int) -> float:
    """Seconds of `apax md` for some steps, all included."""
    config = {
        "ensemble": {"name": "nve", "dt": 0.5, "temperature_schedule": {"name": "constant", "T0": 300.0}},
        "duration": 0.5 * steps, "n_inner": 10, "sampling_rate": 10, "buffer_size": 100, "dr_threshold": 0.5,
        "sim_dir": f"md/{structure.stem}_{steps}_{turn}_{time.time_ns()}", "initial_structure": str(structure),
        "restart": False, "disable_pbar": True,
    }  # fmt: skip
    (work / "md.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    clock = time.perf_counter()
    Apax(environment).run(work, "md", "train.yaml", "md.yaml")
    return time.perf_counter() - clock


def curve(work: Path, sizes: list[int]) -> None:
    """Energy and forces and the step of dynamics over the number of atoms, one core and all; copies of ethanol."""
    from gmnn.data.embedded import ethanol

    rows, both = [], sorted({1, len(os.sched_getaffinity(0))})
    for atoms in sizes:
        box = water(str(work / "water.extxyz"), atoms)
        structure = work / f"curve_{len(box)}.extxyz"
        ase.io.write(structure, box)
        for cores in both:
            worker = Worker.start([sys.executable, WORKER, work / "model", structure, cores, "kernel"], cores)
            steps = max(5, min(200, 100_000 // len(box)))
            row = {"cores": cores, **worker.ask("facts", 0), "md_steps": 5 * steps}
            row["first_call_s"] = sum(worker.ask("loop", 1))
            energy = [t for _ in range(5) for t in worker.ask("loop", max(1, 20_000 // len(box)))]
            worker.ask("md", 1)
            segments = [worker.ask("md", steps) for _ in range(5)]
            row["energy_forces"] = per_atom(spread(energy), len(box))
            row["md"] = per_atom(spread([s["seconds"] / steps for s in segments]), len(box))
            row["rebuilds"] = sum(s["rebuilds"] for s in segments)
            worker.stop()
            rows.append(row)
            keep("curve", rows)
            print(row, flush=True)
    molecule = work / "ethanol.extxyz"
    ase.io.write(molecule, ase.Atoms(ethanol()[0].numbers, ethanol()[0].positions))
    worker = Worker.start([sys.executable, WORKER, ROOT / "examples/ethanol", molecule, both[-1], "kernel"], both[-1])
    copies = [{"copies": n, **per_atom(spread(worker.ask("copies", n)), 9 * n)} for n in REPLICAS]
    worker.stop()
    keep("copies", {"cores": both[-1], "rows": copies})


def beside_lammps(environment: Path, work: Path, sizes: list[int]) -> None:
    """The step of gmnn and of potentials of LAMMPS, in turns, on one core and on all."""
    program, both = Lammps(environment), sorted({1, len(os.sched_getaffinity(0))})
    rows = []
    for atoms, cores in ((n, c) for n in sizes for c in both):
        box = water(str(work / "water.extxyz"), atoms)
        structure = work / f"water_{atoms}.extxyz"
        ase.io.write(structure, box)
        worker = Worker.start([sys.executable, WORKER, work / "model", structure, cores, "kernel"], cores)
        worker.ask("md", WARM)
        rates: dict[str, list[float]] = {}
        for _ in range(TURNS):
            rates.setdefault("gmnn", []).append(1e6 * worker.ask("md", SEGMENT)["seconds"] / (SEGMENT * atoms))
            for style in STYLES:
                spent = program.us_per_atom(style, box, work, cores, LAMMPS_STEPS[atoms])
                rates.setdefault(style, []).append(spent)
        worker.stop()
        rows.append({"atoms": atoms, "cores": cores, "us_per_atom_step": rates})
        keep("lammps", {"version": program.version(), "rows": rows})
        print(rows[-1], flush=True)


def main() -> None:
    """Dispatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "compare", "curve", "lammps", "all", "write"))
    parser.add_argument("--data", help="frames of liquid water")
    parser.add_argument("--apax", type=Path, help="environment in which Apax is installed")
    parser.add_argument("--lammps", type=Path, help="environment in which LAMMPS is installed")
    parser.add_argument("--work", type=Path, help="folder of the models")
    parser.add_argument("--sizes", type=int, nargs="*", help="only these numbers of atoms")
    arguments = parser.parse_args()
    if arguments.what == "prepare":
        prepare(arguments.data, arguments.apax.absolute(), arguments.work.absolute())
    if arguments.what in ("compare", "all"):
        compare(arguments.apax.absolute(), arguments.work.absolute(), arguments.sizes or list(CALLS))
    if arguments.what in ("curve", "all"):
        curve(arguments.work.absolute(), arguments.sizes or list(CURVE))
    if arguments.what in ("lammps", "all"):
        beside_lammps(arguments.lammps.absolute(), arguments.work.absolute(), arguments.sizes or list(LAMMPS_STEPS))
    pages.write("docs/speed.md", "README.md")


if __name__ == "__main__":
    main()
