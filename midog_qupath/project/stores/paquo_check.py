"""What is checked before and after QuPath edits an image: its reader and writer fail without a word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import orjson

from midog_qupath.errors import StoreError
from midog_qupath.project.model import COUNT_MEASUREMENT, ImageEntry, ObjectKind
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.paquo_wire import Row, object_kind

#: The oldest data file whose objects keep their ids.
OLDEST_WITH_IDS = 3


def data_file(entry: ImageEntry) -> Path:
    """Where QuPath keeps the objects of an image."""
    return entry.data_dir / "data.qpdata"


def data_version(entry: ImageEntry) -> int:
    """The number in ``Data file version N``, with which a data file begins."""
    with data_file(entry).open("rb") as stream:
        digits = stream.read(64).partition(b"Data file version ")[2][:1]
    return int(digits) if digits.isdigit() else 0


def summary_count(entry: ImageEntry) -> int | None:
    """Number of objects in ``summary.json``, the root included; None where it does not say."""
    try:
        count = orjson.loads((entry.data_dir / "summary.json").read_bytes())["hierarchy"]["nObjects"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{entry.data_dir / 'summary.json'} cannot be understood: {error}.",
            "Open the image in QuPath and save it.",
        ) from error
    return int(count)


def require_unchanged(found: str, expected: str, entry: ImageEntry) -> None:
    """StoreError unless the data file is still the one that an edit was planned on."""
    if found != expected:
        raise StoreError(
            f"Image '{entry.name}' was saved by another program since its objects were read.",
            "Close the image in QuPath and run the command again.",
        )


def require_editable(entry: ImageEntry, edit: Edit, rows: Sequence[Row]) -> None:
    """StoreError unless the edit removes only what it may and no id would stand for two objects."""
    if rows and data_version(entry) < OLDEST_WITH_IDS:
        raise StoreError(
            f"Image '{entry.name}' was saved by a QuPath so old that its objects have no ids.",
            "Open and save the image in QuPath once.",
        )
    removable: dict[str, set[bool]] = defaultdict(set)
    for row in rows:
        kind = object_kind(row.kind)
        counts = kind is ObjectKind.ANNOTATION and COUNT_MEASUREMENT in row.measurements
        removable[row.id].add(counts or kind is ObjectKind.DETECTION)
    parents = {row.parent for row in rows}
    removed = {str(identity) for identity in edit.remove}
    for identity in removed:
        if removable.get(identity) != {True} or identity in parents:
            raise StoreError(
                f"Object {identity} of image '{entry.name}' is not a detection without children.",
                "Nothing was changed; run the command again.",
            )
    repeated = {str(new.id) for new in edit.new} & (removable.keys() - removed)
    if repeated or len({new.id for new in edit.new}) < len(edit.new):
        raise StoreError(
            f"New objects of image '{entry.name}' repeat the ids of others.",
            "Nothing was changed; run the command again.",
        )
