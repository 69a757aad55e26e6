from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import originals
import pytest
import torch
from disks import read_only, small_disk, without_rights
from torchvision import datasets

from forger.data import CIFAR10, MNIST, FashionMNIST
from forger.errors import ConfigError, DataError

Fingerprint = Callable[[Path], dict[str, str]]


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a small MNIST, whose sums are the expected ones."""
    files = originals.idx_files()
    originals.write(tmp_path / "MNIST" / "raw", files)
    originals.expect_mnist(monkeypatch, files)
    return tmp_path


def ready(data: MNIST | CIFAR10) -> MNIST | CIFAR10:
    data.prepare_data()
    data.setup("fit")
    return data


def test_mnist_reads_the_official_splits_and_changes_nothing(
    mnist: Path, fingerprint: Fingerprint
) -> None:
    before = fingerprint(mnist)
    data = ready(MNIST(root=mnist))
    assert data.train_images.shape == (12, 1, 28, 28)
    assert data.train_images[:, 0, 0, 0].tolist() == list(range(12))
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.test_images[:, 0, 0, 0].tolist() == list(range(5))
    assert data.image_shape == (1, 28, 28)
    assert data.classes == tuple("0123456789")
    assert fingerprint(mnist) == before


def test_mnist_resizes(mnist: Path) -> None:
    data = ready(MNIST(root=mnist, image_size=32))
    assert data.train_images.shape == (12, 1, 32, 32)
    assert data.image_shape == (1, 32, 32)


@pytest.mark.parametrize("download", [True, False])
def test_a_damaged_file_is_named_and_left_alone(
    mnist: Path, fingerprint: Fingerprint, download: bool
) -> None:
    path = mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    before = fingerprint(mnist)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: damaged .*md5 .*Delete it"):
        MNIST(root=mnist, download=download).prepare_data()
    assert fingerprint(mnist) == before


def test_damage_is_found_without_prepare_data_too(mnist: Path) -> None:
    (mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: damaged"):
        MNIST(root=mnist).setup("fit")


def test_old_processed_files_are_not_taken_for_data(mnist: Path) -> None:
    """torchvision would prefer `processed/*.pt`, unverified, to the raw files."""
    folder = mnist / "MNIST" / "processed"
    folder.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3)), folder / name)
    assert ready(MNIST(root=mnist)).num_train_images == 12


def test_missing_without_download(tmp_path: Path) -> None:
    root = tmp_path / "absent"
    with pytest.raises(DataError, match=r"data\.download=false") as caught:
        MNIST(root=root, download=False).prepare_data()
    assert str(root / "MNIST/raw") in str(caught.value)
    assert not root.exists()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        print("Downloading ...")
        print("0%|          |", file=sys.stderr)
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, CIFAR10])
def test_offline_gives_one_message_with_the_choices(
    kind: type[MNIST], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as caught:
        kind(root=tmp_path).prepare_data()
    message = str(caught.value)
    for words in (
        str(tmp_path / kind.folder),
        kind.files[0],
        "Name or service not known",
        "data=mnist_sample",
        f"data.root=<folder that holds {kind.folder}>",
        "data=image_folder data.root=<your images>",
    ):
        assert words in message
    assert caught.value.__suppress_context__  # no chain of torchvision's and urllib's traces
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def fake_download(patch: pytest.MonkeyPatch, files: dict[str, bytes], cut: bool = False) -> None:
    def download(self: datasets.MNIST) -> None:
        originals.write(Path(self.raw_folder), dict(list(files.items())[: 2 if cut else None]))
        if cut:
            raise KeyboardInterrupt

    patch.setattr(datasets.MNIST, "download", download)


def test_download_brings_what_is_missing_and_keeps_what_is_there(
    mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_download(monkeypatch, originals.idx_files())
    raw = mnist / "MNIST" / "raw"
    kept, missing = raw / "train-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    stamp = kept.stat().st_mtime_ns
    missing.unlink()
    data = ready(MNIST(root=mnist))
    assert kept.stat().st_mtime_ns == stamp
    assert data.test_labels is not None
    assert sorted(path.name for path in mnist.rglob("*") if path.is_file()) == sorted(
        originals.idx_files()
    )


def test_download_makes_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    fake_download(monkeypatch, files)
    assert ready(MNIST(root=tmp_path / "a" / "b")).num_train_images == 12


def test_a_download_cut_off_leaves_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    fake_download(monkeypatch, files, cut=True)
    with pytest.raises(KeyboardInterrupt):
        MNIST(root=tmp_path).prepare_data()
    assert not (tmp_path / "MNIST").exists()


def test_a_download_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals.expect_mnist(monkeypatch, originals.idx_files(seed=0))
    fake_download(monkeypatch, originals.idx_files(seed=1))
    with pytest.raises(DataError, match=r"download failed \(train-images-idx3-ubyte: damaged"):
        MNIST(root=tmp_path).prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_a_root_without_permission(mnist: Path) -> None:
    (mnist / "MNIST").chmod(0)
    with (
        without_rights(mnist),
        pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be read: Permission"),
    ):
        MNIST(root=mnist).prepare_data()


def test_a_file_without_permission(mnist: Path) -> None:
    (mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte").chmod(0)
    with (
        without_rights(mnist),
        pytest.raises(DataError, match="t10k-images-idx3-ubyte: cannot be read: Permission"),
    ):
        MNIST(root=mnist).prepare_data()


def test_a_root_that_cannot_be_written_to_is_the_reason_given(tmp_path: Path) -> None:
    with (
        read_only(tmp_path / "disk") as disk,
        pytest.raises(DataError, match="Read-only file system"),
    ):
        MNIST(root=disk).prepare_data()


def test_whole_files_in_a_root_that_cannot_be_written_to(mnist: Path) -> None:
    with read_only(mnist):
        assert ready(MNIST(root=mnist)).num_train_images == 12


def test_a_full_disk_is_the_reason_given_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_download(monkeypatch, {"train-images-idx3-ubyte": bytes(200_000)})
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(DataError, match=r"download failed \(.*No space left on device"):
            MNIST(root=disk).prepare_data()
        assert list(disk.iterdir()) == []


def test_what_a_killed_download_leaves_is_no_data_and_goes_a_day_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from torchvision import datasets\n"
        "def download(self):\n"
        "    Path(self.raw_folder).mkdir(parents=True)\n"
        "    Path(self.raw_folder, 'train-images-idx3-ubyte').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "datasets.MNIST.download = download\n"
        "from forger.data import MNIST\n"
        "MNIST(root=sys.argv[1]).prepare_data()"
    )
    (tmp_path / ".download-of-another-program").mkdir()
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    (left,) = tmp_path.glob(".MNIST-download.*.tmp")
    os.utime(left, (0, 0))  # more than a day ago
    with pytest.raises(DataError, match=r"data\.download=false"):
        MNIST(root=tmp_path, download=False).prepare_data()
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    fake_download(monkeypatch, files)
    assert ready(MNIST(root=tmp_path)).num_train_images == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".download-of-another-program",
        "MNIST",
    ]


SETS: list[type[MNIST] | type[CIFAR10]] = [MNIST, FashionMNIST, CIFAR10]


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with small versions of all three sets."""
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    originals.write(tmp_path / "MNIST" / "raw", files)
    packed = originals.expect_fashion(monkeypatch, files)
    originals.write(tmp_path / "FashionMNIST" / "raw", files | packed)
    originals.write(tmp_path / "cifar-10-batches-py", originals.cifar_files(monkeypatch))
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


FAULTS = "damaged|is not a file of|bytes, not|differs from"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), FAULTS),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:-9]), FAULTS),
    "flipped": (flip, FAULTS),
    "folder": (put_folder, "is not a file"),
    "link": (put_link, "is a link to .*gone, which is not there"),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in SETS for name in kind.files], ids=str
)
@pytest.mark.parametrize("damage", DAMAGE)
def test_any_damage_to_any_file_is_named_and_nothing_is_damaged_further(
    roots: Path, kind: type[MNIST], name: str, damage: str, fingerprint: Fingerprint
) -> None:
    do, words = DAMAGE[damage]
    do(roots / kind.folder / name)
    before = fingerprint(roots)
    with pytest.raises(DataError, match=rf"/{name}: .*({words})"):
        ready(kind(root=roots))
    assert fingerprint(roots) == before


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small Fashion-MNIST without its compressed files."""
    files = originals.idx_files()
    originals.expect_fashion(monkeypatch, files)
    return originals.write(tmp_path / "FashionMNIST" / "raw", files)


def test_fashion_mnist_without_the_compressed_files(fashion: Path) -> None:
    data = ready(FashionMNIST(root=fashion.parents[1]))
    assert data.train_images.shape == (12, 1, 28, 28)
    assert data.classes is not None
    assert data.classes[0] == "T-shirt/top"


def test_fashion_mnist_with_the_compressed_files(
    fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals.write(fashion, originals.expect_fashion(monkeypatch, originals.idx_files()))
    assert ready(FashionMNIST(root=fashion.parents[1])).num_train_images == 12


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train-images-idx3-ubyte", lambda c: c[:-1], "has 9,423 bytes, not 9,424"),
        ("train-images-idx3-ubyte", lambda c: c[:3] + b"\x01" + c[4:], "not a file of unsigned"),
        ("t10k-labels-idx1-ubyte", lambda c: c + b"\x00", "has 14 bytes, not 13"),
        ("t10k-labels-idx1-ubyte", lambda c: b"", "not a file of unsigned"),
    ],
)
def test_fashion_mnist_damaged(
    fashion: Path, name: str, change: Callable[[bytes], bytes], words: str
) -> None:
    path = fashion / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"{name}: .*{words}.*Delete it"):
        FashionMNIST(root=fashion.parents[1]).prepare_data()


def test_fashion_mnist_differs_from_its_compressed_file(
    fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals.write(fashion, originals.expect_fashion(monkeypatch, originals.idx_files()))
    path = fashion / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: differs from .*\.gz"):
        FashionMNIST(root=fashion.parents[1]).prepare_data()


def test_fashion_mnist_half_a_compressed_file(
    fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = originals.expect_fashion(monkeypatch, originals.idx_files())
    name = "t10k-images-idx3-ubyte.gz"
    originals.write(fashion, {name: packed[name][:50]})
    with pytest.raises(DataError, match=rf"{name} beside it is damaged .*delete that too"):
        FashionMNIST(root=fashion.parents[1]).prepare_data()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    originals.write(tmp_path / "cifar-10-batches-py", originals.cifar_files(monkeypatch))
    return tmp_path


def test_cifar10_reads_the_official_splits_and_changes_nothing(
    cifar: Path, fingerprint: Fingerprint
) -> None:
    before = fingerprint(cifar)
    data = ready(CIFAR10(root=cifar))
    assert data.train_images.shape == (15, 3, 32, 32)
    assert data.train_images[:, 0, 0, 0].tolist() == list(range(15))
    assert data.train_images[:, 1].unique().tolist() == [8]
    assert data.train_images.is_contiguous()
    assert data.train_labels is not None
    assert data.train_labels.tolist()[:6] == [0, 8, 9, 1, 8, 9]
    assert data.test_images.shape == (3, 3, 32, 32)
    assert data.image_shape == (3, 32, 32)
    assert data.classes is not None
    assert data.classes[3] == "cat"
    assert fingerprint(cifar) == before


def test_cifar10_damaged(cifar: Path) -> None:
    path = cifar / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="data_batch_3: damaged or incomplete"):
        CIFAR10(root=cifar).prepare_data()


def test_cifar10_half_there(cifar: Path) -> None:
    (cifar / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 missing"):
        CIFAR10(root=cifar, download=False).prepare_data()


def test_pickles_of_an_old_numpy_are_read_without_a_warning(
    cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published files hold 0 where NumPy 2.4 wants False."""
    files = originals.cifar_files(monkeypatch, old_numpy=True)
    originals.write(cifar / "cifar-10-batches-py", files)
    assert ready(CIFAR10(root=cifar)).num_train_images == 15


def test_download_must_be_a_bool(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.download='no'"):
        MNIST(root=tmp_path, download="no")  # type: ignore[arg-type]


def test_real_mnist(real_data: Path) -> None:
    data = ready(MNIST(root=real_data))
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert data.train_labels is not None
    assert np.bincount(data.train_labels.numpy())[:2].tolist() == [5923, 6742]


def test_how_good_a_classifier_scores_need_and_whether_they_are_computed_unasked() -> None:
    facts = {kind: (kind.min_accuracy, kind.scores_by_default) for kind in (MNIST, FashionMNIST)}
    assert facts == {MNIST: (0.99, True), FashionMNIST: (0.9, True)}
    assert (CIFAR10.min_accuracy, CIFAR10.scores_by_default) == (0.7, False)
