"""The classes that we write, as QuPath 0.2 to 0.7 and Java describe them in a stream."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from midog_qupath.project.qpdata.stream import BLOCK_DATA, EXTERNALIZABLE, SERIALIZABLE, WRITE_METHOD

#: Packages of QuPath.
OBJECTS, ROI = "qupath.lib.objects.", "qupath.lib.roi."
_STRING = "Ljava/lang/String;"
_OWN_FORMAT = EXTERNALIZABLE | BLOCK_DATA
_PLANE = (("I", "c", ""), ("I", "t", ""))
_BOX = (*_PLANE, *(("D", n, "") for n in ("x", "x2", "y", "y2")), ("I", "z", ""), ("L", "name", _STRING))
_POINTS = (*_PLANE, ("I", "z", ""), ("L", "name", _STRING), ("[", "x", "[F"), ("[", "y", "[F"))
_STATS = ("L", "stats", "Lqupath/lib/roi/ClosedShapeStatistics;")
#: Class -> serialVersionUID, flags, fields (code, name, signature), superclass.
KNOWN: Mapping[str, tuple[int, int, tuple[tuple[str, str, str], ...], str | None]] = MappingProxyType(
    {
        OBJECTS + "PathObject": (1, _OWN_FORMAT, (), None),
        OBJECTS + "PathRootObject": (1, _OWN_FORMAT, (), OBJECTS + "PathObject"),
        OBJECTS + "PathROIObject": (1, _OWN_FORMAT, (), OBJECTS + "PathObject"),
        OBJECTS + "PathAnnotationObject": (1, _OWN_FORMAT, (), OBJECTS + "PathROIObject"),
        OBJECTS + "PathDetectionObject": (1, _OWN_FORMAT, (), OBJECTS + "PathROIObject"),
        OBJECTS + "MetadataMap": (1, _OWN_FORMAT, (), None),
        OBJECTS + "classes.PathClass": (
            1, SERIALIZABLE,
            (
                ("L", "colorRGB", "Ljava/lang/Integer;"),
                ("L", "name", _STRING),
                ("L", "parentClass", "Lqupath/lib/objects/classes/PathClass;"),
            ),
            None,
        ),
        OBJECTS + "hierarchy.PathObjectHierarchy": (
            1, SERIALIZABLE,
            (
                ("L", "rootObject", "Lqupath/lib/objects/PathObject;"),
                ("L", "tmaGrid", "Lqupath/lib/objects/hierarchy/TMAGrid;"),
            ),
            None,
        ),
        ROI + "RectangleROI$SerializationProxy": (1, SERIALIZABLE, _BOX, None),
        ROI + "EllipseROI$SerializationProxy": (1, SERIALIZABLE, _BOX, None),
        ROI + "PointsROI$SerializationProxy": (1, SERIALIZABLE, _POINTS, None),
        ROI + "PolygonROI$SerializationProxy": (1, SERIALIZABLE, (*_POINTS[:4], _STATS, *_POINTS[4:]), None),
        ROI + "GeometryROI$WKBSerializationProxy": (
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
