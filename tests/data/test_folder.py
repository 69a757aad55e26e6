from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disks import read_only, small_disk, without_rights
from PIL import Image

from forger.data import ImageFolder, decoders, decoding, folder_cache
from forger.data import decode as decode_module
from forger.data.decode import decode
from forger.errors import ConfigError, DataError


def put(path: Path, value: int = 100, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def make(tmp_path: Path, root: Path) -> Callable[..., ImageFolder]:
    def build(**changes: Any) -> ImageFolder:
        settings = {"root": root, "cache_dir": tmp_path / "cache", "image_size": 8, "channels": 1}
        data = ImageFolder(**{**settings, **changes})
        data.prepare_data()
        data.setup("fit")
        return data

    return build


Make = Callable[..., ImageFolder]


def firsts(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_train_and_test_folders_are_the_splits(make: Make, root: Path) -> None:
    for value, name in enumerate(["train/b/2.png", "train/a/1.png", "train/a/x/3.PNG"]):
        put(root / name, value, size=(20, 10 + value))
    put(root / "test/b/9.png", 9)
    put(root / "val/a/7.png", 7)
    data = make()
    assert data.classes == ("a", "b")
    assert data.image_shape == (1, 8, 8)
    assert firsts(data.train_images) == [1, 2, 0]
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 0, 1]
    assert firsts(data.test_images) == [9]
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [1]


def test_a_flat_folder_has_no_classes_and_a_part_is_held_out(make: Make, root: Path) -> None:
    for value in range(20):
        put(root / f"{value:02}.png", value)
    data = make(test_fraction=0.2)
    assert data.classes is None
    assert data.train_labels is None
    assert data.num_train_images == 16
    assert sorted(firsts(data.train_images) + firsts(data.test_images)) == list(range(20))
    assert firsts(make(test_fraction=0.2, seed=1).test_images) == firsts(data.test_images)


def test_part_of_train_is_held_out_where_there_is_no_test(make: Make, root: Path) -> None:
    for value in range(10):
        put(root / "train" / "ab"[value % 2] / f"{value}.png", value)
    data = make()
    assert data.num_train_images == 9
    assert data.test_images.shape == (1, 1, 8, 8)
    assert data.classes == ("a", "b")


def test_a_new_image_moves_hardly_any_other(make: Make, root: Path) -> None:
    for value in range(100):
        put(root / f"{value}.png", value)
    before = set(firsts(make().test_images))
    put(root / "new.png", 200)
    assert len(before - set(firsts(make().test_images))) <= 1


def test_nothing_held_out_is_said_when_scores_ask_for_it(make: Make, root: Path) -> None:
    put(root / "a.png")
    data = make(test_fraction=0.0)
    assert data.num_train_images == 1
    with pytest.raises(DataError, match=r"has no test images; .*data\.test_fraction=0\.1"):
        _ = data.test_images
    with pytest.raises(DataError, match="would hold out all of the 1 images"):
        make()


def test_hidden_and_other_files_are_skipped(make: Make, root: Path) -> None:
    put(root / "a.png", 1)
    put(root / "b.JPEG", 2)
    for name in (".c.png", ".git/d.png", "__MACOSX/e.png"):
        put(root / name)
    (root / "notes.txt").write_text("no image")
    (root / "empty").mkdir()
    data = make(test_fraction=0.0)
    assert data.num_train_images == 2
    assert data.classes is None


def test_colour(make: Make, root: Path) -> None:
    put(root / "a.png", 5)
    assert make(channels=3, test_fraction=0.0).train_images.shape == (1, 3, 8, 8)


def test_later_runs_use_the_cache(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in range(3):
        put(root / f"{value}.png", value)
    first = make(test_fraction=0.0)
    monkeypatch.setattr(decoders, "decode_all", None)
    again = make(test_fraction=0.0)
    assert torch.equal(first.train_images, again.train_images)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


@pytest.mark.parametrize(
    "change", ["pixels", "time", "name", "more", "size", "channels", "root", "range"]
)
def test_any_change_builds_another_cache(
    make: Make, root: Path, tmp_path: Path, change: str
) -> None:
    path = put(root / "a.png", 1)
    make(test_fraction=0.0)
    settings: dict[str, Any] = {}
    if change == "pixels":
        put(path, 2, size=(30, 40))
    elif change == "time":
        os.utime(path, ns=(0, 0))
    elif change == "name":
        path.rename(root / "b.png")
    elif change == "more":
        put(root / "b.png", 1)
    elif change == "root":
        settings = {"root": root.rename(tmp_path / "moved")}
    else:
        changed = {"size": {"image_size": 9}, "channels": {"channels": 3}}
        settings = changed.get(change, {"value_range": (0, 255)})
    make(test_fraction=0.0, **settings)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_nothing_is_written_into_the_root(
    make: Make, root: Path, fingerprint: Callable[[Path], dict[str, str]]
) -> None:
    for value in range(3):
        put(root / f"{value}.png", value)
    before = fingerprint(root)
    assert make().test_images is not None
    assert fingerprint(root) == before


def test_a_build_cut_off_leaves_no_cache(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "a.png")

    def cut(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoders, "decode_all", cut)
    with pytest.raises(KeyboardInterrupt):
        make(test_fraction=0.0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_half_a_file_of_a_killed_build_is_not_taken_for_the_cache(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process cannot clean up: what it leaves must have another name."""
    put(root / "a.png", 3)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with monkeypatch.context() as patch:
        patch.setattr(decoders, "decode_all", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(test_fraction=0.0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".tmp"]
    assert firsts(make(test_fraction=0.0).train_images) == [3]


def test_two_builds_at_once_both_finish(make: Make, root: Path, tmp_path: Path) -> None:
    for value in range(50):
        put(root / f"{value:02}.png", value)
    found: list[list[int]] = []
    barrier = threading.Barrier(2)

    def build() -> None:
        barrier.wait()
        found.append(firsts(make(test_fraction=0.0).train_images))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(50))] * 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_order_holds_over_many_tasks_and_threads(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_TASK", 3)
    monkeypatch.setattr(decoding, "_AHEAD", 2)
    monkeypatch.setattr(decoding, "_TINY", 0)
    monkeypatch.setattr(decoding, "_PATIENCE", 0)  # with the progress bar
    for value in range(20):
        put(root / f"{value:02}.png", value)
    assert firsts(make(test_fraction=0.0).train_images) == list(range(20))


def test_unreadable_images_are_named(make: Make, root: Path, tmp_path: Path) -> None:
    put(root / "good.png")
    for index in range(6):
        (root / f"bad{index}.png").write_bytes(b"no image")
    cut = put(root / "cut.jpg", size=(64, 64))
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(DataError, match="7 of 8 images cannot be read") as caught:
        make(test_fraction=0.0)
    message = str(caught.value)
    assert str(root / "bad0.png") in message
    assert message.endswith("and 2 more")
    (listed,) = (tmp_path / "cache").iterdir()
    assert str(listed) in message
    lines = listed.read_text().splitlines()
    assert [line.partition("\t")[0] for line in lines] == sorted(
        str(path) for path in root.iterdir() if path.name != "good.png"
    )
    assert lines[0].endswith("\tnot an image, or its beginning is damaged")


def test_a_cut_photo_is_unreadable(make: Make, root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    root.mkdir()
    path = root / "cut.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"cut\.jpg: .*truncated"):
        make(test_fraction=0.0)


def test_a_link_to_nowhere_is_named(make: Make, root: Path) -> None:
    root.mkdir()
    (root / "a.png").symlink_to(root / "gone.png")
    with pytest.raises(DataError, match=r"a\.png cannot be read: No such file"):
        make(test_fraction=0.0)


def test_root_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root: .*as in data\.root=path/to/images"):
        ImageFolder(cache_dir=tmp_path)


def test_missing_empty_and_wrong_folders(make: Make, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        make()
    root.mkdir()
    with pytest.raises(DataError, match=r"holds no images; there is nothing in it"):
        make()
    with pytest.raises(DataError, match="is a file"):
        make(root=put(tmp_path / "one.png"))


@pytest.mark.parametrize("closed", ["images", "images/cats", "images/cats/a.png"])
def test_no_permission(make: Make, root: Path, tmp_path: Path, closed: str) -> None:
    put(root / "cats" / "a.png")
    put(root / "dogs" / "a.png")
    (tmp_path / "cache").mkdir(mode=0o777)
    (tmp_path / "cache").chmod(0o777)
    (tmp_path / closed).chmod(0)
    with (
        without_rights(tmp_path),
        pytest.raises(DataError, match=rf"data\.root: (.|\n)*{closed}.*: Permission denied"),
    ):
        make(test_fraction=0.0)


def test_a_file_vanishes_after_it_was_listed(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root / "a.png")
    put(root / "b.png")
    found = folder_cache._key

    def key(*arguments: Any) -> str:
        try:
            return found(*arguments)
        finally:
            path.unlink(missing_ok=True)

    monkeypatch.setattr(folder_cache, "_key", key)
    with pytest.raises(DataError, match=r"1 of 2 images.*\n.*a\.png: No such file"):
        make(test_fraction=0.0)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_a_file_changes_while_it_is_decoded(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root / "a.png", 1)

    def decode_then_change(*arguments: Any, **more: Any) -> Any:
        image = decode(*arguments, **more)
        put(path, 2)
        return image

    monkeypatch.setattr(decode_module, "decode", decode_then_change)
    with pytest.raises(
        DataError, match=r"data\.root: images in .* changed while they were decoded"
    ):
        make(test_fraction=0.0)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("link", "target"),
    [("cats/again", "cats"), ("again", "."), ("cats/again", "dogs/other"), ("up", "..")],
)
def test_a_link_in_a_circle_is_named(make: Make, root: Path, link: str, target: str) -> None:
    """Its images would be listed some forty times."""
    put(root / "cats" / "a.png")
    put(root / "dogs" / "a.png")
    (root / "dogs" / "other").symlink_to(root / "cats")
    (root / link).symlink_to(root / target)
    with pytest.raises(DataError, match=r"data\.root=.*: .* is a link to a folder around it"):
        make()


def test_links_to_folders_elsewhere_are_followed(make: Make, root: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "a.png", 3)
    root.mkdir()
    (root / "cats").symlink_to(tmp_path / "elsewhere")
    (root / "dogs").symlink_to(tmp_path / "elsewhere")
    assert firsts(make(test_fraction=0.0).train_images) == [3, 3]


def test_a_pipe_is_not_waited_for(make: Make, root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "a.png")
    with pytest.raises(DataError, match=r"a\.png is not a file"):
        make(test_fraction=0.0)


def test_an_empty_file_and_a_folder_named_as_an_image(make: Make, root: Path) -> None:
    put(root / "a.png", 7)
    (root / "folder.png").mkdir()
    assert firsts(make(test_fraction=0.0).train_images) == [7]
    (root / "empty.png").touch()
    with pytest.raises(DataError, match=r"1 of 2 .*\n.*empty\.png: not an image"):
        make(test_fraction=0.0)


def test_only_hidden_files_are_no_images(make: Make, root: Path) -> None:
    put(root / ".a.png")
    put(root / ".git" / "a.png")
    with pytest.raises(DataError, match=r"holds no images .*; it has 2 hidden"):
        make()


def test_large_images_are_read_and_too_large_ones_named(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns above a number of pixels, without the file's name, and refuses twice of it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    put(root / "a.png", 3, size=(40, 40))
    assert firsts(make(test_fraction=0.0).train_images) == [3]
    put(root / "b.png", 3, size=(50, 50))
    with pytest.raises(DataError, match=r"1 of 2 .*\n.*b\.png: Image size \(2500 pixels\)"):
        make(test_fraction=0.0)


@pytest.mark.parametrize("kind", ["png", "jpg", "ppm", "bmp", "webp", "tiff"])
def test_half_an_image_of_any_format_is_named(make: Make, root: Path, kind: str) -> None:
    root.mkdir()
    path = root / f"half.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"1 of 1 images cannot be read.*\n.*half\.{kind}: "):
        make(test_fraction=0.0)


# The cache


def cached(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache").iterdir()
    return path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # a pixel
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"0"),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: np.save(path, np.zeros((3, 1, 8, 8), dtype=np.uint8)),
        flip,
    ],
)
def test_a_damaged_cache_is_told_and_made_again(
    make: Make,
    root: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for value in range(3):
        put(root / f"{value}.png", value)
    make(test_fraction=0.0)
    path = cached(tmp_path)
    before = path.read_bytes()
    images = np.load(path)
    damage(path)
    assert path.read_bytes() != before
    assert firsts(make(test_fraction=0.0).train_images) == [0, 1, 2]
    assert f"{path} is damaged (" in caplog.text
    assert np.array_equal(np.load(cached(tmp_path)), images)


def test_a_cache_of_another_version_is_not_used(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "a.png")
    make(test_fraction=0.0)
    monkeypatch.setattr(folder_cache, "_VERSION", folder_cache._VERSION + 1)
    make(test_fraction=0.0)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_images_outlive_their_cache(make: Make, root: Path, tmp_path: Path) -> None:
    """Deleting it in mid-run ends no run: the mapping keeps the file's contents."""
    for value in range(4):
        put(root / f"{value}.png", value)
    data = make(test_fraction=0.0, batch_size=2)
    loader = iter(data.train_dataloader())
    seen = [next(loader)]
    cached(tmp_path).unlink()
    seen += list(loader)
    assert sorted(int(image[0, 0, 0]) for (part,) in seen for image in part.images) == [0, 1, 2, 3]


def test_a_cache_that_is_a_file(make: Make, root: Path, tmp_path: Path) -> None:
    put(root / "a.png")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"paths\.cache_dir: .*cannot take the decoded images"):
        make(test_fraction=0.0)


def test_a_read_only_cache_is_used_and_not_built(make: Make, root: Path, tmp_path: Path) -> None:
    put(root / "a.png", 5)
    with read_only(tmp_path / "cache"), pytest.raises(DataError, match="Read-only file system"):
        make(test_fraction=0.0)
    make(test_fraction=0.0)
    with read_only(tmp_path / "cache"):
        assert firsts(make(test_fraction=0.0).train_images) == [5]


def test_a_cache_without_permission(make: Make, root: Path, tmp_path: Path) -> None:
    put(root / "a.png")
    make(test_fraction=0.0)
    cached(tmp_path).chmod(0)
    with (
        without_rights(root),
        pytest.raises(DataError, match=r"paths\.cache_dir: .*\.npy cannot be read: Permission"),
    ):
        make(test_fraction=0.0)


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_is_told_and_left_as_it_was(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A quota is a limit that is not known before."""
    put(root / "a.png")
    if not known:
        monkeypatch.setattr(folder_cache, "_check_room", lambda *_: None)
    with small_disk(tmp_path / "cache", kilobytes=64) as disk:
        words = r"they need 90,000 bytes, and 65,536 are free" if known else "No space left"
        with pytest.raises(DataError, match=rf"paths\.cache_dir: .*decoded images: {words}"):
            make(test_fraction=0.0, image_size=300)
        assert list(disk.iterdir()) == []


def test_images_beside_class_folders_are_ambiguous(make: Make, root: Path) -> None:
    put(root / "a.png")
    put(root / "cats" / "b.png")
    with pytest.raises(DataError, match=r"directly \(1, such as a\.png\) and .*cats/b\.png"):
        make()


def test_test_classes_must_be_among_those_of_train(make: Make, root: Path) -> None:
    put(root / "train/cats/a.png")
    put(root / "train/dogs/a.png")
    put(root / "test/cats/b.png")
    assert make().classes == ("cats", "dogs")
    put(root / "test/cows/b.png")
    with pytest.raises(DataError, match="the test images have the class 'cows'"):
        make()


def test_test_images_without_class_folders_have_no_labels(make: Make, root: Path) -> None:
    put(root / "train/cats/a.png")
    put(root / "train/dogs/a.png")
    put(root / "test/b.png")
    data = make()
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 1]
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
    assert make(root=root / "train").describe() == [
        "1 test images (held out of them: data.test_fraction)",
        "2 classes: cats, dogs",
        "left out: 1 .heic",
    ]


def test_unreadable_images_are_skipped_where_it_is_wanted(
    make: Make, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, name in enumerate(["train/a/0", "train/a/1", "train/b/2", "test/a/3", "test/b/4"]):
        put(root / f"{name}.png", value)
    for name in ("train/a/bad.png", "train/b/worse.png", "test/a/bad.png"):
        (root / name).write_bytes(b"no image")
    for _ in range(2):
        data = make(skip_unreadable=True)
        assert firsts(data.train_images) == [0, 1, 2]
        assert data.num_train_images == 3
        assert data.train_labels is not None
        assert data.train_labels.tolist() == [0, 0, 1]
        assert firsts(data.test_images) == [3, 4]
        assert data.test_labels is not None
        assert data.test_labels.tolist() == [0, 1]
        (listed,) = (tmp_path / "cache").glob("*.unreadable.txt")
        assert data.describe()[-1] == f"left out: 3 unreadable, named in {listed}"
        # The second time nothing but what could not be read is tried again.
        monkeypatch.setattr(folder_cache, "_build", None)
    with pytest.raises(DataError, match=r"3 of 8 images .*data\.skip_unreadable=true"):
        make()
    put(root / "train/a/bad.png", 9)
    monkeypatch.undo()
    assert firsts(make(skip_unreadable=True).train_images) == [0, 1, 9, 2]


def test_nothing_but_unreadable_images_is_an_error(make: Make, root: Path) -> None:
    root.mkdir()
    (root / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 of 1 images cannot be read"):
        make(skip_unreadable=True, test_fraction=0.0)


def test_what_is_wrong_with_every_image_is_told_at_once(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_cache, "_MANY", 10)
    monkeypatch.setattr(folder_cache, "decoded", None)
    root.mkdir()
    for value in range(20):
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(root / f"{value}.tiff")
    with pytest.raises(DataError, match=r"none of 20 images .*(\n.*value_range.*){5}$"):
        make()


def test_16_bit_images_that_use_little_of_it_are_not_trained_on_black(
    make: Make, root: Path
) -> None:
    root.mkdir()
    Image.fromarray(np.array([[0, 4000]] * 2, np.uint16)).save(root / "a.png")
    with pytest.raises(DataError, match=r"above 4000 .*data\.value_range=\[0,4095\] where"):
        make(test_fraction=0.0)
    settings: dict[str, Any] = {"test_fraction": 0.0, "image_size": 2}
    bright = make(value_range=(0, 4000), **settings).train_images
    assert bright[0, 0, 0].tolist() == [0, 255]
    assert make(value_range=[0, 65535], **settings).train_images.max() == 16


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 2}, r"data\.channels=2: must be 1 \(grey\) or 3 \(colour\)"),
        ({"test_fraction": 1.0}, r"data\.test_fraction=1\.0"),
        ({"image_size": 0}, r"data\.image_size=0"),
        ({"image_size": None}, r"data\.image_size=None"),
        ({"skip_unreadable": "yes"}, r"data\.skip_unreadable='yes'"),
        ({"value_range": [1, 1]}, r"data\.value_range=\[1, 1\]: must be two numbers"),
        ({"value_range": [0, 1, 2]}, r"data\.value_range=\[0, 1, 2\]: must be two numbers"),
        ({"value_range": [0, float("nan")]}, r"data\.value_range=.*must be two numbers"),
    ],
)
def test_wrong_settings_are_named(make: Make, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**settings)
