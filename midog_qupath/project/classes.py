"""Which class of a project means what to us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from midog_qupath.errors import ProjectError
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.model import PathClass

Role = Literal["mitosis", "normal", "atypical", "non_mitosis", "region"]

#: Colours (packed ARGB) of classes that a project lacks; colour-blind safe, apart on H&E.
_COLORS = {
    "mitosis": 0xFFD62728,
    "normal": 0xFF1F77B4,
    "atypical": 0xFFC800FF,
    "non_mitosis": 0xFF7F7F7F,
    "region": 0xFF0000B4,
}


@dataclass(frozen=True)
class ClassMap:
    """Class names of a project by role; the defaults are the field's words.

    ``mitosis`` is a mitotic figure whose type is unknown, ``region`` an exhaustively labelled area.
    """

    mitosis: str = "Mitosis"
    normal: str = "Mitosis: Normal"
    atypical: str = "Mitosis: Atypical"
    non_mitosis: str = "Non-mitosis"
    region: str = "Region*"

    @classmethod
    def parse(cls, options: Sequence[str]) -> ClassMap:
        """Settings of the form ``role=Class``. Where only mitosis is renamed, its types follow.

        Raises
        ------
        ProjectError
            For an unknown role, an empty class, or a class with two roles.
        """
        roles = [field.name for field in fields(cls)]
        given: dict[str, str] = {}
        for option in options:
            role, equals, name = option.partition("=")
            if not equals or role.strip() not in roles or not name.strip():
                raise ProjectError(
                    f"{option!r} is no class mapping.",
                    f"Write role=Class with a role of: {', '.join(roles)}.",
                )
            given[role.strip()] = normalised(name)
        base = given.get("mitosis", cls.mitosis)
        chosen = replace(cls(), **{"normal": f"{base}: Normal", "atypical": f"{base}: Atypical", **given})
        names = [getattr(chosen, role) for role in roles]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ProjectError(f"The class {twice[0]!r} has two roles.", "Give each role a class of its own.")
        return chosen

    def role(self, class_name: str | None) -> Role | None:
        """What a class means to us; None for one that does not concern us.

        A class derived from one of ours means the same: ``Mitosis: Metaphase`` is a mitosis of unknown type,
        ``Non-mitosis: Apoptosis`` a look-alike.
        """
        roles: dict[str, Role] = {
            self.mitosis: "mitosis",
            self.normal: "normal",
            self.atypical: "atypical",
            self.non_mitosis: "non_mitosis",
            self.region: "region",
        }
        name = normalised(class_name or "")
        while name and name not in roles:
            name = name.rpartition(": ")[0]
        return roles.get(name)

    def path_classes(self) -> tuple[PathClass, ...]:
        """The classes with the colours they get in a project that lacks them."""
        return tuple(PathClass(getattr(self, role), color) for role, color in _COLORS.items())

    def colors(self, project_classes: Sequence[PathClass]) -> dict[str, int | None]:
        """Colours by normalised name: the project's where it has one, else ours."""
        known = {normalised(one.name): one.color for one in self.path_classes()}
        return known | {normalised(one.name): one.color for one in project_classes if one.color is not None}
