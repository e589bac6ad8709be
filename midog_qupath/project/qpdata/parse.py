"""Bytes of a serialisation stream to a tree of tokens."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NoReturn, TypeVar

from midog_qupath.errors import QpdataError
from midog_qupath.project.qpdata import stream
from midog_qupath.project.qpdata.alike import Form, Repeated, learn
from midog_qupath.project.qpdata.forms import roles_of
from midog_qupath.project.qpdata.stream import (
    WIDTH,
    Array,
    Block,
    ClassDesc,
    ClassPart,
    ClassToken,
    EnumConstant,
    Field,
    Instance,
    Node,
    Text,
)

#: Contents inside contents. QuPath's own files stay below 40; Python's own limit is not reached.
_DEEPEST = 100
#: Classes from an object's own up to the topmost; every object of the class costs as many parts.
_LONGEST_CHAIN = 40
_REFERENCES = "[L"
#: Forms that are looked for, of objects of one class.
_MOST_FORMS = 24

N = TypeVar("N", Text, ClassDesc, Instance, Array, EnumConstant, ClassToken)


def parse(data: bytes) -> list[Node]:
    """The contents of a stream, in order.

    Raises
    ------
    QpdataError
        At the first byte that the grammar does not allow, naming its offset.
    """
    collecting = gc.isenabled()
    # What is built here stays: the collector would walk the growing tree again and again and find nothing.
    gc.disable()
    try:
        return Parser(data).contents()
    finally:
        if collecting:
            gc.enable()


class Parser:
    """One pass over a stream; every length is checked against the bytes left before it is used.

    Files hold dozens of tokens an object, so the shortest tokens are read in place, not by calls.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self._at = 0
        self._handles: list[Node] = []
        #: Where the next handle goes while an object is read once more; None: to the end.
        self._again: int | None = None
        #: Forms of objects, by the bytes with which one begins; and how often one was looked for.
        self._forms: dict[bytes, list[Form]] = {}
        self._tries: dict[bytes, int] = {}
        #: Classes whose description has not ended yet.
        self._open: set[int] = set()
        self._depth = 0
        self._chains: dict[int, list[ClassDesc]] = {}
        self._readers: dict[int, Callable[[], Node]] = {
            stream.CLASS_DESC: self._class_desc,
            stream.OBJECT: self._object,
            stream.STRING: lambda: self._text(is_long=False),
            stream.STRING_LONG: lambda: self._text(is_long=True),
            stream.ARRAY: self._array,
            stream.CLASS: self._class,
            stream.BLOCK: lambda: Block(self._take(self._number(1))),
            stream.BLOCK_LONG: lambda: Block(self._take(self._number(4)), is_long=True),
            stream.ENUM: self._enum,
        }

    def contents(self) -> list[Node]:
        """Everything from the magic number to the end."""
        if self._take(4) != stream.MAGIC:
            self._at = 0
            self._fail("is not a Java serialisation stream")
        found = []
        while self._at < len(self._data):
            found.append(self._content())
        return found

    def _fail(self, what: str) -> NoReturn:
        raise QpdataError(
            f"data.qpdata {what} (byte {self._at} of {len(self._data)}).",
            "The file is damaged or of an unknown kind: restore it from a backup, or use --store sidecar.",
        )

    def _take(self, count: int) -> bytes:
        at = self._at
        end = at + count
        if end > self._size:
            self._fail("ends too early or gives a wrong length")
        self._at = end
        return self._data[at:end]

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _content(self) -> Node:
        at = self._at
        if at >= self._size:
            self._fail("ends too early or gives a wrong length")
        code = self._data[at]
        if code == stream.REFERENCE:
            return self._reference(at + 1)
        if code == stream.NULL:
            self._at = at + 1
            return None
        if self._depth >= _DEEPEST:
            self._fail("is nested too deep")
        reader = self._readers.get(code)
        if reader is None:
            self._fail(f"has an unknown token {code:#x}")
        self._at = at + 1
        self._depth += 1
        node = reader()
        self._depth -= 1
        return node

    def _remember(self, node: N) -> N:
        if self._again is None:
            self._handles.append(node)
        else:
            self._handles[self._again] = node
            self._again += 1
        return node

    def _reference(self, at: int) -> Node:
        if at + 4 > self._size:
            self._fail("ends too early or gives a wrong length")
        self._at = at + 4
        index = int.from_bytes(self._data[at : at + 4], "big") - stream.BASE_HANDLE
        if not 0 <= index < len(self._handles):
            self._fail("refers to something that is not there")
        found = self._handles[index]
        if isinstance(found, Repeated) and index != found.base:
            found.instance()
            found = self._handles[index]
        return found

    def _text(self, is_long: bool) -> Text:
        node = self._remember(Text(b"", is_long))
        node.raw = self._take(self._number(8 if is_long else 2))
        return node

    def _desc_or_none(self) -> ClassDesc | None:
        found = self._content()
        if found is not None and not isinstance(found, ClassDesc):
            self._fail("has something else where a class belongs")
        if found is not None and id(found) in self._open:
            self._fail(f"uses the class {found.name} inside its own description")
        return found

    def _desc(self) -> ClassDesc:
        found = self._desc_or_none()
        if found is None:
            self._fail("has an object without a class")
        return found

    def _string(self) -> Text:
        found = self._content()
        if not isinstance(found, Text):
            self._fail("has something else where a string belongs")
        return found

    def _class_desc(self) -> ClassDesc:
        name = self._take(self._number(2))
        try:
            node = self._remember(ClassDesc(name.decode("utf-8"), self._number(8)))
        except UnicodeDecodeError:
            self._fail("has a class name that is no text")
        self._open.add(id(node))
        node.flags = self._number(1)
        node.fields = [self._field() for _ in range(self._number(2))]
        node.annotations = self._annotations()
        node.super_desc = self._desc_or_none()
        if len(_chain(node)) > _LONGEST_CHAIN:
            self._fail(f"has a class {node.name} with too many ancestors")
        self._open.discard(id(node))
        return node

    def _field(self) -> Field:
        code = chr(self._number(1))
        name = self._take(self._number(2))
        if code in _REFERENCES:
            return Field(code, name, self._string())
        if code not in WIDTH:
            self._fail(f"has a field of unknown type {code!r}")
        return Field(code, name)

    def _annotations(self) -> list[Node]:
        found = []
        data, size = self._data, self._size
        while self._at >= size or data[self._at] != stream.END:
            found.append(self._content())
        self._at += 1
        return found

    def _class(self) -> ClassToken:
        return self._remember(ClassToken(self._desc()))

    def _enum(self) -> EnumConstant:
        node = self._remember(EnumConstant(self._desc()))
        node.name = self._string()
        return node

    def _array(self) -> Array:
        node = self._remember(Array(self._desc()))
        node.length = self._number(4)
        code = node.desc.name[1:2]
        if code in WIDTH:
            node.raw = self._take(node.length * WIDTH[code])
        elif node.length > len(self._data) - self._at:
            self._fail("gives a wrong length of an array")
        else:
            node.items = [self._content() for _ in range(node.length)]
        return node

    def _object(self) -> Instance | Repeated:
        at, base = self._at - 1, len(self._handles)
        start = self._data[at : at + 6]
        if self._again is None and start in self._forms:
            for form in self._forms[start]:
                end = form.match(self._data, at)
                if end >= 0:
                    node = Repeated(form, self._data, (at, end), base, self._read_again)
                    self._handles.extend([node] * form.handles)
                    self._at = end
                    return node
        whole = self._whole_object(at)
        if self._again is None and self._tries.get(start, 0) < _MOST_FORMS:
            roles = roles_of(whole)
            if roles is not None:
                self._tries[start] = self._tries.get(start, 0) + 1
                learnt = learn(whole, self._data[at : self._at], base, roles)
                if learnt is not None:
                    self._forms.setdefault(start, []).append(learnt)
        return whole

    def _read_again(self, known: Repeated) -> Instance:
        """The tokens of an object of a known form, under the handles that were kept for them."""
        where, again = self._at, self._again
        self._at, self._again = known.at + 1, known.base
        try:
            whole = self._whole_object(known.at)
        finally:
            self._at, self._again = where, again
        self._handles[known.base] = known
        return whole

    def _whole_object(self, at: int) -> Instance:
        desc = self._desc()
        node = self._remember(Instance(desc, at=at))
        if desc.flags & stream.EXTERNALIZABLE:
            if not desc.flags & stream.BLOCK_DATA:
                self._fail(f"has an object of {desc.name} in the old form of the protocol")
            node.parts = [ClassPart(desc, annotations=self._annotations())]
            return node
        chain = self._chains.get(id(desc))
        if chain is None:
            chain = self._chains[id(desc)] = _chain(desc)[::-1]
        node.parts = [self._part(one) for one in chain]
        return node

    def _part(self, desc: ClassDesc) -> ClassPart:
        values: list[bytes | Node] = [
            self._content() if field.code in _REFERENCES else self._take(WIDTH[field.code])
            for field in desc.fields
        ]
        own = self._annotations() if desc.flags & stream.WRITE_METHOD else None
        return ClassPart(desc, values, own)


def _chain(desc: ClassDesc) -> list[ClassDesc]:
    """A class and its ancestors."""
    chain = [desc]
    while chain[-1].super_desc is not None:
        chain.append(chain[-1].super_desc)
    return chain
