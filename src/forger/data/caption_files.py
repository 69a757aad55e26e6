"""Captions of images: in metadata files, beside the images, or in texts as CUB has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from forger.errors import DataError

_METADATA = ("metadata.jsonl", "metadata.csv")  # as Hugging Face's image folder has them
_CUB, _IMAGES = "text", "images"  # folders: texts by class, and images by class
_PICKLES = (".pickle", ".pkl")
_NAMED = 3  # files named in a message


def find_captions(root: Path, names: Sequence[str]) -> list[list[str]]:
    """Returns the captions of images, one or more for each.

    They are found in one of these places:

    - `metadata.jsonl` or `metadata.csv`, in `root` or any folder below it, with the columns
      `file_name`, relative to its folder, and `text`, one caption, or in JSON a list of several;
      a file may have several rows.
    - `text/<class>/<name>.txt` for `images/<class>/<name>.jpg`, a caption on each line, as in CUB.
    - `<name>.txt` beside each image, a caption on each line.

    Args:
        root: the folder.
        names: of the images, their paths below it.

    Raises:
        DataError: an image has no caption, a caption no image, or a file is not as it should be.
    """
    metadata = sorted(path for name in _METADATA for path in root.rglob(name))
    beside = [root / PurePosixPath(name).with_suffix(".txt") for name in names]
    if metadata:
        if clash := next((path for path in beside if path.is_file()), None):
            raise DataError(
                f"data.root={root}: has captions in {_below(root, metadata[0])} and in"
                f" {_below(root, clash)}; keep one kind"
            )
        return _of_metadata(root, metadata, names)
    if (root / _CUB).is_dir():
        pickles = [path for path in (root / _CUB).rglob("*") if path.suffix in _PICKLES]
        if pickles:
            raise DataError(
                f"{pickles[0]}: is a pickle, which could run any code when it is read; give the"
                " captions as text files, text/<class>/<name>.txt"
            )
        beside = [root / _CUB / _class_path(name).with_suffix(".txt") for name in names]
    _refuse_without(root, names, [path.is_file() for path in beside])
    return [_lines(path) for path in beside]


def _class_path(name: str) -> PurePosixPath:
    """Returns an image's path below `images/`."""
    path = PurePosixPath(name)
    return path.relative_to(_IMAGES) if path.parts[0] == _IMAGES else path


def _of_metadata(root: Path, files: Sequence[Path], names: Sequence[str]) -> list[list[str]]:
    known = {name: list[str]() for name in names}
    for file in files:
        rows = _json_rows(file) if file.suffix == ".jsonl" else _csv_rows(file)
        for line, row in rows:
            where = f"{file}, line {line}"
            name, texts = _row(row, where)
            path = PurePosixPath(_below(root, file.parent), name)
            if str(path) not in known:
                raise DataError(f"{where}: names {name}, and there is no such image; take it out")
            known[str(path)] += texts
    _refuse_without(root, names, [bool(known[name]) for name in names])
    return [known[name] for name in names]


def _row(row: Any, where: str) -> tuple[str, list[str]]:
    """Returns the file and the captions that a row names."""
    if not isinstance(row, dict) or not {"file_name", "text"} <= row.keys():
        raise DataError(
            f"{where}: must have file_name and text, as in"
            ' {"file_name": "0001.png", "text": "a bird"}'
        )
    name, text = row["file_name"], row["text"]
    texts = text if isinstance(text, list) else [text]
    if not isinstance(name, str) or not all(isinstance(one, str) for one in texts):
        raise DataError(f"{where}: file_name must be a text, and text one or a list of several")
    if not texts or not all(one.strip() for one in texts):
        raise DataError(f"{where}: the caption of {name} is empty; write one, or take the row out")
    return name, [one.strip() for one in texts]


def _json_rows(file: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}, line {number}: is no JSON: {error}") from None


def _csv_rows(file: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(_text(file).splitlines())
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: cannot be read: {error}") from None


def _lines(file: Path) -> list[str]:
    lines = [line.strip() for line in _text(file).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{file}: is empty; write a caption on each line")
    return lines


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file}: cannot be read: {reason}") from None


def _refuse_without(root: Path, names: Sequence[str], found: Sequence[bool]) -> None:
    without = [name for name, has in zip(names, found, strict=True) if not has]
    if without:
        shown = ", ".join(without[:_NAMED]) + ", ..." * (len(without) > _NAMED)
        raise DataError(
            f"data.root={root}: {len(without):,} of {len(names):,} images have no caption"
            f" ({shown}); write them into metadata.jsonl, or {Path(without[0]).stem}.txt beside"
            " the image, or take the images away"
        )


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
