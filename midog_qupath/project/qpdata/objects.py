"""The objects of a ``data.qpdata`` file."""

from __future__ import annotations

from uuid import UUID

from midog_qupath.project.model import ObjectKind, PathClass, PathObject
from midog_qupath.project.qpdata.document import Document, ObjectNode, unknown
from midog_qupath.project.qpdata.rois import roi
from midog_qupath.project.qpdata.stream import Node
from midog_qupath.project.qpdata.values import boolean, integer, measurements, metadata, path_class, text

#: Where QuPath keeps an object's UUID in data files of version 3.
ID_KEY = "Object ID"


def objects(document: Document) -> list[PathObject]:
    """All objects but the root, parents before children."""
    ids: dict[int, UUID | None] = {}
    classes: dict[int, PathClass | None] = {}
    found = []
    for node, parent in document.root.walk():
        if parent is None:
            object_id(node)
            continue
        above = None if parent is document.root else ids[id(parent.token)]
        thing = _object(node, above, classes)
        ids[id(node.token)] = thing.id
        found.append(thing)
    return found


def object_id(node: ObjectNode) -> UUID | None:
    """UUID of an object, None in files of versions that have none."""
    return _id(node, metadata(node.head[2]).get(ID_KEY))


def _id(node: ObjectNode, value: str | None) -> UUID | None:
    try:
        return UUID(value) if value else None
    except ValueError as error:
        raise unknown(f"{value!r} is no object id", node.token) from error


def _object(node: ObjectNode, parent_id: UUID | None, classes: dict[int, PathClass | None]) -> PathObject:
    """``classes``: those of the file that were read already; its objects share few."""
    name, color, own_metadata, own_measurements = node.head
    tail: tuple[Node, ...] = node.tail
    if node.kind is None or len(tail) < 3:
        raise unknown("unknown layout", node.token)
    own = metadata(own_metadata)
    identity = own.pop(ID_KEY, None)
    if id(tail[1]) not in classes:
        classes[id(tail[1])] = path_class(tail[1])
    return PathObject(
        id=_id(node, identity),
        kind=node.kind,
        roi=roi(tail[2]),
        path_class=classes[id(tail[1])],
        name=text(name),
        measurements=measurements(own_measurements),
        metadata=own,
        locked=boolean(tail[0]),
        color=integer(color),
        parent_id=parent_id,
        nucleus=roi(tail[4]) if node.kind is ObjectKind.CELL and len(tail) > 4 else None,
    )
