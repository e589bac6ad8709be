"""The tables of a dataset: rows to Parquet and back, every column checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.errors import DatasetError
from midog_qupath.files import atomic_writer

Row = TypeVar("Row", ObjectRow, ImageRow, AreaRow)
AnyRow: TypeAlias = type[ObjectRow] | type[ImageRow] | type[AreaRow]

_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bytes": pa.binary(),
    "MicronsPerPixel": pa.float64(),
    "Extent": pa.string(),
    "Split": pa.string(),
}
#: The file says ``class``, which Python does not allow as a field's name.
_COLUMN = {"label": "class"}


def schema(row_type: AnyRow) -> pa.Schema:
    """Columns of the table that holds rows of this type; only optional fields may be null."""
    return pa.schema([_field(field.name, str(field.type)) for field in fields(row_type)])


def _field(name: str, annotation: str) -> pa.Field:
    optional = annotation.endswith(" | None")
    base = annotation.removesuffix(" | None")
    kind = pa.string() if base.startswith("Literal") else _TYPES[base]
    return pa.field(_COLUMN.get(name, name), kind, nullable=optional)


def write_rows(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write rows as one Parquet file, whole or not at all."""
    columns = [[getattr(row, field.name) for row in rows] for field in fields(row_type)]
    table = pa.Table.from_arrays(
        [pa.array(values, kind) for values, kind in zip(columns, schema(row_type).types, strict=True)],
        schema=schema(row_type),
    )
    with atomic_writer(path) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_rows(path: Path, row_type: type[Row]) -> tuple[Row, ...]:
    """Read the rows of a Parquet file.

    Raises
    ------
    DatasetError
        If the file is missing, damaged or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, "cannot be read") from error
    if not table.schema.equals(schema(row_type)):
        raise damaged(path, "has other columns than this version writes")
    columns = [column.to_pylist() for column in table.columns]
    return tuple(row_type(*values) for values in zip(*columns, strict=True))


def damaged(path: Path, why: str) -> DatasetError:
    """The error for a file of a dataset that does not hold what it should."""
    return DatasetError(f"{path} {why}.", "The dataset is incomplete or damaged; export it again.")
