"""Java object serialisation streams as trees of tokens that write back to the same bytes.

The grammar is that of the Java Object Serialization Specification, version 2 of the protocol. Nothing of
a stream is ever run: classes are names, objects are their bytes. Lengths are checked against what is left
of the stream before memory is taken.

A node that occurs twice in a stream is the same Python object in the tree; handles are counted again on
writing. So objects can be taken out and put in, and what stays keeps its references.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from midog_qupath.project.qpdata.alike import Form

MAGIC = b"\xac\xed\x00\x05"
#: Type codes of contents (TC_... in the specification).
NULL, REFERENCE, CLASS_DESC, OBJECT, STRING, ARRAY, CLASS, BLOCK = range(0x70, 0x78)
END, RESET, BLOCK_LONG, EXCEPTION, STRING_LONG, PROXY, ENUM = range(0x78, 0x7F)
BASE_HANDLE = 0x7E0000
#: Flags of a class description.
WRITE_METHOD, SERIALIZABLE, EXTERNALIZABLE, BLOCK_DATA = 1, 2, 4, 8
#: Bytes of a primitive value by type code.
WIDTH: Mapping[str, int] = MappingProxyType({"B": 1, "C": 2, "D": 8, "F": 4, "I": 4, "J": 8, "S": 2, "Z": 1})


@dataclass(eq=False, slots=True)
class Text:
    """A Java string, in modified UTF-8 as it stands in the stream."""

    raw: bytes
    is_long: bool = False

    @property
    def value(self) -> str:
        """The string, surrogate pairs put together."""
        return decode_text(self.raw)


@dataclass(eq=False, slots=True)
class Field:
    """A field of a class: type code, name, and for objects and arrays the signature."""

    code: str
    name: bytes
    signature: Text | None = None


@dataclass(eq=False, slots=True)
class ClassDesc:
    """A class description; ``super_desc`` is None at the end of the chain."""

    name: str
    uid: int
    flags: int = 0
    fields: list[Field] = field(default_factory=list)
    annotations: list[Node] = field(default_factory=list)
    super_desc: ClassDesc | None = None


@dataclass(eq=False, slots=True)
class Block:
    """Primitive values written by a class's own method."""

    raw: bytes
    is_long: bool = False


@dataclass(eq=False, slots=True)
class ClassPart:
    """What one class of an object's chain wrote: raw primitives and nodes by field, then its own data."""

    desc: ClassDesc
    values: list[bytes | Node] = field(default_factory=list)
    annotations: list[Node] | None = None


@dataclass(eq=False, slots=True)
class Instance:
    """An object; externalisable ones have one part with annotations only.

    ``at``: byte of the stream where it begins, -1 for a new one.
    """

    desc: ClassDesc
    parts: list[ClassPart] = field(default_factory=list)
    at: int = -1


@dataclass(eq=False, slots=True)
class Array:
    """An array: raw bytes for primitives, else nodes."""

    desc: ClassDesc
    length: int = 0
    raw: bytes = b""
    items: list[Node] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class EnumConstant:
    """A constant of an enumeration."""

    desc: ClassDesc
    name: Text = field(default_factory=lambda: Text(b""))


@dataclass(eq=False, slots=True)
class ClassToken:
    """A class itself as a value."""

    desc: ClassDesc


class Alike(ABC):
    """An object in the same form as others, kept as its parts that differ until somebody looks inside.

    ``key`` is the same for objects of one form.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What tells the forms of one stream apart."""

    @abstractmethod
    def instance(self) -> Instance:
        """The object with everything in it: the same one each time."""

    @abstractmethod
    def bytes_in(self, form: Form) -> bytes | None:
        """The object as it is written in this form; None where it has to be written token by token."""


Node: TypeAlias = Text | ClassDesc | Block | Instance | Array | EnumConstant | ClassToken | Alike | None


def decode_text(raw: bytes) -> str:
    """Python string of modified UTF-8 (NUL as C0 80, surrogates one by one; half a pair reads as U+FFFD).

    Raises UnicodeDecodeError for bytes that are no modified UTF-8.
    """
    if raw.isascii():
        return raw.decode("ascii")
    text = raw.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_text(text: str) -> bytes:
    """Modified UTF-8 of a Python string."""
    if text.isascii() and "\x00" not in text:
        return text.encode("ascii")
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (chr(int.from_bytes(units[i : i + 2], "big")) for i in range(0, len(units), 2))
    return b"".join(b"\xc0\x80" if c == "\x00" else c.encode("utf-8", "surrogatepass") for c in codes)


def new_text(text: str) -> Text:
    """The token of a string; strings over 64 kB have a form of their own."""
    raw = encode_text(text)
    return Text(raw, is_long=len(raw) > 0xFFFF)
