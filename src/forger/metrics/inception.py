"""The Inception network of published scores, as ported by torch-fidelity: a feature extractor.

Not torchmetrics' wrapper of it, whose resize is antialiased by default, as TensorFlow 1's is not.
"""

from __future__ import annotations

import logging
import socket
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from forger.bounds import check_choice
from forger.errors import ConfigError, DataError
from forger.metrics.extractor import FeatureExtractor, Features, ImageData, weights_hash

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

log = logging.getLogger(__name__)

Layer = Literal["64", "192", "768", "2048"]
URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
RESIZE = "299x299, bilinear as TensorFlow 1"
_SHA256 = "6726825d"  # the first digits
_AT_ONCE = 50  # images in one pass, about 600 MB of activations
_TIMEOUT = 15.0  # seconds without an answer from the server; torch.hub would wait for minutes


class Inception(FeatureExtractor):
    """InceptionV3 with the weights of 2015-12-05, as in FID's paper (arXiv 1706.08500).

    Its logits are those without bias, of 1,008 classes, as in the Inception Score's code
    (arXiv 1606.03498). Grey images are seen as colour images with three equal channels.

    Args:
        weights: file in torch-fidelity's format; None: its download, kept in torch.hub's cache.
        layer: whose features are compared, by their number: "2048" in published scores.
    """

    name = "inception"
    score_name = "inception_score"

    def __init__(self, *, weights: str | Path | None = None, layer: Layer = "2048") -> None:
        super().__init__()
        check_choice("metrics.features.layer", str(layer), Layer)
        self.layer, self.num_features = str(layer), int(layer)
        self.published = weights is None
        home = Path(torch.hub.get_dir(), "checkpoints", URL.rpartition("/")[2])
        self.path = home if weights is None else Path(weights).expanduser()
        self.network: FeatureExtractorInceptionV3 | None = None
        self._fingerprint = ""

    @property
    def prefix(self) -> str:
        """Nothing for the features of published scores; else the layer."""
        return "" if self.layer == "2048" else f"inception{self.layer}_"

    def to_do(self, data: ImageData, cache_dir: Path) -> str | None:
        """Tells whether the weights have to be downloaded first."""
        channels = data.train_images.shape[1]
        if channels not in (1, 3):
            raise DataError(
                f"metrics/features=inception: sees grey or colour images, and these have {channels}"
                " channels; write metrics/features=pixels"
            )
        if self.path.is_file():
            return None
        if self.published:
            return "Inception's weights, 96 MB, have to be downloaded first"
        raise ConfigError(
            f"metrics.inception_weights={self.path}: no such file; fetch it from {URL}"
        )

    def prepare(self, data: ImageData, cache_dir: Path) -> None:
        """Loads the weights, after downloading them where they are missing."""
        if self.to_do(data, cache_dir) is not None:
            _download(self.path)
        # Takes seconds, and most runs do without it.
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        try:
            # Tensors and nothing else: torch-fidelity's own loading would run what is inside.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            self._fingerprint = weights_hash(state, "inception", self.layer, RESIZE)
            with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
                self.network = FeatureExtractorInceptionV3(  # type: ignore[no-untyped-call]
                    self.name, [self.layer, "logits_unbiased"], str(self.path)
                )
        except Exception as error:  # what is no file of torch raises many kinds
            reason = str(error).strip().partition("\n")[0].rstrip(".:")
            if self.published:
                raise DataError(f"{self.path}: is damaged ({reason}); delete it") from None
            raise ConfigError(
                f"metrics.inception_weights={self.path}: is not torch-fidelity's InceptionV3"
                f" ({reason}); fetch it from {URL}"
            ) from None
        digest = _SHA256 if self.published else sha256(self.path.read_bytes()).hexdigest()
        if not digest.startswith(_SHA256):
            given = f"metrics.inception_weights={self.path}"
            log.warning("%s: is not the published file: a FID by it is not that of papers", given)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, the layer and the resize."""
        assert self._fingerprint, "prepare comes first"
        return self._fingerprint

    @property
    def description(self) -> dict[str, Any]:
        """Name, hash, layer, resize and the name of the file with the weights."""
        facts = {"layer": self.layer, "resize": RESIZE, "weights": self.path.name}
        return {**super().description, **facts}

    def forward(self, images: Tensor) -> Features:
        """Extracts: uint8 `(B, C, H, W)`, C 1 or 3, to `(B, layer)` and logits `(B, 1008)`."""
        assert self.network is not None, "prepare comes first"
        colour = images.expand(-1, 3, -1, -1)
        parts = [self.network(part) for part in torch.split(colour, _AT_ONCE)]
        return Features(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _download(path: Path) -> None:
    """Fetches the weights under a temporary name first, and checks their sum."""
    log.info("downloading the Inception weights, 96 MB, once, to %s", path)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=_SHA256, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise DataError(
            f"metrics/features=inception: its weights cannot be downloaded to {path}:"
            f" {getattr(error, 'reason', None) or error}; fetch {URL} on a machine with network and"
            " write metrics.inception_weights=<file>, or metrics/features=classifier (of images"
            " with labels) or pixels (crude)"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
