"""The weights of the plain network alone, and the code that builds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from forger.app.export.exportable import Generate, Pixels
from forger.app.export.formats import TORCH, Format
from forger.app.run.load import Run
from forger.app.run.networks import build_condition, build_generator, generator_facts
from forger.random_state import random_state_kept
from forger.sampling.sampler import Sampler


class Safetensors(Format):
    """The state of the plain network, which is of `forger.networks` or of the user's own."""

    file = "generator.safetensors"
    pixels: ClassVar[Pixels] = "unit"

    def __init__(self, cfg: DictConfig, run: Run, sampler: Sampler) -> None:
        super().__init__(cfg, run, sampler)
        whole = sampler.generator  # a side may hold more, and tells then which one makes images
        self.network: nn.Module = getattr(whole, "translator", whole)
        shapes = (run.image_shape, run.source_shape)
        image, source = shapes if cfg.direction == "a_to_b" else shapes[::-1]
        condition = build_condition(run.cfg, run.classes)
        self.arguments: Any = (run.cfg.model.generator, image, condition, source)

    def write(self, path: Path) -> int | None:
        """Writes the state."""
        from safetensors.torch import save

        state = {name: one.clone().contiguous() for name, one in self.network.state_dict().items()}
        path.write_bytes(save(state, {"format": "pt"}))
        return None

    def read(self, path: Path) -> Generate:
        """Loads it into a network that is built anew."""
        from safetensors.torch import load_file

        with random_state_kept(torch.device("cpu")):  # for first weights are drawn
            network = build_generator(*self.arguments).float().eval()
        network.load_state_dict(load_file(path))
        return lambda inputs: network(*inputs).clamp(-1, 1)

    def example(self) -> str:
        """Builds the network and loads its weights."""
        modules, network = self._code()
        imports = "\n".join(f"import {module}" for module in sorted({"torch", *modules}))
        return f"""
{imports}
from safetensors.torch import load_file

network = {network}
network.load_state_dict(load_file("{self.file}"))
{self.inputs_code(TORCH)}
with torch.no_grad():
    images = network.eval()({", ".join(self.exportable.names)})  # (B, C, H, W), mostly in [-1, 1]
"""

    def _code(self) -> tuple[list[str], str]:
        """Returns modules to import, and the expression that builds the plain network."""
        facts, label_dim = generator_facts(*self.arguments)
        settings: Any = OmegaConf.to_container(self.arguments[0])
        modules, code = [*_modules(settings)], _written(settings | facts)
        if label_dim:
            modules.append("forger.networks.conditional")
            more = f"num_classes={len(self.arguments[2].classes)}, label_dim={label_dim}"
            code = f"forger.networks.conditional.LabelBesideNoise({code}, {more})"
        return modules, code


def _written(value: Any) -> str:
    """Writes a value of a config as Python; what has a `_target_` becomes a call."""
    if isinstance(value, dict) and "_target_" in value:
        items = (f"{key}={_written(one)}" for key, one in value.items() if key != "_target_")
        return f"{value['_target_']}({', '.join(items)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_written(one)}' for key, one in value.items())}}}"
    return f"[{', '.join(map(_written, value))}]" if isinstance(value, list) else repr(value)


def _modules(value: Any) -> Iterator[str]:
    """Yields the modules of all targets."""
    if isinstance(value, dict) and "_target_" in value:
        yield value["_target_"].rpartition(".")[0]
    for one in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _modules(one)
