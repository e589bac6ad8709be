"""What an import will do to each image, decided before anything is written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from midog_qupath.errors import MidogError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.labels.given import GivenLabels, ImageLabels
from midog_qupath.project.labels.match import Names, entry_names
from midog_qupath.project.labels.tables import ImageFacts
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project
from midog_qupath.project.qpproj import require_plain
from midog_qupath.project.shapes import centre, same_shape

T = TypeVar("T")
#: Metadata of an imported annotation: the file it came from.
SOURCE_METADATA = "midog_qupath.imported"


@dataclass(frozen=True)
class ImagePlan:
    """What comes into one image.

    ``add``: new annotations with ids. ``there``: labels that stand in it already. ``deleted``: labels that an
    earlier import put there and that a person deleted since. ``outside``: labels whose centre lies off the
    image. ``metadata``: image metadata to set, ``kept``: those that say something else
    already and stay. ``error``: why nothing is imported here.
    """

    entry: ImageEntry
    name: str
    add: tuple[PathObject, ...] = ()
    there: int = 0
    deleted: int = 0
    outside: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    error: MidogError | str | None = None


@dataclass(frozen=True)
class ImportPlan:
    """What an import does.

    ``missing``: images of the file that the project lacks. ``ambiguous``: names that fit several images.
    ``unlabelled``: images of the project that the file lists without a label; they stay as they are.
    ``others``: images of the project of which the file says nothing.
    """

    source: str
    images: tuple[ImagePlan, ...]
    missing: tuple[str, ...]
    ambiguous: Mapping[str, tuple[str, ...]]
    unlabelled: tuple[str, ...]
    others: tuple[str, ...]
    left_out: Mapping[str, int]


def plan_import(
    project: Project,
    given: GivenLabels,
    facts: Sequence[ImageFacts],
    read: Callable[[ImageEntry], Sequence[PathObject]],
    class_map: ClassMap,
    whole: bool = False,
    past: Mapping[str, frozenset[UUID]] = MappingProxyType({}),
) -> ImportPlan:
    """Match the labels and facts of files to the images of a project and leave out what stands there.

    Parameters
    ----------
    project, given
        Where to, and what.
    facts
        What a table says of images.
    read
        The objects that an image holds now. A MidogError of it keeps that image from being imported.
    class_map
        Its colours go to classes that the project lacks.
    whole
        Every image with a label in the file is labelled as a whole.
    past
        Ids of labels that stood in an image once, by entry id: those that are gone do not come back.
    """
    here = _Here(project, read, class_map, given.source, past)
    names = entry_names(project.images)
    ambiguous: dict[str, tuple[str, ...]] = {}
    labels, missing = _matched(names, [(one.name, one) for one in given.images], ambiguous)
    known, _ = _matched(names, [(one.image, one) for one in facts], ambiguous)
    plans, unlabelled, others = [], [], []
    for entry in project.images:
        own, own_facts = labels.get(entry.entry_id, []), known.get(entry.entry_id, [])
        if own_facts or any(one.objects for one in own):
            plans.append(_image(here, entry, own, own_facts, whole))
        elif own:
            unlabelled.append(entry.name)
        else:
            others.append(entry.name)
    return ImportPlan(
        given.source,
        tuple(plans),
        tuple(missing),
        ambiguous,
        tuple(unlabelled),
        tuple(others),
        given.left_out,
    )


def _matched(
    names: Names[ImageEntry], things: Sequence[tuple[str, T]], ambiguous: dict[str, tuple[str, ...]]
) -> tuple[dict[str, list[T]], list[str]]:
    """By entry id; the names that fit no image. Those that fit several go to ``ambiguous``."""
    found: dict[str, list[T]] = defaultdict(list)
    missing = []
    for name, thing in things:
        entries = names.find(name)
        if len(entries) == 1:
            found[entries[0].entry_id].append(thing)
        elif entries:
            ambiguous[name] = tuple(f"{entry.name} (entry {entry.entry_id})" for entry in entries)
        else:
            missing.append(name)
    return found, missing


@dataclass(frozen=True)
class _Here:
    """What is the same for all images of an import."""

    project: Project
    read: Callable[[ImageEntry], Sequence[PathObject]]
    class_map: ClassMap
    source: str
    past: Mapping[str, frozenset[UUID]]


def _image(
    here: _Here,
    entry: ImageEntry,
    labels: Sequence[ImageLabels],
    facts: Sequence[ImageFacts],
    whole: bool,
) -> ImagePlan:
    name = labels[0].name if labels else entry.name
    if problem := _problem(entry, labels, facts):
        return ImagePlan(entry, name, error=problem)
    try:
        require_plain(entry)
        present = here.read(entry)
    except MidogError as error:
        return ImagePlan(entry, name, error=error)
    given = [thing for one in labels for thing in one.objects]
    inside = [thing for thing in given if _inside(thing, entry)]
    lacking = _new(here, entry, inside, present)
    past = here.past.get(entry.entry_id, frozenset())
    add = tuple(thing for thing in lacking if thing.id not in past)
    metadata = {key: value for fact in facts for key, value in fact.metadata.items()}
    if inside and (whole or any(fact.complete for fact in facts)):
        metadata.setdefault("labelled", "whole")
    kept = {
        key: entry.metadata[key]
        for key, value in metadata.items()
        if entry.metadata.get(key) not in (None, "", value)
    }
    wanted = {
        key: value for key, value in metadata.items() if key not in kept and entry.metadata.get(key) != value
    }
    return ImagePlan(
        entry,
        name,
        add,
        there=len(inside) - len(lacking),
        deleted=len(lacking) - len(add),
        outside=len(given) - len(inside),
        metadata=wanted,
        kept=kept,
    )


def _problem(entry: ImageEntry, labels: Sequence[ImageLabels], facts: Sequence[ImageFacts]) -> str | None:
    """Why the positions in the file cannot be those in the image."""
    for fitting in ([one.name for one in labels], [one.image for one in facts]):
        if len(fitting) > 1:
            return f"{' and '.join(fitting)} both fit {entry.name}: rename one, or import them one by one."
    for one in labels:
        here, there = (entry.width, entry.height), (one.width, one.height)
        if None not in here and None not in there and here != there:
            return (
                f"It is {here[0]} x {here[1]} px in the project and {there[0]} x {there[1]} px in the file: "
                "the labels are of another image, or of one that QuPath shows cropped."
            )
    return None


def _inside(thing: PathObject, entry: ImageEntry) -> bool:
    x, y = centre(thing)
    return x >= 0 and y >= 0 and x <= (entry.width or x) and y <= (entry.height or y)


def _new(
    here: _Here, entry: ImageEntry, given: Sequence[PathObject], present: Sequence[PathObject]
) -> tuple[PathObject, ...]:
    """Those of ``given`` that do not stand in the image, with ids, colours and where they come from."""
    taken = {thing.id for thing in present}
    standing: dict[str, list[PathObject]] = defaultdict(list)
    for thing in present:
        if thing.kind is ObjectKind.ANNOTATION and thing.roi is not None:
            standing[normalised(thing.class_name or "")].append(thing)
    there = {key: _Places(things) for key, things in standing.items()}
    colors = here.class_map.colors(here.project.classes)
    new = []
    for thing in given:
        identity = thing.id or label_id(entry, thing)
        places = there.get(normalised(thing.class_name or ""))
        if identity in taken or (places is not None and places.holds(thing)):
            continue
        taken.add(identity)
        metadata = {**thing.metadata, SOURCE_METADATA: here.source}
        new.append(
            replace(thing, id=identity, path_class=_colored(thing.path_class, colors), metadata=metadata)
        )
    return tuple(new)


def label_id(entry: ImageEntry, thing: PathObject) -> UUID:
    """The id of a label that has none: the same each time it is imported, whatever file it comes from."""
    wkt = thing.roi.geometry.normalize().wkt if thing.roi else ""
    return uuid5(NAMESPACE_URL, f"midog-qupath-label:{entry.entry_id}:{thing.class_name}:{wkt}")


def _colored(path_class: PathClass | None, colors: Mapping[str, int | None]) -> PathClass | None:
    if path_class is None:
        return None
    return replace(path_class, color=colors.get(normalised(path_class.name), path_class.color))


class _Places:
    """Annotations of one class by the pixel of their centre."""

    def __init__(self, things: Sequence[PathObject]) -> None:
        self._by_pixel: dict[tuple[int, int], list[PathObject]] = defaultdict(list)
        for thing in things:
            if thing.roi is not None and not thing.roi.geometry.is_empty:
                self._by_pixel[_pixel(thing)].append(thing)

    def holds(self, thing: PathObject) -> bool:
        """Whether the same shape stands there, up to what storing moves."""
        x, y = _pixel(thing)
        near = (other for i in (-1, 0, 1) for j in (-1, 0, 1) for other in self._by_pixel[x + i, y + j])
        return any(
            same_shape(thing.roi.geometry, other.roi.geometry) for other in near if thing.roi and other.roi
        )


def _pixel(thing: PathObject) -> tuple[int, int]:
    x, y = centre(thing)
    return round(x), round(y)


def counts_by_class(objects: Sequence[PathObject]) -> dict[str, int]:
    """How many objects there are of each class."""
    return dict(sorted(Counter(thing.class_name or "Unclassified" for thing in objects).items()))
