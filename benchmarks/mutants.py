"""Small data files, and damage done to them: truncated, flipped, spliced, with wrong lengths and tokens.

Used by ``benchmarks/fuzz.py`` and by the tests.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import numpy as np
from shapely.geometry import MultiPoint, MultiPolygon, Polygon, box

from midog_qupath.errors import MidogError
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Roi, RoiKind
from midog_qupath.project.qpdata.create import new_data
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.edit import edit
from midog_qupath.project.qpdata.objects import objects
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Alike, Block, Instance
from midog_qupath.project.qpdata.summary import counts, disagreement

SERVER = {"builderType": "uri", "providerClassName": "x.Builder", "uri": "file:/a.png", "args": []}
#: Objects that are left in a cut-down real file, and the largest real file that is cut down (bytes).
KEPT, LARGEST = 3, 400_000
_TOKENS = range(0x70, 0x7F)
_LENGTHS = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)


class BrokenPromiseError(Exception):
    """A damaged file made the reader do something else than read it or refuse it."""


@dataclass(frozen=True)
class Whole:
    """An undamaged file and its summary."""

    name: str
    data: bytes
    summary: dict[str, object]


def whole_files(real: Path | None) -> list[Whole]:
    """Small files to damage: of our own writer, and real ones cut down to a few objects."""
    found = [("ours", new_data(SERVER, "0.6.0", _drawings())), ("ours, empty", new_data(SERVER, "0.6.0", []))]
    found.append(("ours, of one form", new_data(SERVER, "0.6.0", _alike())))
    projects = (
        [*sorted(real.glob("**/data.qpdata"))[::6], *real.glob("qupath-projects/*/data/*/data.qpdata")]
        if real
        else []
    )
    for path in dict.fromkeys(projects):
        if path.stat().st_size <= LARGEST:
            found.append((f"{path.parents[2].name} {path.parent.name}", _cut_down(path.read_bytes())))
    return [
        Whole(name, data, {"hierarchy": counts(objects(read_document(data)))})
        for name, data in found
        if len(data) < 40_000
    ]


def mutants(wholes: Sequence[Whole], rng: random.Random, count: int) -> Iterator[tuple[Whole, bytes]]:
    """Damaged files, each with the whole one that it was made of."""
    for _ in range(count):
        whole = rng.choice(wholes)
        data = bytearray(whole.data)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            rng.choice(_DAMAGES)(data, rng, wholes)
        yield whole, bytes(data)


def look(whole: Whole, data: bytes) -> str:
    """What becomes of a damaged file: refused, refused by its summary, or read; how it was read is checked.

    Raises BrokenPromiseError, or whatever the reader let through.
    """
    try:
        document = read_document(data)
        found = objects(document)
    except MidogError as error:
        if "byte" not in str(error) and "not understood" not in str(error):
            raise BrokenPromiseError(f"an error without a place: {error}") from error
        return "refused"
    if disagreement(whole.summary, found) is not None:
        return "refused by its summary"
    if _counted(found) != whole.summary["hierarchy"]:
        raise BrokenPromiseError("read, and not as its summary says")
    if serialise(document.contents) != data:
        # Such a file is read, and never written to.
        try:
            edit(data, frozenset(), [])
        except MidogError:
            return "read, not written to"
        raise BrokenPromiseError("a file that does not round-trip would be written to")
    return "read"


def _counted(found: Sequence[PathObject]) -> dict[str, object]:
    # Counted here once more, by other means than the reader's own check.
    names = {
        "annotation": "Annotations", "detection": "Detections", "cell": "Cells", "tile": "Tiles",
        "tmaCore": "TMA cores",
    }  # fmt: skip
    by_kind = Counter(names[str(item.kind)] for item in found)
    of = {
        group: dict(Counter(item.class_name or "Unclassified" for item in found if str(item.kind) in kinds))
        for group, kinds in (
            ("annotation", ("annotation",)),
            ("detection", ("detection", "cell", "tile")),
        )
    }
    return {
        "nObjects": 1 + len(found),
        "objectTypeCounts": {"Root objects": 1, **by_kind},
        "annotationClassificationCounts": of["annotation"],
        "detectionClassificationCounts": of["detection"],
    }


# ---- damage --------------------------------------------------------------------------------------


def _flip(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_byte(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _cut_end(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _cut_out(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 4, 5, 16, 100, 1000))]


def _repeat(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + rng.choice((1, 5, 36, 200, 1000))]


def _splice(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    other = rng.choice(wholes).data
    start, at = rng.randrange(len(other)), rng.randrange(len(data) + 1)
    size = rng.choice((4, 16, 64, 256, 1024))
    data[at : at + size] = other[start : start + size]


def _length(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    width, at = rng.choice((1, 2, 4, 8)), rng.randrange(len(data) + 1)
    value = rng.choice((*_LENGTHS, rng.randrange(len(data) + 2))) % 256**width
    data[at : at + width] = value.to_bytes(width, "big")


def _token(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    places = (
        [at for at in (rng.randrange(len(data)) for _ in range(200)) if data[at] in _TOKENS] if data else []
    )
    if places:
        data[places[0]] = rng.choice(_TOKENS)


def _reference(data: bytearray, rng: random.Random, wholes: Sequence[Whole]) -> None:
    places = [
        at for at in (data.find(b"\x71\x00\x7e", rng.randrange(len(data) + 1)) for _ in range(3)) if at >= 0
    ]
    if places:
        data[places[0] + 3 : places[0] + 5] = rng.choice((rng.randrange(80), rng.randrange(65536))).to_bytes(
            2, "big"
        )


_DAMAGES = (_flip, _set_byte, _cut_end, _cut_out, _repeat, _splice, _length, _length, _token, _reference)


# ---- whole files ---------------------------------------------------------------------------------


def _cut_down(data: bytes) -> bytes:
    """A real file with its first few objects only; those below them stay."""
    document = read_document(data)
    root = document.root
    contents = root.token.parts[0].annotations or []
    few = contents[root.count_at + 1 : root.count_at + 1 + KEPT]
    # Seldom kinds of shapes are worth more than the first three rectangles.
    shapes = {_shape(child.token): child.token for child in reversed(root.children)}
    chosen = list({id(token): token for token in (*shapes.values(), *few)}.values())
    end = len(contents) - len(root.tail)
    contents[root.count_at : end] = [Block(len(chosen).to_bytes(4, "big")), *chosen]
    return serialise(document.contents)


def _shape(token: object) -> str:
    whole = token.instance() if isinstance(token, Alike) else token
    nodes = whole.parts[0].annotations or [] if isinstance(whole, Instance) else []
    return next((n.desc.name for n in nodes if isinstance(n, Instance) and ".roi." in n.desc.name), "")


def _alike() -> list[PathObject]:
    """Enough of one form for the form to be learnt and used."""
    (like,) = [thing for thing in _drawings() if thing.id == UUID(int=5)]
    return [replace(like, id=UUID(int=number + 100), name=None) for number in range(8)]


def _drawings() -> list[PathObject]:
    angles = np.linspace(0, 2 * np.pi, 17)
    ellipse = Polygon(np.column_stack([30 + 20 * np.cos(angles), 40 + 10 * np.sin(angles)]))
    holed = Polygon(box(10, 10, 60, 60).exterior, [box(20, 20, 30, 30).exterior])
    rois = [
        Roi(RoiKind.RECTANGLE, box(50, 60, 300.5, 400.25)),
        Roi(RoiKind.ELLIPSE, ellipse, Plane(-1, 1, 2)),
        Roi(RoiKind.POINTS, MultiPoint([(5, 6), (9, 9)])),
        Roi(RoiKind.GEOMETRY, MultiPolygon([holed, box(100, 100, 120, 120)])),
        *(Roi(RoiKind.POLYGON, Polygon([(n, 1), (n + 9, 2), (n + 5, 8.25)])) for n in range(4)),
    ]
    return [
        PathObject(
            id=UUID(int=number + 1),
            kind=ObjectKind.DETECTION if number >= 4 else ObjectKind.ANNOTATION,
            roi=roi,
            path_class=PathClass(("Mitosis: Atypical", "Region*", "Mitosis")[number % 3], -65536),
            name="ä\U0001f52c" if number == 1 else None,
            measurements={"Mitosis probability": 0.9, "midog run": 1.0} if number >= 4 else {},
            metadata={"midog_qupath.run": "a"} if number >= 4 else {},
            locked=number == 2,
        )
        for number, roi in enumerate(rois)
    ]
