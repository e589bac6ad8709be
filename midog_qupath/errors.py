"""Every failure this package reports: what happened, where, and what to do.

The command line prints one line of these and exits with 1; nothing else reaches a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar


class MidogError(Exception):
    """Base of all errors a user can act on.

    Parameters
    ----------
    what
        One sentence: what happened and to which file, image or option.
    remedy
        One sentence: what the user can do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what} {remedy}")

    def __reduce__(self) -> tuple[type[MidogError], tuple[str, str]]:
        """Errors travel between processes."""
        return (type(self), (self.what, self.remedy))


class ProjectError(MidogError):
    """The project itself (``project.qpproj`` or its layout) cannot be used."""


class StoreError(MidogError):
    """A store could not read or write the objects of an image."""


class QpdataError(StoreError):
    """``data.qpdata`` is damaged or holds something that is not understood."""


class QuPathMissingError(StoreError):
    """The paquo store was asked for, and no QuPath installation was found."""


class SafetyError(MidogError):
    """A safety rule stopped a write; nothing was changed."""


class GeoJsonError(StoreError):
    """A GeoJSON file is malformed or breaks QuPath's contract."""


class LabelsError(MidogError):
    """A file of labels from elsewhere is malformed, or does not say what it means."""


class SlideError(MidogError):
    """An image cannot be opened or read, or its pixels do not fit the project."""


class PixelSizeError(SlideError):
    """The microns per pixel of an image are unknown or outside the allowed range."""


class DatasetError(MidogError):
    """A dataset is missing, damaged or holds too little to train on."""


class RecipeError(MidogError):
    """A training recipe has unknown keys or values out of range."""


class ModelError(MidogError):
    """A model bundle is missing, damaged or does not fit the task."""


class FormatError(MidogError):
    """A file in a format of the MIDOG challenge is malformed or says what cannot be."""


class EvaluationError(MidogError):
    """Nothing can be measured: no ground truth, or no detections of that run."""


class ClusterError(MidogError):
    """A Dask cluster cannot be reached, or its workers die."""


AnError = TypeVar("AnError", bound=MidogError)


def none_worked(kind: type[AnError], done: str, failed: Mapping[str, MidogError]) -> AnError:
    """The error of a command whose every image failed: ``None of 3 images could be counted: ...``.

    ``done``: what could not be done, as a participle; ``failed``: why not, by image, one or more. The first
    image's reason and remedy stand for all.
    """
    first = next(iter(failed.values()))
    none = "The image could not" if len(failed) == 1 else f"None of {len(failed)} images could"
    return kind(f"{none} be {done}: {first.what}", first.remedy)
