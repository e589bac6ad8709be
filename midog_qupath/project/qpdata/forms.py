"""Path objects of one form: which of their parts differ, and objects from many of them at once."""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable, Sequence
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError
from shapely.geometry import Polygon

from midog_qupath.project.model import PathObject, Roi, RoiKind
from midog_qupath.project.qpdata.alike import Form, Integers, Repeated, Role, Roles
from midog_qupath.project.qpdata.known import OBJECTS, ROI
from midog_qupath.project.qpdata.stream import Array, Block, Instance, Node, Text, decode_text, encode_text

#: Where QuPath keeps an object's UUID in data files of version 3.
ID_KEY = b"Object ID"
IGNORED: Role = ("ignored", "")
ID: Role = ("id", "")
_LEAVES = frozenset(
    {OBJECTS + "PathAnnotationObject", OBJECTS + "PathDetectionObject", OBJECTS + "PathTileObject"}
)
_POLYGON = ROI + "PolygonROI$SerializationProxy"


def roles_of(token: Instance) -> Roles | None:
    """What may differ in objects of the form of ``token``; None where it is no polygon without children."""
    if token.desc.name not in _LEAVES:
        return None
    contents = token.parts[0].annotations or []
    # Name, colour, metadata, measurements, number of children, locked, class, shape, probability.
    if len(contents) != 9 or not isinstance(contents[4], Block) or contents[4].raw != bytes(4):
        return None
    name, _, metadata, measurements, _, _, _, shape, probability = contents
    roles: dict[int | tuple[int, int], Role] = {}
    if not isinstance(shape, Instance) or shape.desc.name != _POLYGON or not isinstance(probability, Block):
        return None
    if isinstance(name, Text):
        roles[id(name)] = ("name", "")
    try:
        _metadata_roles(metadata, roles)
        _measurement_roles(measurements, roles)
    except UnicodeDecodeError:
        return None
    _shape_roles(shape, roles)
    roles[id(probability)] = IGNORED
    return roles


def _metadata_roles(node: Node, roles: dict[int | tuple[int, int], Role]) -> None:
    arrays = [n for n in _annotations(node) if isinstance(n, Array)]
    if len(arrays) != 2:
        return
    for key, value in zip(arrays[0].items, arrays[1].items, strict=False):
        if isinstance(key, Text) and isinstance(value, Text) and value not in arrays[0].items:
            roles[id(value)] = ID if key.raw == ID_KEY else ("metadata", decode_text(key.raw))


def _measurement_roles(node: Node, roles: dict[int | tuple[int, int], Role]) -> None:
    if not isinstance(node, Instance):
        return
    inner = [value for part in node.parts for value in part.values if not isinstance(value, bytes)]
    for rows in map(_annotations, inner):
        for row in rows:
            named = _row(row)
            if named is not None:
                roles[named[0]] = ("measurement", named[1])


def _row(row: Node) -> tuple[tuple[int, int], str] | None:
    """The value of a ``DoubleMeasurement`` and its name."""
    if not isinstance(row, Instance) or len(row.parts) != 1:
        return None
    (part,) = row.parts
    fields = {field.name: (index, part.values[index]) for index, field in enumerate(part.desc.fields)}
    index, value = fields.get(b"value", (0, None))
    _, name = fields.get(b"name", (0, None))
    if isinstance(value, bytes) and len(value) == 8 and isinstance(name, Text):
        return (id(part), index), decode_text(name.raw)
    return None


def _shape_roles(shape: Instance, roles: dict[int | tuple[int, int], Role]) -> None:
    for part in shape.parts:
        for field, value in zip(part.desc.fields, part.values, strict=True):
            if field.name in (b"x", b"y") and isinstance(value, Array):
                roles[id(value)] = (field.name.decode(), "")
            if field.name == b"stats" and isinstance(value, Instance):
                roles.update(
                    ((id(inner), index), IGNORED)
                    for inner in value.parts
                    for index in range(len(inner.values))
                )


def _annotations(node: Node) -> Sequence[Node]:
    return [n for part in node.parts for n in part.annotations or []] if isinstance(node, Instance) else ()


def same_form(thing: PathObject) -> Hashable | None:
    """What new objects have in common when all that differs has a role; None for one of another kind."""
    roi = thing.roi
    if roi is None or roi.kind is not RoiKind.POLYGON or not isinstance(roi.geometry, Polygon):
        return None
    if roi.geometry.interiors or thing.id is None:
        return None
    names, words = tuple(thing.measurements), tuple(thing.metadata)
    own = (thing.kind, thing.class_name, thing.color, thing.locked, thing.name is None)
    return (*own, roi.plane, names, words)


def parts_of(thing: PathObject, corners: NDArray[np.float64], roles: Sequence[Role]) -> list[bytes] | None:
    """The parts of a new object that differ; None where something has to differ that is not known.

    ``corners`` (n, 2), slide pixels: of its polygon, the first one once.
    """
    found = []
    for kind, name in roles:
        match kind:
            case "id":
                found.append(str(thing.id).encode())
            case "name":
                found.append(encode_text(thing.name or ""))
            case "metadata":
                found.append(encode_text(thing.metadata[name]))
            case "measurement":
                found.append(struct.pack(">d", thing.measurements[name]))
            case "x" | "y":
                found.append(corners[:, "xy".index(kind)].astype(">f4").tobytes())
            case "ignored":
                # The probability of the class, which nobody gave.
                found.append(struct.pack(">d", math.nan))
            case _:
                return None
    # A text of more than 64 kB has another form.
    return found if all(len(part) <= 0xFFFF for part in found) else None


def id_of(token: Repeated) -> UUID | None:
    """The id of an object; None where its form says nothing of it.

    Raises ValueError for text that is no id.
    """
    if ID not in token.form.roles:
        return None
    at, end = token.form.part(token.data, token.at, token.form.roles.index(ID))
    return UUID(decode_text(token.data[at:end]))


def objects_of(form: Form, like: PathObject, tokens: Sequence[Repeated]) -> list[PathObject] | None:
    """Objects under the root from tokens of one form; ``like`` is the object that the form was learnt from.

    None where one of them has to be looked at more closely: no text, no id, no polygon.
    """
    roles = form.roles
    if like.roi is None or like.roi.kind is not RoiKind.POLYGON or not {("x", ""), ("y", "")} <= set(roles):
        return None
    data = tokens[0].data
    columns = dict(zip(roles, form.columns(data, [token.at for token in tokens]), strict=True))
    polygons = _polygons(data, columns[("x", "")], columns[("y", "")])
    if polygons is None or len(columns) != len([role for role in roles if role != IGNORED]) + (
        IGNORED in roles
    ):
        return None
    try:
        texts = {
            role: [decode_text(raw) for raw in _pieces(data, spans)]
            for role, spans in columns.items()
            if role[0] in ("id", "name", "metadata")
        }
        ids = [UUID(text) for text in texts[ID]] if ID in texts else [like.id] * len(tokens)
    except ValueError:
        return None
    numbers = {role[1]: _doubles(data, spans) for role, spans in columns.items() if role[0] == "measurement"}
    names = texts.get(("name", ""), [like.name] * len(tokens))
    words = {role[1]: found for role, found in texts.items() if role[0] == "metadata"}
    kind, plane = like.roi.kind, like.roi.plane
    return [
        PathObject(
            id=ids[index],
            kind=like.kind,
            roi=Roi(kind, polygons[index], plane),
            path_class=like.path_class,
            name=names[index],
            measurements={**like.measurements, **{name: row[index] for name, row in numbers.items()}},
            metadata={**like.metadata, **{key: found[index] for key, found in words.items()}},
            locked=like.locked,
            color=like.color,
        )
        for index in range(len(tokens))
    ]


def _pieces(data: bytes, spans: tuple[Integers, Integers]) -> list[bytes]:
    starts, ends = spans
    return [data[at:end] for at, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _doubles(data: bytes, spans: tuple[Integers, Integers]) -> list[float]:
    raw = np.frombuffer(data, np.uint8)[spans[0][:, None] + np.arange(8)]
    found: list[float] = np.ascontiguousarray(raw).view(">f8")[:, 0].tolist()
    return found


def _polygons(
    data: bytes, xs: tuple[Integers, Integers], ys: tuple[Integers, Integers]
) -> NDArray[np.object_] | None:
    counts = (xs[1] - xs[0]) // 4
    if counts.min(initial=3) < 3 or (xs[1] - xs[0] != ys[1] - ys[0]).any():
        return None
    with np.errstate(invalid="ignore"):
        coordinates = np.column_stack(
            [np.frombuffer(b"".join(_pieces(data, spans)), ">f4").astype(np.float64) for spans in (xs, ys)]
        )
    if not math.isfinite(float(coordinates.sum())) and not np.isfinite(coordinates).all():
        return None
    try:
        rings = shapely.linearrings(coordinates, indices=np.repeat(np.arange(len(counts)), counts))
    except (ValueError, ShapelyError):
        return None
    found: NDArray[np.object_] = shapely.polygons(rings)
    return found
