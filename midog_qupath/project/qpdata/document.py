"""A ``data.qpdata`` file in QuPath's words: which token is the root, a child, a class, a region of interest.

Order of contents: block with ``Data file version N``, (0.2: image path), server JSON, locale, image type,
stains, workflow, hierarchy, image properties, ``EOF``. Path objects write name, colour, metadata,
measurements, the number of children, the children; those with a ROI then locked, class, ROI, class
probability; cells their nucleus; TMA cores whether they are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midog_qupath.errors import QpdataError
from midog_qupath.project.model import ObjectKind
from midog_qupath.project.qpdata.alike import Repeated
from midog_qupath.project.qpdata.parse import parse
from midog_qupath.project.qpdata.stream import Block, EnumConstant, Instance, Node, Text

_PACKAGE = "qupath.lib.objects."
_HEADER, _END = b"Data file version ", b"EOF"
_VERSIONS = (b"2", b"3")
#: Objects inside objects that are followed; what a person draws stays far below.
_DEEPEST = 100
ROOT = _PACKAGE + "PathRootObject"
HIERARCHY = _PACKAGE + "hierarchy.PathObjectHierarchy"
_IMAGE_TYPE, _STAINS = "qupath.lib.images.ImageData$ImageType", "qupath.lib.color.ColorDeconvolutionStains"
DETECTION = _PACKAGE + "PathDetectionObject"
_KINDS = {
    _PACKAGE + "PathAnnotationObject": ObjectKind.ANNOTATION,
    DETECTION: ObjectKind.DETECTION,
    _PACKAGE + "PathCellObject": ObjectKind.CELL,
    _PACKAGE + "PathTileObject": ObjectKind.TILE,
    _PACKAGE + "TMACoreObject": ObjectKind.TMA_CORE,
}


@dataclass(frozen=True, slots=True)
class ObjectNode:
    """One path object: its token, the tokens of its parts, and its children.

    ``count_at``: index in the token's contents of the block that ends with the number of children;
    children follow it. ``tail``: what comes after the children. One of many of a form has no children, and
    its head and tail are inside its token.
    """

    token: Instance | Repeated
    kind: ObjectKind | None
    head: tuple[Node, ...]
    count_at: int
    children: tuple[ObjectNode, ...]
    tail: tuple[Node, ...]

    def walk(self, parent: ObjectNode | None = None) -> Iterator[tuple[ObjectNode, ObjectNode | None]]:
        """This object and all below it, each with its parent; parents first."""
        yield self, parent
        for child in self.children:
            yield from child.walk(self)


@dataclass(frozen=True)
class Document:
    """A parsed file: all tokens, and its object tree."""

    version: int
    contents: list[Node]
    root: ObjectNode


def read_document(data: bytes) -> Document:
    """Parse a file and find its objects.

    Raises
    ------
    QpdataError
        If the stream is damaged, or holds an object that is not understood.
    """
    contents = parse(data)
    version = _version(contents)
    end = contents[-1]
    if not isinstance(end, Text) or end.raw != _END:
        raise unknown("its end is missing")
    for node in contents:
        if isinstance(node, Instance) and node.desc.name == HIERARCHY:
            root = _object(_field(node, b"rootObject"), set(), 0)
            if root.kind is not None:
                raise unknown("its topmost object is no root", root.token)
            return Document(version, contents, root)
    raise unknown("it holds no object hierarchy")


def image_type(document: Document) -> str | None:
    """QuPath's type of the image, ``BRIGHTFIELD_H_E`` and so on; None where the file does not say."""
    kinds = [node for node in document.contents if isinstance(node, EnumConstant)]
    return next((node.name.value for node in kinds if node.desc.name == _IMAGE_TYPE), None)


def stains(document: Document) -> str | None:
    """The stain vectors of a brightfield image as QuPath writes them, JSON text; None where it has none."""
    for node in document.contents:
        if isinstance(node, Instance) and node.desc.name == _STAINS:
            texts = [part for part in node.parts[0].annotations or [] if isinstance(part, Text)]
            return texts[0].value if texts else None
    return None


def unknown(what: str, node: Node = None) -> QpdataError:
    """The error for a stream that parses but is not understood; ``node``: the object concerned."""
    where = ""
    if isinstance(node, Repeated):
        where = f" ({node.form.exemplar.desc.name} at byte {node.at})"
    if isinstance(node, Instance):
        where = f" ({node.desc.name} at byte {node.at})"
    return QpdataError(
        f"data.qpdata is not understood: {what}{where}.",
        "Use --store sidecar, and report the QuPath version.",
    )


def _version(contents: list[Node]) -> int:
    first = contents[0] if contents else None
    _, found, rest = first.raw.partition(_HEADER) if isinstance(first, Block) else (b"", b"", b"")
    if not found:
        raise unknown("it does not begin with a QuPath data file version")
    if rest[:1] not in _VERSIONS or rest[1:2].isdigit():
        raise unknown(f"its version {rest[:4].decode('ascii', 'replace')} is not known")
    return int(rest[:1])


def _field(node: Instance, name: bytes) -> Node:
    for part in node.parts:
        for field, value in zip(part.desc.fields, part.values, strict=True):
            if field.name == name and not isinstance(value, bytes):
                return value
    raise unknown(f"it has no {name.decode()}", node)


def object_node(token: Instance) -> ObjectNode:
    """An object by itself."""
    return _object(token, set(), 0)


def _object(token: Node, seen: set[int], depth: int) -> ObjectNode:
    if isinstance(token, Repeated):
        if id(token) in seen:
            raise unknown("an object stands twice or too deep in the hierarchy", token)
        seen.add(id(token))
        return ObjectNode(token, _KINDS[token.form.exemplar.desc.name], (), 4, (), ())
    if not isinstance(token, Instance) or (token.desc.name not in _KINDS and token.desc.name != ROOT):
        raise unknown("something else stands where a path object belongs", token)
    # By references a damaged file may name an object its own child.
    if id(token) in seen or depth > _DEEPEST:
        raise unknown("an object stands twice or too deep in the hierarchy", token)
    seen.add(id(token))
    contents = token.parts[0].annotations or []
    count_at = next((i for i, node in enumerate(contents) if isinstance(node, Block)), 0)
    count_block = contents[count_at] if contents else None
    if count_at not in (3, 4) or not isinstance(count_block, Block):
        raise unknown("unknown layout", token)
    count = int.from_bytes(count_block.raw[:4], "big")
    first = count_at + 1
    if len(count_block.raw) != 4 or count > len(contents) - first:
        raise unknown("wrong number of children", token)
    children = tuple(_object(child, seen, depth + 1) for child in contents[first : first + count])
    return ObjectNode(
        token=token,
        kind=_KINDS.get(token.desc.name),
        head=_head(contents[:count_at]),
        count_at=count_at,
        children=children,
        tail=tuple(contents[first + count :]),
    )


def _head(nodes: list[Node]) -> tuple[Node, ...]:
    """Name, colour, metadata, measurements; files of version 2 leave out metadata that are not there."""
    return tuple(nodes) if len(nodes) == 4 else (nodes[0], nodes[1], None, nodes[2])
