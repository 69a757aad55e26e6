from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, features

from forger.image_files import ImageFormat, largest_of_16_bits
from forger.image_files import decode as decode_image

HALVES = np.repeat(np.array([[10, 200]], dtype=np.uint8), 4, axis=1).repeat(8, axis=0)  # 8x8


def decode(path: Path, channels: int, size: int, *value_range: tuple[float, float]) -> np.ndarray:
    return decode_image(path, ImageFormat(channels, size, *value_range))


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_right_size_is_not_resampled(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(HALVES))
    assert np.array_equal(decode(path, 1, 8)[0], HALVES)
    assert np.array_equal(decode(path, 3, 8), np.stack([HALVES] * 3))


@pytest.mark.parametrize(("size", "inner"), [((90, 30), (10, 0)), ((30, 90), (0, 10))])
def test_equals_resizing_the_shorter_side_and_cutting_the_centre(
    tmp_path: Path, size: tuple[int, int], inner: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0])).astype(np.uint8)
    image = Image.fromarray(noise)
    whole = image.resize((size[0] // 3, size[1] // 3), Image.Resampling.BILINEAR)
    expected = np.asarray(whole.crop((*inner, inner[0] + 10, inner[1] + 10)))
    assert np.array_equal(decode(saved(tmp_path / "a.png", image), 1, 10)[0], expected)


def test_smaller_is_antialiased(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)  # a pixel chessboard
    path = saved(tmp_path / "a.png", Image.fromarray(board))
    assert np.abs(decode(path, 1, 16).astype(int) - 128).max() <= 3


def test_tiny_images_are_enlarged(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.full((1, 1), 90, dtype=np.uint8)))
    assert np.array_equal(decode(path, 3, 4), np.full((3, 4, 4), 90))


def test_colour_to_grey_and_back(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (8, 8), (255, 0, 0)))
    assert decode(path, 3, 8)[:, 0, 0].tolist() == [255, 0, 0]
    assert decode(path, 1, 8)[:, 0, 0].tolist() == [76]  # 0.299 R


def test_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to see it upright
    path = saved(tmp_path / "a.jpg", Image.fromarray(HALVES), exif=exif, quality=95)
    pixels = decode(path, 1, 8)[0]
    assert pixels[0].mean() < 20 < 180 < pixels[-1].mean()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 4))
    path = saved(tmp_path / "a.png", image.convert(mode))
    pixels = decode(path, 3, 8)
    assert pixels[:, 0].max() == 0
    assert pixels[:, -1].min() == 255


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    wide = np.repeat(np.array([[0, 0x7FFF, 0x80FF, 0xFFFF]], dtype=np.uint16), 4, axis=0)
    path = saved(tmp_path / "a.png", Image.fromarray(wide))
    assert decode(path, 1, 4)[0, 0].tolist() == [0, 0x7F, 0x80, 0xFF]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    path = saved(tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"), image)
    assert decode(path, 3, 8).min() >= 253


def test_large_jpeg_is_close_to_its_exact_resize(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:512, 0:512] / 40
    pixels = (127 + 120 * np.sin(rows) * np.cos(columns)).astype(np.uint8)
    image = Image.fromarray(pixels)
    path = saved(tmp_path / "a.jpg", image, quality=95)
    exact = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode(path, 1, 64)[0] - exact).mean() < 1


def deep(path: Path, values: list[float], kind: type) -> Path:
    """Saves a row of deep pixels, four rows of it."""
    return saved(path, Image.fromarray(np.array([values] * 4, dtype=kind)))


@pytest.mark.parametrize(
    ("kind", "words"),
    [(np.float32, "floating-point pixels from 0 to 3"), (np.int32, "32-bit pixels from 0 to 3")],
)
def test_deep_pixels_without_a_convention_need_a_range(
    tmp_path: Path, kind: type, words: str
) -> None:
    path = deep(tmp_path / "a.tiff", [0, 1, 2, 3], kind)
    with pytest.raises(ValueError, match=rf"{words}; write data\.value_range=\["):
        decode(path, 1, 4)
    assert decode(path, 1, 4, (0, 3))[0, 0].tolist() == [0, 85, 170, 255]
    assert decode(path, 1, 4, (1, 2))[0, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("ending", ["png", "pgm", "tiff", "jp2"])
def test_a_range_holds_for_16_bits_too(tmp_path: Path, ending: str) -> None:
    path = deep(tmp_path / f"a.{ending}", [0, 1365, 2730, 4095], np.uint16)
    assert decode(path, 1, 4, (0, 4095))[0, 0].tolist() == [0, 85, 170, 255]
    path = deep(tmp_path / f"b.{ending}", [0, 256, 4096, 65535], np.uint16)
    assert decode(path, 1, 4)[0, 0].tolist() == [0, 1, 16, 255]


def test_16_bits_that_would_come_out_black_are_refused(tmp_path: Path) -> None:
    path = deep(tmp_path / "a.png", [0, 85, 170, 255], np.uint16)
    with pytest.raises(ValueError, match="16-bit pixels from 0 to 255, which would come out black"):
        decode(path, 1, 4)
    assert decode(path, 1, 4, (0, 255))[0, 0].tolist() == [0, 85, 170, 255]
    assert decode(deep(tmp_path / "b.png", [0] * 4, np.uint16), 1, 4).max() == 0  # it is black


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


def test_16_bit_colours_keep_their_upper_8_bits_and_are_never_black(tmp_path: Path) -> None:
    path = colours_of_16_bits(tmp_path / "a.png", 65535)
    assert decode(path, 3, 4)[:, -1, -1].tolist() == [255] * 3
    dark = colours_of_16_bits(tmp_path / "b.png", 255)
    with pytest.raises(ValueError, match=r"16-bit colours, .* black; save it with 8 bits"):
        decode(dark, 3, 4)
    assert decode(dark, 3, 4, (0, 65535)).max() == 0
    dim = colours_of_16_bits(tmp_path / "c.png", 4000)
    assert [largest_of_16_bits(path) for path in (path, dim)] == [0xFF00, 0x0F00]


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    path = deep(tmp_path / "a.tiff", [0, float("nan"), 1, 1], np.float32)
    with pytest.raises(ValueError, match="no finite numbers"):
        decode(path, 1, 4, (0, 1))


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file is called, Pillow would start Ghostscript for it."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("it was run"))
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(ValueError, match="is PostScript"):
        decode(path, 3, 8)


def test_damaged_notes_of_a_camera_leave_the_image_readable(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(HALVES), exif=b"Exif\0\0no such notes")
    assert decode(path, 1, 8)[0].std() > 80


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tiff", "avif"])
def test_the_first_of_several_frames(tmp_path: Path, ending: str) -> None:
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    frames = [Image.new("RGB", (16, 16), (value, value, value)) for value in (200, 20)]
    path = tmp_path / f"a.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert abs(int(decode(path, 1, 8).mean()) - 200) < 4


def test_no_method_that_older_pillows_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 10.0 has no `has_transparency_data`."""
    monkeypatch.delattr(Image.Image, "has_transparency_data")
    path = saved(tmp_path / "a.png", Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    assert decode(path, 3, 8).min() == 255
