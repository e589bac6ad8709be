"""Putting objects into a ``data.qpdata`` and detections out, everything else proved unchanged."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from uuid import UUID

from midog_qupath.errors import StoreError
from midog_qupath.project.model import COUNT_MEASUREMENT, ObjectKind, PathObject
from midog_qupath.project.qpdata.build import Builder
from midog_qupath.project.qpdata.document import Document, ObjectNode, object_node, read_document
from midog_qupath.project.qpdata.objects import object_id, objects
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Alike, Block, Node
from midog_qupath.project.qpdata.values import measurements

#: The oldest data file whose objects keep their ids.
_OLDEST_WITH_IDS = 3


def edit(
    data: bytes, remove: frozenset[UUID], add: Sequence[PathObject], labels: Sequence[PathObject] = ()
) -> bytes:
    """The file with some detections taken out, others and annotations (``labels``) put under the root.

    Raises as :func:`edit_and_read`.
    """
    return edit_and_read(data, remove, add, labels)[0]


def edit_and_read(
    data: bytes, remove: frozenset[UUID], add: Sequence[PathObject], labels: Sequence[PathObject] = ()
) -> tuple[bytes, list[PathObject]]:
    """The file as :func:`edit` makes it, and all objects in it as they were read from it again.

    Raises
    ------
    StoreError
        If the file does not round-trip byte for byte, an id to remove is not a detection (or a count of
        ours) without children, or anything but what is wanted would change. Nothing is written here.
    """
    document = read_document(data)
    if serialise(document.contents) != data:
        raise _refused("writing it back unchanged would change it")
    if document.version < _OLDEST_WITH_IDS:
        raise _refused(
            "it was saved by a QuPath so old that its objects have no ids (save it once in a newer)"
        )
    new = [*add, *labels]
    _require_new(document, [thing.id for thing in new], remove)
    _take_out(document, _kinds_to_remove(document, remove))
    without_old = serialise(document.contents)
    _put_in(document, new)
    changed = serialise(document.contents)
    kinds = dict.fromkeys(_ids(add), ObjectKind.DETECTION) | dict.fromkeys(
        _ids(labels), ObjectKind.ANNOTATION
    )
    return changed, _prove(changed, without_old, kinds)


def _kinds_to_remove(document: Document, ids: frozenset[UUID]) -> dict[UUID, ObjectKind]:
    """Only detections may go, and annotations that carry the mark of a count of ours."""
    kinds = dict.fromkeys(ids, ObjectKind.DETECTION)
    if not ids:
        return kinds
    for node, parent in document.root.walk():
        if parent is None or node.kind is not ObjectKind.ANNOTATION:
            continue
        identity = object_id(node)
        if identity in ids and COUNT_MEASUREMENT in measurements(_opened(node).head[3]):
            kinds[identity] = ObjectKind.ANNOTATION
    return kinds


def _opened(node: ObjectNode) -> ObjectNode:
    return object_node(node.token.instance()) if isinstance(node.token, Alike) else node


def _ids(things: Sequence[PathObject]) -> list[UUID]:
    return [thing.id for thing in things if thing.id is not None]


def _refused(why: str) -> StoreError:
    return StoreError(
        f"data.qpdata was left as it is: {why}.",
        "The detections are in the run's GeoJSON files; import them with groovy/import_detections.groovy.",
    )


def _require_new(document: Document, ids: Sequence[UUID | None], remove: frozenset[UUID]) -> None:
    """An id that stands twice could never be removed again."""
    there = {object_id(node) for node, _ in document.root.walk()} - remove
    if len(set(ids)) != len(ids) or there & set(ids) - {None}:
        raise _refused("two objects would have the same id")


def _take_out(document: Document, ids: Mapping[UUID, ObjectKind]) -> None:
    """Remove objects of given kinds by id, wherever they stand."""
    if not ids:
        return
    found = [
        (identity, node, parent)
        for node, parent in document.root.walk()
        if parent is not None and (identity := object_id(node)) is not None and identity in ids
    ]
    if len(found) != len(ids) or {identity for identity, _, _ in found} != ids.keys():
        raise _refused("not each of the objects to remove stands in it exactly once")
    for identity, node, _ in found:
        if node.kind is not ids[identity] or node.children:
            raise _refused(f"object {identity} is not a detection of ours")
    gone = {id(node.token) for _, node, _ in found}
    for parent in {id(parent.token): parent for _, _, parent in found}.values():
        contents = _contents(parent)
        contents[:] = [token for token in contents if id(token) not in gone]
        _count_again(parent, sum(id(child.token) not in gone for child in parent.children))


def _put_in(document: Document, add: Sequence[PathObject]) -> None:
    builder, root = Builder(document), document.root
    contents = _contents(root)
    end = len(contents) - len(root.tail)
    contents[end:end] = builder.path_objects(add)
    _count_again(root, end + len(add) - root.count_at - 1)


def _contents(node: ObjectNode) -> list[Node]:
    token = node.token.instance() if isinstance(node.token, Alike) else node.token
    contents = token.parts[0].annotations
    return contents if contents is not None else []


def _count_again(node: ObjectNode, children: int) -> None:
    _contents(node)[node.count_at] = Block(struct.pack(">i", children))


def _prove(changed: bytes, without_old: bytes, added: Mapping[UUID, ObjectKind]) -> list[PathObject]:
    """Parse what would be written, and return its objects.

    Without what was added it must be what was there, to the last byte.

    Bytes are compared after handles were counted again, so equal bytes are equal trees with the same
    references, whatever stood in between.
    """
    again = read_document(changed)
    found = objects(again)
    _take_out(again, added)
    if serialise(again.contents) != without_old:
        raise _refused("something else than what was added would have changed")
    return found
