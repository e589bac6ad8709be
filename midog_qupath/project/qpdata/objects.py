"""The objects of a ``data.qpdata`` file."""

from __future__ import annotations

from uuid import UUID

from midog_qupath.project.model import ObjectKind, PathObject
from midog_qupath.project.qpdata.document import Document, ObjectNode, unknown
from midog_qupath.project.qpdata.rois import roi
from midog_qupath.project.qpdata.stream import Node
from midog_qupath.project.qpdata.values import boolean, integer, measurements, metadata, path_class, text

#: Where QuPath keeps an object's UUID in data files of version 3.
ID_KEY = "Object ID"


def objects(document: Document) -> list[PathObject]:
    """All objects but the root, parents before children."""
    ids: dict[int, UUID | None] = {}
    found = []
    for node, parent in document.root.walk():
        ids[id(node.token)] = object_id(node)
        if parent is not None:
            above = None if parent is document.root else ids[id(parent.token)]
            found.append(_object(node, above))
    return found


def object_id(node: ObjectNode) -> UUID | None:
    """UUID of an object, None in files of versions that have none."""
    value = metadata(node.head[2]).get(ID_KEY)
    try:
        return UUID(value) if value else None
    except ValueError as error:
        raise unknown(f"{value!r} is no object id", node.token) from error


def _object(node: ObjectNode, parent_id: UUID | None) -> PathObject:
    name, color, own_metadata, own_measurements = node.head
    tail: tuple[Node, ...] = node.tail
    if node.kind is None or len(tail) < 3:
        raise unknown("unknown layout", node.token)
    own = metadata(own_metadata)
    own.pop(ID_KEY, None)
    return PathObject(
        id=object_id(node),
        kind=node.kind,
        roi=roi(tail[2]),
        path_class=path_class(tail[1]),
        name=text(name),
        measurements=measurements(own_measurements),
        metadata=own,
        locked=boolean(tail[0]),
        color=integer(color),
        parent_id=parent_id,
        nucleus=roi(tail[4]) if node.kind is ObjectKind.CELL and len(tail) > 4 else None,
    )
