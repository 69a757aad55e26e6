"""Random streams: one seed for each purpose and key, in one place of the source."""

from __future__ import annotations

import ast
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import fit, make_gan

import forger
from forger.app.run.start import Start
from forger.callbacks.exact_resume import KEY
from forger.seeds import STREAMS, Purpose, mix, seed_for


def test_values_are_fixed() -> None:
    """Changing them would change every run; the first is SplitMix64's own for seed 0."""
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(1, 2, 3) >> 32 == 3497215824
    assert seed_for(Purpose.TRAINING_NOISE, 0, 1) == 7806873273127108147


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_no_two_purposes_share_a_seed(seed: int) -> None:
    """Of what torch looks at on the CPU: the low 32 bits."""
    owners: dict[int, set[Purpose]] = defaultdict(set)
    for purpose, number in itertools.product(Purpose, range(2000)):
        owners[seed_for(purpose, seed, number) & 0xFFFFFFFF].add(purpose)
    assert all(len(purposes) == 1 for purposes in owners.values())
    assert not owners.keys() & set(range(2**16))  # nor with the global state


def test_the_source_seeds_generators_in_one_place() -> None:
    """What seeds a stream goes through `seed_for`, with a purpose of its own."""

    def calls() -> Iterator[tuple[str, ast.Call]]:
        for path in Path(forger.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    yield path.name, node

    seeding = [(f, c) for f, c in calls() if getattr(c.func, "attr", "") == "manual_seed"]
    assert {name for name, _ in seeding} == {
        *("noise.py", "seeds.py", "classifier_training.py"),
        "random_state.py",  # sets what the sampler asks for
    }
    told = [ast.unparse(c) for name, c in seeding if name not in ("seeds.py", "random_state.py")]
    assert all("seed_for(Purpose." in call or "seed_for(purpose, " in call for call in told)


@pytest.mark.parametrize(("written", "told"), [(STREAMS, False), (None, True), (1, True)])
def test_a_resume_tells_of_earlier_streams(written: int | None, told: bool) -> None:
    content = {
        "global_step": 3,
        "threads": torch.get_num_threads(),
        "random_streams": written,
        KEY: {"epoch": 0},
    }
    lines = Start(Path("run"), Path("last.ckpt"), content).describe()
    assert any("other random numbers" in line for line in lines) is told


def test_checkpoints_record_their_streams(tmp_path: Path) -> None:
    trainer = fit(make_gan(), tmp_path, max_steps=1)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["random_streams"] == STREAMS
