"""Crops of mitotic figures as files: which there are, and their pixels."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.headers import damaged, read_header
from midog_qupath.slides.open import TIFFS
from midog_qupath.slides.pictures import SUFFIXES as PICTURES
from midog_qupath.slides.pictures import over_white

#: Shorter sides hold no whole figure.
SMALLEST_PX = 16
#: Larger images are fields with many figures, or slides.
LARGEST_PX = 4096
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: What tifffile and its decoders raise for bytes that make no sense.
_BROKEN = (
    ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error,
)  # fmt: skip
_WHITE_IS_ZERO = 0
#: Photometric interpretations that are RGB or grey once decoded: both greys, RGB, YCbCr.
_READABLE = (0, 1, 2, 6)
#: 16-bit images darker than this hold 8 or 12 bits, and nothing says how many.
_LEAST_RANGE = 4096

#: Name of a crop in the result, and its pixels or why there are none.
NamedCrop: TypeAlias = tuple[str, RgbArray | SlideError]


def list_files(paths: Iterable[Path]) -> list[Path]:
    """Files in the order given; of a folder its images by name, not those of folders inside it.

    Raises
    ------
    SlideError
        If a path does not exist, a folder holds no image, or two files have one name (a result names
        files without their folders).
    """
    found = [file for path in paths for file in _files_at(path)]
    seen: dict[str, Path] = {}
    for file in found:
        if file.name in seen:
            raise SlideError(
                f"Two crops are called {file.name}: {seen[file.name]} and {file}.",
                "Give each once, and those of one name in separate calls.",
            )
        seen[file.name] = file
    return found


def _files_at(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SlideError(f"There is no file or folder {path}.", "Check the name.")
    endings = PICTURES | TIFFS
    # macOS keeps a hidden ._name beside each file on foreign disks.
    images = [p for p in path.iterdir() if p.suffix.lower() in endings and not p.name.startswith(".")]
    files = sorted((p for p in images if p.is_file()), key=lambda p: p.name)
    if not files:
        raise SlideError(
            f"{path} holds no image.",
            "Give a folder of PNG, JPEG, BMP or TIFF crops; folders inside it are not searched.",
        )
    return files


def read_crops(path: Path) -> Iterator[NamedCrop]:
    """The crops in one file, (height, width, 3) uint8 RGB each.

    A TIFF of several pages holds one crop a page, called ``name.tiff#0``, ``name.tiff#1`` and so on;
    smaller copies of an image (a pyramid) are no pages. Grey becomes RGB, transparency is laid on white, 16
    bits become 8. What cannot be read comes as an error in its place.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start in _TIFF_STARTS:
            yield from _tiff(path)
        else:
            yield path.name, _picture(path)
    except SlideError as error:
        yield path.name, error
    except OSError as error:
        yield path.name, SlideError(f"{path} cannot be read: {error.strerror}.", "Check the file.")


def _picture(path: Path) -> RgbArray:
    # Through bytes: OpenCV cannot open paths with letters outside the system's code page on Windows.
    data = path.read_bytes()
    header = read_header(path, data)
    _require_size(str(path), header.height, header.width)
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if image is None or image.shape[:2] != (header.height, header.width):
        raise damaged(path)
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return as_rgb(np.asarray(image), str(path))


def _tiff(path: Path) -> Iterator[NamedCrop]:
    import tifffile

    # Its warnings about damaged files say nothing that our own error does not.
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    try:
        with tifffile.TiffFile(path) as file:
            pages = _full_pages(file)
            if not pages or not _chain_ends(file):
                raise damaged(path)
            for number, page in enumerate(pages):
                name = path.name if len(pages) == 1 else f"{path.name}#{number}"
                yield name, _page_or_error(page, path, name)
    except (*_BROKEN, tifffile.TiffFileError) as error:
        raise damaged(path) from error


def _page_or_error(page: Any, path: Path, name: str) -> RgbArray | SlideError:
    where = path.with_name(name)
    try:
        return _page(page, where)
    except SlideError as error:
        return error
    except _BROKEN:
        return damaged(where)


def _page(page: Any, where: Path) -> RgbArray:
    _require_size(str(where), page.imagelength, page.imagewidth)
    if page.samplesperpixel not in (1, 3, 4) or page.photometric not in _READABLE:
        raise _unsuitable(str(where), f"{page.samplesperpixel} channels, {page.photometric.name.lower()}")
    length = page.parent.filehandle.size
    # Decoders fill what is missing with black and say nothing.
    if any(
        not 0 < offset < offset + count <= length
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    ):
        raise damaged(where)
    pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    rgb = as_rgb(pixels, str(where))
    return 255 - rgb if page.photometric == _WHITE_IS_ZERO else rgb


def _full_pages(file: Any) -> list[Any]:
    return [page for page in file.pages if not page.keyframe.is_reduced]


def _chain_ends(file: Any) -> bool:
    """Whether the last page found says that it is the last: the pages of a file cut short do not."""
    form, handle, last = file.tiff, file.filehandle, file.pages[-1]
    handle.seek(last.offset)
    count = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))[0]
    handle.seek(last.offset + form.tagnosize + count * form.tagsize)
    following = struct.unpack(form.offsetformat, handle.read(form.offsetsize))[0]
    return int(following) == 0


def as_rgb(pixels: NDArray[Any], where: str) -> RgbArray:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of 8 or 16 bits as (H, W, 3) uint8; opacity is laid on white.

    Raises
    ------
    SlideError
        For any other array; ``where`` names it.
    """
    image = pixels[..., None] if pixels.ndim == 2 else pixels
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise _unsuitable(where, f"{image.dtype}, {' x '.join(map(str, image.shape))}")
    if image.dtype == np.uint16:
        if image.max() < _LEAST_RANGE:
            raise SlideError(
                f"{where} uses less than a sixteenth of its 16 bits.", "Convert it to 8 bits a channel."
            )
        image = (image.astype(np.uint32) + 128) // 257
    image = image.astype(np.uint8)
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    rgb = np.ascontiguousarray(image[..., :3])
    return over_white(rgb, image[..., 3]) if image.shape[2] == 4 else rgb


def _unsuitable(where: str, kind: str) -> SlideError:
    return SlideError(f"{where} is no RGB or grey image ({kind}).", "Export it as 8-bit RGB.")


def _require_size(where: str, height: int, width: int) -> None:
    if min(height, width) < SMALLEST_PX:
        raise SlideError(
            f"{where} measures {width} x {height} px, too little for a mitotic figure.",
            f"Give crops of at least {SMALLEST_PX} px a side, better 64 to 128.",
        )
    if max(height, width) > LARGEST_PX:
        raise SlideError(
            f"{where} measures {width} x {height} px: a field or slide, not the crop of one figure.",
            "Use `midog-qupath new` and `midog-qupath annotate` on it, or cut the figures out.",
        )
