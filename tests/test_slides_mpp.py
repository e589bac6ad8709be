"""Microns per pixel: who is asked first, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from slide_images import speckled, write_picture, write_pyramid, write_tiff

from midog_qupath.errors import PixelSizeError, SlideError
from midog_qupath.project.model import ImageEntry, ServerBuilder
from midog_qupath.slides.base import FileFacts, Level, PixelSize, RgbArray
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.slides.open import open_slide
from midog_qupath.units import MicronsPerPixel


def entry(mpp: float | None = None, path: Path | None = None, **changes: object) -> ImageEntry:
    values: dict = {
        "entry_id": "1",
        "name": "slide.tif",
        "builder": ServerBuilder("uri", "file:///gone/slide.tif"),
        "path": path,
        "stale": False,
        "width": 230,
        "height": 150,
        "mpp": None if mpp is None else MicronsPerPixel(mpp),
        "metadata": {},
        "data_dir": Path("data/1"),
        "stem": "slide",
    }
    return ImageEntry(**(values | changes))


class Sized:
    """A slide that says its pixel size."""

    width, height = 230, 150

    def __init__(self, size: PixelSize | None) -> None:
        self.facts = FileFacts((Level(230, 150, 1.0),), 230, 150, pixel_size=size)
        self.file_mpp = size.mpp if size else None

    def __enter__(self) -> Sized:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> RgbArray:
        raise NotImplementedError


MEASURED, GUESSED = PixelSize(0.24, 0.24), PixelSize(0.25, 0.25, guessed=True)


@pytest.mark.parametrize(
    ("project", "file", "option", "mpp", "source"),
    [
        (0.22, MEASURED, 0.3, 0.22, "project"),
        (None, MEASURED, 0.3, 0.24, "file"),
        (None, GUESSED, 0.3, 0.3, "option"),
        (None, GUESSED, None, 0.25, "file"),
        (None, None, 0.3, 0.3, "option"),
    ],
)
def test_the_project_goes_before_the_file_and_both_before_the_option(
    project: float | None, file: PixelSize | None, option: float | None, mpp: float, source: str
) -> None:
    found = resolve_mpp(entry(project), Sized(file), option)
    assert (found.mpp, found.source) == (mpp, source)


def test_nobody_knows_it() -> None:
    with pytest.raises(PixelSizeError) as caught:
        resolve_mpp(entry(), Sized(None))
    assert "--mpp 0.25" in caught.value.remedy


@pytest.mark.parametrize(("mpp", "coarse"), [(0.25, False), (0.35, False), (0.351, True), (0.6, True)])
def test_coarser_than_0_35_is_marked(mpp: float, coarse: bool) -> None:
    assert resolve_mpp(entry(mpp), None).coarse is coarse


def test_coarser_than_0_6_needs_force() -> None:
    with pytest.raises(PixelSizeError, match="too coarse") as caught:
        resolve_mpp(entry(0.61), None)
    assert "--force" in caught.value.remedy
    assert resolve_mpp(entry(0.61), None, force=True).coarse


@pytest.mark.parametrize("mpp", [0.0, -1.0, 0.049, 10.1, float("nan"), float("inf")])
def test_what_makes_no_sense_is_refused_even_with_force(mpp: float) -> None:
    with pytest.raises(PixelSizeError, match="makes no sense"):
        resolve_mpp(entry(mpp), None, force=True)
    with pytest.raises(PixelSizeError, match="makes no sense"):
        resolve_mpp(entry(), None, option=mpp, force=True)


def test_doubts_are_told() -> None:
    assert "guess" in (resolve_mpp(entry(), Sized(GUESSED)).doubt or "")
    assert "not square" in (resolve_mpp(entry(), Sized(PixelSize(0.25, 0.256))).doubt or "")
    assert resolve_mpp(entry(), Sized(PixelSize(0.25, 0.254))).doubt is None
    assert resolve_mpp(entry(0.25), Sized(GUESSED)).doubt is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (101_600, 101_600), "resolutionunit": "INCH"}, 0.25),
        ({"resolution": (4000, 2000), "resolutionunit": "MILLIMETER"}, 0.375),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (40_000, 40_000), "resolutionunit": "NONE"}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}, 0.5),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "YXS",
                    "PhysicalSizeX": 250.0,
                    "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeY": 0.00025,
                    "PhysicalSizeYUnit": "mm",
                },
            },
            0.25,
        ),
        ({}, None),
    ],
)
def test_pixel_size_of_a_tiff(tmp_path: Path, options: dict, expected: float | None) -> None:
    photometric = {} if "imagej" in options else {"photometric": "rgb"}
    path = write_tiff(tmp_path / "a.tif", speckled(), **({**photometric, **options}))
    with open_slide(path) as slide:
        assert slide.file_mpp == (None if expected is None else pytest.approx(expected))


def test_a_file_knows_what_the_project_does_not(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", speckled(), inside=False, mpp=0.23)
    with open_slide(path) as slide:
        assert resolve_mpp(entry(), slide).mpp == pytest.approx(0.23)


def test_an_entry_opens_only_with_its_own_pixels(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", speckled())
    with open_entry(entry(path=path)) as slide:
        assert (slide.width, slide.height) == (230, 150)
    open_entry(entry(path=path, width=None, height=None)).close()
    with pytest.raises(SlideError, match="is 231 x 150 px in the project and 230 x 150"):
        open_entry(entry(path=path, width=231))
    with pytest.raises(SlideError, match=r"is not at file:///gone/slide\.tif"):
        open_entry(entry())
    for changed in ("rotated", "cropped", "flip", "pyramidize"):
        with pytest.raises(SlideError, match=changed):
            open_entry(entry(path=path, builder=ServerBuilder(changed, path.as_uri())))
