from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from forger.pictures import image_grid, mp4_bytes, png_bytes, to_pil


def test_values_map_to_pixels_by_rounding_and_clipping_alone() -> None:
    values = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0, -3.0, 3.0])
    grid = image_grid(values.view(-1, 1, 1, 1).expand(-1, 1, 64, 64))
    # three columns: factor round(640 / 192) = 3, so cells of 192 pixels and a border of 2
    centres = [(row * 194 + 98, column * 194 + 98) for row in range(3) for column in range(3)]
    assert [int(grid[0, y, x]) for y, x in centres[:7]] == [0, 64, 128, 159, 255, 0, 255]
    assert grid.dtype == torch.uint8


def test_images_keep_their_place_and_are_enlarged_without_blending() -> None:
    images = torch.rand(6, 3, 28, 20) * 2 - 1
    grid = image_grid(images)
    columns, factor = 3, 11  # round(640 / (3 * 20))
    assert grid.shape == (3, 2 * (28 * factor + 2) + 2, columns * (20 * factor + 2) + 2)
    fifth = grid[:, 28 * factor + 4 : -2, 20 * factor + 4 : 2 * 20 * factor + 4]
    expected = ((images[4] + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(fifth[:, ::factor, ::factor], expected)
    assert torch.equal(fifth[:, factor - 1 :: factor, factor - 1 :: factor], expected)


@pytest.mark.parametrize(("n", "size"), [(1, 28), (16, 28), (64, 28), (64, 64), (100, 28)])
def test_grids_are_near_square_and_comfortable_to_look_at(n: int, size: int) -> None:
    _, height, width = image_grid(torch.zeros(n, 1, size, size)).shape
    assert 512 <= width <= 768
    assert height == width
    assert image_grid(torch.zeros(4, 3, 512, 512)).shape == (3, 1030, 1030)  # left as they are


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_holds_the_same_pixels(channels: int, mode: str) -> None:
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    decoded = Image.open(io.BytesIO(png_bytes(image)))
    assert (decoded.mode, decoded.size) == (mode, (7, 5))
    assert decoded.tobytes() == to_pil(image).tobytes() == image.permute(1, 2, 0).numpy().tobytes()


def test_rows_may_have_names_beside_them() -> None:
    images = torch.full((6, 3, 16, 16), -1.0)
    plain = image_grid(images, columns=2)
    named = image_grid(images, 2, ["cat", "a very very long name", "cat"])
    strip = named[..., : -plain.shape[2]]
    assert torch.equal(named[..., -plain.shape[2] :], plain)
    assert strip.shape[2] < 120
    rows = strip[:, 2:].chunk(3, dim=1)  # the border above
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
    assert rows[0].max() > 200 > 64 == strip.min()


def test_a_grid_of_more_rows_than_columns_is_no_tower() -> None:
    """Its area is about that of a square one, and no image is enlarged to the width."""
    _, height, width = image_grid(torch.zeros(60, 1, 28, 28), columns=6).shape
    assert (height, width) == (10 * 86 + 2, 6 * 86 + 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_mp4_shows_the_frames_in_order(channels: int) -> None:
    av = pytest.importorskip("av")
    levels = torch.arange(20, 220, 20, dtype=torch.uint8)
    frames = levels.view(-1, 1, 1, 1).expand(-1, channels, 45, 64).clone()
    frames[:, -1, :, :32] = 230  # grey and white, or grey and blue
    with av.open(io.BytesIO(mp4_bytes(iter(frames), rate=20))) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 20)
        shown = [torch.from_numpy(one.to_ndarray(format="rgb24")) for one in film.decode(stream)]
    assert [one.shape for one in shown] == [(46, 64, 3)] * 10  # of even sides
    for frame, image in zip(frames, shown, strict=True):
        expected = frame.expand(3, -1, -1).permute(1, 2, 0).float()
        assert (image[4:40, 4:28] - expected[4:40, 4:28]).abs().max() < 12
        assert (image[4:40, 36:60] - expected[4:40, 36:60]).abs().max() < 12
