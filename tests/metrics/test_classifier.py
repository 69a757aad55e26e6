"""The data's own classifier: trained once, the same anywhere, refused where it is not good."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import without_rights
from labelled_bars import Bars
from rich.console import Console

from forger.data import MNISTSample
from forger.errors import DataError
from forger.metrics import cache, classifier
from forger.metrics.classifier import Classifier
from forger.metrics.classifier_training import ClassifierNetwork, Recipe, shifted

SHORT = Recipe(batch_size=30, least_updates=60)


@pytest.fixture(autouse=True)
def short_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "RECIPE", SHORT)


def prepared(cache_dir: Path, data: Any = None, **arguments: Any) -> Classifier:
    extractor = Classifier(**arguments)
    extractor.prepare(data or Bars(), cache_dir)
    return extractor


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cached classifier of the bars."""
    cache_dir = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "RECIPE", SHORT)
        prepared(cache_dir)
    (path,) = cache_dir.iterdir()
    return path


def test_learns_classes_and_sees_them_in_images(trained: Path) -> None:
    data = Bars()
    extractor = prepared(trained.parent, data)
    seen = extractor(data.test_images)
    assert seen.features.shape == (30, extractor.num_features)
    assert seen.logits.shape == (30, 3)
    assert extractor.classes == data.classes
    assert data.test_labels is not None
    share = (seen.logits.argmax(1) == data.test_labels).float().mean().item()
    assert share > 0.9
    description = extractor.description
    assert description["accuracy"] == pytest.approx(share)
    assert (description["name"], description["resize"]) == ("classifier", "none")
    assert description["fingerprint"] == extractor.fingerprint
    assert (description["num_train"], description["num_test"]) == (90, 30)


def test_the_training_is_announced_and_shown_and_happens_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(cache, "Console", lambda **_: terminal)
    monkeypatch.setenv("TERM", "xterm")
    caplog.set_level(logging.INFO, logger="forger")
    first = Classifier().to_do(Bars(), tmp_path)
    assert first == "a classifier has to be trained on 90 images first"
    prepared(tmp_path)
    before, after = caplog.messages
    (file,) = tmp_path.glob("classifier-*.pt")
    assert before == f"training a classifier on 90 images for scores; once, then cached at {file}"
    assert "% of 30 test images rightly" in after
    assert "training the classifier of the scores" in screen.getvalue()
    assert Classifier().to_do(Bars(), tmp_path) is None
    prepared(tmp_path)
    assert len(caplog.messages) == 2
    assert Classifier().to_do(Bars(classes=("a", "b", "c")), tmp_path) is not None  # other data
    monkeypatch.setattr(classifier, "RECIPE", Recipe(seed=1))
    assert Classifier().to_do(Bars(), tmp_path) is not None


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    yield
    assert torch.get_default_dtype() == dtype
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "context",
    [
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: default_dtype(torch.bfloat16),
    ],
)
def test_the_same_data_gives_the_same_bits_inside_any_training(
    trained: Path, tmp_path: Path, context: Callable[[], Any]
) -> None:
    """Whatever the precision, the number of threads and the random state, which stay."""
    expected, threads = prepared(trained.parent), torch.get_num_threads()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    try:
        torch.set_num_threads(threads + 1)
        with context():
            found = prepared(tmp_path)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.fingerprint == expected.fingerprint
    images = Bars().test_images
    for a, b in zip(found(images), expected(images), strict=True):
        assert torch.equal(a, b)


def test_too_low_an_accuracy_is_refused_without_training_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hard = Bars(counts={"train": 90, "test": 30}, min_accuracy=0.999)
    assert hard.test_labels is not None
    hard.test_labels[:10] = (hard.test_labels[:10] + 1) % 3  # cannot be named rightly
    with pytest.raises(DataError, match=r"^metrics\.min_accuracy: .* need 99\.90%; ac") as refused:
        prepared(tmp_path, hard)
    message = str(refused.value)
    assert "metrics/features=pixels" in message
    assert "metrics/features=inception metrics.inception_weights=" in message
    caplog.set_level(logging.INFO, logger="forger")
    with pytest.raises(DataError, match=r"metrics\.min_accuracy"):
        Classifier().to_do(hard, tmp_path)
    advised = float(message.partition("metrics.min_accuracy=")[2].partition(",")[0])
    assert prepared(tmp_path, hard, min_accuracy=advised).description["accuracy"] >= advised
    assert caplog.messages == []


@pytest.mark.parametrize("damage", ["truncated", "other weights", "other accuracy"])
def test_a_damaged_file_is_noticed_and_replaced(
    trained: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, content = tmp_path / trained.name, trained.read_bytes()
    stored = torch.load(trained, weights_only=True)
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "other weights":
        stored["weights"]["output.bias"] += 1
        torch.save(stored, path)
    else:
        torch.save(stored | {"accuracy": 0.99}, path)
    extractor = prepared(tmp_path)
    (warning,) = (x.getMessage() for x in caplog.records if x.levelno == logging.WARNING)
    assert warning.startswith(f"{path} is damaged")
    assert extractor.fingerprint == prepared(trained.parent).fingerprint
    assert prepared(tmp_path).fingerprint == extractor.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_told_before_the_training_and_so_is_one_not_read(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "train_network", None)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"paths\.cache_dir: .*file/cache cannot take the classif"):
        prepared(tmp_path / "file" / "cache")
    (tmp_path / trained.name).write_bytes(trained.read_bytes())
    (tmp_path / trained.name).chmod(0)
    with (
        without_rights(tmp_path),
        pytest.raises(DataError, match=r"paths\.cache_dir: .*/classifier-.*: Permission denied"),
    ):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels_of": ()}, r"Bars has no labels to train .*write metrics/features=pixels"),
        ({"labels_of": ("train",)}, "Bars has no labels of test images to test a classifier on"),
        ({"classes": ("lying", "standing")}, "has 2 classes and labels from 0 to 2"),
        ({"classes": ("bar",)}, "has 1 classes"),
    ],
)
def test_data_that_no_classifier_can_be_trained_on(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, Bars(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 5, 40), (3, 65, 65), (3, 256, 256)])
def test_the_network_fits_images_of_any_size(shape: tuple[int, int, int]) -> None:
    network = ClassifierNetwork(shape, num_classes=5, width=16).eval()
    seen = network(torch.zeros(2, *shape, dtype=torch.uint8))
    assert seen.features.shape == (2, 128)
    assert seen.logits.shape == (2, 5)


def test_shifted_images_repeat_their_border() -> None:
    images = torch.arange(18, dtype=torch.uint8).view(2, 1, 3, 3)
    moved = shifted(images, torch.tensor([[1, 0], [0, -2]]))
    assert moved[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert moved[1, 0].tolist() == [[11, 11, 11], [14, 14, 14], [17, 17, 17]]


@pytest.mark.slow
def test_learns_real_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "RECIPE", Recipe())
    assert prepared(tmp_path, MNISTSample()).description["accuracy"] >= 0.97
