"""Says what a dry run adds to the plan: both networks layer by layer, and memory by part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from torch import Tensor, nn

from forger.app.run.memory import batch_per_process, estimate_memory
from forger.copying import copied
from forger.gan import GAN
from forger.random_state import random_state_kept

BATCH = 2  # images that run through the networks, shown as B


def describe_dry_run(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> list[str]:
    """Returns the lines that follow those of `describe_plan`; changes nothing.

    Args:
        gan: with both networks and the loss.
        datamodule: with the images and the batch size, where it tells them.
        trainer: with its hardware and precision.
        image_shape: channels, height, width.
    """
    noise = torch.zeros(BATCH, int(gan.generator.latent_dim))  # type: ignore[arg-type]
    images = torch.zeros(BATCH, *image_shape)
    batch = batch_per_process(datamodule, trainer)

    def memory_table() -> list[str]:
        parts = estimate_memory(gan, datamodule, trainer, image_shape)
        return [f"{name:20}{size / 1e6:>12,.1f} MB" for name, size in parts.items()]

    return [
        f"generator, for B = {batch or 'any'} images in each process:",
        *_indented(lambda: layer_table(gan.generator, noise)),
        "discriminator:",
        *_indented(lambda: layer_table(gan.discriminator, images)),
        f"memory of each process{'' if batch else ' for B = 1'}, an estimate:",
        *_indented(memory_table),
    ]


def layer_table(network: nn.Module, inputs: Tensor) -> list[str]:
    """Returns the layers in the order of the network, a line each, below a line of headings.

    Args:
        network: not changed, nor is the random state: a copy of it runs forward.
        inputs: what it takes, two of them.
    """
    with random_state_kept(torch.device("cpu")):
        summary = ModelSummary(_WithExample(copied(network), inputs), max_depth=-1)
    columns = summary.layer_names, summary.layer_types, summary.out_sizes, summary.param_nums
    rows = [("layer", "type", "output", "parameters")]
    for name, kind, size, count in zip(*columns, strict=True):
        if ".parametrizations" not in name:  # part of the layer whose weights they reshape
            shape = " x ".join(map(str, ["B", *size[1:]])) if isinstance(size, list) else "?"
            rows.append((name.removeprefix("network."), kind, shape, f"{count:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*map(str.ljust, row[:-1], widths), row[-1].rjust(widths[-1])]) for row in rows
    ]


class _WithExample(LightningModule):
    """What Lightning's summary takes: a module with an example of its input."""

    def __init__(self, network: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.network, self.example_input_array = network, inputs

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs


def _indented(describe: Callable[[], list[str]]) -> list[str]:
    """Returns the lines, or in one line why there are none."""
    try:
        return [f"    {line}".rstrip() for line in describe()]
    except Exception as error:  # a network of the user's own: training will tell what fails
        return [f"    not known: {type(error).__name__}: {error}".splitlines()[0]]
