"""What a file of labels says, before anybody looks which image of a project it means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from midog_qupath.errors import LabelsError
from midog_qupath.project.classes import ClassMap, Role
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.model import PathObject
from midog_qupath.wording import first_of

#: Words of data sets and tools for what a class of ours means. ``NMF`` is none of them: it stands for
#: "non-mitotic figure" in one MIDOG file and for "normal mitotic figure" in another.
_WORDS: Mapping[str, Role] = {
    "mitosis": "mitosis",
    "mitoses": "mitosis",
    "mitotic": "mitosis",
    "mitotic figure": "mitosis",
    "mitotic figures": "mitosis",
    "mf": "mitosis",
    "non mitosis": "non_mitosis",
    "non mitotic": "non_mitosis",
    "non mitotic figure": "non_mitosis",
    "not mitotic figure": "non_mitosis",
    "hard negative": "non_mitosis",
    "hard negative look alike": "non_mitosis",
    "look alike": "non_mitosis",
    "imposter": "non_mitosis",
    "normal": "normal",
    "normal mitosis": "normal",
    "normal mitotic figure": "normal",
    "typical": "normal",
    "atypical": "atypical",
    "atypical mitosis": "atypical",
    "atypical mitotic figure": "atypical",
    "amf": "atypical",
}
#: What stands for "leave these out" in ``--label WORD=ROLE``.
IGNORE = "ignore"
_ROLES: tuple[Role, ...] = ("mitosis", "normal", "atypical", "non_mitosis", "region")


@dataclass(frozen=True)
class ImageLabels:
    """What a file says of one image.

    ``name`` is as the file writes it, ``width`` and ``height`` in pixels where the file knows them.
    ``objects`` are annotations in slide pixels, with or without ids. ``listed`` without objects: the file
    knows the image and has no label for it, which does not mean that there is nothing in it.
    """

    name: str
    objects: tuple[PathObject, ...]
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class GivenLabels:
    """All that a file holds. ``left_out``: how many of its objects were not taken, by reason."""

    source: str
    images: tuple[ImageLabels, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


class Words:
    """Turns a file's words into classes of a project.

    Parameters
    ----------
    class_map
        The project's classes.
    given
        Settings of the form ``WORD=ROLE`` (mitosis, normal, atypical, non_mitosis, region or ignore).

    Raises
    ------
    LabelsError
        For a setting of another form.
    """

    def __init__(self, class_map: ClassMap, given: Sequence[str] = ()) -> None:
        self._class_map = class_map
        self._given = dict(_setting(option) for option in given)

    def class_of(self, word: str) -> str | None:
        """The class that ``word`` means; ``ignore`` to leave it out, None for an unknown word."""
        key = _key(word)
        if key in self._given:
            role = self._given[key]
            return role if role == IGNORE else str(getattr(self._class_map, role))
        if self._class_map.role(word) is not None:
            return normalised(word)
        known = _WORDS.get(key)
        return str(getattr(self._class_map, known)) if known else None

    def require_known(self, words: Iterable[str], source: str) -> None:
        """LabelsError that names the words without a meaning, and how often each occurs."""
        counts = Counter(word for word in words if self.class_of(word) is None)
        if counts:
            unknown = [f"{word!r} ({count})" for word, count in counts.most_common()]
            raise LabelsError(
                f"{source} has labels of unknown meaning: {first_of(unknown, 5)}.",
                f"Say what they mean with --label WORD=ROLE; roles: {', '.join(_ROLES)}, {IGNORE}.",
            )


def _setting(option: str) -> tuple[str, str]:
    word, equals, role = option.rpartition("=")
    if not equals or not word.strip() or role.strip() not in (*_ROLES, IGNORE):
        raise LabelsError(
            f"{option!r} does not say what a label means.",
            f"Write WORD=ROLE with a role of: {', '.join(_ROLES)}, {IGNORE}.",
        )
    return _key(word), role.strip()


def _key(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").replace("-", " ").split())
