"""A whole new ``data.qpdata``, for an image whose entry has none yet."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from midog_qupath.project.model import PathObject
from midog_qupath.project.qpdata.build import Builder
from midog_qupath.project.qpdata.document import HIERARCHY, ROOT
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Block, Node, Text, encode_text, new_text

_VERSION = encode_text("Data file version 3")
#: QuPath's own default vectors for H&E.
_STAINS = (
    '{"Name" : "H&E default", "Stain 1" : "Hematoxylin", '
    '"Values 1" : "0.6511078257574492 0.7011930431234068 0.29049426072255424", "Stain 2" : "Eosin", '
    '"Values 2" : "0.21589893562087106 0.8011960501132093 0.5580972485873467", '
    '"Background" : " 255 255 255"}'
)


def new_data(server: Mapping[str, Any], qupath_version: str, objects: Sequence[PathObject]) -> bytes:
    """The bytes of a brightfield H&E image's data file.

    Parameters
    ----------
    server
        ``serverBuilder`` of the image's entry in ``project.qpproj``.
    qupath_version
        Version of the project, written as the version that made the file.
    objects
        Annotations and detections with ids, put under the root.
    """
    builder = Builder()
    header = {"dataVersion": 3, "qupathVersion": qupath_version, "server": server}
    contents: list[Node] = [
        Block(struct.pack(">H", len(_VERSION)) + _VERSION),
        new_text(orjson.dumps(header).decode()),
        _locale(builder),
        builder.enum("qupath.lib.images.ImageData$ImageType", "BRIGHTFIELD_H_E"),
        builder.external(
            "qupath.lib.color.ColorDeconvolutionStains",
            [Block(struct.pack(">i", 1)), new_text(_STAINS)],
        ),
        builder.external("qupath.lib.plugins.workflow.Workflow", [Block(struct.pack(">ii", 1, 0))]),
        builder.plain(HIERARCHY, rootObject=_root(builder, objects), tmaGrid=None),
        _empty_map(builder),
        new_text("EOF"),
    ]
    return serialise(contents)


def _locale(builder: Builder) -> Node:
    empty = Text(b"")
    others: dict[str, bytes | Node] = dict.fromkeys(("country", "extensions", "script", "variant"), empty)
    locale = builder.plain("java.util.Locale", hashcode=struct.pack(">i", -1), language=Text(b"en"), **others)
    locale.parts[-1].annotations = []
    return locale


def _empty_map(builder: Builder) -> Node:
    numbers: dict[str, bytes | Node] = {
        "loadFactor": struct.pack(">f", 0.75),
        "threshold": struct.pack(">i", 12),
    }
    made = builder.plain("java.util.HashMap", **numbers)
    made.parts[-1].annotations = [Block(struct.pack(">ii", 16, 0))]
    return made


def _root(builder: Builder, objects: Sequence[PathObject]) -> Node:
    children = builder.path_objects(objects)
    count = Block(struct.pack(">i", len(children)))
    return builder.external(ROOT, [None, None, builder.metadata({}), None, count, *children])
