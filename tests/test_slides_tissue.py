"""Glass is left out of a search, tissue never."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_standin import ArraySlide
from shapely.geometry import Point, box
from slide_images import smooth
from tissue_slides import PIXEL_UM, generated_slide

from midog_qupath.counting.count import counted_hole
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides import tissue as tissue_module
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.tissue import find_tissue, tissue_mask, tissue_outline
from midog_qupath.units import WORKING_MPP


def slide_with(*pieces: tuple[int, int, int, int], colour=(200, 140, 190)) -> ArraySlide:
    pixels = np.full((800, 1200, 3), 243, np.uint8)
    pixels += np.random.default_rng(0).integers(0, 6, (800, 1200, 1), dtype=np.uint8)
    for x0, y0, x1, y1 in pieces:
        pixels[y0:y1, x0:x1] = colour
    return ArraySlide(pixels)


@pytest.mark.parametrize("colour", [(200, 140, 190), (238, 222, 236), (120, 120, 125)])
def test_tissue_of_any_stain_is_found_and_glass_is_not(colour):
    # 4 um a pixel: 4.8 x 3.2 mm.
    tissue = find_tissue(slide_with((200, 200, 500, 400), colour=colour), 4.0)
    assert tissue.contains(box(200, 200, 500, 400))
    assert tissue.area < 1.5 * 300 * 200
    assert not tissue.intersects(Point(900, 600))


def test_two_pieces_are_two_areas():
    tissue = find_tissue(slide_with((100, 100, 300, 300), (700, 400, 900, 700)), 4.0)
    assert tissue.geom_type == "MultiPolygon"


def test_small_images_and_images_without_tissue_are_searched_whole():
    whole = box(0, 0, 1200, 800)
    assert find_tissue(slide_with((200, 200, 500, 400)), 0.5).equals(whole)
    assert find_tissue(slide_with(), 4.0).equals(whole)


def test_dust_and_black_padding_are_no_tissue():
    slide = slide_with((200, 200, 500, 400), (900, 100, 902, 102))
    slide.pixels[:, 1100:] = 0
    tissue = find_tissue(slide, 4.0)
    assert not tissue.intersects(Point(901, 101))
    assert not tissue.intersects(Point(1150, 400))


def test_tissue_from_edge_to_edge_is_searched_whole():
    tissue = cv2.resize(smooth(), (1200, 800)) // 2 + np.array([100, 30, 70], np.uint8)
    assert find_tissue(ArraySlide(tissue), 4.0).area > 0.99 * 1200 * 800


@pytest.mark.parametrize("seed", range(20))
def test_pens_black_borders_dust_and_uneven_light_are_glass_and_pale_and_fatty_tissue_is_tissue(seed):
    slide = generated_slide(seed)
    mask = tissue_mask(slide.pixels, PIXEL_UM) > 0
    assert 1 - mask[slide.glass].mean() >= 0.95
    assert mask[slide.tissue].mean() >= 0.995


def test_a_large_hole_is_glass_and_a_small_one_is_searched():
    slide = slide_with((200, 200, 700, 600))
    slide.pixels[300:500, 300:500] = 243
    slide.pixels[400:430, 600:630] = 243
    tissue = find_tissue(slide, 4.0)
    assert not tissue.intersects(Point(400, 400))
    assert tissue.contains(Point(615, 415))


def test_a_small_counting_field_does_not_lie_in_a_hole():
    # 4 um a pixel: a hole of 0.09 mm2 is nothing in a field of 2 mm2, and all of a field of 0.05 mm2.
    slide = slide_with((200, 200, 700, 600))
    slide.pixels[365:440, 365:440] = 243
    for area_mm2, filled in ((2.0, True), (0.05, False)):
        outline = tissue_outline(slide, 4.0, hole_mm2=counted_hole(area_mm2))
        assert outline.contains(Point(300, 300))
        assert outline.contains(Point(400, 400)) == filled


@pytest.mark.realdata
def test_most_glass_of_the_tiles_that_are_mostly_glass_is_skipped(data_dir: Path, monkeypatch):
    monkeypatch.setattr(tissue_module, "SMALLEST_MM2", 0.0)
    project = open_project(data_dir / "breast-mitosis" / "project.qpproj")
    tiles = [entry for entry in project.images if entry.name.startswith("cmc")]
    assert len(tiles) == 2
    for entry in tiles:
        with open_entry(entry) as slide:
            tissue = find_tissue(slide, WORKING_MPP)
            # Judged by eye: no tissue above a line 0.55 down the tile.
            glass = box(0, 0, slide.width, 0.55 * slide.height)
        assert tissue.intersection(glass).area < 0.05 * glass.area, entry.name


@pytest.mark.realdata
def test_every_labelled_object_lies_in_the_tissue_of_its_image(data_dir: Path, monkeypatch):
    """Looked for here although these fields are so small that they are searched whole."""
    monkeypatch.setattr(tissue_module, "SMALLEST_MM2", 0.0)
    project = open_project(data_dir / "breast-mitosis" / "project.qpproj")
    with NativeStore(project) as store:
        # Some fields of each source, both tiles that are mostly glass, a mosaic.
        for entry in [*project.images[:54:18], *project.images[54:57]]:
            rois = [thing.roi for thing in store.read(entry) if thing.roi is not None]
            with open_entry(entry) as slide:
                tissue = find_tissue(slide, WORKING_MPP)
                image = box(0, 0, slide.width, slide.height)
            inside = [roi.geometry.intersection(image) for roi in rois]
            assert all(tissue.covers(shape.centroid) for shape in inside), entry.name
