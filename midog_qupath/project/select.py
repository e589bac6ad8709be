"""The images of a project that a command is asked to work on."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from midog_qupath.errors import ProjectError
from midog_qupath.project.model import ImageEntry, Project


def select_images(project: Project, patterns: Sequence[str]) -> tuple[ImageEntry, ...]:
    """Images whose name fits one of ``patterns`` (``*`` and ``?``), all without patterns, in their order.

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
        if not any(fnmatchcase(image.name, pattern) for image in project.images):
            raise ProjectError(
                f"No image of the project is called {pattern}.",
                f"`midog-qupath info {project.path}` lists them; * stands for any letters.",
            )
    return tuple(
        image for image in project.images if any(fnmatchcase(image.name, pattern) for pattern in patterns)
    )
