"""Which case and which domain an image or object belongs to; a split must never cut a case."""

from __future__ import annotations

from midog_qupath.project.model import ImageEntry

#: Image metadata in the project.
CASE, DOMAIN, REGION_TYPE = "case", "domain", "region_type"
#: Domain of images that say none: they are one domain together.
NO_DOMAIN = "unknown"


def image_case(entry: ImageEntry) -> str:
    """The case of an image: its metadata ``case``, else every image file is a case of its own."""
    return entry.metadata.get(CASE) or entry.copy_of or entry.name


def image_domain(entry: ImageEntry) -> str:
    """The domain of an image: its metadata ``domain``, else ``unknown``."""
    return entry.metadata.get(DOMAIN) or NO_DOMAIN


def image_region_type(entry: ImageEntry) -> str:
    """How a field was chosen: its metadata ``region_type`` (hotspot, random, challenging), or ``unknown``."""
    return entry.metadata.get(REGION_TYPE) or NO_DOMAIN


def object_case(image_case: str, object_name: str | None, in_mosaic: bool) -> str:
    """The case of a labelled object.

    In a mosaic cells come from many slides, and an object's case is its annotation's name up to the last
    ``/`` (``slide/uid``); elsewhere it is the image's.
    """
    if in_mosaic and object_name and "/" in object_name:
        return object_name.rsplit("/", 1)[0]
    return image_case
