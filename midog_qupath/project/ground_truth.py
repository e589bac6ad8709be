"""What people drew, as ground truth: labelled objects, exhaustively labelled regions, labelled extent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import ProjectError
from midog_qupath.project.classes import ClassMap, Role
from midog_qupath.project.geometry import polygonal, polygons_of
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject, Roi, RoiKind

Extent = Literal["regions", "whole", "objects"]
#: Whether an object may teach: a person's annotation, or a detection of ours that a person touched.
Teaches = Callable[[PathObject], bool]
_AREAS = (RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.POLYGON, RoiKind.GEOMETRY)


@dataclass(frozen=True)
class LabelledObject:
    """One labelled object. ``x``, ``y`` = centre of its bounding box in slide pixels.

    ``geometry`` is the outline as drawn, cut at the image's border; None for points. ``label`` is the
    class as in QuPath. ``inside``: whether it lies in the labelled extent where all are known.
    """

    role: Role
    label: str
    x: float
    y: float
    geometry: BaseGeometry | None
    kind: RoiKind
    source_id: str
    name: str | None
    measurements: Mapping[str, float]
    inside: bool


@dataclass(frozen=True)
class GroundTruth:
    """What is known of an image.

    ``regions``: union of the exhaustively labelled areas in slide pixels, None unless ``extent`` is
    ``regions``. ``ignored``: how many annotations say nothing to us, by class (``Unclassified`` without one):
    of another class, a line, off the image.
    """

    objects: tuple[LabelledObject, ...]
    regions: BaseGeometry | None
    extent: Extent
    ignored: Mapping[str, int]

    def area(self, entry: ImageEntry) -> BaseGeometry | None:
        """The ground in which every mitotic figure is labelled, in slide pixels; None for ``objects``."""
        if self.extent == "whole" and entry.width and entry.height:
            return shapely.box(0, 0, entry.width, entry.height)
        return self.regions


def only_annotations(thing: PathObject) -> bool:
    """Teaches: what people drew as annotations, whatever the project's history."""
    return thing.kind is ObjectKind.ANNOTATION


def ground_truth(
    entry: ImageEntry,
    objects: Sequence[PathObject],
    class_map: ClassMap,
    teaches: Teaches = only_annotations,
    whole: bool = False,
) -> GroundTruth:
    """Ground truth of an image from the objects in it.

    Parameters
    ----------
    entry
        The image; its metadata key ``labelled`` (whole, regions, objects) decides the extent.
    objects
        Everything in the image.
    class_map
        Which class means what.
    teaches
        Which objects count; what this tool wrote and nobody touched does not.
    whole
        All mitoses of the image are labelled, whatever it says itself.

    Raises
    ------
    ProjectError
        If the metadata key ``labelled`` has an unknown value, or asks for regions that are not there.
    """
    used = [thing for thing in objects if teaches(thing) and thing.roi is not None]
    regions = _regions(used, class_map)
    extent = _extent(entry, regions, whole)
    border = shapely.box(0, 0, entry.width, entry.height) if entry.width and entry.height else None
    area = border if extent == "whole" else regions if extent == "regions" else None
    drawn: list[LabelledObject] = []
    reviewed: list[LabelledObject] = []
    ignored: Counter[str] = Counter()
    for thing in used:
        role = class_map.role(thing.class_name)
        labels = list(_labels(thing, role, border, area)) if role else []
        (drawn if thing.kind is ObjectKind.ANNOTATION else reviewed).extend(labels)
        if not labels and not _is_region(thing, class_map):
            ignored[thing.class_name or "Unclassified"] += 1
    found = _one_each(drawn, reviewed)
    return GroundTruth(tuple(found), regions if extent == "regions" else None, extent, dict(ignored))


def labelled_extent(entry: ImageEntry, objects: Sequence[PathObject], class_map: ClassMap) -> Extent:
    """The extent that :func:`ground_truth` finds, without the labels. Raises ProjectError as that does."""
    used = [thing for thing in objects if only_annotations(thing) and thing.roi is not None]
    return _extent(entry, _regions(used, class_map), whole=False)


def _one_each(drawn: Sequence[LabelledObject], reviewed: Sequence[LabelledObject]) -> list[LabelledObject]:
    """Labels with one for a figure that a person drew and whose detection a person reviewed as well.

    The same figure: the centre of one lies in the outline of the other. What was drawn counts; it takes the
    type, normal or atypical, from the detection where it has none itself.
    """
    pairs = _holding(drawn, reviewed) | {(one, other) for other, one in _holding(reviewed, drawn)}
    found = list(drawn)
    for one, other in sorted(pairs):
        if found[one].role == "mitosis" and reviewed[other].role in ("normal", "atypical"):
            found[one] = replace(found[one], role=reviewed[other].role, label=reviewed[other].label)
    known = {other for _, other in pairs}
    return found + [label for number, label in enumerate(reviewed) if number not in known]


def _holding(outlines: Sequence[LabelledObject], centres: Sequence[LabelledObject]) -> set[tuple[int, int]]:
    """Which outline holds which centre, as pairs of their places in the lists."""
    if not outlines or not centres:
        return set()
    tree = shapely.STRtree([label.geometry or shapely.Polygon() for label in outlines])
    points = shapely.points([(label.x, label.y) for label in centres])
    centre, outline = tree.query(points, predicate="intersects")
    return set(zip(outline.tolist(), centre.tolist(), strict=True))


def _is_region(thing: PathObject, class_map: ClassMap) -> bool:
    return thing.roi is not None and thing.roi.kind in _AREAS and class_map.role(thing.class_name) == "region"


def _regions(objects: Sequence[PathObject], class_map: ClassMap) -> BaseGeometry | None:
    drawn = [thing.roi.geometry for thing in objects if thing.roi and _is_region(thing, class_map)]
    return shapely.union_all([shapely.make_valid(area) for area in drawn]) if drawn else None


def _extent(entry: ImageEntry, regions: BaseGeometry | None, whole: bool) -> Extent:
    if whole:
        return "whole"
    said = entry.metadata.get("labelled")
    if said not in (None, "", "whole", "regions", "objects"):
        raise ProjectError(
            f"{entry.name}: its metadata say labelled = {said!r}.", "Write whole, regions or objects there."
        )
    if said == "regions" and regions is None:
        raise ProjectError(
            f"{entry.name}: its metadata say labelled = regions, and no region is drawn.",
            "Draw one, or change the metadata.",
        )
    if said in ("whole", "objects"):
        return "whole" if said == "whole" else "objects"
    return "regions" if regions is not None else "objects"


def _labels(
    thing: PathObject, role: Role, border: BaseGeometry | None, area: BaseGeometry | None
) -> Iterator[LabelledObject]:
    """The labelled objects of an annotation: one a point, one a part of what was drawn in several parts."""
    if role == "region" or thing.roi is None or thing.class_name is None:
        return
    source = str(thing.id) if thing.id else ""
    for number, (outline, x, y) in enumerate(_parts(thing.roi, border)):
        yield LabelledObject(
            role=role,
            label=thing.class_name,
            x=x,
            y=y,
            geometry=outline,
            kind=thing.roi.kind,
            source_id=source if number == 0 else f"{source}#{number}",
            name=thing.name,
            measurements=thing.measurements,
            inside=area is not None and bool(shapely.intersects_xy(area, x, y)),
        )


def _parts(roi: Roi, border: BaseGeometry | None) -> Iterator[tuple[BaseGeometry | None, float, float]]:
    """Outline (None for points) cut at the image's border, and centre as drawn, of each part."""
    if roi.kind is RoiKind.POINTS:
        for point in shapely.get_parts(roi.geometry):
            yield None, float(point.x), float(point.y)
    if roi.kind not in _AREAS:
        return
    for part in polygons_of(roi.geometry):
        # A line that crosses itself is still one label, though it may enclose two areas.
        valid = shapely.make_valid(part)
        outline = polygonal(valid if border is None else shapely.intersection(valid, border))
        if outline is not None:
            x0, y0, x1, y1 = part.bounds
            yield outline, (x0 + x1) / 2, (y0 + y1) / 2
