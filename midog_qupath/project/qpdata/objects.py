"""The objects of a ``data.qpdata`` file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from midog_qupath.project.model import ObjectKind, PathObject
from midog_qupath.project.qpdata.alike import Form, Repeated
from midog_qupath.project.qpdata.document import Document, ObjectNode, object_node, unknown
from midog_qupath.project.qpdata.forms import id_of, objects_of
from midog_qupath.project.qpdata.rois import roi
from midog_qupath.project.qpdata.stream import Node
from midog_qupath.project.qpdata.values import boolean, integer, measurements, metadata, path_class, text

#: Where QuPath keeps an object's UUID in data files of version 3.
ID_KEY = "Object ID"


def objects(document: Document) -> list[PathObject]:
    """All objects but the root, parents before children."""
    ids: dict[int, UUID | None] = {}
    found: list[PathObject | Repeated] = []
    parents: list[UUID | None] = []
    for node, parent in document.root.walk():
        if parent is None:
            continue
        parents.append(None if parent is document.root else ids[id(parent.token)])
        if isinstance(node.token, Repeated):
            found.append(node.token)
        else:
            ids[id(node.token)] = object_id(node)
            found.append(_object(node, parents[-1]))
    return _together(found, parents)


def _together(found: Sequence[PathObject | Repeated], parents: Sequence[UUID | None]) -> list[PathObject]:
    """All objects in order; those of one form are made at once."""
    by_form: dict[Form, list[int]] = {}
    for index, thing in enumerate(found):
        if isinstance(thing, Repeated):
            by_form.setdefault(thing.form, []).append(index)
    ready = {index: thing for index, thing in enumerate(found) if isinstance(thing, PathObject)}
    for form, indices in by_form.items():
        tokens = [token for index in indices if isinstance(token := found[index], Repeated)]
        made = objects_of(form, _object(object_node(form.exemplar), None), tokens)
        if made is None:
            made = [_object(object_node(token.instance()), None) for token in tokens]
        for index, thing in zip(indices, made, strict=True):
            ready[index] = thing if parents[index] is None else replace(thing, parent_id=parents[index])
    return [ready[index] for index in range(len(found))]


def object_id(node: ObjectNode) -> UUID | None:
    """UUID of an object, None in files of versions that have none."""
    if isinstance(node.token, Repeated):
        return _id_of_repeated(node.token)
    value = metadata(node.head[2]).get(ID_KEY)
    try:
        return UUID(value) if value else None
    except ValueError as error:
        raise unknown(f"{value!r} is no object id", node.token) from error


def _id_of_repeated(token: Repeated) -> UUID | None:
    try:
        found = id_of(token)
    except ValueError as error:
        raise unknown("an object id that is none", token) from error
    # The form may have one id for all, or none: its tokens say.
    return found if found is not None else object_id(object_node(token.instance()))


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
