"""One image edited through a store, read back, and put back where it did not come out right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from midog_qupath.errors import MidogError, SafetyError, StoreError
from midog_qupath.project.backup import put_back
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.stores.base import Edit, ProjectStore
from midog_qupath.project.verify import verify_unchanged


class Editor:
    """``writer`` changes images, ``reader`` looks at what it did.

    ``backup`` (None: there is none) holds the images as they were.
    """

    def __init__(
        self, project: Project, writer: ProjectStore, reader: ProjectStore, backup: Path | None
    ) -> None:
        self._project = project
        self._writer = writer
        self._reader = reader
        self._backup = backup

    def read(self, entry: ImageEntry, fingerprint: str) -> list[PathObject]:
        """The objects of an image; StoreError where it was saved since ``fingerprint`` was taken."""
        if self._reader.fingerprint(entry) != fingerprint:
            # The backup would not do for an image that was saved after it.
            raise StoreError(
                f"Image '{entry.name}' was saved by another program since it was backed up.",
                "Close it in QuPath and run the command again.",
            )
        return self._reader.read(entry)

    def apply(self, entry: ImageEntry, before: Sequence[PathObject], edit: Edit) -> None:
        """Edit an image in which the objects ``before`` stand, and prove that nothing else changed.

        Raises StoreError or SafetyError where it fails; the error says what became of the image.
        """
        if edit.new or edit.remove:
            self._writer.apply(entry, edit)
        stored = None
        try:
            stored = self._reader.fingerprint(entry)
            verify_unchanged(before, self._reader.read(entry), edit)
        except (StoreError, SafetyError) as error:
            raise self._put_back(entry, stored, error) from error

    def _put_back(self, entry: ImageEntry, stored: str | None, error: MidogError) -> MidogError:
        backup = self._backup
        if backup is None:
            return error
        by_hand = f"Compare it in QuPath with its data.qpdata and summary.json in {backup}."
        try:
            if stored is None or self._reader.fingerprint(entry) != stored:
                return SafetyError(f"{error.what} It was not put back: it changed again since.", by_hand)
            put_back(self._project, entry, backup)
        except MidogError as second:
            return SafetyError(f"{error.what} It could not be put back: {second.what}", by_hand)
        return SafetyError(f"{error.what} The image was put back as it was.", error.remedy)
