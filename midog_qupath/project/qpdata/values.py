"""Tokens to values: numbers, strings, maps, measurement lists, classes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midog_qupath.project.model import PathClass
from midog_qupath.project.qpdata.document import unknown
from midog_qupath.project.qpdata.stream import Array, Block, Instance, Node, Text

_FORMATS = {"B": ">b", "D": ">d", "F": ">f", "I": ">i", "J": ">q", "S": ">h", "Z": ">?"}
_ARRAYS = {"[F": ">f4", "[D": ">f8", "[I": ">i4", "[B": "u1"}


def fields(node: Node) -> dict[str, Any]:
    """Fields of an object of any class of its chain by name, primitives as Python values."""
    if not isinstance(node, Instance):
        raise unknown("a value stands where an object belongs")
    found: dict[str, Any] = {}
    for part in node.parts:
        for field, value in zip(part.desc.fields, part.values, strict=True):
            name = field.name.decode("utf-8", "replace")
            found[name] = value
            if isinstance(value, bytes) and field.code in _FORMATS:
                found[name] = struct.unpack(_FORMATS[field.code], value)[0]
    return found


def text(node: Node) -> str | None:
    """A string or None."""
    if node is None or isinstance(node, Text):
        return node.value if node is not None else None
    raise unknown("something else stands where a string belongs")


def integer(node: Node) -> int | None:
    """A ``java.lang.Integer`` or None."""
    return None if node is None else int(fields(node)["value"])


def boolean(node: Node) -> bool:
    """A ``java.lang.Boolean``; None is False."""
    return node is not None and bool(fields(node)["value"])


def numbers(node: Node) -> NDArray[np.float64]:
    """A primitive array as float64."""
    if not isinstance(node, Array) or node.desc.name not in _ARRAYS:
        raise unknown("something else stands where an array of numbers belongs")
    return np.frombuffer(node.raw, dtype=_ARRAYS[node.desc.name]).astype(np.float64)


def metadata(node: Node) -> dict[str, str]:
    """A ``MetadataMap``: version, keys, values."""
    if node is None:
        return {}
    if not isinstance(node, Instance) or not node.desc.name.endswith(".MetadataMap"):
        raise unknown("something else stands where metadata belong")
    arrays = [part for part in node.parts[0].annotations or [] if isinstance(part, Array)]
    if len(arrays) != 2 or len(arrays[0].items) != len(arrays[1].items):
        raise unknown("MetadataMap has an unknown layout")
    pairs = zip(arrays[0].items, arrays[1].items, strict=True)
    return {str(text(key)): str(text(value)) for key, value in pairs}


def measurements(node: Node) -> dict[str, float]:
    """Any of QuPath's measurement lists."""
    if node is None:
        return {}
    found = fields(node)
    if "list" in found:
        rows = (fields(item) for item in items(found["list"]))
        return {str(text(row["name"])): float(row["value"]) for row in rows}
    if "names" in found and "values" in found:
        names = [str(text(name)) for name in items(found["names"])]
        values = numbers(found["values"])
        # The array grows in steps: it may be longer than the names.
        if len(values) < len(names):
            raise unknown("a measurement list has fewer values than names")
        return {name: float(value) for name, value in zip(names, values[: len(names)], strict=True)}
    assert isinstance(node, Instance)
    raise unknown(f"{node.desc.name} is an unknown measurement list")


def items(node: Node) -> Iterator[Node]:
    """Elements of a ``java.util`` list (its size in a block, then the elements), or of an object array."""
    if isinstance(node, Array):
        yield from node.items
        return
    if not isinstance(node, Instance):
        raise unknown("something else stands where a list belongs")
    for part in node.parts:
        for value in part.values:
            if isinstance(value, Array):
                yield from value.items
        yield from (found for found in part.annotations or [] if not isinstance(found, Block))
        if part.values and isinstance(part.values[-1], Instance):
            yield from items(part.values[-1])  # an unmodifiable wrapper


def path_class(node: Node) -> PathClass | None:
    """A ``PathClass`` with its full name; parents by ``parentClass``."""
    if node is None:
        return None
    names: list[str] = []
    color: int | None = None
    current: Node = node
    while current is not None:
        found = fields(current)
        if {"name", "colorRGB", "parentClass"} - found.keys() or len(names) > 20:
            raise unknown("a class has an unknown layout")
        name = text(found["name"])
        if not names:
            color = integer(found["colorRGB"])
        names.insert(0, name or "")
        current = found["parentClass"]
    full = ": ".join(name for name in names if name)
    return PathClass(full, color) if full else None
