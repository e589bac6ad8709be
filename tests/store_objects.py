"""Objects that the tests of the stores put into projects, and what it means that two are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid5

import pytest
import shapely
from shapely.geometry import Polygon

from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind

#: QuPath exports coordinates on a grid of 0.01 px.
GRID_PX = 0.01
_NAMES = UUID("11111111-2222-5333-8444-555555555555")
ATYPICAL = PathClass("Mitosis: Atypical", 0xFFC800FF - 2**32)


def detection(number: int, **changes: object) -> PathObject:
    """A small detection with a derived class, two measurements and metadata; the same for one number."""
    x, y = 20.0 * (number % 40), 20.0 * (number // 40)
    values: dict[str, object] = {
        "id": uuid5(_NAMES, str(number)),
        "kind": ObjectKind.DETECTION,
        "roi": Roi(RoiKind.POLYGON, Polygon([(x, y), (x + 9.25, y + 1), (x + 8, y + 9.5), (x + 1, y + 8)])),
        "path_class": ATYPICAL,
        "measurements": {"Mitosis probability": 0.75, "Atypical probability": 0.5},
        "metadata": {"midog_qupath.run": "20250101-120000-abcd"},
    }
    return PathObject(**{**values, **changes})  # type: ignore[arg-type]


def detections(numbers: Iterable[int]) -> tuple[PathObject, ...]:
    return tuple(detection(number) for number in numbers)


def ids(objects: Iterable[PathObject]) -> frozenset[UUID]:
    found = [thing.id for thing in objects if thing.id is not None]
    assert len(set(found)) == len(found)
    return frozenset(found)


def require_same(
    found: Sequence[PathObject], wanted: Sequence[PathObject], keeps_metadata: bool = True
) -> None:
    """Equal objects, whatever their order: id, kind, class, name, numbers, and shape to 0.01 px.

    GeoJSON knows no rectangles, so what a rectangle is called is left out. ``keeps_metadata`` False: only
    annotations keep theirs, as in QuPath 0.5.
    """
    by_id = {thing.id: thing for thing in found}
    assert len(by_id) == len(found) == len(wanted)
    assert by_id.keys() == {thing.id for thing in wanted}
    for theirs in wanted:
        lost = not keeps_metadata and theirs.kind is not ObjectKind.ANNOTATION
        require_equal(by_id[theirs.id], replace(theirs, metadata={}) if lost else theirs)


def require_equal(ours: PathObject, theirs: PathObject) -> None:
    for part in ("kind", "class_name", "name", "locked", "metadata"):
        assert getattr(ours, part) == getattr(theirs, part), (part, ours, theirs)
    assert dict(ours.measurements) == pytest.approx(dict(theirs.measurements), rel=1e-6, nan_ok=True)
    for one, other in ((ours.roi, theirs.roi), (ours.nucleus, theirs.nucleus)):
        assert (one is None) == (other is None), (ours, theirs)
        if one is not None and other is not None:
            assert one.plane == other.plane
            assert (one.kind is RoiKind.ELLIPSE) == (other.kind is RoiKind.ELLIPSE)
            if one.kind is not RoiKind.ELLIPSE:
                assert len(shapely.get_coordinates(one.geometry)) == len(
                    shapely.get_coordinates(other.geometry)
                )
                assert one.geometry.hausdorff_distance(other.geometry) <= GRID_PX
            assert one.geometry.bounds == pytest.approx(other.geometry.bounds, abs=GRID_PX)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes; hidden leftovers count too."""
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}
