"""Data files come back byte for byte, and no damaged one does worse than a clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_images import HOLED, drawings, drawn, new_bytes

from midog_qupath.errors import QpdataError
from midog_qupath.project.model import RoiKind
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.objects import objects
from midog_qupath.project.qpdata.parse import parse
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import (
    MAGIC,
    Array,
    Block,
    Instance,
    Text,
    decode_text,
    encode_text,
    new_text,
)

FIRST = 0x7E0000


def described(name: bytes, parent: bytes = b"\x70", flags: int = 2) -> bytes:
    """A class without fields."""
    head = struct.pack(">BH", 0x72, len(name)) + name
    return head + struct.pack(">QBH", 1, flags, 0) + b"\x78" + parent


def reference(index: int) -> bytes:
    return struct.pack(">BI", 0x71, FIRST + index)


def nested_arrays(depth: int) -> bytes:
    one = struct.pack(">I", 1)
    inner = b"\x75" + reference(0) + one
    return MAGIC + b"\x75" + described(b"[Ljava.lang.Object;") + one + inner * (depth - 1) + b"\x70"


@pytest.mark.realdata
def test_every_real_file_comes_back_byte_for_byte(data_dir: Path) -> None:
    files = [
        *data_dir.glob("breast-mitosis/data/*/data.qpdata"),
        *data_dir.glob("qupath-projects/*/data/*/data.qpdata"),
    ]
    assert len(files) == 73
    assert [path for path in files if serialise(parse(path.read_bytes())) != path.read_bytes()] == []


def test_a_file_of_our_own_comes_back_byte_for_byte() -> None:
    data = new_bytes(drawings())
    assert serialise(parse(data)) == data


@given(st.text(st.characters(exclude_categories=())))
@settings(deadline=None, max_examples=200)
def test_any_string_comes_back_and_holds_no_zero_byte(text: str) -> None:
    raw = encode_text(text)
    assert b"\x00" not in raw
    assert encode_text(decode_text(raw)) == raw or "\ufffd" in decode_text(raw)


def test_strings_are_in_java_s_form() -> None:
    """NUL as two bytes, characters beyond 16 bits as two halves of three bytes (Java's DataInput)."""
    assert encode_text("a\x00ä") == b"a\xc0\x80\xc3\xa4"
    assert encode_text("\U0001f52c") == b"\xed\xa0\xbd\xed\xb4\xac"
    assert decode_text(b"\xed\xa0\xbd\xed\xb4\xac") == "\U0001f52c"
    assert decode_text(b"\xed\xa0\xbd") == "\ufffd"
    assert not new_text("a" * 0xFFFF).is_long
    assert new_text("a" * 0x10000).is_long


def test_what_occurs_twice_is_one_token() -> None:
    again = parse(MAGIC + b"\x74\x00\x01a" + reference(0))
    assert isinstance(again[0], Text)
    assert again[0] is again[1]


def test_deep_nesting_that_is_read_is_written() -> None:
    assert serialise(parse(nested_arrays(99))) == nested_arrays(99)


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"", "ends too early"),
        (b"PK\x03\x04 a zip", "not a Java serialisation stream"),
        (MAGIC + b"\x00", "unknown token 0x0"),
        (MAGIC + b"\x7b", "unknown token 0x7b"),
        (MAGIC + b"\x77\x05abc", "ends too early"),
        (MAGIC + b"\x7a\x7f\xff\xff\xff", "ends too early"),
        (MAGIC + b"\x7c" + b"\x7f" * 8, "ends too early"),
        (MAGIC + b"\x75" + described(b"[D") + b"\x7f\xff\xff\xff", "ends too early"),
        (MAGIC + b"\x75" + described(b"[Lx;") + b"\x7f\xff\xff\xff", "wrong length of an array"),
        (MAGIC + reference(0), "not there"),
        (MAGIC + b"\x73\x70", "without a class"),
        (MAGIC + b"\x74\x00\x01a\x73" + reference(0), "where a class belongs"),
        (MAGIC + described(b"\xff"), "no text"),
        (MAGIC + described(b"a", reference(0)), "inside its own description"),
        (MAGIC + described(b"a", described(b"b", reference(0))), "inside its own description"),
        (MAGIC + b"\x73" + described(b"a", flags=4), "old form"),
        (nested_arrays(100_000), "nested too deep"),
        (MAGIC + b"\x73" + b"".join(described(b"a", b"") for _ in range(100_000)), "nested too deep"),
        (
            MAGIC + described(b"a") + b"".join(described(b"a", reference(n)) for n in range(3000)),
            "too many ancestors",
        ),
    ],
)
def test_what_is_no_stream_is_one_error_with_its_place(stream: bytes, why: str) -> None:
    with pytest.raises(QpdataError, match=rf"{why}.*byte \d+ of {len(stream)}") as caught:
        parse(stream)
    assert caught.value.remedy


def hierarchy(data: bytes) -> tuple[list, Instance]:
    document = read_document(data)
    return document.contents, document.root.token


def test_an_object_inside_itself_is_refused() -> None:
    contents, root = hierarchy(new_bytes([]))
    root.parts[0].annotations[-1:] = [Block(struct.pack(">i", 1)), root]
    with pytest.raises(QpdataError, match=r"stands twice.*PathRootObject at byte \d+"):
        read_document(serialise(contents))


def test_objects_inside_objects_without_end_are_refused() -> None:
    """Each refers to one that came before: shallow as a stream, deep as a hierarchy."""
    contents, root = hierarchy(new_bytes([]))
    chain = read_document(new_bytes([drawn(RoiKind.POLYGON, HOLED) for _ in range(500)])).root
    tokens = [child.token for child in chain.children]
    for token, child in zip(tokens[1:], tokens, strict=False):
        token.parts[0].annotations[4:5] = [Block(struct.pack(">i", 1)), child]
    root.parts[0].annotations[-1:] = [Block(struct.pack(">i", 1)), tokens[-1]]
    with pytest.raises(QpdataError, match="too deep in the hierarchy"):
        read_document(serialise([contents[0], *tokens, *contents[1:]]))


def test_geometries_inside_geometries_without_end_are_refused() -> None:
    """The geometry library itself would end the process."""
    document = read_document(new_bytes([drawn(RoiKind.GEOMETRY, HOLED)]))
    proxy = document.root.children[0].tail[2]
    (array,) = (value for value in proxy.parts[0].values if isinstance(value, Array))
    array.raw = (b"\x00" + struct.pack(">II", 7, 1)) * 100_000
    array.length = len(array.raw)
    again = read_document(serialise(document.contents))
    with pytest.raises(QpdataError, match=r"nested too deep.*WKBSerializationProxy at byte"):
        objects(again)


@pytest.mark.parametrize("version", ["1", "4", "30"])
def test_other_versions_of_data_files_are_refused(version: str) -> None:
    contents = parse(new_bytes([]))
    text = f"Data file version {version}".encode()
    contents[0] = Block(struct.pack(">H", len(text)) + text)
    with pytest.raises(QpdataError, match=f"version {version} is not known"):
        read_document(serialise(contents))


@pytest.mark.parametrize("contents", [[], [Text(b"x")], [Block(b"\x00\x13Data file version 3")]])
def test_streams_of_other_programs_are_refused(contents: list) -> None:
    with pytest.raises(QpdataError, match="not understood"):
        read_document(serialise(contents))


def test_an_unknown_shape_is_named() -> None:
    data = new_bytes(drawings()[:1]).replace(b"roi.RectangleROI$Ser", b"roi.TriangularROI$Se")
    with pytest.raises(QpdataError, match=r"unknown region .*\(qupath.lib.roi.Triangular.* byte \d+"):
        objects(read_document(data))
