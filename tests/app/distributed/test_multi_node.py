"""Runs whose processes torchrun starts: on this machine, and on two in namespaces of their own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree, which
from typing import Any

import pytest
import torch
from training import ROOT, command, rows, run_folder, short

ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = 29512
_ETC = Path("/etc/netns")
WITHOUT_STATISTICS = ("trainer.precision=32-true", "model.generator.norm=none")  # no BatchNorm

Start = Callable[..., "Node"]


class Node:
    """A torchrun: all of a run, or the processes of one machine of it."""

    def __init__(
        self,
        folder: Path,
        options: list[str],
        words: list[str],
        inside: str = "",
        around: str = "exec {}",
    ) -> None:
        hidden = ("PL_", "LOCAL_RANK", "TORCHELASTIC_", "SLURM_")
        own = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        run = [sys.executable, "-m", "torch.distributed.run", *options, str(ROOT / "train.py")]
        line = around.format(shlex.join([*run, *words]))
        with (folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [*(["ip", "netns", "exec", inside] if inside else []), "sh", "-c", line],
                cwd=folder,
                env=own | {"OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.folder = folder

    def wait(self, seconds: float = 100) -> int:
        """Waits for its end, and returns the exit code."""
        return self.process.wait(seconds)

    def output(self) -> str:
        """All that its processes said, without what torchrun itself does."""
        lines = (self.folder / "output").read_text().splitlines()
        end = next((i for i, x in enumerate(lines) if x.startswith("Traceback")), len(lines))
        return "\n".join(x for x in lines[:end] if not x.startswith(("W1", "E1", "W0", "E0")))

    def everything(self) -> str:
        """All that was written, torchrun's summary included."""
        return (self.folder / "output").read_text()


@contextmanager
def ended(nodes: list[Node]) -> Iterator[None]:
    """Ends what is left of these; torchrun then ends its processes."""
    try:
        yield
    finally:
        for node in nodes:
            if node.process.poll() is None:
                node.process.terminate()
        for node in nodes:
            try:
                node.process.wait(40)
            except subprocess.TimeoutExpired:
                node.process.kill()


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[Start]:
    """Starts torchrun with two processes on this machine."""
    nodes: list[Node] = []

    def start(*words: str, options: tuple[str, ...] = (), steps: int = 10) -> Node:
        folder = tmp_path / f"start_{len(nodes)}"
        folder.mkdir(exist_ok=True)
        here = ["--standalone", "--nproc-per-node=2", *options]
        nodes.append(Node(folder, here, two(tmp_path, *words, steps=steps)))
        return nodes[-1]

    with ended(nodes):
        yield start


def two(folder: Path, *words: str, steps: int = 10) -> list[str]:
    """The words of a training by two processes without statistics of batches."""
    own = short(folder, "metrics=none", "trainer.threads=1", *WITHOUT_STATISTICS, steps=steps)
    first = {word.partition("=")[0]: word for word in [*own, "trainer=ddp_cpu", *words]}
    return [first[key] for key in first]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = run_folder(folder) / "checkpoints" / "last.ckpt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def status(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_folder(folder) / "status.json").read_text())
    return content


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_torchrun_makes_one_run_equal_to_one_that_starts_its_own_processes(
    torchrun: Start, tmp_path: Path
) -> None:
    node = torchrun("seed=null")
    assert node.wait() == 0, node.everything()
    run = run_folder(tmp_path)
    assert list((tmp_path / "logs").glob("*/*")) == [run]
    assert status(tmp_path)["status"] == "finished"
    assert node.output().count("run folder") == 1
    assert len(rows(run)) == 10
    assert not (run / "errors").exists()
    seed = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["config"]["seed"]
    alone = tmp_path / "alone"
    done = command(*two(alone, f"seed={seed}"))
    assert done.returncode == 0, done.stderr
    assert_equal(weights(tmp_path), weights(alone))


def test_a_mistake_is_told_once(torchrun: Start, tmp_path: Path) -> None:
    node = torchrun("loss=hinge", "model=dcgam")
    assert node.wait() == 1  # torchrun's own
    assert node.output().startswith("error: model=dcgam: no such choice")
    assert node.output().count("error:") == 1
    assert "exitcode  : 2" in node.everything()
    assert not (tmp_path / "logs").exists()


DYING = """
import os, signal
from lightning import Callback

class Once(Callback):
    def on_train_batch_end(self, trainer, *args):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and trainer.global_step == 7 and trainer.global_rank == 1:
            raise ValueError("boom")
"""


@pytest.mark.slow
def test_a_restart_goes_on_in_the_same_folder_to_the_same_bits(
    torchrun: Start, tmp_path: Path
) -> None:
    for folder in (tmp_path / "start_0", tmp_path / "alone"):
        folder.mkdir()
        (folder / "dying.py").write_text(DYING)
    words = ["callbacks.checkpoint.every_n_steps=5", "+callbacks.dying._target_=dying.Once"]
    node = torchrun(*words, options=("--max-restarts=1",))
    assert node.wait(200) == 0, node.everything()
    run = run_folder(tmp_path)
    assert list((tmp_path / "logs").glob("*/*")) == [run]
    assert status(tmp_path)["status"] == "finished"
    (resumed,) = json.loads((run / "resumes.json").read_text())["resumes"]
    assert resumed["iteration"] == 5
    assert [row["step"] for row in rows(run)] == [str(step) for step in range(1, 11)]
    alone = tmp_path / "alone"
    done = command(*two(alone), words[0])
    assert done.returncode == 0, done.stderr
    assert_equal(weights(tmp_path), weights(alone))


@pytest.mark.slow
def test_torchruns_sigterm_is_an_interruption(torchrun: Start, tmp_path: Path) -> None:
    node = torchrun(steps=100_000)
    until(lambda: any((tmp_path / "logs").rglob("metrics.csv")), 100)
    time.sleep(1)
    node.process.terminate()
    node.wait()
    assert (status(tmp_path)["status"], status(tmp_path)["reason"]) == ("interrupted", "SIGTERM")
    assert node.output().count("interrupted by SIGTERM") == 1
    assert (run_folder(tmp_path) / "checkpoints" / "last.ckpt").is_file()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Makes two network namespaces with a cable between them; returns their names."""
    names = [f"forger{os.getpid()}{end}" for end in "ab"]
    cables = [f"fg{os.getpid()}{end}" for end in "ab"]
    try:
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("netns", "add", name)
            own = _ETC / name  # what programs in the namespace find in /etc
            own.mkdir(parents=True)
            (own / "nsswitch.conf").write_text("hosts: files\n")  # there is no name server
            (own / "hosts").write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "name", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        _remove(names)
        pytest.skip(f"network namespaces cannot be made here (root, Linux and iproute2): {error}")
    yield names
    _remove(names)


def _remove(names: list[str]) -> None:
    if which("ip") is None:
        return
    for name in names:  # and with them the cable
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        rmtree(_ETC / name, ignore_errors=True)


OPTIONS = {
    "static": [f"--master-addr={ADDRESSES[0]}", f"--master-port={PORT}"],
    "c10d": ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:{PORT}"],
}


def on_machines(
    folder: Path,
    names: list[str],
    backend: str,
    words: list[str],
    apart: bool = False,
    more: tuple[str, str] = ("", ""),
) -> list[Node]:
    """Starts a torchrun in each namespace; `apart`: the second has file systems of its own."""
    nodes = []
    (folder / "logs").mkdir()
    for rank, name in enumerate(names):
        own = folder / f"machine_{rank}"
        own.mkdir()
        options = ["--nnodes=2", "--nproc-per-node=1", *OPTIONS[backend]]
        options += [f"--node-rank={rank}"] if backend == "static" else []
        options += [f"--local-addr={ADDRESSES[rank]}"]
        around = "export GLOO_SOCKET_IFNAME=cable; exec {}"
        if apart and rank == 1:
            mount = f"mount -t tmpfs none {folder}/logs && export GLOO_SOCKET_IFNAME=cable"
            around = f"{mount}; {{}}; code=$?; find {folder}/logs -mindepth 1; exit $code"
        added = [more[rank]] if more[rank] else []
        nodes.append(Node(own, options, [*words, *added], name, around))
    return nodes


@pytest.mark.slow
@pytest.mark.parametrize("backend", OPTIONS)
def test_two_machines_compute_what_two_processes_of_one_do(
    backend: str, machines: list[str], tmp_path: Path
) -> None:
    """The machines are two network namespaces, and see different folders of runs."""
    words = two(tmp_path, "trainer=multi_node_cpu", steps=20)
    nodes = on_machines(tmp_path, machines, backend, words, apart=backend == "static")
    with ended(nodes):
        for node in nodes:
            assert node.wait() == 0, node.everything()
    run = run_folder(tmp_path)
    assert list((tmp_path / "logs").glob("*/*")) == [run]
    assert status(tmp_path)["status"] == "finished"
    # torchrun, too, may say something at the end: its processes do not wait for one another
    assert sorted(" INFO " in node.everything() for node in nodes) == [False, True]
    if backend == "static":  # where the second machine has its own file system, and lists it
        assert f"{tmp_path}/logs" not in nodes[1].everything()
    alone = tmp_path / "alone"
    done = command(*two(alone, steps=20))
    assert done.returncode == 0, done.stderr
    assert_equal(weights(tmp_path), weights(alone))


@pytest.mark.slow
def test_a_machine_whose_process_dies_ends_the_run(machines: list[str], tmp_path: Path) -> None:
    words = two(tmp_path, "trainer=multi_node_cpu", steps=100_000)
    nodes = on_machines(tmp_path, machines, "static", words)
    with ended(nodes):
        until(lambda: any((tmp_path / "logs").rglob("metrics.csv")), 100)
        time.sleep(1)
        os.kill(worker_of(nodes[1].process.pid), signal.SIGKILL)
        began = time.monotonic()
        assert [node.wait() for node in nodes] == [1, 1]
        assert time.monotonic() - began < 30
    assert status(tmp_path)["status"] == "failed"
    assert status(tmp_path)["reason"].startswith("another process of the run is gone")
    assert "-9" in nodes[1].everything()
    assert nodes[0].output().count("error: another process of the run is gone") == 1


@pytest.mark.slow
def test_a_mistake_of_one_machine_is_told_on_both(machines: list[str], tmp_path: Path) -> None:
    words = two(tmp_path, "trainer=multi_node_cpu")
    nodes = on_machines(tmp_path, machines, "static", words, more=("", "loss=hinge"))
    with ended(nodes):
        assert [node.wait() for node in nodes] == [1, 1]
    assert "was started with loss=hinge where rank 0 has nothing" in nodes[0].output()
    assert not any((tmp_path / "logs").rglob("*.*"))


def worker_of(torchrun: int) -> int:
    """The process that a torchrun started."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == torchrun:
            return int(path.parent.name)
    raise AssertionError(f"{torchrun} has no process")
