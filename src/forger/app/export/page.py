"""The page of `format=html`: one file in which the generator runs in the browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import normalize

from forger.app.export.exportable import Generate
from forger.app.export.formats import NUMPY, Onnx
from forger.app.export.web_runtime import WebRuntime, find_web_runtime
from forger.app.run.load import Run
from forger.errors import ConfigError, UserError
from forger.sampling.sampler import Sampler
from forger.sampling.translator import Translator

_TEMPLATE = Path(__file__).with_name("page.html")
_DIRECTIONS = 6
_EXPORTS = re.compile(r"export\{([^}]*)\};?\s*(//# sourceMappingURL=\S*)?\s*$")
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_ENDS_SCRIPT = re.compile(r"</script|<!--", re.IGNORECASE)
_MODEL = re.compile(r'id="model">([^<]*)<')


class Page(Onnx):
    """A page with the ONNX model and what runs it.

    Raises:
        ConfigError: the generator is given anything else than noise and a class.
    """

    file = "index.html"

    def __init__(self, cfg: DictConfig, run: Run, sampler: Sampler) -> None:
        if isinstance(sampler, Translator) or not sampler.latent_dim:
            raise ConfigError(
                "format=html: shows what is made of noise, and this run's generator turns images"
                " into others; write format=onnx"
            )
        if sampler.condition.members not in ((), ("label",)):
            others = ", ".join(sampler.condition.members)
            raise ConfigError(f"format=html: cannot ask for {others}; write format=onnx")
        if run.image_shape[0] not in (1, 3):
            raise ConfigError(f"format=html: shows 1 or 3 channels, not {run.image_shape[0]}")
        super().__init__(cfg, run, sampler)
        self.runtime = find_web_runtime(cfg.web_runtime, Path(cfg.paths.cache_dir))

    def write(self, path: Path) -> int | None:
        """Writes the page."""
        sampler, model = self.exportable.sampler, path.with_name(Onnx.file)
        super().write(model)
        present = sampler.condition.present()
        settings = {
            "size": sampler.latent_dim,
            "prior": sampler.prior,
            "classes": [[one, sampler.condition.classes[one]] for one in present],
            "directions": directions(sampler).tolist(),
        }
        name = self.run.cfg.get("name", self.run.folder.name)
        path.write_text(page(name, settings, model.read_bytes(), self.runtime), encoding="utf-8")
        model.unlink()
        return None

    def read(self, path: Path) -> Generate:
        """Opens the model that stands in the page by onnxruntime."""
        found = _MODEL.search(path.read_text(encoding="utf-8"))
        assert found is not None
        return self.run_model(gzip.decompress(base64.b64decode(found[1])))

    def example(self) -> str:
        """Writes a file of noise for the page."""
        names = ", ".join(f'"{name}": {name}.tolist()' for name in self.exportable.names)
        return f"""
import json
import numpy as np

{self.inputs_code(NUMPY)}
with open("noise.json", "w") as file:  # to be chosen in {self.file}
    json.dump({{{names}}}, file)
"""


def directions(sampler: Sampler) -> Tensor:
    """Returns directions of noise along which images change, of length 1; none of styles."""
    found = sampler.directions(min(_DIRECTIONS, sampler.latent_dim))
    return found.vectors[:0] if found.of_styles else normalize(found.vectors)


def page(title: str, settings: dict[str, Any], model: bytes, runtime: WebRuntime) -> str:
    """Returns the page; its policy lets run what stands in it, and no request leave."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    parts = {
        "title": html.escape(title),
        "settings": json.dumps(settings).replace("<", "\\u003c"),
        "runtime": _inlined(runtime.script),
        "model": _packed(model),
        "wasm": _packed(runtime.wasm),
    }
    style, script = (_between(template, tag) for tag in ("style", "script"))
    parts["policy"] = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; script-src"
        f" '{_hash(_filled(script, parts))}' 'wasm-unsafe-eval'; style-src '{_hash(style)}'"
    )
    return _filled(template, parts)


def _filled(template: str, parts: dict[str, str]) -> str:
    """Puts parts in their places; what looks like a place inside of a part stays."""
    return _PLACE.sub(lambda place: parts[place[1]], template)


def _between(template: str, tag: str) -> str:
    found = re.search(rf"<{tag}(?: type=\"module\")?>(.*?)</{tag}>", template, re.DOTALL)
    assert found is not None
    return found[1]


def _inlined(module: str) -> str:
    """Returns the runtime's module with its exports as members of `ort`, for a script in a page."""
    module = module.replace("\r\n", "\n")
    found = _EXPORTS.search(module)
    if found is None or _ENDS_SCRIPT.search(module):
        raise UserError("web_runtime: its script is of another build than can stand in a page")
    pairs = (one.split(" as ") for one in found[1].split(","))
    members = ", ".join(f"{pair[-1].strip()}: {pair[0].strip()}" for pair in pairs)
    return f"{module[: found.start()]}\nconst ort = {{{members}}};"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
