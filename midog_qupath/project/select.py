"""The images of a project that a command is asked to work on."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from midog_qupath.errors import ProjectError
from midog_qupath.project.model import ImageEntry, Project

#: Before an entry id where a name pattern could stand: names may be shared, or hold ``*`` and ``[``.
BY_ID = "id:"


def select_images(project: Project, patterns: Sequence[str]) -> tuple[ImageEntry, ...]:
    """Images whose name fits one of ``patterns`` (``*`` and ``?``), all without patterns, in their order.

    ``id:7`` is the image of that entry id.

    Raises
    ------
    ProjectError
        If the project has no image, or a pattern fits none.
    """
    if not project.images:
        raise ProjectError(f"{project.path} has no images.", "Add some in QuPath.")
    if not patterns:
        return project.images
    for pattern in patterns:
        if not any(_fits(image, pattern) for image in project.images):
            raise ProjectError(
                f"No image of the project is called {pattern}.",
                f"`midog-qupath info {project.path}` lists them; * stands for any letters.",
            )
    return tuple(image for image in project.images if any(_fits(image, pattern) for pattern in patterns))


def _fits(image: ImageEntry, pattern: str) -> bool:
    return fnmatchcase(image.name, pattern) or pattern == f"{BY_ID}{image.entry_id}"
