"""QuPath's own classes at work on one project, within the process that holds the Java machine.

Why QuPath's classes are called through paquo's Java bridge and not through paquo's proxies: its proxies
re-parent an object whose measurement changes, forget planes, skip the save of an image whose slide is
missing and save half an edit after an error. The project is opened read-only and is never saved: only the
data of one image is, by QuPath's own ``saveImageData``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from midog_qupath.project.model import COUNT_MEASUREMENT

#: Objects in one reply line; the reader's time limit counts from line to line.
BATCH = 1000
#: The oldest QuPath whose interface is used here.
OLDEST = "0.5.0"
#: How ``EOF`` stands in a Java serialisation stream: TC_STRING, a two-byte length, the characters.
LAST_CONTENT = b"\x74\x00\x03EOF"


class RefusedError(Exception):
    """The request cannot be done; the text says why."""


class Bridge:
    """One project, opened read-only by paquo, and the QuPath classes needed to read and edit its images."""

    def __init__(self, project_path: Path) -> None:
        from paquo import java
        from paquo._utils import QuPathVersion
        from paquo.jpype_backend import JClass
        from paquo.projects import QuPathProject

        if java.qupath_version is None or java.qupath_version < QuPathVersion(OLDEST):
            raise RefusedError(f"QuPath {java.qupath_version} is too old, {OLDEST} or newer is needed")
        self.java, self.jclass = java, JClass
        self.version = str(java.qupath_version)
        #: QuPath 0.6 opens pixels only when asked for them; before, no image data without the slide.
        self.lazy = java.qupath_version >= QuPathVersion("0.6.0-rc1")
        # paquo sets DEBUG, which would print a line an object; and Java may know another standard output.
        java.LogManager.setWarn()
        java.System.setOut(java.System.err)
        java.System.setProperty("java.awt.headless", "true")
        self.project = QuPathProject(project_path, mode="r").java_object
        self.gson = java.GsonTools.getInstance(False)

    def answer(self, request: dict[str, Any]) -> Iterator[str]:
        """Reply lines to one request; Java exceptions, OSError, ValueError and :class:`RefusedError` pass."""
        entry = self._entry(request["entry"])
        if request["do"] == "read":
            yield from self._read(entry)
        else:
            yield from self._apply(entry, request)
        yield json.dumps({"done": True})

    def _entry(self, entry_id: str) -> Any:
        for entry in self.project.getImageList():
            if str(entry.getID()) == entry_id:
                return entry
        raise RefusedError(f"the project has no entry {entry_id}")

    # ---- reading -------------------------------------------------------------------------------

    def _read(self, entry: Any) -> Iterator[str]:
        rows = []
        for item, parent in walk(self._stored_hierarchy(_data_path(entry))):
            rows.append(self._row(item, parent))
            if len(rows) == BATCH:
                yield self._rows_line(rows)
                rows = []
        yield self._rows_line(rows)

    def _rows_line(self, rows: list[Any]) -> str:
        # One conversion in Java for the whole batch: a Python call per number would take minutes.
        return f'{{"rows":{self.gson.toJson(_objects(rows))}}}'

    def _stored_hierarchy(self, path: Path) -> Any:
        # On a truncated file QuPath's reader never ends, or answers no objects at all.
        if not is_whole(path):
            raise RefusedError("the data file is cut off")
        return self.java.PathIO.readHierarchy(self.java.File(str(path)))

    def _row(self, item: Any, parent: Any) -> Any:
        path_class = item.getPathClass()
        if path_class is not None and path_class.getName() is None:
            path_class = None
        nucleus = item.getNucleusROI() if isinstance(item, self.java.PathCellObject) else None
        return _objects(
            [
                _simple_name(item),
                item.getID(),
                parent,
                item.getName(),
                None if path_class is None else path_class.toString(),
                None if path_class is None else path_class.getColor(),
                item.getColor(),
                self.jclass("java.lang.Boolean").valueOf(item.isLocked()),
                item.getMeasurements(),
                item.getMetadata(),
                self._roi_row(item.getROI()),
                self._roi_row(nucleus),
            ]
        )

    def _roi_row(self, roi: Any) -> Any:
        if roi is None:
            return None
        kind = _simple_name(roi)
        if kind == "EllipseROI":
            bounds = (roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), roi.getBoundsHeight())
            shape = _doubles(bounds)
        elif kind in ("RectangleROI", "LineROI", "PolylineROI", "PolygonROI", "PointsROI"):
            shape = roi.getAllPoints()
        else:
            shape = self.java.WKBWriter.toHex(self.java.WKBWriter().write(roi.getGeometry()))
        return _objects([kind, _objects([roi.getC(), roi.getZ(), roi.getT()]), shape])

    # ---- writing -------------------------------------------------------------------------------

    def _apply(self, entry: Any, request: dict[str, Any]) -> Iterator[str]:
        new = []
        for given in request["add"]:
            new.append(self._object(given))
            if len(new) % BATCH == 0:
                yield "{}"  # a sign of life
        path = _data_path(entry)
        _require_unchanged(path, request["expected"])
        image_data = self._image_data(entry, path, request["image"])
        try:
            hierarchy = image_data.getHierarchy()
            items = [item for item, _ in walk(hierarchy)]
            if len(items) != request["count"]:
                raise RefusedError(f"QuPath loaded {len(items)} of {request['count']} objects")
            hierarchy.removeObjects(self._to_remove(items, set(request["remove"])), True)
            hierarchy.addObjects(self.java.ArrayList(new))
            _require_unchanged(path, request["expected"])
            entry.saveImageData(image_data)
        finally:
            image_data.close() if self.lazy else image_data.getServer().close()

    def _to_remove(self, items: list[Any], ids: set[str]) -> Any:
        chosen = [item for item in items if str(item.getID()) in ids]
        for item in chosen:
            kind = _simple_name(item)
            counts = kind == "PathAnnotationObject" and item.getMeasurements().containsKey(COUNT_MEASUREMENT)
            if not (counts or kind == "PathDetectionObject") or item.hasChildObjects():
                raise RefusedError(f"object {item.getID()} is not a detection without children")
        return self.java.ArrayList(chosen)

    def _image_data(self, entry: Any, path: Path, image: str | None) -> Any:
        builder = entry.getServerBuilder()
        if not self.lazy:
            return self._image_data_with_slide(_moved(self.java, builder, image), path)
        if builder.getMetadata().isEmpty():
            builder = _moved(self.java, builder, image)
        if not path.exists():
            return self._new_image_data(builder)
        image_data = self.java.PathIO.readImageData(self.java.File(str(path)).toPath(), builder)
        return self._without_repeated_steps(image_data, builder)

    def _image_data_with_slide(self, builder: Any, path: Path) -> Any:
        try:
            server = builder.build()
        except self.java.IOException as error:
            raise RefusedError(f"QuPath {self.version} needs the slide to save, and says: {error}") from error
        if not path.exists():
            return self._new_image_data(server)
        stream = self.java.Files.newInputStream(self.java.File(str(path)).toPath())
        try:
            return self.java.PathIO.readImageData(stream, None, server, self.java.BufferedImage)
        finally:
            stream.close()

    def _without_repeated_steps(self, image_data: Any, builder: Any) -> Any:
        # Whenever QuPath 0.6 loads an image, it puts the steps that set its type and stains in front of the
        # history that holds them already; saved again and again, the history would grow with each run.
        fresh = self.java.ImageData(builder, self.java.PathObjectHierarchy(), image_data.getImageType())
        count = fresh.getHistoryWorkflow().getSteps().size()
        history = image_data.getHistoryWorkflow()
        steps = list(history.getSteps())
        for place in reversed(range(min(count, len(steps)))):
            if steps[place] in steps[count:]:
                history.removeStep(place)
        return image_data

    def _new_image_data(self, source: Any) -> Any:
        hierarchy = self.java.PathObjectHierarchy()
        image_data = self.java.ImageData(source, hierarchy, self.java.ImageType.UNSET)
        metadata = image_data.getServerMetadata() if self.lazy else source.getMetadata()
        if metadata.isRGB():
            image_data.setImageType(self.java.ImageType.BRIGHTFIELD_H_E)
        return image_data

    def _object(self, new: dict[str, Any]) -> Any:
        path_class = None
        if new["class"] is not None:
            color = None if new["class_color"] is None else self.java.Integer(new["class_color"])
            path_class = self.java.PathClass.fromString(new["class"], color)
        objects, roi = self.java.PathObjects, self._new_roi(new["roi"])
        create = (
            objects.createAnnotationObject if new["kind"] == "annotation" else objects.createDetectionObject
        )
        item = create(roi, path_class)
        item.setID(self.jclass("java.util.UUID").fromString(new["id"]))
        item.setLocked(new["locked"])
        if new["name"] is not None:
            item.setName(new["name"])
        if new["color"] is not None:
            item.setColor(self.java.Integer(new["color"]))
        for name, value in new["measurements"].items():
            item.getMeasurementList().put(name, float(value))
        # Before 0.6 a detection cannot hold metadata: QuPath raises.
        for key, text in new["metadata"].items() if self.lazy or new["kind"] == "annotation" else ():
            item.getMetadata().put(key, text)
        return item

    def _new_roi(self, roi: list[Any]) -> Any:
        kind, plane, shape = roi
        image_plane = self.jclass("qupath.lib.regions.ImagePlane").getPlaneWithChannel(*plane)
        if kind == "PolygonROI":
            return self.java.ROIs.createPolygonROI(*map(_doubles, shape), image_plane)
        if kind == "PointsROI":
            return self.java.ROIs.createPointsROI(*map(_doubles, shape), image_plane)
        if kind in ("RectangleROI", "EllipseROI"):
            return getattr(self.java.ROIs, f"create{kind}")(*map(float, shape), image_plane)
        reader = self.java.WKBReader
        return self.java.GeometryTools.geometryToROI(reader().read(reader.hexToBytes(shape)), image_plane)


def is_whole(path: Path) -> bool:
    """Whether a data file ends as QuPath ends it: with the string ``EOF`` as the last of its contents."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - len(LAST_CONTENT)))
        return stream.read() == LAST_CONTENT


def walk(hierarchy: Any) -> Iterator[tuple[Any, Any]]:
    """Every object of a hierarchy but the root, parents first, with the UUID of its parent (top: None)."""
    stack = [(child, None) for child in reversed(list(hierarchy.getRootObject().getChildObjects()))]
    while stack:
        item, parent = stack.pop()
        yield item, parent
        if item.hasChildObjects():
            identity = item.getID()
            stack.extend((child, identity) for child in reversed(list(item.getChildObjects())))


def _moved(java: Any, builder: Any, image: str | None) -> Any:
    """A server builder that looks for its one file where it is now."""
    uris = list(builder.getURIs())
    if image is None or len(uris) != 1:
        return builder
    return builder.updateURIs({uris[0]: java.File(image).toURI()})


def _require_unchanged(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    if found != expected:
        raise RefusedError("it was saved by another program in the meantime")


def _data_path(entry: Any) -> Path:
    return Path(str(entry.getEntryPath())) / "data.qpdata"


def _simple_name(value: Any) -> str:
    return type(value).__name__.rpartition(".")[2]


def _objects(values: list[Any]) -> Any:
    import jpype

    return jpype.JArray(jpype.JObject)(values)


def _doubles(values: Any) -> Any:
    import jpype

    return jpype.JArray(jpype.JDouble)(list(values))
