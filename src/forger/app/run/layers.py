"""A network as a table of its layers. Owns types, output shapes and parameters; runs a copy of it.

Lightning's own `ModelSummary` wants the whole as one LightningModule with one input.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning.pytorch.utilities.model_summary.model_summary import LayerSummary
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from forger.copying import copied
from forger.random_state import random_state_kept

BATCH = 2  # images that are run, shown as the batch that they stand for
HEADINGS = ("layer", "type", "output", "parameters")


def layer_table(network: nn.Module, inputs: Tensor) -> list[str]:
    """Returns the layers in the order of the network, a line each, below a line of headings.

    Args:
        network: not changed, nor is the random state: a copy of it runs forward.
        inputs: what it takes, two of them.
    """
    ran = copied(network)
    layers = [(name, layer, LayerSummary(layer)) for name, layer in _leaves(ran)]
    with torch.no_grad(), random_state_kept(torch.device("cpu")):
        ran(inputs)
    rows = [
        (name, _type_of(layer), _shape(seen.out_size), seen.num_parameters)
        for name, layer, seen in layers
    ]
    total = sum(parameter.numel() for parameter in network.parameters())
    others = total - sum(number for *_, number in rows)
    if others:  # of modules that hold layers and parameters at once; less than 0: shared ones
        rows.append(("others", "", "", others))
    rows.append(("all", "", "", total))
    return _aligned([HEADINGS, *((*words, f"{number:,}") for *words, number in rows)])


def _leaves(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the layers that compute; what reshapes their weights is part of them."""
    for name, module in network.named_modules():
        whole = name.split(".parametrizations")[0] == name and not name.startswith("parametriz")
        inside = [child for child, _ in module.named_children() if child != "parametrizations"]
        if whole and not inside and not isinstance(module, nn.Identity):
            yield name, module


def _type_of(layer: nn.Module) -> str:
    name: str = type_before_parametrizations(layer).__name__
    if not is_parametrized(layer):
        return name
    kinds = {
        type(parametrization).__name__.strip("_")
        for several in layer.parametrizations.values()  # type: ignore[operator]
        for parametrization in several
    }
    return " + ".join([name, *sorted(kinds)])


def _shape(size: object) -> str:
    """Returns for example `B x 64 x 7 x 7`, and `?` for a layer that did not run as one."""
    if not isinstance(size, list) or not all(isinstance(number, int) for number in size):
        return "?"
    first = "B" if size[:1] == [BATCH] else "".join(map(str, size[:1]))
    return " x ".join([first, *map(str, size[1:])])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Returns the rows in columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            word.rjust(width) if last else word.ljust(width)
            for word, width, last in zip(row, widths, (False, False, False, True), strict=True)
        )
        for row in rows
    ]
