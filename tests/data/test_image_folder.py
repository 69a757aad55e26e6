from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from disks import read_only, small_disk, without_rights
from PIL import Image

from forger import image_files
from forger.data import ImageFolder, folder_cache
from forger.data.folder_cache import FolderCache
from forger.errors import ConfigError, DataError
from forger.image_files import ImageFormat

Make = Callable[..., ImageFolder]


def put(path: Path, value: int = 100, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make(root: Path, cache: Path) -> Make:
    def build(**changes: Any) -> ImageFolder:
        settings = {"root": root, "cache_dir": cache, "image_size": 8, "channels": 1}
        data = ImageFolder(**{**settings, "test_fraction": 0.0, **changes})
        data.prepare_data()
        data.setup("fit")
        return data

    return build


def firsts(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def labels(found: torch.Tensor | None) -> list[int]:
    assert found is not None
    return found.tolist()


def test_train_and_test_folders_are_the_splits(make: Make, root: Path) -> None:
    for value, name in enumerate(["train/b/2.png", "train/a/1.png", "train/a/x/3.PNG"]):
        put(root / name, value, size=(20, 10 + value))
    put(root / "test/b/9.png", 9)
    put(root / "val/a/7.png", 7)
    data = make(channels=3)
    assert data.classes == ("a", "b")
    assert data.image_shape == (3, 8, 8)
    assert firsts(data.train_images) == [1, 2, 0]
    assert firsts(data.test_images) == [9]
    assert (labels(data.train_labels), labels(data.test_labels)) == ([0, 0, 1], [1])


@pytest.mark.parametrize("folder", ["", "train"])
def test_a_part_is_held_out_where_there_is_no_test_folder(
    make: Make, root: Path, folder: str
) -> None:
    for value in range(20):
        put(root / folder / f"{value:02}.png", value)
    data = make(test_fraction=0.2)
    assert data.classes is data.train_labels is None
    assert data.num_train_images == 16
    assert sorted(firsts(data.train_images) + firsts(data.test_images)) == list(range(20))
    held_out = firsts(data.test_images)
    assert held_out == [2, 3, 4, 6] or folder  # in every version, by the hash of the names
    assert firsts(make(test_fraction=0.2, seed=1).test_images) == held_out
    put(root / folder / "new.png", 200)  # moves hardly any other
    assert len({*held_out} - {*firsts(make(test_fraction=0.2).test_images)}) <= 1


def test_images_are_decoded_once_and_again_where_the_cache_is_damaged(
    make: Make,
    root: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fingerprint: Callable[[Path], dict[str, str]],
) -> None:
    for value in range(3):
        put(root / f"{value}.png", value)
    before = fingerprint(root)
    make()
    with monkeypatch.context() as patch:
        patch.setattr(FolderCache, "_build", None)
        assert firsts(make().train_images) == [0, 1, 2]
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]
    (path,) = cache.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert firsts(make().train_images) == [0, 1, 2]
    assert f"{path} is damaged (its checksum is wrong)" in caplog.text
    assert np.load(path).max() == 2
    assert fingerprint(root) == before  # nothing is written there


CHANGES: list[Any] = [
    lambda path: put(path, 2, size=(30, 40)),
    lambda path: os.utime(path, ns=(0, 0)),
    lambda path: path.rename(path.with_name("b.png")),
    lambda path: put(path.with_name("b.png"), 1),
    *({"image_size": 9}, {"channels": 3}, {"value_range": (0, 255)}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_builds_another_cache(make: Make, root: Path, cache: Path, change: Any) -> None:
    path = put(root / "a.png", 1)
    make()
    if callable(change):
        change(path)
    make(**({} if callable(change) else change))
    assert len(list(cache.glob("*.npy"))) == 2


def test_two_at_once_build_one_cache(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{value:02}.png" for value in range(40)]
    for value, name in enumerate(names):
        put(root / name, value)
    both, build = Barrier(2, timeout=60), FolderCache._build
    monkeypatch.setattr(FolderCache, "_build", lambda *args: (both.wait(), build(*args))[1])
    two = [FolderCache(root, names, cache, ImageFormat(1, 8, None)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for images, _ in pool.map(FolderCache.load_or_build, two):
            assert firsts(images) == list(range(40))
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]


def test_what_a_killed_decoding_left_is_removed_a_day_later(
    make: Make, root: Path, cache: Path
) -> None:
    put(root / "a.png", 1)
    cache.mkdir()
    begun, old = (cache / f".images-8px-1ch-0.npy.{name}.tmp" for name in ("new", "old"))
    for path in (begun, old):
        path.touch()
    os.utime(old, (0, 0))
    assert firsts(make().train_images) == [1]
    assert list(cache.glob(".*")) == [begun]


@pytest.mark.parametrize("many", [1000, 10])  # beyond it processes decode, else threads
def test_images_keep_their_order_over_many_blocks(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(folder_cache, "_MANY", many)
    monkeypatch.setattr(folder_cache, "_BLOCK", 3)
    monkeypatch.setattr(folder_cache, "_BLOCK_BYTES", 1)
    for value in range(20):
        put(root / f"{value:02}.png", value)
    (root / "05a.png").write_bytes(b"no image")
    assert firsts(make(skip_unreadable=True).train_images) == list(range(20))


def test_a_killed_process_that_decoded_is_told(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_cache, "_MANY", 1)
    monkeypatch.setattr(folder_cache, "try_decode", killed)
    put(root / "a.png")
    with pytest.raises(DataError, match="a process that decoded images was killed"):
        make()


def killed(path: str, target: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_16_bit_images_that_use_little_of_it_are_not_trained_on_black(
    make: Make, root: Path
) -> None:
    root.mkdir()
    Image.fromarray(np.array([[0, 4000]] * 2, np.uint16)).save(root / "a.png")
    with pytest.raises(DataError, match=r"above 4000 .*data\.value_range=\[0,4095\] where"):
        make()
    assert make(value_range=[0, 65535], image_size=2).train_images.max() == 16
    Image.fromarray(np.array([[0, 65535]] * 2, np.uint16)).save(root / "b.png")
    assert make(image_size=2).train_images.max() == 255  # a dark one among bright ones


# What is wrong with images


def test_unreadable_images_are_named(make: Make, root: Path, cache: Path) -> None:
    put(root / "good.png")
    for index in range(6):
        (root / f"bad{index}.png").write_bytes(b"no image")
    (root / "empty.png").touch()
    with pytest.raises(DataError, match="7 of 8 images cannot be read") as caught:
        make()
    message = str(caught.value)
    assert str(root / "bad0.png") in message
    assert message.endswith("and 2 more")
    (listed,) = cache.iterdir()
    assert str(listed) in message
    lines = listed.read_text().splitlines()
    bad = sorted(str(path) for path in root.iterdir() if path.name != "good.png")
    assert [line.partition("\t")[0] for line in lines] == bad
    assert lines[0].endswith("\tnot an image, or its beginning is damaged")


@pytest.mark.parametrize("kind", ["png", "jpg", "ppm", "bmp", "webp", "tiff"])
def test_half_an_image_of_any_format_is_named(make: Make, root: Path, kind: str) -> None:
    root.mkdir()
    path = root / f"half.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"1 of 1 images cannot be read.*\n.*half\.{kind}: "):
        make(skip_unreadable=True)  # nothing would be left


def test_unreadable_images_are_skipped_where_it_is_wanted(
    make: Make, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, name in enumerate(["train/a/0", "train/a/1", "train/b/2", "test/a/3", "test/b/4"]):
        put(root / f"{name}.png", value)
    for name in ("train/a/bad.png", "train/b/worse.png", "test/a/bad.png"):
        (root / name).write_bytes(b"no image")
    for _ in range(2):
        data = make(skip_unreadable=True)
        assert firsts(data.train_images) == [0, 1, 2]
        assert firsts(data.test_images) == [3, 4]
        assert (labels(data.train_labels), labels(data.test_labels)) == ([0, 0, 1], [0, 1])
        (listed,) = cache.glob("*.unreadable.txt")
        assert data.describe()[-1] == f"left out: 3 unreadable, named in {listed}"
        monkeypatch.setattr(FolderCache, "_build", None)  # the second time nothing is decoded
    with pytest.raises(DataError, match=r"3 of 8 images .*data\.skip_unreadable=true"):
        make()
    monkeypatch.undo()
    with monkeypatch.context() as patch:  # what was wrong may lie elsewhere
        patch.setattr(image_files, "decode", lambda *_: np.full((1, 8, 8), 9, np.uint8))
        assert firsts(make().train_images) == [9] * 5
    assert not listed.exists()
    put(root / "train/a/bad.png", 9)
    assert firsts(make(skip_unreadable=True).train_images) == [0, 1, 9, 2]


def test_links_are_followed_unless_they_lead_nowhere_or_in_a_circle(
    make: Make, root: Path, tmp_path: Path
) -> None:
    put(tmp_path / "elsewhere" / "a.png", 3)
    root.mkdir()
    for name in ("cats", "dogs"):
        (root / name).symlink_to(tmp_path / "elsewhere")
    assert firsts(make().train_images) == [3, 3]
    link = root / "cats" / "b.png"
    for target, words in (("gone.png", "cannot be read: No such"), (".", "is a link to a fol")):
        link.symlink_to(root / target)
        with pytest.raises(DataError, match=rf"b\.png {words}"):
            make()
        link.unlink()
    os.mkfifo(link)  # is not waited for
    with pytest.raises(DataError, match=r"b\.png is not a file"):
        make()


@pytest.mark.parametrize("change", ["vanishes", "changes"])
def test_a_file_changes_after_it_was_listed(
    make: Make, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = put(root / "a.png", 1)
    put(root / "b.png")
    decode = image_files.decode

    def change_and_decode(*arguments: Any) -> Any:
        path.unlink(missing_ok=True) if change == "vanishes" else put(path, 2, size=(30, 40))
        return decode(*arguments)

    monkeypatch.setattr(image_files, "decode", change_and_decode)
    words = r"1 of 2 images.*\n.*a\.png: No such file|images in .* changed while they were decoded"
    with pytest.raises(DataError, match=words):
        make()
    assert not list(cache.glob("*.npy"))


# Folders that cannot be read or written


def test_missing_empty_and_wrong_folders(make: Make, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=.*there is none"):
        make()
    root.mkdir()
    with pytest.raises(DataError, match=r"holds no images.*it has nothing"):
        make()
    with pytest.raises(DataError, match="is a file"):
        make(root=put(tmp_path / "one.png"))
    put(root / "a.png")
    with pytest.raises(DataError, match=r"has no test images; .*data\.test_fraction=0\.1"):
        _ = make().test_images
    with pytest.raises(DataError, match="would hold out all of the 1 images"):
        make(test_fraction=0.1)


@pytest.mark.parametrize("closed", ["images", "images/cats", "images/cats/a.png"])
def test_no_permission(make: Make, root: Path, cache: Path, tmp_path: Path, closed: str) -> None:
    put(root / "cats" / "a.png")
    put(root / "dogs" / "a.png")
    cache.mkdir()
    cache.chmod(0o777)
    (tmp_path / closed).chmod(0)
    with (
        without_rights(tmp_path),
        pytest.raises(DataError, match=rf"data\.root: (.|\n)*{closed}.*: Permission denied"),
    ):
        make()


def test_a_cache_that_cannot_be_written_or_read(make: Make, root: Path, cache: Path) -> None:
    put(root / "a.png", 5)
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"paths\.cache_dir: .*cannot be read or written"):
        make()
    cache.unlink()
    with read_only(cache), pytest.raises(DataError, match="Read-only file system"):
        make()
    make()
    with read_only(cache):
        assert firsts(make().train_images) == [5]
    (path,) = cache.glob("*.npy")
    path.chmod(0)
    with (
        without_rights(root),
        pytest.raises(DataError, match=r"paths\.cache_dir: .*\.npy cannot be read .*: Permission"),
    ):
        make()


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_is_told_and_left_as_it_was(
    make: Make, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A quota is a limit that is not known before."""
    put(root / "a.png")
    if not known:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with small_disk(cache, kilobytes=64) as disk:
        words = r"need 90,000 bytes, and 65,536 are free" if known else "No space left"
        with pytest.raises(DataError, match=rf"paths\.cache_dir: .*{words}"):
            make(image_size=300)
        assert list(disk.iterdir()) == []


# Classes, the plan, and settings


def test_classes_are_all_the_images_of_a_split_or_none_and_known_to_both(
    make: Make, root: Path
) -> None:
    put(root / "train/cats/a.png")
    put(root / "train/dogs/a.png")
    put(root / "test/cats/b.png")
    assert make().classes == ("cats", "dogs")
    put(root / "train/dogs.png")
    with pytest.raises(DataError, match=r"directly \(1, such as dogs\.png\) and .*cats/"):
        make()
    (root / "train/dogs.png").unlink()
    put(root / "test/cows/b.png")
    with pytest.raises(DataError, match="the test images have the class 'cows'"):
        make()
    data = make(train_folder="train", test_folder="test/cows")
    assert labels(data.train_labels) == [0, 1]
    assert data.test_labels is None


def test_the_plan_names_classes_splits_and_what_is_left_out(make: Make, root: Path) -> None:
    for name in ("train/cats/a", "train/dogs/a", "train/dogs/b", "Test/dogs/c", "val/x"):
        put(root / f"{name}.png")
    (root / "train/cats/a.heic").touch()
    assert make().describe() == [
        "1 test images (Test/)",
        "2 classes: cats, dogs",
        "left out: 1 images in val/, 1 .heic",
    ]
    held_out = make(root=root / "train", test_fraction=0.1).describe()[0]
    assert held_out == "1 test images (held out of them: data.test_fraction)"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("root", None, "needs the folder of your images, as in data.root=path"),
        ("test_fraction", 1.0, "must be"),
        ("image_size", None, "must be"),
        ("value_range", [1, 1], "must be two numbers"),
        ("value_range", [0, float("nan")], "must be two numbers"),
    ],
)
def test_wrong_settings_are_named(make: Make, name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{name}.*{words}"):
        make(**{name: value})
