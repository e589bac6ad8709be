"""Tokens to plain values: strings, numbers, lists, maps, measurement lists, classes.

Each function raises :class:`midog_qupath.errors.QpdataError` where something else stands in its place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from midog_qupath.project.model import PathClass
from midog_qupath.project.qpdata.document import HIERARCHY, Document, unknown
from midog_qupath.project.qpdata.stream import Array, Block, Instance, Node, Text

_FORMATS = {"B": ">b", "D": ">d", "F": ">f", "I": ">i", "J": ">q", "S": ">h", "Z": ">?"}
_UNPACK = MappingProxyType({code: struct.Struct(form).unpack for code, form in _FORMATS.items()})
_ARRAYS: Mapping[str, str] = MappingProxyType({"[F": ">f4", "[D": ">f8", "[I": ">i4", "[B": "u1"})
#: Lists that write their elements themselves, after their size.
_LISTS = frozenset({"java.util.ArrayList", "java.util.LinkedList", "java.util.CollSer"})
#: Maps that write their keys and values themselves, after their size.
_MAPS = frozenset({"java.util.HashMap", "java.util.LinkedHashMap"})
#: Field with the list (or array) inside a list that only passes it on.
_WRAPPERS: Mapping[str, str] = MappingProxyType(
    {
        "java.util.Arrays$ArrayList": "a",
        "java.util.Collections$UnmodifiableList": "list",
        "java.util.Collections$UnmodifiableRandomAccessList": "list",
        "java.util.Collections$SynchronizedList": "list",
        "java.util.Collections$SynchronizedRandomAccessList": "list",
    }
)
_DEEPEST_WRAPPING = 5
_MOST_PARENTS = 20

T = TypeVar("T")


def fields(node: Node) -> dict[str, Any]:
    """Fields of an object of any class of its chain by name, primitives as Python values."""
    if not isinstance(node, Instance):
        raise unknown("something else stands where an object belongs")
    found: dict[str, Any] = {}
    for part in node.parts:
        for field, value in zip(part.desc.fields, part.values, strict=False):
            name = _name(field.name)
            found[name] = value
            if isinstance(value, bytes) and field.code in _UNPACK:
                found[name] = _UNPACK[field.code](value)[0]
    return found


@lru_cache(maxsize=256)
def _name(raw: bytes) -> str:
    # The same few names, once an object.
    return raw.decode("utf-8", "replace")


def need(node: Node, found: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Value ``name`` of the fields of ``node``, of a certain kind."""
    value = found.get(name)
    if not isinstance(value, kind):
        raise unknown(f"field {name} is missing or of another kind", node)
    return value


def text(node: Node) -> str | None:
    """A string or None."""
    if node is None:
        return None
    if not isinstance(node, Text):
        raise unknown("something else stands where a string belongs", node)
    try:
        return node.value
    except UnicodeDecodeError as error:
        raise unknown("a string is no text") from error


def integer(node: Node) -> int | None:
    """A ``java.lang.Integer`` or None."""
    return None if node is None else need(node, fields(node), "value", int)


def boolean(node: Node) -> bool:
    """A ``java.lang.Boolean``; None is False."""
    return node is not None and need(node, fields(node), "value", bool)


def numbers(node: Node) -> NDArray[np.float64]:
    """A primitive array as float64."""
    if not isinstance(node, Array) or node.desc.name not in _ARRAYS:
        raise unknown("something else stands where an array of numbers belongs", node)
    # Damaged bytes may be a signalling NaN, of which numpy would warn.
    with np.errstate(invalid="ignore"):
        return np.frombuffer(node.raw, dtype=_ARRAYS[node.desc.name]).astype(np.float64)


def metadata(node: Node) -> dict[str, str]:
    """A ``MetadataMap``: version, keys, values."""
    if node is None:
        return {}
    if not isinstance(node, Instance) or not node.desc.name.endswith(".MetadataMap"):
        raise unknown("something else stands where metadata belong", node)
    arrays = [part for part in node.parts[0].annotations or [] if isinstance(part, Array)]
    if len(arrays) != 2 or len(arrays[0].items) != len(arrays[1].items):
        raise unknown("unknown layout", node)
    pairs = zip(arrays[0].items, arrays[1].items, strict=True)
    return {text(key) or "": text(value) or "" for key, value in pairs}


def measurements(node: Node) -> dict[str, float]:
    """Any of QuPath's measurement lists."""
    if node is None:
        return {}
    found = fields(node)
    if "list" in found:
        rows = ((item, fields(item)) for item in items(found["list"]))
        return {text(row.get("name")) or "": float(need(item, row, "value", float)) for item, row in rows}
    if "names" in found and "values" in found:
        names = [text(name) or "" for name in items(found["names"])]
        values = numbers(found["values"])
        # The array grows in steps: it may be longer than the names.
        if len(values) < len(names):
            raise unknown("fewer values than names", node)
        return {name: float(value) for name, value in zip(names, values[: len(names)], strict=True)}
    raise unknown("unknown measurement list", node)


def items(node: Node) -> Sequence[Node]:
    """Elements of one of Java's lists, or of an object array."""
    inner = node
    for _ in range(_DEEPEST_WRAPPING):
        if isinstance(inner, Array):
            return inner.items
        if not isinstance(inner, Instance):
            break
        if inner.desc.name in _LISTS:
            return [item for item in inner.parts[-1].annotations or [] if not isinstance(item, Block)]
        if inner.desc.name == "java.util.Collections$EmptyList":
            return []
        inner = fields(inner).get(_WRAPPERS.get(inner.desc.name, ""))
    raise unknown("something else stands where a list belongs", node)


def image_properties(document: Document) -> dict[str, str]:
    """The properties of the image that are text, by name; scripts keep theirs among them."""
    at = next((i for i, node in enumerate(document.contents) if _is_hierarchy(node)), 0)
    found: dict[str, str] = {}
    for node in document.contents[at + 1 :]:
        for key, value in _entries(node):
            if isinstance(key, Text) and isinstance(value, Text):
                found[key.value] = value.value
    return found


def _is_hierarchy(node: Node) -> bool:
    return isinstance(node, Instance) and node.desc.name == HIERARCHY


def _entries(node: Node) -> Iterator[tuple[Node, Node]]:
    """Keys and values of one of Java's maps; none for anything else."""
    if not isinstance(node, Instance):
        return
    if node.desc.name in _MAPS:
        own = [item for item in node.parts[0].annotations or [] if not isinstance(item, Block)]
        yield from zip(own[::2], own[1::2], strict=False)
    elif node.desc.name == "java.util.Collections$SingletonMap":
        found = fields(node)
        yield found.get("k"), found.get("v")


def path_class(node: Node) -> PathClass | None:
    """A ``PathClass`` with its full name; parents by ``parentClass``."""
    if node is None:
        return None
    names: list[str] = []
    color: int | None = None
    current: Node = node
    while current is not None:
        found = fields(current)
        if {"name", "colorRGB", "parentClass"} - found.keys() or len(names) > _MOST_PARENTS:
            raise unknown("unknown layout", current)
        name = text(found["name"])
        if not names:
            color = integer(found["colorRGB"])
        names.insert(0, name or "")
        current = found["parentClass"]
    full = ": ".join(name for name in names if name)
    return PathClass(full, color) if full else None
