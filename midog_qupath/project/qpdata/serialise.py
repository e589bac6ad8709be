"""A tree of tokens back to bytes; handles are counted again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from midog_qupath.errors import QpdataError
from midog_qupath.project.qpdata import stream
from midog_qupath.project.qpdata.alike import Form, learn
from midog_qupath.project.qpdata.forms import roles_of
from midog_qupath.project.qpdata.stream import (
    Alike,
    Array,
    Block,
    ClassDesc,
    ClassPart,
    ClassToken,
    EnumConstant,
    Instance,
    Node,
    Text,
)

#: Contents inside contents. A little more than is read: what was first taken out is written further down.
_DEEPEST = 120


def serialise(contents: Sequence[Node]) -> bytes:
    """The stream of some contents. Each node is written in full where it comes first, then by reference.

    Raises QpdataError for contents nested too deep.
    """
    writer = _Writer()
    for node in contents:
        writer.content(node)
    return bytes(writer.out)


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray(stream.MAGIC)
        self._handles: dict[int, int] = {}
        self._next = 0
        self._forms: dict[Hashable, Form] = {}
        self._depth = 0

    def content(self, node: Node) -> None:
        """Write a node, or a reference to where it was written before."""
        if self._depth >= _DEEPEST:
            raise QpdataError("data.qpdata is nested too deep to write.", "Use --store sidecar.")
        self._depth += 1
        self._write(node)
        self._depth -= 1

    def _write(self, node: Node) -> None:
        if node is None:
            self.out.append(stream.NULL)
            return
        if id(node) in self._handles:
            self._put(stream.REFERENCE)
            self._number(stream.BASE_HANDLE + self._handles[id(node)], 4)
            return
        if isinstance(node, Block):
            self._put(stream.BLOCK_LONG if node.is_long else stream.BLOCK)
            self._sized(node.raw, 4 if node.is_long else 1)
            return
        if isinstance(node, Text):
            self._put(stream.STRING_LONG if node.is_long else stream.STRING)
            self._remember(node)
            self._sized(node.raw, 8 if node.is_long else 2)
            return
        if isinstance(node, ClassDesc):
            self._class_desc(node)
            return
        if isinstance(node, Alike):
            self._alike(node)
            return
        self._object(node)

    def _alike(self, node: Alike) -> None:
        """By its form where one of the same form was written before, else token by token."""
        form = self._forms.get(node.key)
        raw = node.bytes_in(form) if form is not None else None
        if form is not None and raw is not None:
            self.out += raw
            self._handles[id(node)] = self._next
            self._next += form.handles
            return
        start, base, whole = len(self.out), self._next, node.instance()
        self._object(whole)
        self._handles[id(node)] = self._handles[id(whole)]
        roles = roles_of(whole) if form is None else None
        learnt = learn(whole, bytes(self.out[start:]), base, roles) if roles is not None else None
        if learnt is not None:
            self._forms[node.key] = learnt

    def _put(self, code: int) -> None:
        self.out.append(code)

    def _number(self, value: int, width: int) -> None:
        self.out += value.to_bytes(width, "big")

    def _sized(self, raw: bytes, width: int) -> None:
        self._number(len(raw), width)
        self.out += raw

    def _remember(self, node: Node) -> None:
        self._handles[id(node)] = self._next
        self._next += 1

    def _class_desc(self, node: ClassDesc) -> None:
        self._put(stream.CLASS_DESC)
        self._sized(node.name.encode("utf-8"), 2)
        self._number(node.uid, 8)
        self._remember(node)
        self._number(node.flags, 1)
        self._number(len(node.fields), 2)
        for field in node.fields:
            self.out += field.code.encode("ascii")
            self._sized(field.name, 2)
            if field.signature is not None:
                self.content(field.signature)
        self._annotations(node.annotations)
        self.content(node.super_desc)

    def _object(self, node: Instance | Array | EnumConstant | ClassToken) -> None:
        codes = {Instance: stream.OBJECT, Array: stream.ARRAY, EnumConstant: stream.ENUM}
        self._put(codes.get(type(node), stream.CLASS))
        self.content(node.desc)
        self._remember(node)
        if isinstance(node, EnumConstant):
            self.content(node.name)
        elif isinstance(node, Array):
            self._number(node.length, 4)
            self.out += node.raw
            for item in node.items:
                self.content(item)
        elif isinstance(node, Instance):
            for part in node.parts:
                self._part(part)

    def _part(self, part: ClassPart) -> None:
        for value in part.values:
            if isinstance(value, bytes):
                self.out += value
            else:
                self.content(value)
        if part.annotations is not None:
            self._annotations(part.annotations)

    def _annotations(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self.content(node)
        self._put(stream.END)
