"""Training on several devices and processes: the same potential, and a clear end when a process is lost."""

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase.io import write

from gmnn import load
from gmnn.data import embedded
from tests.support import group_worker
from tests.support.paths import ROOT
from tests.support.processes import environment

pytestmark = pytest.mark.slow  # several processes each

CONFIG = """
output: {output}
seed: 3
data: {{train: {frames}, n_train: 22, n_valid: 6}}
model: {{n_radial: 1, n_basis: 4, hidden: [4], r_max: 4.0}}
train: {{epochs: 40, batch_size: 4, checkpoint_seconds: 0}}
"""
WAIT = 300.0  # s; only a failing test waits so long
NOTICED = 12.0  # s from the loss of a process to the end of the others


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `device_worker.py` found in a process of four devices."""
    folder = tmp_path_factory.mktemp("devices")
    worker = [sys.executable, str(ROOT / "tests" / "support" / "device_worker.py"), str(folder)]
    done = subprocess.run(worker, capture_output=True, text=True, env=environment(), check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def test_devices_train_the_same_potential(found: dict[str, Any]) -> None:
    """In float64, losses and parameters are those of one device up to the order of the sums: on 2, with frames of two
    shapes sent in portions, and of an ensemble on 4; each device has its share of every step's frames. Another order of
    the frames, or no mean over the devices, changes parameters by 2e-2 and losses by more than 1e-5."""
    for n, one in (("2", "1"), ("members4", "members1")):
        np.testing.assert_allclose(found[n]["losses"], found[one]["losses"], rtol=1e-7)  # history.csv has 8 digits
        np.testing.assert_allclose(found[n]["params"], found[one]["params"], rtol=1e-9, atol=1e-11)
        devices = int(n[-1])
        assert len(found[n]["shards"]) == devices
        assert {shape[-1] for shape in found[n]["shards"]} == {8 // devices}
        assert found[one]["shards"] == []
        assert found[n]["streamed"] == (n == "2")


def test_numbers_that_cannot_be(found: dict[str, Any]) -> None:
    assert "train.devices is 5" in found["too many"]
    assert "there is only 4 (cpu); set train.devices to at most 4" in found["too many"]
    assert "a step has 6 frames" in found["uneven"]
    assert "set train.batch_size to 4" in found["uneven"]


def config(folder: Path, output: str) -> str:
    """A configuration with few frames; 6 steps an epoch, the last of them half filled."""
    write(folder / "frames.extxyz", embedded.ethanol()[:28])
    file = folder / f"{output}.yaml"
    file.write_text(CONFIG.format(output=folder / output, frames=folder / "frames.extxyz"), encoding="utf-8")
    return str(file)


def started(file: str, *more: str, slurm: bool = False) -> list[subprocess.Popen[str]]:
    """Two processes of one training, told which they are by --process or as Slurm does; {k} in `more`: the number."""
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for k in range(2):
        told = {"JOB_ID": 1, "STEP_NODELIST": "none", "NTASKS": 2, "PROCID": k, "LOCALID": k} if slurm else {}
        command = [sys.executable, str(ROOT / "train.py"), file, "train.devices=2", *(one.format(k=k) for one in more)]
        command += ["--process", "auto" if slurm else f"{k}/2", "--coordinator", f"127.0.0.1:{port}"]
        variables = environment() | {f"SLURM_{key}": str(value) for key, value in told.items()}
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")
        )
    return processes


def until_epoch(goal: int, history: Path, processes: list[subprocess.Popen[str]]) -> None:
    """Wait until so many epochs are recorded."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        if history.exists() and len(history.read_text(encoding="utf-8").splitlines()) > goal:
            return
        time.sleep(0.05)
    for process in processes:
        process.kill()
    raise AssertionError([process.communicate() for process in processes])


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    try:
        said = [process.communicate(timeout=WAIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, said, strict=True)]


def test_two_processes_lost_stopped_and_resumed(tmp_path: Path) -> None:
    """Process 0 is killed and the other ends with one sentence; then process 1 is told to stop and both do; in the end
    the potential is bit for bit that of a single process on two devices."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), config(tmp_path, "alone"), "train.devices=2"],
        capture_output=True, text=True, env=environment(), check=False,
        encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, history = config(tmp_path, "both"), tmp_path / "both" / "history.csv"
    processes = started(file)
    until_epoch(2, history, processes)
    processes[0].kill()
    at = time.monotonic()
    results = ended(processes)
    assert time.monotonic() - at < NOTICED
    assert results[1][0] == 3, results
    assert results[1][2].count("\n") == 1, results
    assert results[1][2].startswith("train: process 0 of 2 was lost")
    assert "--resume" in results[1][2]
    processes = started(file, "--resume")
    until_epoch(8, history, processes)
    processes[1].send_signal(signal.SIGTERM)
    results = ended(processes)
    assert [result[0] for result in results] == [130, 130], results
    assert "stopped after epoch" in results[0][1]
    assert len(history.read_text(encoding="utf-8").splitlines()) < 41
    results = ended(started(file, "--resume"))
    assert [result[0] for result in results] == [0, 0], results
    assert "model folder" in results[0][1]
    assert results[1][1:] == ("", ""), "only process 0 prints"
    rows = [
        list(csv.DictReader((tmp_path / name / "history.csv").open(encoding="utf-8"))) for name in ("alone", "both")
    ]
    assert [int(row["epoch"]) for row in rows[1]] == list(range(1, 41))
    for key in ("train_loss", "valid_loss"):
        assert [row[key] for row in rows[1]] == [row[key] for row in rows[0]]
    alone, both = (jax.tree.leaves(load(tmp_path / name).params) for name in ("alone", "both"))
    for a, b in zip(alone, both, strict=True):
        np.testing.assert_array_equal(a, b)


def test_processes_must_be_told_the_same(tmp_path: Path) -> None:
    """Another seed in one process, both started as by Slurm: both end with a sentence that says so."""
    results = ended(started(config(tmp_path, "other"), "seed={k}", slurm=True))
    assert all(code in (2, 3) for code, _, _ in results), results
    for _, _, told in results:
        assert told.count("\n") == 1, told
        assert "process 1 of 2 has another configuration than process 0" in told


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def group(folder: Path, *numbers: str, port: int | None = None, **events: str) -> list[subprocess.Popen[str]]:
    """Processes that only exchange, see `group_worker.py`; p1="mistake" as the event of process 1."""
    worker, address = str(ROOT / "tests" / "support" / "group_worker.py"), f"127.0.0.1:{port or free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, worker, number, address, events.get(f"p{number[0]}", "none"), str(folder)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8",
        )
        for number in numbers
    ]  # fmt: skip


def one_sentence(result: tuple[int, str, str], code: int, text: str) -> None:
    assert result[0] == code, result
    assert result[2].count("\n") == 1, result
    assert result[2].startswith("train: " + text), result


@pytest.mark.parametrize(
    ("event", "k", "size", "code", "text", "others"),
    [
        ("mistake", 0, 2, 2, "the loss is no longer finite", "process 0 of 2 ended: the loss is no longer finite"),
        ("mistake", 2, 3, 2, "the loss is no longer finite", "process 2 of 3 ended: the loss is no longer finite"),
        ("SIGINT", 1, 2, 130, "interrupted", "process 1 of 2 ended: it was interrupted"),
        ("SIGKILL", 0, 2, -signal.SIGKILL, "", "process 0 of 2 was lost (it was killed"),
        ("SIGKILL", 2, 3, -signal.SIGKILL, "", "process 2 of 3 was lost (it was killed"),
    ],
)
def test_end_of_one_process(
    tmp_path: Path, event: str, k: int, size: int, code: int, text: str, others: str
) -> None:  # fmt: skip
    """The others end soon, with exit code 3 and one sentence."""
    results = ended(group(tmp_path, *(f"{j}/{size}" for j in range(size)), **{f"p{k}": event}))
    assert time.time() - (tmp_path / "event").stat().st_mtime < NOTICED
    for j, result in enumerate(results):
        if j != k:
            one_sentence(result, 3, others)
        elif text:
            one_sentence(result, code, text)
        else:
            assert result[::2] == (code, "")


def test_processes_that_do_not_belong_together(tmp_path: Path) -> None:
    """Other frames, another number of processes, a port in use, nobody else: one sentence each."""
    frames, number = group(tmp_path, "0/2", "1/2", p1="other"), group(tmp_path, "0/2", "1/3")
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = ended(group(tmp_path, "0/2", port=server.getsockname()[1]))
    alone = group(tmp_path, "0/2", p0="alone") + group(tmp_path, "1/2", p1="alone")
    for results, sentence in (
        (ended(frames), "process 1 of 2 has other frames than process 0"),
        (ended(number), "process 1 of 2 has another number of processes than process 0"),
        (busy, "process 0 cannot listen at 127.0.0.1"),
        (ended(alone), "not all 2 processes came to 127.0.0.1"),
    ):
        for code, _, said in results:
            assert code in (2, 3)
            assert sentence in said
            assert said.count("\n") == 1


def test_strangers(tmp_path: Path) -> None:
    """Garbage before the last process comes, and later at every port, changes nothing. No process listens at all of
    its addresses, and arrays reach the others bit for bit."""
    port = free_port()
    first = group(tmp_path, "0/2", port=port, p0="garbage")
    end, lines = time.monotonic() + WAIT, []
    while not lines and time.monotonic() < end:
        try:
            lines = group_worker.disturb([("127.0.0.1", port)])
        except ConnectionRefusedError:
            time.sleep(0.1)
    results = ended(first + group(tmp_path, "1/2", port=port, p1="garbage"))
    assert [result[0] for result in results] == [0, 0], results
    assert [result[2] for result in results] == ["", ""]
    *equal, addresses, ports, connections = results[0][1].splitlines()[-1].split("|")
    assert equal == ["True"]
    assert "127.0.0.1" in json.loads(addresses)
    assert not {"0.0.0.0", "::"} & set(json.loads(addresses))
    assert (int(ports), int(connections)) == (3, 15)
