"""New tokens: path objects, classes and whole files as QuPath would write them.

Class descriptions are taken from the file where it has them, so that a stream never describes a class
twice. Their serialVersionUIDs and fields are those that QuPath 0.2 to 0.7 write.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import shapely
from shapely.geometry import MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import StoreError
from midog_qupath.project.classes_file import java_int
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind
from midog_qupath.project.qpdata.document import Document
from midog_qupath.project.qpdata.objects import ID_KEY
from midog_qupath.project.qpdata.stream import (
    BLOCK_DATA,
    EXTERNALIZABLE,
    SERIALIZABLE,
    WRITE_METHOD,
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
)
from midog_qupath.project.qpdata.values import path_class

_OBJECTS, _ROI = "qupath.lib.objects.", "qupath.lib.roi."
_STRING = "Ljava/lang/String;"
_OWN_FORMAT = EXTERNALIZABLE | BLOCK_DATA
_PLANE = (("I", "c", ""), ("I", "t", ""))
_BOX = (*_PLANE, *(("D", n, "") for n in ("x", "x2", "y", "y2")), ("I", "z", ""), ("L", "name", _STRING))
_POINTS = (*_PLANE, ("I", "z", ""), ("L", "name", _STRING), ("[", "x", "[F"), ("[", "y", "[F"))
_STATS = ("L", "stats", "Lqupath/lib/roi/ClosedShapeStatistics;")
#: Class -> serialVersionUID, flags, fields (code, name, signature), superclass.
_KNOWN: Mapping[str, tuple[int, int, tuple[tuple[str, str, str], ...], str | None]] = MappingProxyType(
    {
        _OBJECTS + "PathObject": (1, _OWN_FORMAT, (), None),
        _OBJECTS + "PathRootObject": (1, _OWN_FORMAT, (), _OBJECTS + "PathObject"),
        _OBJECTS + "PathROIObject": (1, _OWN_FORMAT, (), _OBJECTS + "PathObject"),
        _OBJECTS + "PathAnnotationObject": (1, _OWN_FORMAT, (), _OBJECTS + "PathROIObject"),
        _OBJECTS + "PathDetectionObject": (1, _OWN_FORMAT, (), _OBJECTS + "PathROIObject"),
        _OBJECTS + "MetadataMap": (1, _OWN_FORMAT, (), None),
        _OBJECTS + "classes.PathClass": (
            1, SERIALIZABLE,
            (
                ("L", "colorRGB", "Ljava/lang/Integer;"),
                ("L", "name", _STRING),
                ("L", "parentClass", "Lqupath/lib/objects/classes/PathClass;"),
            ),
            None,
        ),
        _OBJECTS + "hierarchy.PathObjectHierarchy": (
            1, SERIALIZABLE,
            (
                ("L", "rootObject", "Lqupath/lib/objects/PathObject;"),
                ("L", "tmaGrid", "Lqupath/lib/objects/hierarchy/TMAGrid;"),
            ),
            None,
        ),
        _ROI + "RectangleROI$SerializationProxy": (1, SERIALIZABLE, _BOX, None),
        _ROI + "EllipseROI$SerializationProxy": (1, SERIALIZABLE, _BOX, None),
        _ROI + "PointsROI$SerializationProxy": (1, SERIALIZABLE, _POINTS, None),
        _ROI + "PolygonROI$SerializationProxy": (1, SERIALIZABLE, (*_POINTS[:4], _STATS, *_POINTS[4:]), None),
        _ROI + "GeometryROI$WKBSerializationProxy": (
            1, SERIALIZABLE,
            (
                *_POINTS[:3],
                ("L", "stats", "Lqupath/lib/roi/GeometryROI$GeometryStats;"),
                ("[", "wkb", "[B"),
            ),
            None,
        ),
        "qupath.lib.measurements.DefaultMeasurementList": (
            1, SERIALIZABLE, (("L", "list", "Ljava/util/ArrayList;"),), None,
        ),
        "qupath.lib.measurements.DoubleMeasurement": (
            1, SERIALIZABLE, (("D", "value", ""), ("L", "name", _STRING)), None,
        ),
        "qupath.lib.color.ColorDeconvolutionStains": (1, _OWN_FORMAT, (), None),
        "qupath.lib.plugins.workflow.Workflow": (1, _OWN_FORMAT, (), None),
        "qupath.lib.images.ImageData$ImageType": (0, 0x12, (), "java.lang.Enum"),
        "java.lang.Enum": (0, 0x12, (), None),
        "java.lang.Integer": (0x12E2A0A4F7818738, SERIALIZABLE, (("I", "value", ""),), "java.lang.Number"),
        "java.lang.Number": (0x86AC951D0B94E08B, SERIALIZABLE, (), None),
        "java.lang.Boolean": (0xCD207280D59CFAEE, SERIALIZABLE, (("Z", "value", ""),), None),
        "java.util.ArrayList": (
            0x7881D21D99C7619D, SERIALIZABLE | WRITE_METHOD, (("I", "size", ""),), None,
        ),
        "java.util.HashMap": (
            0x0507DAC1C31660D1, SERIALIZABLE | WRITE_METHOD,
            (("F", "loadFactor", ""), ("I", "threshold", "")), None,
        ),
        "java.util.Locale": (
            0x7EF811609C30F9EC, SERIALIZABLE | WRITE_METHOD,
            (
                ("I", "hashcode", ""),
                *(("L", n, _STRING) for n in ("country", "extensions", "language", "script", "variant")),
            ),
            None,
        ),
        "[Ljava.lang.Object;": (0x90CE589F1073296C, SERIALIZABLE, (), None),
        "[F": (0x0B9C818922E00C42, SERIALIZABLE, (), None),
        "[B": (0xACF317F8060854E0, SERIALIZABLE, (), None),
    }
)  # fmt: skip
_KINDS = {ObjectKind.ANNOTATION: "PathAnnotationObject", ObjectKind.DETECTION: "PathDetectionObject"}


class Builder:
    """Makes tokens for one stream; descriptions, classes and frequent strings are shared."""

    def __init__(self, document: Document | None = None) -> None:
        self._descs: dict[str, ClassDesc] = {}
        self._classes: dict[str, Instance] = {}
        self._texts: dict[str, Text] = {}
        self._booleans: dict[bool, Instance] = {}
        for node in _everything(document.contents if document else []):
            if isinstance(node, ClassDesc):
                self._descs.setdefault(node.name, node)
            elif isinstance(node, Instance) and node.desc.name == _OBJECTS + "classes.PathClass":
                found = path_class(node)
                if found is not None:
                    self._classes.setdefault(found.name, node)

    def desc(self, name: str) -> ClassDesc:
        """Description of a class, from the file where it has one."""
        if name not in self._descs:
            uid, flags, layout, parent = _KNOWN[name]
            fields = [
                Field(code, encode_text(field), self.shared(signature) if signature else None)
                for code, field, signature in layout
            ]
            above = self.desc(parent) if parent else None
            self._descs[name] = ClassDesc(name, uid, flags, fields, [], above)
        return self._descs[name]

    def shared(self, value: str) -> Text:
        """One token a string that occurs often."""
        return self._texts.setdefault(value, Text(encode_text(value)))

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
        if thing.kind not in _KINDS or thing.id is None or thing.roi is None:
            raise StoreError(
                f"An object of kind {thing.kind} cannot be written.", "This is a mistake of this program."
            )
        return self.external(
            _OBJECTS + _KINDS[thing.kind],
            [
                Text(encode_text(thing.name)) if thing.name is not None else None,
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

    def metadata(self, values: Mapping[str, str]) -> Instance:
        """A ``MetadataMap``."""
        keys = [self.shared(key) for key in values]
        texts: list[Node] = [Text(encode_text(value)) for value in values.values()]
        return self.external(
            _OBJECTS + "MetadataMap", [self.integer(1), self._objects(keys), self._objects(texts)]
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
                _OBJECTS + "classes.PathClass",
                colorRGB=self.integer(color) if color is not None else None,
                name=self.shared(leaf),
                parentClass=self.path_class(PathClass(parent, color)) if parent else None,
            )
        return self._classes[wanted.name]

    def roi(self, roi: Roi) -> Instance:
        """The serialisation proxy of a region of interest."""
        plane = {name: struct.pack(">i", value) for name, value in vars(roi.plane).items()}
        geometry = roi.geometry
        if roi.kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE):
            proxy = "RectangleROI" if roi.kind is RoiKind.RECTANGLE else "EllipseROI"
            x, y, x2, y2 = (struct.pack(">d", v) for v in geometry.bounds)
            box: dict[str, bytes | Node] = {"x": x, "y": y, "x2": x2, "y2": y2, "name": None}
            return self.plain(f"{_ROI}{proxy}$SerializationProxy", **plane, **box)
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
        return self.plain(f"{_ROI}{kind}$SerializationProxy", name=None, **others, **arrays)

    def _by_wkb(self, geometry: BaseGeometry, plane: Mapping[str, bytes]) -> Instance:
        raw = shapely.to_wkb(geometry, byte_order=0)
        array = Array(self.desc("[B"), len(raw), raw)
        return self.plain(f"{_ROI}GeometryROI$WKBSerializationProxy", stats=None, wkb=array, **plane)

    def enum(self, class_name: str, constant: str) -> EnumConstant:
        """A constant of an enumeration."""
        return EnumConstant(self.desc(class_name), Text(encode_text(constant)))


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
    if isinstance(node, ClassDesc):
        return [node.super_desc, *node.annotations]
    if isinstance(node, Instance):
        found: list[Node] = [node.desc]
        for part in node.parts:
            found += [value for value in part.values if not isinstance(value, bytes)]
            found += part.annotations or []
        return found
    return [node.desc, *node.items] if isinstance(node, Array) else [getattr(node, "desc", None)]
