"""The formats of an export: how a generator is written, and run again from what was written.

Packages of the extra `export` are imported where they are used.
"""

from __future__ import annotations

import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.export import Dim, ExportedProgram

from forger.app.export.exportable import Exportable, Generate, Inputs, Pixels, make_exportable
from forger.app.run.load import Run
from forger.errors import UserError
from forger.sampling.sampler import Sampler

NUMPY = {  # code that makes an input
    "normal": "np.random.default_rng(0).standard_normal({shape}, dtype=np.float32)",
    "uniform": "np.random.default_rng(0).uniform(-1, 1, {shape}).astype(np.float32)",
    "label": "np.full({shape}, {label}, dtype=np.int64)  # one class",
    "other": "np.zeros({shape}, dtype=np.{dtype})  # yours",
}
TORCH = {
    "normal": "torch.randn{shape}",
    "uniform": "torch.rand{shape} * 2 - 1",
    "label": "torch.full({shape}, {label})  # one class",
    "other": "torch.zeros({shape}, dtype=torch.{dtype})  # yours",
}


class Format(ABC):
    """How a generator becomes a file.

    Args:
        cfg: of export.py.
        run: what the checkpoint says.
        sampler: of the generator, on the CPU.

    Attributes:
        file: its name.
        pixels: unless `cfg` names others.
        exportable: the generator.
    """

    file: ClassVar[str]
    pixels: ClassVar[Pixels] = "uint8"

    def __init__(self, cfg: DictConfig, run: Run, sampler: Sampler) -> None:
        self.cfg, self.run = cfg, run
        self.exportable: Exportable = make_exportable(sampler, cfg.pixels or self.pixels)

    @abstractmethod
    def write(self, path: Path) -> int | None:
        """Writes the file; returns what sides are multiples of, None where they are fixed."""

    @abstractmethod
    def read(self, path: Path) -> Generate:
        """Returns what generates from the written file, as somebody else's program would."""

    @abstractmethod
    def example(self) -> str:
        """Returns code of ten lines that uses the file."""

    def inputs_code(self, code: Mapping[str, str]) -> str:
        """Returns a line that makes each input, in the words of a library."""
        sampler, lines = self.exportable.sampler, []
        for name, one in zip(self.exportable.names, self.exportable.inputs, strict=True):
            words = code.get(sampler.prior if name == "noise" else name, code["other"])
            label, dtype = [*sampler.condition.present(), 0][0], str(one.dtype).split(".")[1]
            made = words.format(shape=(16, *one.shape[1:]), label=label, dtype=dtype)
            lines.append(f"{name} = {made}")
        return "\n".join(lines)


class TorchExport(Format):
    """A graph of torch's operators, for `torch.export.load`: Python without any class of ours."""

    file = "generator.pt2"

    def write(self, path: Path) -> int | None:
        """Writes the program, without the example inputs, which torch would pickle."""
        program, _, multiple = trace(self.exportable)
        program.example_inputs = None
        content = io.BytesIO()  # on a full disk, torch's own writer tells of its positions
        with _quiet():
            torch.export.save(program, content)
        path.write_bytes(content.getbuffer())
        return multiple

    def read(self, path: Path) -> Generate:
        """Loads the program."""
        with _quiet():
            program: Any = torch.export.load(path).module()
        return lambda inputs: program(*inputs)

    def example(self) -> str:
        """Uses torch alone."""
        return f"""
import torch

generator = torch.export.load("{self.file}").module()
{self.inputs_code(TORCH)}
images = generator({", ".join(self.exportable.names)})
print(images.shape, images.dtype)  # (batch, channels, height, width)
"""


class Onnx(Format):
    """ONNX, one file with its weights."""

    file = "generator.onnx"

    def write(self, path: Path) -> int | None:
        """Translates the traced graph."""
        traced, shapes, multiple = trace(self.exportable)
        with _quiet():
            program = torch.onnx.export(
                traced,
                dynamo=True,
                dynamic_shapes=shapes,  # for the names of the sides alone
                input_names=self.exportable.names,
                output_names=["images"],
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=False)
        return multiple

    def read(self, path: Path) -> Generate:
        """Opens the file by onnxruntime, on the processor."""
        return self.run_model(path.read_bytes())

    def run_model(self, model: bytes) -> Generate:
        """Returns what generates from ONNX."""
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

        def generate(inputs: Inputs) -> Tensor:
            arrays = (one.numpy() for one in inputs)
            named = dict(zip(self.exportable.names, arrays, strict=True))
            return torch.from_numpy(session.run(["images"], named)[0])

        return generate

    def example(self) -> str:
        """Uses onnxruntime and NumPy."""
        names = ", ".join(f'"{name}": {name}' for name in self.exportable.names)
        return f"""
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{self.file}")
{self.inputs_code(NUMPY)}
(images,) = session.run(None, {{{names}}})
print(images.shape, images.dtype)  # (batch, channels, height, width)
"""


def trace(exportable: Exportable) -> tuple[ExportedProgram, Any, int | None]:
    """Traces a generator for batches of any size, and for sources of any size where that works.

    Returns:
        the program, the dimensions of its inputs that may vary, and what sides are multiples of.

    Raises:
        UserError: it cannot be traced.
    """
    reason: Exception | None = None
    example = tuple(one[:2].clone() for one in exportable.inputs)  # of one would be of one for ever
    for multiple in (*exportable.multiples, None):
        sides: dict[int, Any] = {0: Dim("batch")}
        for place, name in ((2, "rows"), (3, "columns")) if multiple else ():
            sides[place] = Dim(name) if multiple == 1 else multiple * Dim(name)
        shapes = (tuple(sides for _ in example),)
        try:
            with _quiet():
                program = torch.export.export(exportable.wrapped, example, dynamic_shapes=shapes)
            return program, shapes, multiple
        except Exception as error:  # whatever somebody's code does under tracing
            reason = error
    raise UserError(
        "torch.export cannot trace it for batches of any size (len(x) fixes one, x.shape[0] does"
        f" not): {line_of(reason)}"
    ) from reason


def line_of(error: BaseException | None) -> str:
    """Returns the beginning of what an error says at its root, in one line."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out the notes of torch's exporters, which are for their authors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
