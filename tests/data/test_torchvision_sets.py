from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import originals
import pytest
from disks import small_disk
from torchvision import datasets

from forger.data import CIFAR10, MNIST, FashionMNIST, MNISTSample
from forger.errors import DataError

Fingerprint = Callable[[Path], dict[str, str]]
SETS: list[type[MNIST] | type[CIFAR10]] = [MNIST, FashionMNIST, CIFAR10]


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with small versions of all three sets, whose sums are the expected ones."""
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    originals.write(tmp_path / "MNIST" / "raw", files)
    packed = originals.expect_fashion(monkeypatch, files)
    originals.write(tmp_path / "FashionMNIST" / "raw", files | packed)
    originals.write(tmp_path / "cifar-10-batches-py", originals.cifar_files(monkeypatch))
    return tmp_path


def ready(data: MNIST | CIFAR10) -> MNIST | CIFAR10:
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_mnist_reads_the_official_splits_and_changes_nothing(
    kind: type[MNIST], roots: Path, fingerprint: Fingerprint
) -> None:
    before = fingerprint(roots)
    data = ready(kind(root=roots))
    assert data.image_shape == (1, 28, 28)
    assert data.train_images[:, 0, 0, 0].tolist() == list(range(12))
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.test_images[:, 0, 0, 0].tolist() == list(range(5))
    assert data.classes is not None
    assert data.classes[0] == ("0" if kind is MNIST else "T-shirt/top")
    assert ready(kind(root=roots, image_size=32)).train_images.shape == (12, 1, 32, 32)
    assert fingerprint(roots) == before


@pytest.mark.parametrize("old_numpy", [False, True])
def test_cifar10_reads_the_official_splits_and_changes_nothing(
    roots: Path, old_numpy: bool, monkeypatch: pytest.MonkeyPatch, fingerprint: Fingerprint
) -> None:
    """The published pickles hold 0 where NumPy 2.4 wants False; nothing warns of it."""
    files = originals.cifar_files(monkeypatch, old_numpy)
    originals.write(roots / "cifar-10-batches-py", files)
    before = fingerprint(roots)
    data = ready(CIFAR10(root=roots))
    assert data.train_images.shape == (15, 3, 32, 32)
    assert data.train_images[:, 0, 0, 0].tolist() == list(range(15))
    assert data.train_images[:, 1].unique().tolist() == [8]
    assert data.train_labels is not None
    assert data.train_labels.tolist()[:6] == [0, 8, 9, 1, 8, 9]
    assert data.test_images.shape == (3, 3, 32, 32)
    assert data.classes is not None
    assert data.classes[3] == "cat"
    assert fingerprint(roots) == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FAULTS = "(damaged|is not a file of|differs from).*Delete it"
DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.write_bytes(b""), FAULTS),
    (lambda path: path.write_bytes(path.read_bytes()[:-9]), FAULTS),
    (lambda path: path.write_bytes(path.read_bytes() + b"\0"), FAULTS),
    (flip, FAULTS),
    (lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
    (lambda path: (path.unlink(), path.symlink_to("gone")), "cannot be read: No such file"),
]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in SETS for name in kind.sums], ids=str
)
def test_any_damage_to_any_file_is_named_and_nothing_is_damaged_further(
    roots: Path, kind: type[MNIST], name: str, fingerprint: Fingerprint
) -> None:
    path = roots / kind.folder / name
    whole = path.read_bytes()
    for damage, words in DAMAGE:
        damage(path)
        before = fingerprint(roots)
        for data in (kind(root=roots), kind(root=roots, download=False)):
            with pytest.raises(DataError, match=rf"/{name}: .*{words}"):
                data.prepare_data()
        with pytest.raises(DataError, match=rf"/{name}: .*{words}"):
            kind(root=roots).setup("fit")  # without prepare_data too
        assert fingerprint(roots) == before
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(whole)


def test_fashion_mnist_beside_half_a_compressed_file_or_none(roots: Path) -> None:
    packed = roots / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"{packed.name} beside it is damaged .*delete that too"):
        FashionMNIST(root=roots).prepare_data()
    for path in packed.parent.glob("*.gz"):
        path.unlink()
    assert ready(FashionMNIST(root=roots)).num_train_images == 12
    path = packed.with_suffix("")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="is not a file of 3,920 unsigned bytes of shape"):
        FashionMNIST(root=roots).prepare_data()


# Downloads


@pytest.mark.parametrize("kind", SETS)
def test_offline_gives_one_message_with_the_choices(
    kind: type[MNIST],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        print("Downloading ...")
        print("0%|          |", file=sys.stderr)
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DataError) as caught:
        kind(root=tmp_path).prepare_data()
    told = str(caught.value)
    assert {str(tmp_path / kind.folder), *kind.sums} <= {*re.split(r":? |,|\n", told)}
    assert "Name or service not known" in told
    assert f"data.root=<folder that holds {kind.folder}>" in told
    assert caught.value.__suppress_context__  # no chain of torchvision's and urllib's traces
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def fake_download(
    patch: pytest.MonkeyPatch, files: dict[str, bytes], error: type[BaseException] | None = None
) -> None:
    def download(self: datasets.MNIST) -> None:
        originals.write(Path(self.raw_folder), files)
        if error is not None:
            raise error

    patch.setattr(datasets.MNIST, "download", download)


def test_download_brings_what_is_missing_and_keeps_what_is_there(
    roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_download(monkeypatch, originals.idx_files())
    raw = roots / "MNIST" / "raw"
    stamp = (raw / "train-images-idx3-ubyte").stat().st_mtime_ns
    (raw / "t10k-labels-idx1-ubyte").unlink()
    assert ready(MNIST(root=roots)).test_labels is not None
    assert (raw / "train-images-idx3-ubyte").stat().st_mtime_ns == stamp
    assert sorted(path.name for path in raw.iterdir()) == sorted(originals.idx_files())
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]
    assert ready(MNIST(root=tmp_path / "a" / "b")).num_train_images == 12  # the root is made


@pytest.mark.parametrize(
    ("seed", "error", "words"),
    [(0, KeyboardInterrupt, "^$"), (1, None, r"failed \(train-images-idx3-ubyte: damaged")],
)
def test_a_download_cut_off_or_of_something_else_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    error: type[BaseException] | None,
    words: str,
) -> None:
    originals.expect_mnist(monkeypatch, originals.idx_files(seed=0))
    fake_download(monkeypatch, originals.idx_files(seed), error)
    with pytest.raises(error or DataError, match=words):
        MNIST(root=tmp_path).prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_reason_given_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_download(monkeypatch, {"train-images-idx3-ubyte": bytes(200_000)})
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(DataError, match=r"download failed \(.*No space left on device"):
            MNIST(root=disk).prepare_data()
        assert list(disk.iterdir()) == []


def test_what_a_killed_download_left_is_no_data_and_goes_a_day_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    fake_download(monkeypatch, files)
    for name in (".MNIST-download.old.tmp", ".MNIST-download.new.tmp", ".download-of-another"):
        originals.write(tmp_path / name / "MNIST" / "raw", {"train-images-idx3-ubyte": b"half"})
        os.utime(tmp_path / name, None if "new" in name else (0, 0))
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=rf"{root}/MNIST/raw: .*data\.download=false"):
            MNIST(root=root, download=False).prepare_data()
    assert ready(MNIST(root=tmp_path)).num_train_images == 12
    names = [".MNIST-download.new.tmp", ".download-of-another", "MNIST"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_how_good_a_classifier_scores_need_and_whether_they_are_computed_unasked() -> None:
    facts = [(kind.min_accuracy, kind.scores_by_default) for kind in (*SETS, MNISTSample)]
    assert facts == [(0.99, True), (0.9, True), (0.7, False), (0.95, False)]
