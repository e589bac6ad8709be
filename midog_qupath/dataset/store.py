"""Writing a dataset folder and opening it again; :mod:`midog_qupath.dataset.format` says what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from midog_qupath.dataset.format import SCHEMA_VERSION, AreaRow, ImageRow, ObjectRow, Split
from midog_qupath.dataset.tables import damaged, read_rows, write_rows
from midog_qupath.errors import DatasetError
from midog_qupath.files import atomic_writer, sha256, write_json
from midog_qupath.units import WORKING_MPP, MicronsPerPixel

META, OBJECTS, IMAGES, AREAS = "dataset.json", "objects.parquet", "images.parquet", "areas.parquet"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Settings):
    """Where rows came from: the project's folder name, the store that read it, sidecar GeoJSON or not."""

    project: str
    store: str


class SplitSettings(_Settings):
    """How cases were split; the fractions are of the mitotic figures."""

    seed: int = 0
    fractions: dict[Split, float] = {"train": 0.6, "val": 0.2, "test": 0.2}


class DatasetMeta(_Settings):
    """``dataset.json``. Holds no time and no absolute path: the same labels give the same digest.

    ``class_map``: role -> classes of the project that have it. ``ignored``: class -> number of
    annotations left out. ``coarse``: images with too large pixels for the details of mitoses.
    ``unlabelled``: images in which nothing is labelled; ``skipped``: those that could not be used, and why.
    ``pixels_sha256``: one digest over all pixel blocks in the order of ``areas.parquet``.
    """

    schema_version: int = SCHEMA_VERSION
    mpp: float = WORKING_MPP
    class_map: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    ignored: dict[str, int] = Field(default_factory=dict)
    coarse: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    skipped: dict[str, str] = Field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    software: dict[str, str] = Field(default_factory=dict)
    splits: SplitSettings = SplitSettings()
    pixels_sha256: str = ""

    @property
    def working_mpp(self) -> MicronsPerPixel:
        """Microns per stored pixel."""
        return MicronsPerPixel(self.mpp)


@dataclass(frozen=True)
class Dataset:
    """An exported dataset; the pixels stay on disk until they are looked at."""

    folder: Path
    meta: DatasetMeta
    images: tuple[ImageRow, ...]
    objects: tuple[ObjectRow, ...]
    areas: tuple[AreaRow, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the tables of a dataset folder.

        Raises
        ------
        DatasetError
            If the folder is no dataset, is damaged, or was written by another version.
        """
        dataset = cls(
            folder=folder,
            meta=_read_meta(folder / META),
            images=read_rows(folder / IMAGES, ImageRow),
            objects=read_rows(folder / OBJECTS, ObjectRow),
            areas=read_rows(folder / AREAS, AreaRow),
        )
        dataset._check()
        return dataset

    def image(self, name: str) -> ImageRow:
        """The image of this name (``KeyError`` for a name that is not in the dataset)."""
        return self._by_name[name]

    def pixels(self, area: AreaRow) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB of one block, mapped from disk and read-only.

        Raises
        ------
        DatasetError
            If the file is missing, damaged or of another size than ``areas.parquet`` says.
        """
        path = self.folder / area.file
        try:
            block = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise damaged(path, "cannot be read") from error
        if block.dtype != np.uint8 or block.shape != (area.height, area.width, 3):
            raise damaged(path, "has another size than areas.parquet says")
        pixels: NDArray[np.uint8] = block
        return pixels

    @cached_property
    def sha256(self) -> str:
        """Digest of ``dataset.json`` (which holds that of the pixels) and the tables."""
        parts = "\n".join(sha256(self.folder / name) for name in (META, IMAGES, OBJECTS, AREAS))
        return hashlib.sha256(parts.encode("ascii")).hexdigest()

    @cached_property
    def _by_name(self) -> Mapping[str, ImageRow]:
        return {image.name: image for image in self.images}

    def _check(self) -> None:
        """Rows refer to images that exist, blocks to files inside the folder that exist."""
        if len(self._by_name) != len(self.images):
            raise damaged(self.folder / IMAGES, "names an image twice")
        named = {row.image for row in self.objects} | {row.image for row in self.areas}
        if unknown := sorted(named - self._by_name.keys()):
            raise damaged(self.folder / IMAGES, f"lacks the image {unknown[0]}")
        for area in self.areas:
            relative = PurePosixPath(area.file)
            if relative.is_absolute() or ".." in relative.parts or not (self.folder / relative).is_file():
                raise damaged(self.folder / area.file, "is missing")


def write_dataset(
    folder: Path,
    meta: DatasetMeta,
    images: Sequence[ImageRow],
    objects: Sequence[ObjectRow],
    areas: Sequence[AreaRow],
) -> None:
    """Write the tables into ``folder``, in which :func:`write_pixels` has put the blocks of ``areas``.

    To replace an existing dataset only when the new one is complete, write into
    :func:`midog_qupath.dataset.folder.replacing`.
    """
    write_rows(folder / OBJECTS, ObjectRow, objects)
    write_rows(folder / IMAGES, ImageRow, images)
    write_rows(folder / AREAS, AreaRow, areas)
    digest = pixels_digest(folder / area.file for area in areas)
    write_json(folder / META, meta.model_copy(update={"pixels_sha256": digest}).model_dump(mode="json"))


def write_pixels(folder: Path, area: AreaRow, pixels: NDArray[np.uint8]) -> None:
    """Store the (height, width, 3) uint8 block of ``area`` as ``folder / area.file``."""
    if pixels.shape != (area.height, area.width, 3) or pixels.dtype != np.uint8:
        raise ValueError(
            f"{area.file}: {pixels.dtype} {pixels.shape} is not the block that the row describes"
        )
    whole = np.ascontiguousarray(pixels)
    with atomic_writer(folder / area.file) as stream:
        # numpy.save says of a full disk only how many numbers it could not write.
        header = np.lib.format.header_data_from_array_1_0(whole)
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(whole.data)


def pixels_digest(files: Iterable[Path]) -> str:
    """One SHA-256 over the contents of pixel blocks, in order."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(sha256(path).encode("ascii"))
    return whole.hexdigest()


def _read_meta(path: Path) -> DatasetMeta:
    if not path.is_file():
        raise DatasetError(f"{path.parent} is not a dataset.", "Make one with: midog-qupath export PROJECT")
    try:
        raw: Any = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise damaged(path, "is not JSON") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"{path.parent} has dataset version {version}, this program reads {SCHEMA_VERSION}.",
            "Export it again with this version of midog-qupath.",
        )
    try:
        return DatasetMeta.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise damaged(path, f"is wrong at {'.'.join(map(str, first['loc']))} ({first['msg']})") from error
