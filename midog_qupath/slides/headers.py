"""What the headers of PNG, JPEG and BMP say, before anything is decoded; and whether all of it is there."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from midog_qupath.errors import SlideError

_PNG = b"\x89PNG\r\n\x1a\n"
#: Colour types of PNG with one channel in QuPath: grey and palette.
_PNG_SINGLE = (0, 3)
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Header:
    """Size in pixels, bits a channel, channels as QuPath counts them (1 for grey and indexed colours)."""

    width: int
    height: int
    bits: int
    channels: int


def read_header(path: Path, data: bytes) -> Header:
    """Header of a picture, by its first bytes whatever its name.

    Decoders fill what is missing with grey and say nothing, so the end is looked for too.

    Raises
    ------
    SlideError
        Cut short, damaged, or no PNG, JPEG or BMP.
    """
    readers = ((_PNG, _png), (b"\xff\xd8", _jpeg), (b"BM", _bmp))
    read = next((reader for magic, reader in readers if data.startswith(magic)), None)
    if read is None:
        raise SlideError(
            f"{path} is no PNG, JPEG or BMP, or its beginning is damaged.",
            "Copy it again from its source, or save it as one of these.",
        )
    header = read(data)
    if header is None or header.width <= 0 or header.height <= 0:
        raise damaged(path)
    return header


def damaged(path: Path) -> SlideError:
    """The error for an image that is cut short or whose bytes are not what its name says."""
    return SlideError(
        f"{path} is damaged, cut short, or no image of its kind.", "Copy it again from its source."
    )


def _png(data: bytes) -> Header | None:
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return None
        if kind == b"IEND":
            width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
            return Header(width, height, data[24], 1 if data[25] in _PNG_SINGLE else 3)
        at = end + 4
    return None


def _jpeg(data: bytes) -> Header | None:
    # What follows the image, such as zeros to the end of a block, is short.
    if b"\xff\xd9" not in data[-4096:]:
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return Header(width, height, data[at + 4], 1 if data[at + 9] == 1 else 3)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _bmp(data: bytes) -> Header | None:
    if len(data) < 34 or len(data) < int.from_bytes(data[2:6], "little"):
        return None
    width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
    pixels, bits, packed = (int.from_bytes(data[i:j], "little") for i, j in ((10, 14), (28, 30), (30, 34)))
    stored = 0 if packed in (1, 2) else (width * bits + 31) // 32 * 4 * abs(height)
    if len(data) < pixels + stored:
        return None
    return Header(width, abs(height), 8, 1 if bits <= 8 else 3)
