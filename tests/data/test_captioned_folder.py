"""Captions of a folder's images, by the conventions that are in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from forger.data import CaptionedFolder
from forger.data.loaders import drawn_captions
from forger.errors import DataError

NAMES = [f"{number:04d}.png" for number in range(6)]


def images(folder: Path, names: list[str] | None = None) -> Path:
    for name in names or NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (int(Path(name).stem[:4]) * 20, 0, 0)).save(folder / name)
    return folder


def data(folder: Path, **settings: object) -> CaptionedFolder:
    cache = folder.with_name("cache")
    given = {"image_size": 8, "batch_size": 2, "test_fraction": 0.2, **settings}
    return CaptionedFolder(root=folder, cache_dir=cache, **given)


def captions_by_image(found: CaptionedFolder) -> dict[int, list[str]]:
    """The captions of each image, which its red tells."""
    pairs = {}
    for split in ("train", "test"):
        members = found._split(split)
        for image, numbers in zip(members["image"], members["caption"], strict=True):
            texts = [found.captions.texts[n] for n in numbers.tolist() if n >= 0]
            pairs[int(image[0, 0, 0]) // 20] = texts
    return pairs


EXPECTED = {number: [f"picture {number}"] for number in range(6)} | {2: ["a", "b"]}


def test_rows_of_json_with_one_caption_or_a_list(tmp_path: Path) -> None:
    folder = images(tmp_path / "images")
    rows = [{"file_name": n, "text": EXPECTED[i][0]} for i, n in enumerate(NAMES)]
    rows[2]["text"] = ["a", "b"]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    (folder / "metadata.jsonl").write_text(text)
    assert captions_by_image(data(folder)) == EXPECTED


def test_rows_of_csv_below_a_split_and_several_for_one_image(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    images(folder / "train", NAMES[:4])
    images(folder / "test", NAMES[4:])
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        rows = [f'{NAMES[n]},"{one}"' for n in numbers for one in EXPECTED[n]]
        (folder / split / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    assert captions_by_image(data(folder)) == EXPECTED


def test_texts_beside_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "images")
    for number, name in enumerate(NAMES):
        (folder / name).with_suffix(".txt").write_text("\n".join(EXPECTED[number]) + "\n")
    assert captions_by_image(data(folder)) == EXPECTED


def test_the_folder_of_texts_of_cub(tmp_path: Path) -> None:
    names = [f"images/{number % 2:03d}.Bird/{name}" for number, name in enumerate(NAMES)]
    folder = images(tmp_path / "CUB", names)
    for number, name in enumerate(names):
        text = folder / "text" / Path(name).relative_to("images").with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(EXPECTED[number]))
    found = data(folder)
    assert captions_by_image(found) == EXPECTED
    assert found.classes == ("000.Bird", "001.Bird")
    (folder / "text" / "captions.pickle").write_bytes(b"")
    with pytest.raises(DataError, match=r"captions\.pickle: is a pickle"):
        data(folder).prepare_data()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"file_name": "0003.png", "text": ', r"metadata\.jsonl, line 4: is no JSON"),
        ('["0003.png", "a"]', r"line 4: must have file_name and text"),
        ('{"file_name": "0003.png", "caption": "a"}', r"line 4: must have file_name and text"),
        ('{"file_name": "0003.png", "text": " "}', r"line 4: the caption of 0003\.png is empty"),
        ('{"file_name": "0003.png", "text": []}', r"line 4: the caption of 0003\.png is empty"),
        ('{"file_name": "0003.png", "text": 5}', r"line 4: file_name must be a text, and text one"),
        (
            '{"file_name": "3.png", "text": "a"}',
            r"line 4: names 3\.png, and there is no such image",
        ),
        ('{"file_name": "../x.png", "text": "a"}', r"line 4: names \.\./x\.png, and there is no"),
        ("", r"1 of 6 images have no caption \(0003\.png\)"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    folder = images(tmp_path / "images")
    rows = [json.dumps({"file_name": n, "text": "one of them"}) for n in NAMES]
    rows[3] = line
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(DataError, match=told):
        data(folder).prepare_data()


def test_two_kinds_at_once_and_empty_or_unreadable_files_are_refused(tmp_path: Path) -> None:
    folder = images(tmp_path / "images")
    for name in NAMES:
        (folder / name).with_suffix(".txt").write_text("a")
    (folder / "0002.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"0002\.txt: is empty"):
        data(folder).prepare_data()
    (folder / "0002.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match=r"0002\.txt: cannot be read"):
        data(folder).prepare_data()
    (folder / "metadata.csv").write_text("file_name,text\n")
    with pytest.raises(DataError, match=r"captions in metadata\.csv and in 0000\.txt; keep one"):
        data(folder).prepare_data()


def test_a_caption_is_drawn_for_each_use_by_seed_and_epoch(tmp_path: Path) -> None:
    folder = images(tmp_path / "images")
    for number, name in enumerate(NAMES):
        texts = [f"{number} {one}" for one in "abcd"[: 1 + number % 4]]
        (folder / name).with_suffix(".txt").write_text("\n".join(texts))

    def drawn(seed: int, epoch: int) -> list[tuple[int, int]]:
        found = data(folder, seed=seed, batch_size=1)
        loader = found.train_dataloader().loader
        loader.epoch = lambda: epoch
        return [
            (int(one.members["image"][0, 0, 0, 0]) // 20, int(one.members["caption"][0]))
            for one in loader
        ]

    assert drawn(0, 0) == drawn(0, 0)
    several = [dict(drawn(0, epoch)) for epoch in range(30)]
    found = data(folder)
    own = captions_by_image(found)
    texts = found.captions.texts
    for number in several[0]:
        assert {texts[one[number]] for one in several} == set(own[number])
    assert dict(drawn(1, 0)) != several[0] or dict(drawn(2, 0)) != several[0]


def test_absent_captions_are_never_drawn() -> None:
    captions = torch.tensor([[0, 1, 2], [3, -1, -1], [4, 5, -1]])
    for u in (0.0, 0.5, 0.999999):
        found = drawn_captions(captions, torch.full((3,), u))
        assert (found >= 0).all()
    assert drawn_captions(captions, torch.tensor([0.7, 0.9, 0.5])).tolist() == [2, 3, 5]
