"""New tokens: path objects, classes and whole files as QuPath would write them.

Class descriptions are taken from the file where it has them, so that a stream never describes a class
twice. Their serialVersionUIDs and fields are those that QuPath 0.2 to 0.7 write.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import shapely
from shapely.geometry import MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import StoreError
from midog_qupath.project.classes_file import java_int
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind
from midog_qupath.project.qpdata.alike import Form
from midog_qupath.project.qpdata.document import Document
from midog_qupath.project.qpdata.forms import parts_of, same_form
from midog_qupath.project.qpdata.known import KNOWN, OBJECTS, ROI
from midog_qupath.project.qpdata.objects import ID_KEY
from midog_qupath.project.qpdata.stream import (
    Alike,
    Array,
    Block,
    ClassDesc,
    ClassPart,
    EnumConstant,
    Field,
    Instance,
    Node,
    Text,
    encode_text,
    new_text,
)
from midog_qupath.project.qpdata.values import path_class

_KINDS = {ObjectKind.ANNOTATION: "PathAnnotationObject", ObjectKind.DETECTION: "PathDetectionObject"}


class Builder:
    """Makes tokens for one stream; descriptions, classes and frequent strings are shared."""

    def __init__(self, document: Document | None = None) -> None:
        self._found: dict[str, ClassDesc] = {}
        self._ready: dict[str, ClassDesc] = {}
        self._classes: dict[str, Instance] = {}
        self._texts: dict[str, Text] = {}
        self._booleans: dict[bool, Instance] = {}
        for node in _everything(document.contents if document else []):
            if isinstance(node, ClassDesc):
                self._found.setdefault(node.name, node)
            elif isinstance(node, Instance) and node.desc.name == OBJECTS + "classes.PathClass":
                found = path_class(node)
                if found is not None:
                    self._classes.setdefault(found.name, node)

    def desc(self, name: str) -> ClassDesc:
        """Description of a class, from the file where it has one.

        Raises StoreError where the file describes another version of the class than we write.
        """
        if name not in self._ready:
            found = self._found.get(name)
            if found is not None and not _as_known(found):
                raise StoreError(
                    f"data.qpdata describes {name} in a way that is not known.",
                    "Use --store sidecar, and report the QuPath version.",
                )
            self._ready[name] = found or self._new_desc(name)
        return self._ready[name]

    def _new_desc(self, name: str) -> ClassDesc:
        uid, flags, layout, parent = KNOWN[name]
        fields = [
            Field(code, encode_text(field), self.shared(signature) if signature else None)
            for code, field, signature in layout
        ]
        return ClassDesc(name, uid, flags, fields, [], self.desc(parent) if parent else None)

    def shared(self, value: str) -> Text:
        """One token a string that occurs often."""
        return self._texts.setdefault(value, new_text(value))

    def plain(self, class_name: str, /, **values: bytes | Node) -> Instance:
        """A serialisable object; values by field name, of all classes of its chain."""
        chain = [self.desc(class_name)]
        while chain[-1].super_desc is not None:
            chain.append(chain[-1].super_desc)
        parts = [
            ClassPart(one, [values[field.name.decode()] for field in one.fields]) for one in reversed(chain)
        ]
        return Instance(self.desc(class_name), parts)

    def external(self, name: str, contents: Sequence[Node]) -> Instance:
        """An externalisable object that writes ``contents`` itself."""
        desc = self.desc(name)
        return Instance(desc, [ClassPart(desc, annotations=list(contents))])

    def integer(self, value: int) -> Instance:
        """A ``java.lang.Integer``."""
        return self.plain("java.lang.Integer", value=struct.pack(">i", java_int(value)))

    def boolean(self, value: bool) -> Instance:
        """A ``java.lang.Boolean``."""
        if value not in self._booleans:
            self._booleans[value] = self.plain("java.lang.Boolean", value=bytes([value]))
        return self._booleans[value]

    def path_object(self, thing: PathObject) -> Instance:
        """An annotation or detection without children.

        Raises
        ------
        StoreError
            For another kind of object, one without an id or a ROI, or a ROI that cannot be written.
        """
        if thing.kind not in _KINDS or thing.id is None or thing.roi is None or not _drawable(thing.roi):
            raise StoreError(
                f"A {thing.kind} without an id or a shape, or with an empty one, cannot be written.",
                "Leave it out, or draw it in QuPath.",
            )
        return self.external(
            OBJECTS + _KINDS[thing.kind],
            [
                new_text(thing.name) if thing.name is not None else None,
                self.integer(thing.color) if thing.color is not None else None,
                self.metadata({**thing.metadata, ID_KEY: str(thing.id)}),
                self.measurements(thing.measurements) if thing.measurements else None,
                Block(struct.pack(">i", 0)),
                self.boolean(thing.locked),
                self.path_class(thing.path_class),
                self.roi(thing.roi),
                Block(struct.pack(">d", float("nan"))),
            ],
        )

    def path_objects(self, things: Sequence[PathObject]) -> list[Node]:
        """Many of them; those of one form are not made until they are written. Errors as above."""
        outlines = [thing.roi.geometry if thing.roi is not None else None for thing in things]
        finite = np.isfinite(shapely.bounds(np.array(outlines, dtype=object))).all(axis=1)
        found: list[Node] = []
        for thing, drawable in zip(things, finite.tolist(), strict=True):
            key = same_form(thing) if drawable and thing.kind in _KINDS else None
            found.append(self.path_object(thing) if key is None else New(self, thing, key))
        return found

    def metadata(self, values: Mapping[str, str]) -> Instance:
        """A ``MetadataMap``."""
        keys = [self.shared(key) for key in values]
        texts: list[Node] = [new_text(value) for value in values.values()]
        return self.external(
            OBJECTS + "MetadataMap", [self.integer(1), self._objects(keys), self._objects(texts)]
        )

    def _objects(self, items: Sequence[Node]) -> Array:
        return Array(self.desc("[Ljava.lang.Object;"), len(items), items=list(items))

    def measurements(self, values: Mapping[str, float]) -> Instance:
        """A measurement list with full precision."""
        rows: list[Node] = [
            self.plain(
                "qupath.lib.measurements.DoubleMeasurement",
                value=struct.pack(">d", value),
                name=self.shared(name),
            )
            for name, value in values.items()
        ]
        size = struct.pack(">i", len(rows))
        items = self.plain("java.util.ArrayList", size=size)
        items.parts[-1].annotations = [Block(size), *rows]
        return self.plain("qupath.lib.measurements.DefaultMeasurementList", list=items)

    def path_class(self, wanted: PathClass | None) -> Instance | None:
        """The class's token, made with its parents where the file has none."""
        if wanted is None:
            return None
        if wanted.name not in self._classes:
            parent, _, leaf = wanted.name.rpartition(": ")
            color = wanted.color
            self._classes[wanted.name] = self.plain(
                OBJECTS + "classes.PathClass",
                colorRGB=self.integer(color) if color is not None else None,
                name=self.shared(leaf),
                parentClass=self.path_class(PathClass(parent, color)) if parent else None,
            )
        return self._classes[wanted.name]

    def roi(self, roi: Roi) -> Instance:
        """The serialisation proxy of a region of interest."""
        plane = {name: struct.pack(">i", getattr(roi.plane, name)) for name in "czt"}
        geometry = roi.geometry
        if roi.kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE):
            proxy = "RectangleROI" if roi.kind is RoiKind.RECTANGLE else "EllipseROI"
            x, y, x2, y2 = (struct.pack(">d", v) for v in geometry.bounds)
            box: dict[str, bytes | Node] = {"x": x, "y": y, "x2": x2, "y2": y2, "name": None}
            return self.plain(f"{ROI}{proxy}$SerializationProxy", **plane, **box)
        if isinstance(geometry, Polygon) and not geometry.interiors:
            corners = np.asarray(geometry.exterior.coords)[:-1]
            return self._through("PolygonROI", corners, {**plane, "stats": None})
        if isinstance(geometry, (Point, MultiPoint)):
            return self._through("PointsROI", shapely.get_coordinates(geometry), dict(plane))
        return self._by_wkb(geometry, plane)

    def _through(self, kind: str, corners: np.ndarray, others: Mapping[str, bytes | Node]) -> Instance:
        arrays = {
            name: Array(self.desc("[F"), len(corners), corners[:, axis].astype(">f4").tobytes())
            for axis, name in enumerate("xy")
        }
        return self.plain(f"{ROI}{kind}$SerializationProxy", name=None, **others, **arrays)

    def _by_wkb(self, geometry: BaseGeometry, plane: Mapping[str, bytes]) -> Instance:
        raw = shapely.to_wkb(geometry, byte_order=0)
        array = Array(self.desc("[B"), len(raw), raw)
        return self.plain(f"{ROI}GeometryROI$WKBSerializationProxy", stats=None, wkb=array, **plane)

    def enum(self, class_name: str, constant: str) -> EnumConstant:
        """A constant of an enumeration."""
        return EnumConstant(self.desc(class_name), new_text(constant))


class New(Alike):
    """A new polygon, made when it is written."""

    __slots__ = ("_builder", "_key", "_thing", "_whole")

    def __init__(self, builder: Builder, thing: PathObject, key: Hashable) -> None:
        self._builder, self._thing, self._key = builder, thing, key
        self._whole: Instance | None = None

    @property
    def key(self) -> Hashable:
        """See :func:`forms.same_form`."""
        return self._key

    def instance(self) -> Instance:
        """Its tokens, made now."""
        if self._whole is None:
            self._whole = self._builder.path_object(self._thing)
        return self._whole

    def bytes_in(self, form: Form) -> bytes | None:
        """Its bytes, written as those of an object of its form."""
        if self._whole is not None or self._thing.roi is None:
            return None
        ring = shapely.get_coordinates(self._thing.roi.geometry)[:-1]
        parts = parts_of(self._thing, ring, form.roles)
        return form.written(parts) if parts is not None else None


def _as_known(desc: ClassDesc) -> bool:
    """Whether a file describes a class as the versions of QuPath do for which we write."""
    uid, flags, layout, parent = KNOWN[desc.name]
    above = desc.super_desc.name if desc.super_desc else None
    fields = {(f.code, f.name, f.signature.raw if f.signature else b"") for f in desc.fields}
    wanted = {(code, encode_text(name), encode_text(signature)) for code, name, signature in layout}
    return (desc.uid, desc.flags, above, fields) == (uid, flags, parent, wanted)


def _drawable(roi: Roi) -> bool:
    # The bounds of an empty geometry are NaN.
    return bool(np.isfinite(roi.geometry.bounds).all())


def _everything(contents: Sequence[Node]) -> Iterator[Node]:
    """Every token of a stream once, in the order in which it is written."""
    seen: set[int] = set()
    waiting: list[Node] = list(reversed(contents))
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting.extend(reversed(_parts(node)))


def _parts(node: Node) -> list[Node]:
    if isinstance(node, Alike):
        # What it refers to stands before it, and it describes no class of its own.
        return []
    if isinstance(node, ClassDesc):
        return [node.super_desc, *node.annotations]
    if isinstance(node, Instance):
        found: list[Node] = [node.desc]
        for part in node.parts:
            found += [value for value in part.values if not isinstance(value, bytes)]
            found += part.annotations or []
        return found
    return [node.desc, *node.items] if isinstance(node, Array) else [getattr(node, "desc", None)]
