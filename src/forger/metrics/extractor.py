"""What a feature extractor is: uint8 images in, float32 features and class logits out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

HASH_DIGITS = 20  # hexadecimal, 80 bits


class Features(NamedTuple):
    """What an extractor sees in B images, float32."""

    features: Tensor  # (B, D)
    logits: Tensor  # (B, K), one per class that the extractor knows


class ImageData(Protocol):
    """What extractors and scores read of a data module; each split is read on first use."""

    @property
    def train_images(self) -> Tensor:
        """uint8 `(N, C, H, W)`."""

    @property
    def train_labels(self) -> Tensor | None:
        """int64 `(N,)`."""

    @property
    def trained_rows(self) -> Tensor:
        """Which of them a run trains on, int64."""

    @property
    def test_images(self) -> Tensor:
        """uint8 `(M, C, H, W)`, never trained on."""

    @property
    def test_labels(self) -> Tensor | None:
        """int64 `(M,)`."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names in the order of the labels."""

    @property
    def min_accuracy(self) -> float | None:
        """Share of test images that a classifier must name rightly to be trusted."""

    @property
    def num_fake(self) -> int | None:
        """How many images a score generates unless it is told; None: as for most data."""

    @property
    def source_shape(self) -> tuple[int, int, int] | None:
        """Shape of what images are made from; None: there is nothing, and none of the following."""

    @property
    def paired(self) -> bool:
        """Whether each source belongs to the image in its row."""

    @property
    def train_sources(self) -> Tensor:
        """uint8 `(N or M, C, H, W)`."""

    @property
    def test_sources(self) -> Tensor:
        """uint8 `(N or M, C, H, W)`, never trained on."""

    @property
    def train_source_labels(self) -> Tensor | None:
        """int64, a row each; numbers of `classes`."""

    @property
    def test_source_labels(self) -> Tensor | None:
        """int64, a row each; numbers of `classes`."""

    @property
    def channels_from(self) -> ImageData | None:
        """The grey images with classes that each channel is one of; None: channels are colours."""


class FeatureExtractor(nn.Module, ABC):
    """Turns uint8 images into features, always in float32, in eval mode, without gradients.

    To add an extractor, derive from this class and write `prepare`, `forward` and `fingerprint`.

    """

    name: ClassVar[str]  # as it stands in a protocol, and in front of the names of its scores
    score_name: ClassVar[str | None] = None  # of its Inception score; None: it knows no classes
    num_features: int  # D; known after `prepare`
    classes: tuple[str, ...] | None = None  # of the data, if the logits stand for these; the same
    counts_modes = False  # whether the classes are modes that are counted; known after `to_do`

    def __init__(self) -> None:  # nn.Module's own seems to take any setting
        super().__init__()

    @property
    def prefix(self) -> str:
        """What stands in front of the names of its scores; Inception alone has none."""
        return f"{self.name}_"

    def to_do(self, data: ImageData, cache_dir: Path) -> str | None:
        """Returns what `prepare` has to do first that takes long; `UserError` where it cannot."""

    @abstractmethod
    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Loads or trains the weights; `UserError` where they are not good enough, or not there."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that decides what `forward` returns; known after `prepare`."""

    @property
    def description(self) -> dict[str, Any]:
        """Plain facts for the protocol of a score."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Extracts: uint8 `(B, C, H, W)` to features `(B, D)` and logits `(B, K)`."""

    def __call__(self, images: Tensor) -> Features:
        """Extracts; `ValueError` where the images are not uint8."""
        if images.dtype != torch.uint8:
            raise ValueError(f"images: must be uint8, are {images.dtype}")
        with torch.no_grad(), float32_only(images.device):
            features: Features = super(FeatureExtractor, self.eval()).__call__(images)
            return features


def weights_hash(weights: Mapping[str, Tensor], *facts: object) -> str:
    """Hashes names, shapes and values of weights, whatever their layout, and other facts."""
    digest = sha256(repr(facts).encode())
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:HASH_DIGITS]


@contextmanager
def float32_only(device: torch.device) -> Iterator[None]:
    """Computes in plain float32: no autocast, no TF32, no other default type, repeatable kernels.

    What was set before is restored at the end, also after an error.
    """
    with ExitStack() as restore:
        restore.enter_context(torch.autocast(device.type, enabled=False))
        # Lightning's precision=bf16-true makes bfloat16 the type of new tensors.
        restore.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        cudnn, newer = torch.backends.cudnn, cast(Any, torch.backends)
        switches: list[tuple[Any, str, object]] = [(cudnn, "benchmark", False)]
        switches.append((cudnn, "deterministic", True))
        try:
            precision, _ = torch.get_float32_matmul_precision(), cudnn.allow_tf32
        except RuntimeError:  # set by torch's newer switches, which refuse to mix with the older
            gpu, cpu = (newer.cuda.matmul, newer.cudnn.conv), newer.mkldnn
            switches += [(part, "fp32_precision", "ieee") for part in (*gpu, cpu.matmul, cpu.conv)]
        else:
            restore.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
            switches.append((cudnn, "allow_tf32", False))
        for owner, name, value in switches:
            restore.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield
