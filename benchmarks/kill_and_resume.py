"""Kills trainings with SIGKILL, resumes them, and compares each with one that was left alone.

Shows that a run goes on to the same bits wherever it was killed: weights, averaged weights,
optimizers, schedules, random states, pictures and every logged number but times. Kills are forced
inside checkpoint writes, within epochs, before the first checkpoint and at the end of training, or
fall at any time in the life of a process. It needs Linux, no network and no GPU, and writes into
its own folder alone.

On two cores:
    python benchmarks/kill_and_resume.py --models vanilla dcgan                 50 kills, 7 minutes
    python benchmarks/kill_and_resume.py --models biggan stylegan2 --kills 6    6 kills, 7 minutes
    python benchmarks/kill_and_resume.py --models paired cycle cut refine --kills 20
    python benchmarks/kill_and_resume.py --models dfgan stackgan --kills 20
    python benchmarks/kill_and_resume.py --processes 2 --kills 10 --workers 1   10 kills, 15 minutes
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from random import Random

from kill_moments import Length
from killed_run import Kill, KilledRun, Planned
from PIL import Image
from torch import Tensor
from training_process import Training

from forger.app.run.folder import read_status
from forger.data.module import Split
from forger.data.sample import MNISTSample

ALWAYS = (
    *("trainer.max_epochs=3", "trainer.threads=1"),
    *("metrics=quick", "metrics.every_n_steps=50", "metrics.num_fake=200"),
    *("callbacks.samples.n=16", "callbacks.samples.every_n_steps=40"),
    "callbacks.checkpoint.every_n_minutes=null",
)
MODELS = {  # small, so that a run takes seconds
    "vanilla": (
        *("model=vanilla", "model.generator.hidden=[128,256,512]", "schedule=linear"),
        *("data.flip=true", "trainer.log_every_n_steps=3"),
        "callbacks.checkpoint.every_n_steps=15",
    ),
    "dcgan": (
        *("model=dcgan", "model.generator.width=8", "model.discriminator.width=8"),
        *("model.ema_decay=0.99", "trainer.log_every_n_steps=1"),
        *("callbacks.checkpoint.every_n_steps=11", "callbacks.checkpoint.every_n_epochs=1"),
    ),
}
MODELS |= {
    "conditional_vanilla": (
        *MODELS["vanilla"],
        *("condition=label", "condition.generator=concat", "condition.discriminator=concat"),
    ),
    "conditional_dcgan": (*MODELS["dcgan"], "condition=label"),
    "auxiliary_dcgan": (*MODELS["dcgan"], "condition=label", "condition.discriminator=auxiliary"),
}
_TINY = ("trainer.log_every_n_steps=3", "callbacks.checkpoint.every_n_steps=15")
MODELS |= {
    "r3gan": (
        *("model=r3gan", "model.width=[32,16,16]", "model.blocks=1", "loss=r3gan", *_TINY),
        *("schedule=r3gan", "schedule.images=10000", "model.ema_half_life=2000"),
        *("optimizer.betas=[0,0.9]", "loss.penalty_interval=2", "augment=diffaugment"),
    ),
    "biggan": (
        *("model=biggan", "model.generator.width=4", "model.discriminator.width=4", *_TINY),
        *("condition=label", "loss=hinge", "loss.lecam=0.3", "loss.lecam_start=20"),
        *("loss.cr=1", "loss.zcr_g=0.5", "loss.zcr_d=1", "task.instance_noise=0.1"),
    ),
    "stylegan2": (
        *("model=stylegan2", "model.generator.latent_dim=16", "model.generator.style_dim=16"),
        *(f"model.{side}.channel_base=224" for side in ("generator", "discriminator")),
        *(f"model.{side}.channel_max=16" for side in ("generator", "discriminator")),
        *("model.generator.mapping_layers=2", "condition=label", "loss.path_length=2", *_TINY),
        *("loss.r1_gamma=1", "loss.penalty_interval=8", "augment=ada", "augment.ramp_images=5000"),
    ),
}
DIGITS = ("data=mnist_sample", "data.batch_size=64")
_PATCHES = ("model.discriminator.width=8", "model.discriminator.layers=1", "data.batch_size=4")
_UNPAIRED = (
    *("model=resnet_patchgan", "model.generator.width=8", "model.generator.blocks=1", *_PATCHES),
    *("data=unpaired_folder", "loss=least_squares", *_TINY),
)
TRANSLATIONS = {  # of 280 pairs of images of 28x28 pixels, see `write_pairs`
    "paired": (
        *("task=paired", "model=unet_patchgan", "model.generator.width=8", *_PATCHES),
        *("data=paired_folder", "schedule=linear", *_TINY),
    ),
    "cycle": ("task=cycle", "task.pool=10", *_UNPAIRED),
    "cut": ("task=cut", "task.nce_layers=[0,4,8]", "task.nce_dim=16", *_UNPAIRED),
    "refine": (
        *("task=refine", "task.history=100", "task.generator_warmup=40"),
        *("task.discriminator_warmup=30", "model=simgan", "model.generator.width=8"),
        *("model.generator.blocks=1", "data.batch_size=4", "data=unpaired_folder", *_TINY),
    ),
}
_CAPTIONED = (
    *("condition=text", "data=captioned_folder", "data.batch_size=4", "text.dim=16"),
    *("model.generator.width=4", "model.discriminator.width=4", *_TINY),
)
TEXTS = {  # of 280 captioned images of 28x28 pixels, see `write_captioned`
    "dfgan": ("model=dfgan", "loss=hinge", "loss.matching=2", *_CAPTIONED),
    "stackgan": ("model=stackgan", "model.stages=2", "task=stages", *_CAPTIONED),
}
PIXELS = ("data.image_size=28", "data.channels=1", "data.flip=true", "metrics/features=pixels")
LENGTHS = {
    name: Length(210, 70, row=1, save=11) if "dcgan" in name else Length(210, 70, row=3, save=15)
    for name in (*MODELS, *TRANSLATIONS, *TEXTS)
}
KINDS = (
    *("checkpoint write", "within an epoch", "before a checkpoint", "at the end"),
    *("random", "random", "checkpoint write", "within an epoch"),
    *("checkpoint write", "within an epoch", "random", "random"),
)
COUNTS: dict[Split, int] = {"train": 280, "test": 40}  # of images of a split
WHO = {1: ("all",), 2: ("all", "rank 1", "rank 0")}
CHAINS = (1, 1, 2, 1, 3)  # kills of one run
MOST_RUNS = 20  # for the kills planned for one, lest a moment that never comes is waited for


class Session:
    """All that one call of the script trains.

    Args:
        folder: for everything.
        processes: of each run.
        seed: of the moments.
    """

    def __init__(self, folder: Path, processes: int, seed: int) -> None:
        self.folder, self.seed = folder, seed
        trainer = "trainer=cpu" if processes == 1 else "trainer=ddp_cpu"
        where = [f"paths.{name}_dir={folder / name}" for name in ("log", "data", "cache")]
        self._always = [*ALWAYS, trainer, *where]
        self._pairs, self._captioned = folder / "pairs", folder / "captioned"
        self._lengths: dict[str, Length] = {}
        self._numbers = count(1)
        self.nothing_there = 0

    def fill_cache(self) -> None:
        """Trains one iteration, so that the classifier of the scores is there for all runs."""
        self._undisturbed(
            self._overrides("vanilla", "trainer.max_steps=1"), self.folder / "warm_up"
        )

    def write_pairs(self) -> None:
        """Writes digits, dark on light, and the same light on dark, as pairs of images."""
        for split in COUNTS:
            digits, _ = read_digits(split)
            for side, images in (("A", 255 - digits), ("B", digits)):
                write_images(images, self._pairs / f"{split}{side}")

    def write_captioned(self) -> None:
        """Writes digits, each beside a file of two captions."""
        for split in COUNTS:
            digits, labels = read_digits(split)
            for path, label in zip(
                write_images(digits, self._captioned / split), labels.tolist(), strict=True
            ):
                path.with_suffix(".txt").write_text(f"the digit {label}\na {label} in white\n")

    def train_reference(self, model: str) -> None:
        """Trains a run that is left alone."""
        seconds, startup = self._undisturbed(self._overrides(model), self._reference(model))
        self._lengths[model] = replace(LENGTHS[model], seconds=seconds, startup=startup)
        print(f"{model}, left alone: {seconds:.0f} s, {startup:.0f} s of them before training")

    def carry_out(self, model: str, plans: list[Planned]) -> list[Kill]:
        """Kills new runs until all plans have been carried out."""
        kills: list[Kill] = []
        left = plans
        for _ in range(MOST_RUNS):
            name = f"{model}-{next(self._numbers)}"
            folder, reference = self.folder / "killed" / name, self._reference(model)
            random = Random(f"{self.seed} {name}")
            run = KilledRun(self._overrides(model), folder, reference, self._lengths[model], random)
            left = run.kill(left)
            run.finish()
            self.nothing_there += run.nothing_there
            kills += run.kills
            lines = list(map(str, run.kills)) or [f"{name}: {fault}" for fault in run.faults]
            print(*lines, sep="\n", end="\n" if lines else "", flush=True)
            if run.faults or not left:
                return kills
        raise SystemExit(f"{MOST_RUNS} runs of {model} ended before {left}")

    def _overrides(self, model: str, *more: str) -> list[str]:
        if model in MODELS:
            return [*self._always, *DIGITS, *MODELS[model], *more]
        root = self._captioned if model in TEXTS else self._pairs
        own = (TRANSLATIONS | TEXTS)[model]
        return [*self._always, *own, *PIXELS, f"data.root={root}", *more]

    def _reference(self, model: str) -> Path:
        return self.folder / "left_alone" / model

    def _undisturbed(self, overrides: list[str], folder: Path) -> tuple[float, float]:
        """Returns its seconds, and those before training."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        output, began = folder.with_suffix(".txt"), time.monotonic()
        training = Training([*overrides, f"hydra.run.dir={folder}"], folder, output)
        while not training.training and not training.ended:
            time.sleep(0.02)
        startup = time.monotonic() - began
        training.wait()
        if (read_status(folder) or {}).get("status") != "finished":
            raise SystemExit(f"a run that was left alone failed:\n{output.read_text()}")
        return time.monotonic() - began, startup


def read_digits(split: Split) -> tuple[Tensor, Tensor]:
    """Returns some digits and their labels."""
    data, wanted = MNISTSample().read(split), COUNTS[split]
    every = len(data["image"]) // wanted
    return data["image"][::every][:wanted], data["label"][::every][:wanted]


def write_images(images: Tensor, folder: Path) -> list[Path]:
    """Writes grey images into a new folder."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    return paths


def plan(kills: int, models: list[str], processes: int) -> Iterator[tuple[str, list[Planned]]]:
    """Yields which kills follow each other in one run, and of which model."""
    plans = [*islice(map(Planned, cycle(KINDS), cycle(WHO[processes])), kills)]
    share = -(-kills // len(models))
    for number, model in enumerate(models):
        own = iter(plans[number * share : (number + 1) * share])
        for size in cycle(CHAINS):
            if not (chain := [*islice(own, size)]):
                break
            # what can only come first, and what can only come last
            order = {"before a checkpoint": 0, "at the end": 2}
            yield model, sorted(chain, key=lambda planned: order.get(planned.kind, 1))


def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """Does it all, and returns whether nothing differed."""
    began = time.monotonic()
    session = Session(folder, arguments.processes, arguments.seed)
    session.fill_cache()
    session.write_pairs()
    session.write_captioned()
    with ThreadPoolExecutor(arguments.workers) as pool:
        list(pool.map(session.train_reference, arguments.models))
        print(f"{'run':<22}{'kill':<28}{'row':>5}{'from':>8}  {'proof':<40}result", flush=True)
        planned = plan(arguments.kills, arguments.models, arguments.processes)
        done = list(pool.map(session.carry_out, *zip(*planned, strict=True)))
    kills = [kill for chain in done for kill in chain]
    hit = [kill for kill in kills if kill.proof]
    identical = sum(not kill.faults for kill in hit)
    more = [kill for kill in kills if not kill.proof]
    more_identical = sum(not kill.faults for kill in more)
    kinds = Counter(kill.plan.kind for kill in hit)
    print(f"\nkinds of kill: {', '.join(f'{number} {kind}' for kind, number in kinds.items())}")
    print(f"more that missed their moment: {len(more)}, of which {more_identical} identical")
    print(f"more before there was anything to resume: {session.nothing_there}")
    print(f"{identical} of {arguments.kills} identical")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    return identical == arguments.kills and more_identical == len(more)


def main() -> None:
    """Reads the arguments, and ends with exit code 1 where a run differed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--models", nargs="+", choices=list(LENGTHS), default=list(LENGTHS))
    parser.add_argument("--processes", type=int, choices=list(WHO), default=1, help="of each run")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    arguments = parser.parse_args()
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder, prefix="kill_and_resume_")).absolute()
    if run(arguments, folder):
        shutil.rmtree(folder)
        return
    print(f"what differed is in {folder}")
    sys.exit(1)


if __name__ == "__main__":
    main()
