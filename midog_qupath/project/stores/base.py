"""The contract all stores keep: how objects come out of a project and how ours go in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from midog_qupath.project.model import ImageEntry, PathClass, PathObject


@dataclass(frozen=True)
class Edit:
    """What to change in one image: detections to take out (by id) and to put under the root.

    Taken out may be, too, annotations that show a count of ours: those with the measurement
    ``COUNT_MEASUREMENT``; never another annotation.
    ``labels`` are annotations that a person brings from elsewhere; they too go under the root.
    ``expected`` is what :meth:`ProjectStore.fingerprint` said when the objects were read from which
    this edit was planned; a store refuses the edit when the image has changed since.
    """

    remove: frozenset[UUID]
    add: tuple[PathObject, ...]
    expected: str
    labels: tuple[PathObject, ...] = ()

    @property
    def new(self) -> tuple[PathObject, ...]:
        """Everything that comes in."""
        return (*self.add, *self.labels)


class ProjectStore(AbstractContextManager["ProjectStore"], Protocol):
    """A way to the objects of a project's images.

    A store is a context manager: it may hold a helper process while open. It raises
    :class:`midog_qupath.errors.StoreError` (never anything else) when an image cannot be read or
    written; a failed write leaves the image as it was.
    """

    #: ``paquo``, ``native`` or ``sidecar``.
    name: str
    #: Whether :meth:`apply` changes the project itself (the sidecar does not).
    writes_project: bool

    def __enter__(self) -> Self: ...

    def read(self, entry: ImageEntry) -> list[PathObject]:
        """All objects of an image but the root, parents before children."""
        ...

    def imported(self, entry: ImageEntry) -> Mapping[str, tuple[UUID, ...]]:
        """Runs that a script took into the image inside QuPath, each with the detections that it replaced."""
        ...

    def fingerprint(self, entry: ImageEntry) -> str:
        """A string that changes whenever the stored objects of the image change."""
        ...

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        """Add the classes the project lacks, with colours; existing ones are never changed."""
        ...

    def apply(self, entry: ImageEntry, edit: Edit) -> str:
        """Remove and add detections, add labels; every other object stays exactly as it is.

        Returns the fingerprint of what was written: where :meth:`fingerprint` says another, somebody else
        has saved the image since.
        """
        ...
