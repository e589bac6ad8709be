"""Putting detections into a ``data.qpdata`` and taking them out, everything else proved unchanged."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

from midog_qupath.errors import StoreError
from midog_qupath.project.model import ObjectKind, PathObject
from midog_qupath.project.qpdata.build import Builder
from midog_qupath.project.qpdata.document import Document, ObjectNode, read_document
from midog_qupath.project.qpdata.objects import object_id
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Block


def edit(data: bytes, remove: frozenset[UUID], add: Sequence[PathObject]) -> bytes:
    """The file with some detections taken out and others put under the root.

    Raises
    ------
    StoreError
        If the file does not round-trip byte for byte, an id to remove is not a detection without
        children, or anything but the wanted detections would change. Nothing is written here.
    """
    document = read_document(data)
    if serialise(document.contents) != data:
        raise _refused("writing it back unchanged would change it")
    _take_out(document, remove)
    without_old = serialise(document.contents)
    _put_in(document, add)
    changed = serialise(document.contents)
    _prove(changed, without_old, frozenset(thing.id for thing in add if thing.id is not None), len(add))
    return changed


def _refused(why: str) -> StoreError:
    return StoreError(
        f"data.qpdata was left as it is: {why}.",
        "The detections are in the run's GeoJSON files; import them with groovy/import_detections.groovy.",
    )


def _take_out(document: Document, ids: frozenset[UUID]) -> int:
    """Remove detections by id, wherever they stand; returns how many."""
    found = [
        (node, parent)
        for node, parent in document.root.walk()
        if parent is not None and (own := object_id(node)) is not None and own in ids
    ]
    if len(found) != len(ids):
        raise _refused(f"{len(ids) - len(found)} of the detections to remove are not in it")
    for node, _ in found:
        if node.kind is not ObjectKind.DETECTION or node.children:
            raise _refused(f"object {object_id(node)} is no detection of ours")
    gone = {id(node.token) for node, _ in found}
    for parent in {id(p.token): p for _, p in found if p is not None}.values():
        contents = _contents(parent)
        contents[:] = [token for token in contents if id(token) not in gone]
        _count_again(parent, sum(id(child.token) not in gone for child in parent.children))
    return len(found)


def _put_in(document: Document, add: Sequence[PathObject]) -> None:
    builder, root = Builder(document), document.root
    contents = _contents(root)
    contents.extend(builder.path_object(thing) for thing in add)
    children = len(contents) - root.count_at - 1 - len(root.tail)
    _count_again(root, children)


def _contents(node: ObjectNode) -> list[object]:
    contents = node.token.parts[0].annotations
    assert contents is not None
    return contents  # type: ignore[return-value]


def _count_again(node: ObjectNode, children: int) -> None:
    contents = node.token.parts[0].annotations
    assert contents is not None
    # A new block: another object may share the old one.
    contents[node.count_at] = Block(struct.pack(">i", children))


def _prove(changed: bytes, without_old: bytes, added: frozenset[UUID], count: int) -> None:
    """Parse what would be written; without what was added it must be what was there, to the last byte."""
    again = read_document(changed)
    if _take_out(again, added) != count or serialise(again.contents) != without_old:
        raise _refused("something else than our detections would have changed")
