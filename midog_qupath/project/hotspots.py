"""Mitotic counts as annotations in a project: ours, marked as such, never ground truth, never a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from shapely.geometry import Polygon

from midog_qupath.errors import MidogError, StoreError
from midog_qupath.progress import Progress
from midog_qupath.project.alone import alone
from midog_qupath.project.backup import back_up, now_as_time
from midog_qupath.project.editor import Editor
from midog_qupath.project.geometry import ellipse
from midog_qupath.project.model import (
    COUNT_MEASUREMENT,
    HOTSPOT_CLASS,
    ImageEntry,
    ObjectKind,
    PathClass,
    PathObject,
    Project,
    Roi,
    RoiKind,
)
from midog_qupath.project.ours import WRITTEN_METADATA, untouched_hotspots, written_mark
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.write import StoreFactory

#: Yellow, apart from the classes of mitoses.
_CLASS = PathClass(HOTSPOT_CLASS, 0xFFFFC800 - 2**32)


@dataclass(frozen=True)
class HotspotReport:
    """What became of the annotations. ``errors``: entry id -> why an image stayed as it was."""

    written: int
    replaced: int
    errors: Mapping[str, MidogError]
    backup: Path | None


def hotspot_object(
    window: Polygon, circle: bool, count: str, entry_id: str, measurements: Mapping[str, float]
) -> PathObject:
    """The annotation of a count: its window in slide pixels and what was counted.

    ``count`` names the count; the object's id follows from it and the image.
    """
    x0, y0, x1, y1 = (round(bound, 2) for bound in window.bounds)
    kind = RoiKind.ELLIPSE if circle else RoiKind.RECTANGLE
    outline = ellipse(x0, y0, x1, y1) if circle else window
    return PathObject(
        id=uuid5(NAMESPACE_URL, f"midog-qupath:count:{count}:{entry_id}"),
        kind=ObjectKind.ANNOTATION,
        roi=Roi(kind, outline),
        path_class=_CLASS,
        measurements={**measurements, COUNT_MEASUREMENT: 1.0},
        metadata={"midog_qupath.count": count, WRITTEN_METADATA: written_mark(HOTSPOT_CLASS, outline.bounds)},
        locked=True,
    )


def write_hotspots(
    project: Project,
    store_factory: StoreFactory,
    hotspots: Sequence[tuple[ImageEntry, PathObject]],
    progress: Progress,
) -> HotspotReport:
    """Put annotations of counts into images, in place of untouched ones of earlier counts.

    With lock and backup, each image read back and compared, as detections are written. ``store_factory``
    opens a store of the project; it is called twice: what one instance wrote, another reads back. An image
    that cannot be written is reported and the others go on.

    Raises
    ------
    SafetyError
        Before anything is changed, when somebody else is writing or the folder cannot be written.
    StoreError
        If the store cannot be opened, or does not change projects.
    """
    if not hotspots:
        return HotspotReport(0, 0, {}, None)
    errors: dict[str, MidogError] = {}
    replaced = 0
    with alone(project, progress), ExitStack() as stores:
        store, reader = (stores.enter_context(store_factory()) for _ in range(2))
        if not store.writes_project:
            raise StoreError(
                f"The store {store.name} leaves the project as it is.",
                "Use --store native or paquo, or the script mitotic_count inside QuPath.",
            )
        seen = {entry.entry_id: store.fingerprint(entry) for entry, _ in hotspots}
        backup = back_up(project, [entry for entry, _ in hotspots], now_as_time(), "before writing counts")
        store.ensure_classes([_CLASS])
        editor = Editor(project, store, reader, backup)
        with progress.task("Writing counts", total=len(hotspots), unit="images") as advance:
            for entry, hotspot in hotspots:
                try:
                    before = editor.read(entry, seen[entry.entry_id])
                    old = untouched_hotspots(before)
                    edit = Edit(old, (), seen[entry.entry_id], labels=(hotspot,))
                    editor.apply(entry, before, edit)
                    replaced += len(old)
                except MidogError as error:
                    errors[entry.entry_id] = error
                advance(1)
    return HotspotReport(len(hotspots) - len(errors), replaced, errors, backup)
