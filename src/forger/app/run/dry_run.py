"""Says what a dry run adds to the plan: both networks layer by layer, and memory by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from forger.app.run.checks import NETWORKS, Trial
from forger.copying import copied
from forger.data import ImageDataModule
from forger.gan import GAN
from forger.random_state import random_state_kept
from forger.updates import Updates

# Both were seen with torch 2.14 on the CPU. Libraries load code and caches when first used. Around
# the largest map a backward pass holds its gradients before and behind a layer, and copies of them.
LIBRARIES = 45_000_000  # bytes
COPIES_OF_LARGEST = 4
TRIED = 2, 4  # images: what grows with their number, and how much, shows between the two
_TYPES = {"64-true": torch.float64, "16-true": torch.bfloat16, "bf16-true": torch.bfloat16}


def describe_dry_run(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> list[str]:
    """Returns the lines that follow those of `describe_plan`; changes nothing."""
    batch = _batch(datamodule, trainer)

    def layers(name: str) -> list[str]:
        trial = Trial(gan, torch.float32)
        with torch.no_grad(), random_state_kept(torch.device("cpu")):
            trial.compute_generator_terms(trial.example(2, image_shape))
        return layer_table(getattr(gan, name), *trial.inputs[name])

    return [
        f"generator, for B = {batch or 'any'} images in each process:",
        *_indented(lambda: layers("generator")),
        "discriminator:",
        *_indented(lambda: layers("discriminator")),
        f"memory of each process{'' if batch else ' for B = 1'}, an estimate by updates of"
        f" {TRIED[0]} and {TRIED[1]} images:",
        *_indented(lambda: _table(estimate_memory(gan, datamodule, trainer, image_shape))),
    ]


def _indented(describe: Callable[[], list[str]]) -> list[str]:
    """Returns the lines, or in one line why there are none."""
    try:
        return [f"    {line}".rstrip() for line in describe()]
    except Exception as error:  # a network of the user's own: training will tell what fails
        return [f"    not known: {type(error).__name__}: {error}".splitlines()[0]]


def _table(parts: dict[str, int]) -> list[str]:
    return [f"{name:20}{size / 1e6:>12,.1f} MB" for name, size in parts.items()]


def layer_table(network: nn.Module, *inputs: Tensor) -> list[str]:
    """Returns the layers of a network, a line each below one of headings; a copy runs for it."""
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

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.network, self.example_input_array = network, inputs

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)


def estimate_memory(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> dict[str, int]:
    """Returns the bytes of one process by part on the device that trains, and `in all`.

    On the CPU they come beside those of Python with what it has imported, and a checkpoint, which
    is read back between two iterations, may need more than an iteration.
    """
    dtype = _TYPES.get(str(trainer.precision), torch.float32)
    batch, device = _batch(datamodule, trainer) or 1, trainer.strategy.root_device
    mixed = str(trainer.precision) in ("16-mixed", "bf16-mixed")
    trial = Trial(gan, dtype)
    kept, largest = _saved_by_autograd(trial, image_shape, batch, mixed)
    g, d = (_bytes(getattr(trial, name).state_dict().values()) for name in NETWORKS)
    states = _state_bytes(gan.generator_updates, trial.generator)
    states += _state_bytes(gan.discriminator_updates, trial.discriminator)
    pixels = batch * gan.batches_per_iteration * torch.Size(image_shape).numel()
    passes = 2 if gan.loss.penalties else 1  # a gradient penalty's gradient is one more
    lasting = {
        "weights": g + d,
        "averaged generator": g * max(1, 4 // dtype.itemsize),  # never in 16 bits
        "optimizer states": states,
    }
    checkpoint = sum(lasting.values())
    iteration = {
        "real images": pixels * (1 + dtype.itemsize),
        "activations": kept,
        "backward passes": COPIES_OF_LARGEST * passes * largest,
    }
    lasting["gradients"] = (g + d) * min(2, trainer.world_size)  # DDP has buckets of its own
    if isinstance(datamodule, ImageDataModule) and datamodule.residence(device) == device:
        only_mapped = datamodule.mapped and device.type == "cpu"  # takes room while there is some
        lasting["training images"] = 0 if only_mapped else datamodule.train_bytes
    total, needed = sum(lasting.values()), sum(iteration.values())
    if device.type == "cpu":
        total, needed = total + LIBRARIES, max(needed, checkpoint)
    return lasting | iteration | {"in all": total + needed}


def _state_bytes(updates: Updates, network: nn.Module) -> int:
    """Returns the bytes of the optimizer's state, once it has updated a network with gradients."""
    optimizer = updates.make_optimizer(network)
    optimizer.step()
    return _bytes(v for state in optimizer.state.values() for v in state.values())


def _bytes(values: Iterable[Any]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def _batch(datamodule: LightningDataModule, trainer: Trainer) -> int | None:
    """Returns how many images a process takes at once; `None`: the data module does not tell."""
    batch = getattr(datamodule, "batch_size", None)
    return batch // trainer.world_size if isinstance(batch, int) else None


def _saved_by_autograd(
    trial: Trial, shape: tuple[int, int, int], batch: int, mixed: bool
) -> tuple[int, int]:
    """Returns the bytes that autograd keeps of a batch for one update, and of its largest tensor.

    Those of the weights are left out. Two small batches are tried, and each tensor is taken to grow
    with the number of images as it does from the one to the other.
    """
    trial.task.precision = torch.autocast("cpu", torch.bfloat16, enabled=mixed)
    fewer, more = (_saved_of(trial, shape, rows) for rows in TRIED)
    step = TRIED[1] - TRIED[0]

    def at_batch(few: int, many: int) -> int:
        return max(0, few + (many - few) * (batch - TRIED[0]) // step)

    sums, largest = [0], [0]
    for few, many in zip(fewer, more, strict=True):
        sums.append(at_batch(sum(few), sum(many)))
        alike = len(few) == len(many)
        pairs = zip(few, many, strict=True) if alike else [(max(few), max(many))]
        largest += [at_batch(*pair) for pair in pairs]
    return max(sums), max(largest)


def _saved_of(trial: Trial, shape: tuple[int, int, int], rows: int) -> list[list[int]]:
    """Returns the bytes of what autograd keeps in D's update and in G's, tensor by tensor."""
    weights = {t.data_ptr() for n in NETWORKS for t in getattr(trial, n).state_dict().values()}
    kept: dict[int, int] = {}  # bytes by storage

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    found = []
    counted = saved_tensors_hooks(keep, lambda tensor: tensor)
    with random_state_kept(torch.device("cpu")), counted:
        for update in (trial.update_discriminator, trial.update_generator):
            kept.clear()
            update(trial.example(rows, shape))
            found.append([*kept.values()])
    return found
