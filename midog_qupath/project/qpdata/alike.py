"""Many objects of one form: what is the same in all of them, and what differs.

A file of a hundred thousand detections is a hundred thousand times the same bytes but for ids, numbers,
texts and corners. A :class:`Form` is learnt from one object that was read or written token by token. An
object that has every byte of the form in place is known without looking at its tokens, and is one of the
same tokens: lengths and references are part of what has to be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midog_qupath.project.qpdata import stream
from midog_qupath.project.qpdata.stream import (
    WIDTH,
    Alike,
    Array,
    Block,
    ClassDesc,
    EnumConstant,
    Instance,
    Node,
    Text,
)

#: What a part that differs says: the kind (id, name, metadata, measurement, x, y, ignored) and its name.
Role = tuple[str, str]
Integers = NDArray[np.int64]
#: Roles by the identity of a token, or of an object's part and the number of a field in it.
Roles = Mapping[int | tuple[int, int], Role]


@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """Bytes that are the same, each followed by a part that differs.

    ``steps``: the bytes, their number, the bytes of the length before the part (0: none), and the size of its
    units (without a length: of the part). The last bytes, ``end``, have no part after them. ``handles``: how
    many tokens of an object can be referred to.
    """

    steps: tuple[tuple[bytes, int, int, int], ...]
    end: bytes
    roles: tuple[Role, ...]
    handles: int
    exemplar: Instance

    def match(self, data: bytes, at: int) -> int:
        """Where an object of this form that begins at ``at`` ends; -1 where none stands there."""
        for same, size, width, unit in self.steps:
            if not data.startswith(same, at):
                return -1
            at += size
            if width:
                at += width + int.from_bytes(data[at : at + width], "big") * unit
            else:
                at += unit
        return at + len(self.end) if data.startswith(self.end, at) else -1

    def parts(self, data: bytes, at: int) -> list[tuple[int, int]]:
        """Where the parts that differ begin and end in the object at ``at``, their lengths not included."""
        found = []
        for _, size, width, unit in self.steps:
            at += size
            length = unit
            if width:
                length = int.from_bytes(data[at : at + width], "big") * unit
                at += width
            found.append((at, at + length))
            at += length
        return found

    def part(self, data: bytes, at: int, number: int) -> tuple[int, int]:
        """Where part ``number`` begins and ends in the object at ``at``."""
        length = 0
        for _, size, width, unit in self.steps[: number + 1]:
            at += length + size
            length = unit
            if width:
                length = int.from_bytes(data[at : at + width], "big") * unit
                at += width
        return at, at + length

    def columns(self, data: bytes, starts: Sequence[int]) -> list[tuple[Integers, Integers]]:
        """Where each part begins and ends, in all the objects that begin at ``starts``."""
        raw, at, found = np.frombuffer(data, np.uint8), np.array(starts, dtype=np.int64), []
        for _, size, width, unit in self.steps:
            at = at + size
            length = np.full(len(at), unit)
            if width:
                powers = 256 ** np.arange(width - 1, -1, -1, dtype=np.int64)
                length = raw[at[:, None] + np.arange(width)].astype(np.int64) @ powers * unit
                at = at + width
            found.append((at, at + length))
            at = at + length
        return found

    def written(self, parts: Sequence[bytes]) -> bytes:
        """An object of this form with these parts, whose lengths are whole units."""
        pieces: list[bytes] = []
        for (same, _, width, unit), part in zip(self.steps, parts, strict=True):
            pieces.append(same)
            if width:
                pieces.append((len(part) // unit).to_bytes(width, "big"))
            pieces.append(part)
        return b"".join((*pieces, self.end))

    def same_bytes(self, other: Form) -> bool:
        """Whether objects of both forms have the same bytes."""
        return (self.steps, self.end) == (other.steps, other.end)


class Repeated(Alike):
    """An object of a form in a stream that was read: bytes ``at`` to ``end``, first handle ``base``."""

    __slots__ = ("_read", "_whole", "at", "base", "data", "end", "form")

    def __init__(
        self, form: Form, data: bytes, span: tuple[int, int], base: int, read: Callable[[Repeated], Instance]
    ) -> None:
        self.form, self.data, self.base = form, data, base
        self.at, self.end = span
        self._read = read
        self._whole: Instance | None = None

    @property
    def key(self) -> Hashable:
        """The form it was read in."""
        return self.form

    def instance(self) -> Instance:
        """The object with its tokens, read now."""
        if self._whole is None:
            self._whole = self._read(self)
        return self._whole

    def bytes_in(self, form: Form) -> bytes | None:
        """Its bytes, references as ``form`` has them."""
        # Tokens inside one that was looked into may be referred to.
        if self._whole is not None or form.roles != self.form.roles:
            return None
        if form is self.form or form.same_bytes(self.form):
            return self.data[self.at : self.end]
        return form.written([self.data[at:end] for at, end in self.form.parts(self.data, self.at)])


def learn(token: Instance, data: bytes, base: int, roles: Roles) -> Form | None:
    """The form of the object that ``data`` holds and nothing else; None where it has none that repeats.

    ``base`` is the handle that the next token gets when the object begins: what refers to a token of the
    object itself, or describes a class, does not stand in the next one in the same way.
    """
    learner = _Learner(data, base, roles)
    if not learner.content(token) or learner.at != len(data):
        return None
    return Form(
        tuple((same, len(same), width, unit) for same, width, unit in learner.steps),
        bytes(learner.same),
        tuple(learner.roles),
        learner.handles,
        token,
    )


class _Learner:
    def __init__(self, data: bytes, base: int, roles: Roles) -> None:
        self._data, self._base, self._wanted = data, base, roles
        self.at = 0
        self.same = bytearray()
        self.steps: list[tuple[bytes, int, int]] = []
        self.roles: list[Role] = []
        self.handles = 0

    def content(self, node: Node) -> bool:
        """Go through one token; whether it can be the same in another object."""
        code = self._data[self.at]
        if code == stream.REFERENCE:
            handle = int.from_bytes(self._data[self.at + 1 : self.at + 5], "big")
            self._keep(5)
            return handle < stream.BASE_HANDLE + self._base
        if code == stream.NULL:
            self._keep(1)
            return node is None
        if isinstance(node, Block):
            width = 4 if node.is_long else 1
            self._keep(1 + width)
            self._part(id(node), len(node.raw), 0)
            return True
        if node is None or isinstance(node, (ClassDesc, Alike)):
            return False
        self._keep(1)
        if isinstance(node, Text):
            self.handles += 1
            self._part(id(node), len(node.raw), 8 if node.is_long else 2)
            return True
        if not self.content(node.desc):
            return False
        self.handles += 1
        if isinstance(node, Array):
            return self._array(node)
        if isinstance(node, EnumConstant):
            return self.content(node.name)
        return isinstance(node, Instance) and all(self._class_part(node, n) for n in range(len(node.parts)))

    def _array(self, node: Array) -> bool:
        unit = WIDTH.get(node.desc.name[1:2], 0)
        if unit:
            self._part(id(node), len(node.raw), 4, unit)
            return True
        self._keep(4)
        return all(self.content(item) for item in node.items)

    def _class_part(self, node: Instance, number: int) -> bool:
        part = node.parts[number]
        for index, value in enumerate(part.values):
            if isinstance(value, bytes):
                self._part((id(part), index), len(value), 0)
            elif not self.content(value):
                return False
        if part.annotations is None:
            return True
        alike = all(self.content(item) for item in part.annotations)
        self._keep(1)
        return alike

    def _keep(self, count: int) -> None:
        self.same += self._data[self.at : self.at + count]
        self.at += count

    def _part(self, what: int | tuple[int, int], size: int, width: int, unit: int = 1) -> None:
        """A part of ``size`` bytes after a length of ``width``: one that differs if it has a role."""
        role = self._wanted.get(what)
        if role is None:
            self._keep(width + size)
            return
        self.steps.append((bytes(self.same), width, unit if width else size))
        self.roles.append(role)
        self.same = bytearray()
        self.at += width + size
