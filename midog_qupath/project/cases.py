"""Which case an object belongs to: what a split must never cut."""

from __future__ import annotations


def object_case(image_case: str, object_name: str | None, in_mosaic: bool) -> str:
    """The case of a labelled object.

    In a mosaic cells come from many slides, and an object's case is its annotation's name up to the last
    ``/`` (``slide/uid``); elsewhere it is the image's.
    """
    if in_mosaic and object_name and "/" in object_name:
        return object_name.rsplit("/", 1)[0]
    return image_case
