"""Every kind of file gives the pixels that were put into it, in whole and in parts."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from slide_images import smooth, speckled, write_picture, write_pyramid, write_tiff

from midog_qupath.slides.base import RgbArray, SummingSlide
from midog_qupath.slides.open import open_slide
from midog_qupath.slides.resample import block_sums
from midog_qupath.slides.thumbnail import thumbnail

RGB = speckled()
GREY = RGB[..., 0]
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)


def whole(path: Path) -> RgbArray:
    """All pixels, read in two parts that overlap nothing."""
    with open_slide(path) as slide:
        upper = slide.read(0, 0, slide.width, 70, 1.0)
        lower = slide.read(0, 70, slide.width, slide.height - 70, 1.0)
    return np.concatenate([upper, lower])


TIFFS = {
    "strips": {},
    "strips of 16 rows, packed": {"rowsperstrip": 16, "compression": "lzw", "predictor": True},
    "tiles": {"tile": (64, 64)},
    "tiles, packed": {"tile": (32, 64), "compression": "zlib", "predictor": True},
    "planes apart": {"planarconfig": "separate"},
    "tiles, planes apart": {"planarconfig": "separate", "tile": (64, 64)},
    "OME": {"tile": (64, 64), "metadata": {"axes": "YXS"}},
}


@pytest.mark.parametrize("options", TIFFS.values(), ids=TIFFS.keys())
def test_tiffs_of_every_layout(tmp_path: Path, options: dict) -> None:
    rgb = np.moveaxis(RGB, 2, 0) if "planarconfig" in options else RGB
    name = "a.ome.tif" if "metadata" in options else "a.tif"
    assert np.array_equal(whole(write_tiff(tmp_path / name, rgb, **options)), RGB)


def test_grey_tiffs_become_rgb_also_where_white_is_zero(tmp_path: Path) -> None:
    assert np.array_equal(whole(write_tiff(tmp_path / "a.tif", GREY, photometric="minisblack")), GREY_RGB)
    inverse = write_tiff(tmp_path / "b.tif", GREY, photometric="miniswhite")
    assert np.array_equal(whole(inverse), 255 - GREY_RGB)


@pytest.mark.parametrize(("name", "inside"), [("a.tif", True), ("a.tif", False), ("a.ome.tif", True)])
def test_pyramids_are_found_and_read(tmp_path: Path, name: str, inside: bool) -> None:
    """Smaller copies lie in sub-files of the first page, or in pages of their own."""
    rgb = smooth(300, 460)
    with open_slide(write_pyramid(tmp_path / name, rgb, inside, ome=".ome" in name)) as slide:
        assert [level.downsample for level in slide.facts.levels] == pytest.approx([1, 2, 4])
        assert slide.file_mpp == pytest.approx(0.25)
        assert np.array_equal(slide.read(0, 0, 460, 300, 1.0), rgb)
        expected = cv2.resize(rgb, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        assert np.array_equal(slide.read(0, 0, 115, 75, 4.0), expected)


def test_jpeg_inside_tiff_keeps_its_colours(tmp_path: Path) -> None:
    rgb = smooth()
    for space in ("rgb", "ycbcr"):
        options = {"compression": "jpeg", "compressionargs": {"outcolorspace": space}}
        path = write_tiff(tmp_path / "a.tif", rgb, photometric="rgb", tile=(64, 64), **options)
        assert np.abs(whole(path).astype(int) - rgb).mean() < 3


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (64, 64)},
        {"tile": (32, 64), "compression": "jpeg"},
        {"planarconfig": "separate", "tile": (64, 64)},
        {"rowsperstrip": 16},
    ],
    ids=["tiles", "packed", "planes apart", "strips"],
)
@pytest.mark.parametrize("size", [(150, 230), (151, 229), (128, 192)])
@pytest.mark.parametrize("corner", [(0, 0), (-38, -20), (36, 54), (500, 500)])
def test_sums_over_squares_are_those_of_the_pixels(tmp_path: Path, options: dict, size, corner) -> None:
    """Also past the image, where the file's last tiles hold something else than white."""
    rgb = speckled(*size)
    pixels = np.moveaxis(rgb, 2, 0) if "planarconfig" in options else rgb
    with open_slide(write_tiff(tmp_path / "a.tif", pixels, **options)) as slide:
        assert isinstance(slide, SummingSlide)
        for by in (2, 4):
            x, y = (at // by * by for at in corner)
            for _ in range(2):
                sums = slide.read_sums(x, y, 200, 160, by)
                if "rowsperstrip" in options and size[1] % by:
                    assert sums is None
                else:
                    assert np.array_equal(sums, block_sums(slide.read(x, y, 200, 160, 1.0), by))


def test_pieces_that_do_not_part_into_squares_are_not_summed(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", RGB, tile=(48, 48))) as slide:
        assert slide.read_sums(0, 0, 64, 64, 32) is None
        assert slide.read_sums(1, 0, 64, 64, 2) is None


def test_sums_are_exact() -> None:
    by_hand = RGB.reshape(75, 2, 115, 2, 3).sum(axis=(1, 3))
    assert np.array_equal(block_sums(RGB, 2), by_hand)
    tall = speckled(1200, 600)
    assert np.array_equal(block_sums(tall, 4), tall.reshape(300, 4, 150, 4, 3).sum(axis=(1, 3)))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_lossless_pictures(tmp_path: Path, suffix: str) -> None:
    assert np.array_equal(whole(write_picture(tmp_path / f"a{suffix}", RGB)), RGB)
    assert np.array_equal(whole(write_picture(tmp_path / f"b{suffix}", GREY)), GREY_RGB)


def test_jpegs(tmp_path: Path) -> None:
    rgb = smooth()
    assert np.abs(whole(write_picture(tmp_path / "a.jpg", rgb)).astype(int) - rgb).mean() < 3


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    alpha = np.zeros(GREY.shape, np.uint8)
    alpha[:, :100], alpha[:, 100:150] = 255, 128
    expected = np.where(alpha[..., None] == 0, 255, RGB)
    expected[:, 100:150] = np.round(RGB[:, 100:150] * (128 / 255) + 127)
    done, data = cv2.imencode(".png", np.dstack([RGB[..., ::-1], alpha]))
    assert done
    (tmp_path / "a.png").write_bytes(data.tobytes())
    write_tiff(tmp_path / "a.tif", np.dstack([RGB, alpha]), extrasamples=["unassalpha"])
    for name in ("a.png", "a.tif"):
        assert np.abs(whole(tmp_path / name).astype(int) - expected).max() <= 1


def test_a_cameras_orientation_is_ignored_as_in_qupath(tmp_path: Path) -> None:
    rgb = smooth()
    data = write_picture(tmp_path / "a.jpg", rgb).read_bytes()
    # APP1 with one EXIF entry: orientation (0x0112) 6, "turn by 90 degrees".
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = tmp_path / "b.jpg"
    turned.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert np.array_equal(whole(turned), whole(tmp_path / "a.jpg"))


def test_names_in_any_script(tmp_path: Path) -> None:
    for suffix in (".png", ".tif"):
        path = tmp_path / f"Schnitt Ä 組織 {suffix}"
        if suffix == ".png":
            write_picture(path, RGB)
        else:
            write_pyramid(path, RGB, inside=False)
        assert np.array_equal(whole(path), RGB)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_slide_travels_to_other_processes_by_its_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_picture(path, RGB) if name == "a.png" else write_tiff(path, RGB)
    with open_slide(path) as slide, pickle.loads(pickle.dumps(slide)) as other:
        assert np.array_equal(slide.read(3, 5, 20, 20, 1.0), other.read(3, 5, 20, 20, 1.0))


def test_threads_share_a_slide(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", RGB, tile=(16, 16))
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        corners = [(x, y) for x in range(0, 200, 10) for y in range(0, 130, 10)]
        pieces = list(pool.map(lambda corner: slide.read(*corner, 20, 20, 1.0), corners))
    assert all(
        np.array_equal(piece, RGB[y : y + 20, x : x + 20])
        for (x, y), piece in zip(corners, pieces, strict=True)
    )


def test_a_thumbnail_is_the_whole_image_and_never_larger(tmp_path: Path) -> None:
    with open_slide(write_picture(tmp_path / "a.png", smooth())) as slide:
        small = thumbnail(slide, 23)
        assert small.shape == (15, 23, 3)
        assert np.abs(small.mean(axis=(0, 1)) - smooth().mean(axis=(0, 1))).max() < 1
        assert thumbnail(slide, 5000).shape == (150, 230, 3)
