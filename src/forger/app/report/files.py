"""Reads files of a run's folder, which may be anybody's: nothing from outside of it, no pickle."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped]
from PIL import Image

_WIDTHS = (640, 480, 320, 240, 160)  # pixels; a picture that is too large gets the first that fits
_MOST_PIXELS = 50_000_000
_DEEPEST = 50  # parts within parts of a config

Item = TypeVar("Item")


@dataclass(frozen=True)
class Picture:
    """A picture that stands in the page itself."""

    name: str
    address: str  # data:image/...
    width: int
    height: int


def read(folder: Path, name: str | Path) -> bytes | None:
    """Returns a file in a folder; `None` where there is none, or a link that leads out of it."""
    path = folder / name
    return path.read_bytes() if path.is_file() and not leads_out(folder, path) else None


def leads_out(folder: Path, path: Path) -> bool:
    """Tells whether a path in a folder is a link to the outside, or in such a one."""
    return not path.resolve().is_relative_to(folder.resolve())


def read_mapping(folder: Path, name: str) -> dict[str, Any]:
    """Returns a JSON file's contents; nothing where it is missing or damaged."""
    try:
        content = json.loads(read(folder, name) or b"")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_yaml(folder: Path, name: str) -> Any:
    """Returns a YAML file's contents as it stands there: no reference in it is followed.

    Raises:
        ValueError: it cannot be read, or could grow without end: repeats or nests parts.
    """
    text = (read(folder, name) or b"").decode(errors="replace")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
                raise ValueError(f"{name}: repeats parts of itself, or is nested too deeply")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: is damaged: {str(error).splitlines()[0]}") from None


def picture(folder: Path, file: str | Path, most: int, name: str = "") -> Picture | None:
    """Returns a PNG file of a folder, as it is or in at most so many bytes as WebP.

    `None`: there is none in there, or it is damaged.
    """
    content, kind = read(folder, file), "png"
    try:
        with Image.open(io.BytesIO(content or b""), formats=["PNG"]) as image:
            (width, height), small = image.size, len(content or b"") <= most
            if width * height > _MOST_PIXELS:
                return None
            if small:
                image.verify()
            else:
                content, kind = _smaller(image.convert("RGB"), most), "webp"
    except Exception:  # PIL raises many kinds for a damaged file
        return None
    address = f"data:image/{kind};base64,{b64encode(content or b'').decode()}"
    return Picture(name or Path(file).stem, address, width, height)


def _smaller(image: Image.Image, most: int) -> bytes:
    content = b""
    for width in _WIDTHS:
        image.thumbnail((width, width))
        buffer = io.BytesIO()
        image.save(buffer, "webp", quality=75, method=2)
        content = buffer.getvalue()
        if len(content) <= most:
            break
    return content


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Returns at most so many items at even distances, the first and the last among them."""
    steps = min(most, len(items)) - 1
    return [items[round(i * (len(items) - 1) / max(steps, 1))] for i in range(steps + 1)]


def grids(folder: Path) -> list[tuple[int, Path]]:
    """Returns the iterations at which a run drew samples of its averaged generator, and files."""
    found = ((path.name.partition("_")[0], path) for path in folder.glob("samples/*_ema.png"))
    return sorted((int(text), path) for text, path in found if text.isdecimal() and len(text) < 16)
