"""Image files of many kinds, decoded to squares of 8-bit pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, features

from forger.image_files import ImageFormat, largest_of_16_bits
from forger.image_files import decode as decode_image

HALVES = np.repeat(np.array([[10, 200]], dtype=np.uint8), 4, axis=1).repeat(8, axis=0)  # 8x8


def decode(path: Path, channels: int, size: int, *value_range: tuple[float, float]) -> np.ndarray:
    return decode_image(path, ImageFormat(channels, size, *value_range))


def saved(image: Image.Image, path: Path, **settings: Any) -> Path:
    image.save(path, **settings)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("size", "inner"), [((90, 30), (10, 0)), ((30, 90), (0, 10)), ((30, 30), (0, 0))]
)
def test_equals_resizing_the_shorter_side_and_cutting_the_centre(
    path: Path, size: tuple[int, int], inner: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0])).astype(np.uint8)
    image = Image.fromarray(noise)
    whole = image.resize((size[0] // 3, size[1] // 3), Image.Resampling.BILINEAR)
    expected = np.asarray(whole.crop((*inner, inner[0] + 10, inner[1] + 10)))
    assert np.array_equal(decode(saved(image, path), 3, 10), np.stack([expected] * 3))
    if size == (30, 30):
        assert np.array_equal(decode(path, 1, 30)[0], noise)  # of the right size already


def test_smaller_is_antialiased_and_tiny_ones_are_enlarged(path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)  # a pixel chessboard
    assert np.abs(decode(saved(Image.fromarray(board), path), 1, 16).astype(int) - 128).max() <= 3
    tiny = decode(saved(Image.new("L", (1, 1), 90), path), 3, 4)
    assert np.array_equal(tiny, np.full((3, 4, 4), 90))


def test_large_jpeg_is_close_to_its_exact_resize(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:512, 0:512] / 40
    image = Image.fromarray((127 + 120 * np.sin(rows) * np.cos(columns)).astype(np.uint8))
    exact = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    found = decode(saved(image, tmp_path / "a.jpg", quality=95), 1, 64)[0]
    assert np.abs(found - exact).mean() < 1


@pytest.mark.parametrize("turned", [True, False])
def test_photo_is_turned_upright_and_damaged_notes_harm_nothing(
    tmp_path: Path, turned: bool
) -> None:
    exif: Any = Image.Exif() if turned else b"Exif\0\0no such notes"
    if turned:
        exif[0x0112] = 6  # turn right by 90 degrees to see it upright
    path = saved(Image.fromarray(HALVES), tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = decode(path, 1, 8)[0]
    upright = pixels if turned else pixels.T
    assert upright[0].mean() < 20 < 180 < upright[-1].mean()


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "RGB"])
def test_modes_of_colour(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"
    path = saved(Image.new("RGB", (8, 8), "white").convert(mode), tmp_path / name)
    assert decode(path, 3, 8).min() >= 253
    if mode == "RGB":
        saved(Image.new("RGB", (8, 8), "red"), path)
        assert decode(path, 3, 8)[:, 0, 0].tolist() == [255, 0, 0]
        assert decode(path, 1, 8)[:, 0, 0].tolist() == [76]  # 0.299 R


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_laid_on_white(path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 4))
    pixels = decode(saved(image.convert(mode), path), 3, 8)
    assert pixels[:, 0].max() == 0
    assert pixels[:, -1].min() == 255


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tiff", "avif"])
def test_the_first_of_several_frames(tmp_path: Path, ending: str) -> None:
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    first, second = (Image.new("RGB", (16, 16), (value, value, value)) for value in (200, 20))
    path = saved(first, tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    assert abs(int(decode(path, 1, 8).mean()) - 200) < 4


def deep(path: Path, values: list[float], kind: type) -> Path:
    """Saves a row of deep pixels, four rows of it."""
    return saved(Image.fromarray(np.array([values] * 4, dtype=kind)), path)


@pytest.mark.parametrize(("kind", "name"), [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_deep_pixels_without_a_convention_need_a_range(
    tmp_path: Path, kind: type, name: str
) -> None:
    path = deep(tmp_path / "a.tiff", [0, 1, 2, 3], kind)
    with pytest.raises(ValueError, match=rf"{name} pixels from 0 to 3; write data\.value_range=\["):
        decode(path, 1, 4)
    assert decode(path, 1, 4, (0, 3))[0, 0].tolist() == [0, 85, 170, 255]
    assert decode(path, 1, 4, (1, 2))[0, 0].tolist() == [0, 0, 255, 255]
    path = deep(path, [0, float("nan"), 1, 1], np.float32)
    with pytest.raises(ValueError, match="no finite numbers"):
        decode(path, 1, 4, (0, 1))


@pytest.mark.parametrize("ending", ["png", "pgm", "tiff", "jp2"])
def test_16_bit_grey_keeps_its_range_and_is_never_black(tmp_path: Path, ending: str) -> None:
    path = deep(tmp_path / f"a.{ending}", [0, 0x7FFF, 0x80FF, 0xFFFF], np.uint16)
    assert decode(path, 1, 4)[0, 0].tolist() == [0, 0x7F, 0x80, 0xFF]
    deep(path, [0, 85, 170, 255], np.uint16)
    with pytest.raises(ValueError, match="16-bit pixels from 0 to 255, which would come out black"):
        decode(path, 1, 4)
    deep(path, [0, 1365, 2730, 4095], np.uint16)
    assert decode(path, 1, 4, (0, 4095))[0, 0].tolist() == [0, 85, 170, 255]
    assert decode(path, 1, 4, (0, 65535)).max() == 16  # where that is right
    assert decode(deep(path, [0] * 4, np.uint16), 1, 4).max() == 0  # it is black


def colours_of_16_bits(path: Path, top: int) -> Path:
    """Writes a PNG that Pillow cannot write, from 0 to `top`."""
    rows = np.linspace(0, top, 16).reshape(4, 4, 1).repeat(3, 2).astype(">u2")
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, chunk in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        content += struct.pack(">I", len(chunk)) + kind + chunk
        content += struct.pack(">I", zlib.crc32(kind + chunk))
    path.write_bytes(content)
    return path


def test_16_bit_colours_keep_their_upper_8_bits_and_are_never_black(path: Path) -> None:
    assert decode(colours_of_16_bits(path, 65535), 3, 4)[:, -1, -1].tolist() == [255] * 3
    assert largest_of_16_bits(path) == 0xFF00
    colours_of_16_bits(path, 255)
    with pytest.raises(ValueError, match=r"16-bit colours, .* black; save it with 8 bits"):
        decode(path, 3, 4)
    assert decode(path, 3, 4, (0, 65535)).max() == 0


def test_postscript_is_not_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file is called, Pillow would start Ghostscript for it."""
    for name in (f"{EpsImagePlugin.__name__}.Ghostscript", "subprocess.check_call"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("it was run"))
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(ValueError, match="is PostScript"):
        decode(path, 3, 8)
