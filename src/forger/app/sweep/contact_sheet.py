"""All jobs' final samples on one sheet, under their overrides. Owns the layout, not the samples."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forger.app.sweep import override_words
from forger.app.sweep.outcome import BAD
from forger.app.sweep.results import Results
from forger.app.sweep.rows import Row, reason
from forger.app.sweep.samples import read_samples

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

LIMIT = 100  # jobs on a sheet
_SIZES = ((1, 8, 640), (6, 5, 340), (24, 4, 256), (LIMIT, 4, 176))
"""Up to so many jobs: images a side of each job's crop, and pixels of it."""
_WIDEST = 2600  # pixels
_GAP, _LINES = 14, 6  # pixels between tiles; lines of overrides at most
_LETTERS = 600  # of a word; more would not fit on any tile
_EMPTY, _INK, _FAINT, _BAD = "#d9dce1", "#111827", "#6b7280", "#b91c1c"


def draw(results: Results) -> bytes | None:
    """Draws the first samples of each job's `samples/last.png`, settings from best to worst.

    Jobs of one setting stand beside each other. A failed job is a grey tile with its status. More
    than a hundred jobs: the first hundred in that order.

    Returns:
        A PNG; `None` where no job has samples.
    """
    groups = _first(results, LIMIT)
    jobs = sum(map(len, groups))
    side, pixels = next((s, p) for count, s, p in _SIZES if jobs <= count)
    fonts = _Fonts(14 if pixels > 200 else 12)

    def tile(row: Row) -> _Tile:
        label = _label(row, results, fonts, pixels)
        return _Tile(row, label, read_samples(row.outcome, side, pixels))

    tiles = [[tile(row) for row in group] for group in groups]
    if not any(one.samples for group in tiles for one in group):
        return None
    sheet = _paint(_lay_out(tiles, _columns(groups, pixels)), pixels, fonts)
    if left_out := len(results.rows) - jobs:
        sheet = _with_last_line(sheet, f"{left_out} more jobs are not shown", fonts)
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()


@dataclass(frozen=True)
class _Tile:
    row: Row
    label: list[str]
    samples: Image | None


class _Fonts:
    """The letters that come with matplotlib: the same on every machine, and most alphabets."""

    def __init__(self, size: int) -> None:
        import matplotlib
        from PIL import ImageFont

        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self.plain: FreeTypeFont = ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)
        self.bold: FreeTypeFont = ImageFont.truetype(str(folder / "DejaVuSans-Bold.ttf"), size)
        self.line = round(1.35 * size)

    def folded(self, text: str, pixels: float) -> list[str]:
        """Breaks a text into lines no wider than so many pixels, at words where it can."""
        lines: list[str] = []
        for word in (word[:_LETTERS] for word in text.split()):
            if lines and self.plain.getlength(f"{lines[-1]} {word}") <= pixels:
                lines[-1] += f" {word}"
                continue
            while self.plain.getlength(word) > pixels and len(word) > 1:
                end = next(n for n in range(1, len(word) + 1) if self._too_wide(word[:n], pixels))
                lines.append(word[: max(1, end - 1)])
                word = word[max(1, end - 1) :]
            lines.append(word)
        return lines

    def _too_wide(self, text: str, pixels: float) -> bool:
        return self.plain.getlength(text) > pixels


def _paint(lines: Sequence[Sequence[_Tile]], pixels: int, fonts: _Fonts) -> Image:
    from PIL import Image, ImageDraw

    labels = [max(len(tile.label) for tile in line) * fonts.line + 4 for line in lines]
    width = _GAP + (pixels + _GAP) * max(map(len, lines))
    height = _GAP + sum(label + pixels + 2 * _GAP for label in labels)
    sheet = Image.new("RGB", (width, height), "white")
    pen, y = ImageDraw.Draw(sheet), _GAP
    for line, label in zip(lines, labels, strict=True):
        for place, tile in enumerate(line):
            x = _GAP + place * (pixels + _GAP)
            _write_label(pen, x, y, tile, fonts)
            if tile.samples is None:
                _grey_tile(pen, (x, y + label, x + pixels, y + label + pixels), tile.row, fonts)
            else:
                sheet.paste(tile.samples, (x, y + label))
        y += label + pixels + 2 * _GAP
    return sheet


def _write_label(pen: ImageDraw, x: int, y: int, tile: _Tile, fonts: _Fonts) -> None:
    for index, words in enumerate(tile.label):
        font = fonts.plain if index else fonts.bold
        ink = _BAD if index == 0 and tile.row.outcome.status in BAD else _INK
        pen.text((x, y + index * fonts.line), words, fill=ink, font=font)


def _with_last_line(sheet: Image, words: str, fonts: _Fonts) -> Image:
    from PIL import ImageDraw, ImageOps

    longer = ImageOps.expand(sheet, (0, 0, 0, fonts.line), "white")
    place = (_GAP, sheet.height - _GAP)
    ImageDraw.Draw(longer).text(place, words, fill=_FAINT, font=fonts.plain)
    return longer


def _first(results: Results, count: int) -> list[list[Row]]:
    groups: list[list[Row]] = []
    for setting in results.settings:
        left = count - sum(map(len, groups))
        if left > 0:
            groups.append(list(setting.rows[:left]))
    return groups


def _columns(groups: Sequence[Sequence[Row]], pixels: int) -> int:
    """Chooses a sheet a little wider than high, of whole settings where they fit."""
    jobs, largest = sum(map(len, groups)), max(map(len, groups))
    most = _WIDEST // (pixels + _GAP)
    columns = min(jobs, math.ceil(math.sqrt(1.2 * jobs)))
    if largest > most:
        return columns
    return largest * max(1, min(math.ceil(columns / largest), most // largest))


def _lay_out(groups: Sequence[Sequence[_Tile]], columns: int) -> list[list[_Tile]]:
    """Fills lines from the left; a setting that fits into a line is not divided."""
    lines: list[list[_Tile]] = [[]]
    for group in groups:
        if lines[-1] and len(lines[-1]) + len(group) > columns >= len(group):
            lines.append([])
        for tile in group:
            if len(lines[-1]) == columns:
                lines.append([])
            lines[-1].append(tile)
    return lines


def _label(row: Row, results: Results, fonts: _Fonts, pixels: int) -> list[str]:
    """Returns lines: number and score in bold, then what differs from other jobs."""
    head = f"#{row.outcome.number}"
    if row.outcome.status != "finished":
        head += f"  {row.outcome.status}"
    elif row.last is not None:
        head += f"  {results.score} {row.last:.4g}"
    lines = fonts.folded(override_words.brief(row.words, results.keys), pixels)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "…"]
    return [*fonts.folded(head, 0.9 * pixels), *lines]  # bold letters are wider


def _grey_tile(pen: ImageDraw, box: tuple[int, int, int, int], row: Row, fonts: _Fonts) -> None:
    left, top, right, bottom = box
    pen.rectangle(box, fill=_EMPTY)
    bad = row.outcome.status != "finished"
    lines = fonts.folded(reason(row.outcome), right - left - 20)[:5]
    y = (top + bottom) // 2 - fonts.line * (1 + len(lines)) // 2
    head, ink = (row.outcome.status, _BAD) if bad else ("no samples", _FAINT)
    for index, words in enumerate([head, *lines]):
        font = fonts.plain if index else fonts.bold
        place = ((left + right) / 2, y + index * fonts.line)
        pen.text(place, words, fill=_FAINT if index else ink, font=font, anchor="ma")
