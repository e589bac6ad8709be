"""Images that cannot be read are refused with one clear sentence and what to do, never with garbage."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from slide_images import smooth, speckled, write_picture, write_pyramid, write_tiff

from midog_qupath.errors import SlideError
from midog_qupath.slides import tiff_reader
from midog_qupath.slides.open import open_slide
from midog_qupath.slides.thumbnail import thumbnail

NAMES = ["a.png", "a.jpg", "a.bmp", "strips.tif", "pyramid.tif", "a.ome.tif"]


def make(path: Path) -> Path:
    """An image of the kind that the name says."""
    if path.suffix != ".tif":
        return write_picture(path, smooth())
    if path.name == "strips.tif":
        return write_tiff(path, smooth(), rowsperstrip=16, compression="zlib")
    return write_pyramid(path, smooth(), inside=True, ome=".ome" in path.name)


def read_all(path: Path) -> None:
    with open_slide(path) as slide:
        slide.read(0, 0, slide.width, slide.height, 1.0)
        thumbnail(slide, 50)


@pytest.mark.parametrize("name", [*NAMES, "a.svs", "a.ndpi", "a.mrxs"])
def test_missing_empty_folder_and_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(SlideError, match="no image at"):
        open_slide(path)
    path.touch()
    with pytest.raises(SlideError, match="is empty"):
        open_slide(path)
    path.write_text("This is no image, whatever its name says. " * 40)
    with pytest.raises(SlideError, match=r"damaged|cannot be opened") as caught:
        open_slide(path)
    assert str(path) in caught.value.what
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SlideError, match="is a folder"):
        open_slide(tmp_path / "folder.png")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_files_cut_short_are_noticed(tmp_path: Path, name: str, share: float) -> None:
    path = make(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError):
        read_all(path)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_give_an_error_or_pixels_but_never_a_traceback(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name)
    data = path.read_bytes()
    dice = random.Random(name)
    for _ in range(25):
        wrong = bytearray(data)
        for _ in range(3):
            wrong[dice.randrange(len(wrong))] ^= 1 << dice.randrange(8)
        path.write_bytes(bytes(wrong))
        with suppress(SlideError):
            read_all(path)


def test_a_damaged_png_is_noticed_by_its_checksums(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", speckled())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SlideError, match="damaged"):
        open_slide(path)


def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path) -> None:
    header = bytearray(write_picture(tmp_path / "a.jpg", smooth()).read_bytes())
    frame = header.index(b"\xff\xc0")
    header[frame + 5 : frame + 9] = (20_000).to_bytes(2, "big") + (15_000).to_bytes(2, "big")
    (tmp_path / "a.jpg").write_bytes(header)
    with pytest.raises(SlideError, match="300 megapixels") as caught:
        open_slide(tmp_path / "a.jpg")
    assert "pyramidal TIFF" in caught.value.remedy


def test_a_tiff_in_one_huge_piece_is_refused_a_tiled_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_reader, "LARGEST_PX", 1_000_000)
    blank = np.zeros((1500, 1500, 3), np.uint8)
    write_tiff(tmp_path / "a.tif", blank, rowsperstrip=1500)
    with pytest.raises(SlideError, match="one piece of 2 megapixels"):
        open_slide(tmp_path / "a.tif")
    write_tiff(tmp_path / "b.tif", blank, tile=(256, 256))
    with open_slide(tmp_path / "b.tif") as slide:
        assert slide.read(1400, 1400, 64, 64, 1.0).max() == 0


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"dtype": np.uint16}, "uint16"),
        ({"dtype": np.float32}, "float32"),
        ({"dtype": np.uint16, "tile": (64, 64)}, "uint16"),
        ({"photometric": "separated"}, "separated"),
    ],
)
def test_what_is_no_8_bit_rgb_is_refused(tmp_path: Path, options: dict, kind: str) -> None:
    dtype = options.pop("dtype", np.uint8)
    rgb = speckled()
    image = np.dstack([rgb, rgb[..., 0]]) if kind == "separated" else rgb
    write_tiff(tmp_path / "a.tif", image.astype(dtype), **options)
    with pytest.raises(SlideError, match=kind):
        open_slide(tmp_path / "a.tif")


def test_deep_pngs_palettes_of_tiff_and_stacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="16 bits"):
        open_slide(write_picture(tmp_path / "a.png", speckled().astype(np.uint16)))
    colours = np.zeros((3, 256), np.uint16)
    write_tiff(tmp_path / "a.tif", speckled()[..., 0], photometric="palette", colormap=colours)
    with pytest.raises(SlideError, match="palette"):
        open_slide(tmp_path / "a.tif")
    write_tiff(tmp_path / "b.tif", np.stack([speckled()] * 3))
    with pytest.raises(SlideError, match="stack"):
        open_slide(tmp_path / "b.tif")


def test_unknown_endings_and_other_series_are_refused(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", smooth())
    with pytest.raises(SlideError, match="number 2"):
        open_slide(path, ["--series", "2"])
    open_slide(path, ["--series", "0"]).close()
    with pytest.raises(SlideError, match=r"unknown kind of name \(\.gif\)"):
        open_slide(path.rename(tmp_path / "a.gif"))
