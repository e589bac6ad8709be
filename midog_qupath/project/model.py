"""A QuPath project in our words: images, objects, regions of interest.

All coordinates are slide pixels: full-resolution pixels of the image as QuPath shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from shapely.geometry.base import BaseGeometry

from midog_qupath.units import MicronsPerPixel

#: Measurement that marks an annotation of ours which shows a mitotic count, and its class.
COUNT_MEASUREMENT, HOTSPOT_CLASS = "midog count", "Hotspot"


class ObjectKind(StrEnum):
    """What a QuPath object is; the values are GeoJSON's ``objectType``."""

    ANNOTATION = "annotation"
    DETECTION = "detection"
    CELL = "cell"
    TILE = "tile"
    TMA_CORE = "tmaCore"


class RoiKind(StrEnum):
    """The shape a region of interest has in QuPath."""

    RECTANGLE = "rectangle"
    ELLIPSE = "ellipse"
    LINE = "line"
    POLYLINE = "polyline"
    POLYGON = "polygon"
    POINTS = "points"
    GEOMETRY = "geometry"


@dataclass(frozen=True, slots=True)
class Plane:
    """Channel (-1 = all), z-slice and time point of a region of interest."""

    c: int = -1
    z: int = 0
    t: int = 0


@dataclass(frozen=True, slots=True)
class Roi:
    """A region of interest: ``geometry`` in slide pixels (an ellipse as a polygon)."""

    kind: RoiKind
    geometry: BaseGeometry
    plane: Plane = Plane()


@dataclass(frozen=True, slots=True)
class PathClass:
    """A class as QuPath prints it (``Mitosis: Atypical``) and its colour, packed ARGB or None."""

    name: str
    color: int | None = None


@dataclass(frozen=True, slots=True)
class PathObject:
    """One object of an image, as it stands in the project (the root is not one of them)."""

    id: UUID | None
    kind: ObjectKind
    roi: Roi | None
    path_class: PathClass | None = None
    name: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    locked: bool = False
    color: int | None = None
    parent_id: UUID | None = None
    nucleus: Roi | None = None

    @property
    def class_name(self) -> str | None:
        """The full class string, or None for an unclassified object."""
        return self.path_class.name if self.path_class else None


@dataclass(frozen=True, slots=True)
class ServerBuilder:
    """How QuPath opens the pixels: type (``uri``, ``rotated``, ``cropped``...), address, arguments."""

    type: str
    uri: str | None
    provider: str | None = None
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of a project.

    ``path`` is where its pixels are found on this machine, or None; ``stale`` says that the address
    in the project no longer holds and ``path`` was found relative to the project instead. ``mpp`` is
    QuPath's own calibration, or None where the project holds none.
    """

    entry_id: str
    name: str
    builder: ServerBuilder
    path: Path | None
    stale: bool
    width: int | None
    height: int | None
    mpp: MicronsPerPixel | None
    metadata: Mapping[str, str]
    data_dir: Path
    #: File name (without extension) of this image in sidecar folders, unique in the project.
    stem: str
    #: Name of the first image of the project that shows the same file; None for that one itself.
    copy_of: str | None = None

    @property
    def address(self) -> str:
        """Where the image is: the local path if found, else the address in the project."""
        return str(self.path) if self.path else str(self.builder.uri)


@dataclass(frozen=True, slots=True)
class Project:
    """A project as ``project.qpproj`` describes it; objects are read through a store."""

    path: Path
    version: str | None
    images: tuple[ImageEntry, ...]
    classes: tuple[PathClass, ...]

    @property
    def folder(self) -> Path:
        """The folder that holds ``project.qpproj``."""
        return self.path.parent

    @property
    def ours(self) -> Path:
        """Everything of this tool lives here: ``<project>/midog-qupath``."""
        return self.folder / "midog-qupath"
