"""Draws figures that show what scores mean, as PNG; pyplot and its state are left alone."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from forger.score_names import RELATIVE

_DPI = 100
_GENERATED, _REFERENCE, _WARNING, _FAINT = "#d95f02", "#9aa5b1", "#c1121f", "#6b7280"
_WRITTEN = 20  # most classes whose shares are written at a matrix
MOST_NAMED = 150  # most classes that are named one by one
_CELL = 64  # pixels, about: the width that a small image is enlarged to by a whole factor


def class_histogram(
    shares: Sequence[float], reference_shares: Sequence[float], classes: Sequence[str]
) -> bytes:
    """Draws each class's share of the generated images, in [0, 1], beside that of the reference.

    Returns:
        A PNG; a class that was never generated is marked in red. More than 150 classes are a curve
        without names, the most frequent first.
    """
    if len(classes) > MOST_NAMED:
        return _ranked_shares(shares, reference_shares)
    line, size = (0.34, 8) if len(classes) <= 30 else (0.22, 7)  # inches, points
    figure = Figure(figsize=(7.5, 1.5 + line * len(classes)), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(classes))
    axes.barh([y - 0.2 for y in rows], shares, 0.4, color=_GENERATED, label="generated")
    axes.barh([y + 0.2 for y in rows], reference_shares, 0.4, color=_REFERENCE, label="reference")
    for y, share in zip(rows, shares, strict=True):
        label = f" {100 * share:.1f} %" if share else " none"
        colour = "black" if share else _WARNING
        axes.text(share, y - 0.22, label, va="center", fontsize=size, color=colour)
    axes.set_yticks(rows, [_short(name) for name in classes], fontsize=size + 2)
    axes.set_ylim(len(classes) - 0.4, -0.6)  # the first class on top
    axes.set_xlim(0, 1.15 * max(*shares, *reference_shares, 1e-9))
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Share of each class, as the classifier sees it", pad=26)
    axes.legend(ncols=2, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _png(figure)


def _ranked_shares(shares: Sequence[float], reference_shares: Sequence[float]) -> bytes:
    """Draws the shares of many classes as two curves, each from its most frequent class on."""
    figure = Figure(figsize=(7.5, 4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(sorted(reference_shares, reverse=True), color=_REFERENCE, label="reference")
    axes.plot(sorted(shares, reverse=True), color=_GENERATED, label="generated")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="classes, the most frequent first", ylabel="share of the images")
    reached = sum(share > 0 for share in shares)
    axes.set_title(f"{reached:,} of {len(shares):,} classes, as the classifier sees them")
    axes.legend(frameon=False)
    return _png(figure)


def asked_classes(
    seen: Sequence[Sequence[int]], asked: Sequence[str], classes: Sequence[str]
) -> bytes:
    """Draws what is seen in the images that were asked to be of each class.

    Args:
        seen: counts of images `(K, max(K, L))`; they are drawn as shares of their row.
        asked: K names, of the rows.
        classes: L names, of the columns, as the classifier knows them: the first or all of `asked`,
            or more.

    Returns:
        A PNG; shares of up to 20 classes are written down, in per cent; more than 150 have no
        names. A row without images stays white.
    """
    counts = torch.tensor(seen, dtype=torch.float64)
    shares, most = counts / counts.sum(dim=1, keepdim=True).clamp(min=1), max(counts.shape)
    few, named = most <= _WRITTEN, most <= MOST_NAMED
    cell, size = (0.42, 8) if few else (0.155 if named else 12 / most, 6)  # inches, points
    labels = 0.5 + 0.012 * size * max(len(_short(name)) for name in (*asked, *classes))
    height, width = (cell * number + labels for number in counts.shape)
    figure = Figure(figsize=(max(width + 0.4, 4.6), height + 0.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    # By the square root: the few that are mistaken are what to look for.
    image = axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    for y, x in shares.nonzero().tolist() if few else []:
        share = float(shares[y, x])
        colour, label = "white" if share > 0.4 else "black", f"{round(100 * share, 1):g}"
        axes.text(x, y, label, ha="center", va="center", fontsize=size, color=colour)
    for axis, names in ((axes.yaxis, asked), (axes.xaxis, max(asked, classes, key=len))):
        shown = range(len(names)) if named else ()
        axis.set_ticks(shown, [_short(names[place]) for place in shown])
    axes.tick_params(length=0, labelsize=size)
    axes.tick_params("x", rotation=90)
    axes.set(xlabel="seen by the classifier", ylabel="asked for")
    axes.set_title(f"{100 * float(counts.diagonal().sum() / counts.sum()):.1f} % are seen as asked")
    if not few:
        bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
        bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    return _png(figure)


def confusion_matrix(scores: Mapping[str, float], boundary: float | None) -> bytes:
    """Draws how D judges held-out real images and generated ones, real being the positive class.

    Args:
        scores: with the rates of D, shares in [0, 1] such as `d_tpr`.
        boundary: the logit at which D decides; None: its loss has none, and it is the middle
            between the mean logits of both (`d_relative_tpr` and so on).

    Returns:
        A PNG.
    """
    prefix = "d_" if boundary is not None else f"d_{RELATIVE}"
    tpr, fnr, fpr, tnr = (scores[f"{prefix}{name}"] for name in ("tpr", "fnr", "fpr", "tnr"))
    figure = Figure(figsize=(5.2, 4.6), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow([[tpr, fnr], [fpr, tnr]], cmap="Blues", vmin=0, vmax=1)
    for x, y, share in ((0, 0, tpr), (1, 0, fnr), (0, 1, fpr), (1, 1, tnr)):
        colour, label = "white" if share > 0.6 else "black", f"{100 * share:.1f} %"
        axes.text(x, y, label, ha="center", va="center", fontsize=20, color=colour)
    threshold = "middle" if boundary is None else f"{boundary:.3g}"
    calls = [f"called real\n(logit > {threshold})", f"called fake\n(logit ≤ {threshold})"]
    axes.set_xticks([0, 1], calls, fontsize=11)
    axes.set_yticks([0, 1], ["real,\nheld out", "generated"], fontsize=11)
    axes.tick_params(length=0)
    at = "midway between both mean logits" if boundary is None else f"at logit {threshold}"
    axes.set_title(f"The discriminator, threshold {at}", fontsize=13, pad=12)
    return _png(figure)


def nearest_neighbours(samples: Tensor, neighbours: Tensor, distances: Tensor) -> bytes:
    """Draws generated images, each followed by the training images that come closest to it.

    Args:
        samples: uint8 `(S, C, H, W)`.
        neighbours: uint8 `(S, k, C, H, W)`, the closest first.
        distances: `(S, k)`, written under the neighbours.

    Returns:
        A PNG; a memorised image looks like its neighbour and is near it.
    """
    (count, k), (height, width) = distances.shape, _drawn_size(samples)
    column, line, top = max(width, 48) + 8, height + 22, 66
    left = column + 40
    sheet = _Sheet(left + 8 + max(column * k, 350), top + line * count + 4)
    sheet.text(12, 20, "Is the generator memorising?", 13)
    sheet.text(12, 50, "generated", 10, color=_GENERATED)
    sheet.text(left, 50, "nearest training images, with distance of features", 10)
    for row in range(count):
        y = top + line * row
        sheet.image(12, y, samples[row])
        for index in range(k):
            x = left + column * index
            sheet.image(x, y, neighbours[row, index])
            label = f"{float(distances[row, index]):.3g}"
            sheet.text(x + width / 2, y + height + 9, label, 8, ha="center", color=_FAINT)
    return _png(sheet.figure)


def class_grid(
    images: Tensor,
    predicted: Tensor,
    confidence: Tensor,
    classes: Sequence[str],
    per_class: int = 10,
) -> bytes:
    """Draws a row of generated images for each class: the first ones, not the best ones.

    Args:
        images: uint8 `(N, C, H, W)`.
        predicted: `(N,)`, the number of the class that the classifier sees in each.
        confidence: `(N,)`, the probability that it gives to that class.
        classes: names.
        per_class: images in a row.

    Returns:
        A PNG; cells of a class that was seldom or never reached stay empty.
    """
    empty = torch.full_like(images[0], 236)
    height, width = (side + 4 for side in _drawn_size(images))
    names = [_short(name) for name in classes]
    left, line, top = 24 + max(150, *(9 * len(name) for name in names)), max(height, 40), 46
    sheet = _Sheet(max(left + width * per_class + 8, 460), top + line * len(classes) + 8)
    sheet.text(12, 22, f"The first {per_class} of each class, as the classifier sees it", 13)
    for label, name in enumerate(names):
        members = (predicted == label).nonzero().flatten()
        y = top + line * label
        sheet.text(12, y + height / 2 - 9, name, 11)
        sure = f", {100 * float(confidence[members].mean()):.0f} % sure" if len(members) else ""
        colour = _FAINT if len(members) else _WARNING
        sheet.text(12, y + height / 2 + 9, f"{len(members):,} images{sure}", 8, color=colour)
        for column in range(per_class):
            pixels = images[members[column]] if column < len(members) else empty
            sheet.image(left + width * column, y, pixels)
    return _png(sheet.figure)


class _Sheet:
    """White paper measured in pixels from its upper left corner; no image on it is resampled."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = math.ceil(width), math.ceil(height)
        self.figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI)

    def text(self, x: float, y: float, text: str, size: float, **style: str) -> None:
        position = x / self.width, 1 - y / self.height
        self.figure.text(*position, text, fontsize=size, va="center", **style)  # type: ignore[arg-type]

    def image(self, x: float, y: float, pixels: Tensor) -> None:
        factor = _drawn_size(pixels)[0] // pixels.shape[-2]
        large = pixels.cpu().repeat_interleave(factor, -2).repeat_interleave(factor, -1)
        rows = large.expand(3, -1, -1).permute(1, 2, 0).numpy()
        self.figure.figimage(rows, round(x), self.height - round(y) - len(rows))


def _drawn_size(images: Tensor) -> tuple[int, int]:
    """Returns height and width of images `(..., H, W)`, enlarged by a whole factor."""
    height, width = images.shape[-2:]
    factor = max(1, round(_CELL / width))
    return height * factor, width * factor


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be called $5
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # letters are shown as boxes
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
