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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import rmtree

import pytest
import torch
from same import differences
from training import ROOT, command, rows, run_folder, trained
from two_processes import is_training, status, two, until

ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = 29512
BACKENDS = {
    "static": [f"--master-addr={ADDRESSES[0]}", f"--master-port={PORT}"],
    "c10d": ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:{PORT}"],
}
WITHOUT_STATISTICS = ("model.generator.norm=none",)  # no BatchNorm

Start = Callable[..., "Node"]
Machines = Callable[..., "list[Node]"]


class Node:
    """A torchrun: all of a run, or the processes of one machine of it."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str],
        words: Sequence[str],
        inside: str = "",
        around: str = "exec {}",
    ) -> None:
        hidden = ("PL_", "LOCAL_RANK", "TORCHELASTIC_", "SLURM_")
        own = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        own |= {"OMP_NUM_THREADS": "1"} | ({"GLOO_SOCKET_IFNAME": "cable"} if inside else {})
        run = [sys.executable, "-m", "torch.distributed.run", *options, str(ROOT / "train.py")]
        line = around.format(shlex.join([*run, *words]))
        prefix = ["ip", "netns", "exec", inside] if inside else []
        self._output = folder / "output"
        with self._output.open("wb") as out:
            self.process = subprocess.Popen(
                [*prefix, "sh", "-c", line], cwd=folder, env=own, stdout=out, stderr=out
            )

    def wait(self, seconds: float = 100) -> int:
        """Waits for its end, and returns the exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Ends what is left of it; torchrun then ends its processes."""
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def everything(self) -> str:
        """All that was written, torchrun's summary included."""
        return self._output.read_text()

    def output(self) -> str:
        """All that its processes said, without what torchrun itself does."""
        lines = self.everything().partition("\nTraceback")[0].splitlines()
        return "\n".join(x for x in lines if not x.startswith(("W1", "E1", "W0", "E0")))


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    started: list[Node] = []
    yield started
    for node in started:
        node.end()


@pytest.fixture
def torchrun(tmp_path: Path, nodes: list[Node]) -> Start:
    """Starts torchrun with two processes on this machine."""

    def start(*words: str, options: tuple[str, ...] = (), steps: int = 10) -> Node:
        here = ["--standalone", "--nproc-per-node=2", *options]
        nodes.append(Node(tmp_path, here, two(tmp_path, *WITHOUT_STATISTICS, *words, steps=steps)))
        return nodes[-1]

    return start


def weights(run: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = content["state_dict"]
    return state


def untimed(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows(run)]


def assert_same_as_alone(folder: Path, *words: str, steps: int = 10) -> None:
    """The run is whole, and has the bits of one that starts its own two processes."""
    run = run_folder(folder)
    assert list((folder / "logs").glob("*/*")) == [run]
    assert status(folder)["status"] == "finished"
    assert [row["step"] for row in rows(run)] == [str(step) for step in range(1, steps + 1)]
    own = two(folder / "alone", *WITHOUT_STATISTICS, *words, steps=steps)
    done = command(*own)
    assert done.returncode == 0, done.stderr
    assert differences(weights(run), weights(run_folder(folder / "alone"))) == []


# Order, flips, noise and interpolation depend on the place in the global batch; so do the samples
# of scores, which all processes share out.
SETTINGS = [
    *("loss=wgan_gp", "data.flip=true", "data.image_size=8", "trainer.precision=64-true"),
    *("model.generator.hidden=[16]", "model.discriminator.hidden=[16]"),
    *("metrics=quick", "metrics/features=pixels", "metrics.num_fake=200"),
    *("metrics.every_n_steps=4", "metrics.kid_subsets=3", "metrics.kid_subset_size=100"),
]


@pytest.fixture
def torchrun_run(torchrun: Start, tmp_path: Path) -> Path:
    node = torchrun("seed=null", *SETTINGS, steps=10)
    assert node.wait() == 0, node.everything()
    assert node.output().count("run folder") == 1
    return run_folder(tmp_path)


def settings_of(run: Path) -> list[str]:
    """What gives the same run, whose seed was drawn."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return [*WITHOUT_STATISTICS, *SETTINGS, f"seed={content['config']['seed']}"]


def test_torchruns_processes_and_one_alone_make_the_same_run(
    torchrun_run: Path, tmp_path: Path
) -> None:
    """But for the order in which numbers are added up."""
    run = torchrun_run
    assert not (run / "errors").exists()
    assert status(tmp_path)["status"] == "finished"
    assert [float(row["train/images_seen"]) for row in rows(run) if row["train/loss_d"]] == [
        8 * 5 * step for step in range(1, 11)
    ]
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["global_step"], len(content["exact_resume"]["ranks"])) == (10, 2)

    alone = trained(tmp_path / "alone", *settings_of(run), "trainer.threads=1", steps=10)
    for name, weight in weights(alone).items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, weights(run)[name], rtol=0, atol=1e-6, msg=name)
    scores = [[row for row in rows(each) if row["val/pixels_fid"]] for each in (run, alone)]
    assert [row["step"] for row in scores[1]] == ["4", "8", "10"]
    for first, second in zip(*scores, strict=True):
        for name in [name for name in first if name.startswith("val/")]:
            expected = pytest.approx(float(second[name]), rel=1e-4, abs=1e-6)
            assert float(first[name]) == expected, name


@pytest.mark.slow
def test_so_do_two_of_its_own_that_go_on_with_a_run(torchrun_run: Path, tmp_path: Path) -> None:
    """To the same bits."""
    for words in (
        two(tmp_path / "own", *settings_of(torchrun_run), steps=4),
        ["resume=last", f"paths.log_dir={tmp_path}/own/logs", "trainer.max_steps=10"],
    ):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    other = run_folder(tmp_path / "own")
    assert differences(weights(torchrun_run), weights(other)) == []
    assert untimed(torchrun_run) == untimed(other)


def test_a_mistake_is_told_once(torchrun: Start, tmp_path: Path) -> None:
    node = torchrun("loss=hinge", "model=dcgam")
    assert node.wait() == 1  # torchrun's own
    assert node.output().startswith("error: model=dcgam: no such choice")
    assert node.output().count("error:") == 1
    assert "exitcode  : 2" in node.everything()
    assert not (tmp_path / "logs").exists()


DYING = """
import os
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
    (tmp_path / "dying.py").write_text(DYING)
    saving = "callbacks.checkpoint.every_n_steps=5"
    node = torchrun(saving, "+callbacks.dying._target_=dying.Once", options=("--max-restarts=1",))
    assert node.wait(200) == 0, node.everything()
    (resumed,) = json.loads((run_folder(tmp_path) / "resumes.json").read_text())["resumes"]
    assert resumed["iteration"] == 5
    assert_same_as_alone(tmp_path, saving)


@pytest.mark.slow
def test_torchruns_sigterm_is_an_interruption(torchrun: Start, tmp_path: Path) -> None:
    node = torchrun(steps=100_000)
    until(lambda: is_training(tmp_path))
    time.sleep(1)
    node.process.terminate()
    node.wait()
    assert (status(tmp_path)["status"], status(tmp_path)["reason"]) == ("interrupted", "SIGTERM")
    assert node.output().count("interrupted by SIGTERM") == 1
    assert (run_folder(tmp_path) / "checkpoints" / "last.ckpt").is_file()


@pytest.fixture
def machines(tmp_path: Path, nodes: list[Node]) -> Iterator[Machines]:
    """Starts torchrun on two machines: network namespaces with a cable between them."""
    if os.geteuid() or not Path("/proc/self/ns/net").exists():
        pytest.skip("network namespaces need root on Linux")
    names = [f"forger{os.getpid()}{end}" for end in "ab"]
    etc = [Path("/etc/netns") / name for name in names]  # what a namespace finds in /etc
    lines = [f"netns add {name}" for name in names]
    lines.append(f"link add cable netns {names[0]} type veth peer name cable netns {names[1]}")
    for name, address, own in zip(names, ADDRESSES, etc, strict=True):
        own.mkdir(parents=True)
        (own / "nsswitch.conf").write_text("hosts: files\n")  # there is no name server
        (own / "hosts").write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")
        lines.append(f"-n {name} addr add {address}/24 dev cable")
        lines += [f"-n {name} link set {device} up" for device in ("lo", "cable")]

    def start(
        *words: str, backend: str = "static", apart: bool = False, steps: int = 10, second: str = ""
    ) -> list[Node]:
        """`apart`: the second has a file system of its own; `second`: what is typed there alone."""
        logs = tmp_path / "logs"
        logs.mkdir()
        common = ["trainer=multi_node_cpu", *WITHOUT_STATISTICS, *words]
        for rank, name in enumerate(names):
            (tmp_path / name).mkdir()
            options = ["--nnodes=2", "--nproc-per-node=1", *BACKENDS[backend]]
            options += [f"--node-rank={rank}"] if backend == "static" else []
            options += [f"--local-addr={ADDRESSES[rank]}"]
            around = (
                f"mount -t tmpfs none {logs}; {{}}; code=$?; find {logs} -mindepth 1; exit $code"
            )
            own = two(tmp_path, *common, *([second] if second and rank else []), steps=steps)
            around = around if apart and rank else "exec {}"
            nodes.append(Node(tmp_path / name, options, own, name, around))
        return nodes

    try:
        for line in lines:
            subprocess.run(["ip", *line.split()], check=True, capture_output=True)
        yield start
    finally:
        for node in nodes:
            node.end()
        for name, own in zip(names, etc, strict=True):  # and with them the cable
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            rmtree(own, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_machines_compute_what_two_processes_of_one_do(
    backend: str, machines: Machines, tmp_path: Path
) -> None:
    """The machines are two network namespaces, and see different folders of runs."""
    nodes = machines(backend=backend, apart=backend == "static", steps=20)
    for node in nodes:
        assert node.wait() == 0, node.everything()
    # torchrun, too, may say something at the end: its processes do not wait for one another
    assert sorted(" INFO " in node.everything() for node in nodes) == [False, True]
    if backend == "static":  # where the second machine has its own file system, and lists it
        assert f"{tmp_path}/logs" not in nodes[1].everything()
    assert_same_as_alone(tmp_path, steps=20)


@pytest.mark.slow
def test_a_machine_whose_process_dies_ends_the_run(machines: Machines, tmp_path: Path) -> None:
    nodes = machines(steps=100_000)
    until(lambda: is_training(tmp_path))
    time.sleep(1)
    torchrun = nodes[1].process.pid
    (worker,) = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    began = time.monotonic()
    assert [node.wait() for node in nodes] == [1, 1]
    assert time.monotonic() - began < 30
    assert status(tmp_path)["status"] == "failed"
    assert status(tmp_path)["reason"].startswith("another process of the run is gone")
    assert "-9" in nodes[1].everything()
    assert nodes[0].output().count("error: another process of the run is gone") == 1


@pytest.mark.slow
def test_a_mistake_of_one_machine_is_told_on_both(machines: Machines, tmp_path: Path) -> None:
    nodes = machines(second="loss=hinge")
    assert [node.wait() for node in nodes] == [1, 1]
    assert "was started with loss=hinge where rank 0 has nothing" in nodes[0].output()
    assert not any((tmp_path / "logs").rglob("*.*"))
