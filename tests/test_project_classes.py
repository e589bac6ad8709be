"""Class names of a project are settings; what they mean follows QuPath's derived classes."""

from __future__ import annotations

import pytest

from midog_qupath.errors import ProjectError
from midog_qupath.project.classes import ClassMap


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Mitosis", "mitosis"),
        ("Mitosis: Normal", "normal"),
        ("Mitosis:Atypical", "atypical"),
        ("Mitosis: Metaphase", "mitosis"),
        ("Mitosis: Atypical: Tripolar", "atypical"),
        ("Non-mitosis", "non_mitosis"),
        ("Non-mitosis: Apoptosis", "non_mitosis"),
        ("Region*", "region"),
        ("Mitosis?", None),
        ("mitosis", None),
        ("Tumor: Mitosis", None),
        ("", None),
        (None, None),
    ],
)
def test_the_words_of_the_field_and_classes_derived_from_them(name: str | None, role: str | None) -> None:
    assert ClassMap().role(name) == role


def test_the_types_follow_where_only_mitosis_is_renamed() -> None:
    names = ClassMap.parse(["mitosis=Mitotic figure"])
    assert (names.normal, names.atypical) == ("Mitotic figure: Normal", "Mitotic figure: Atypical")
    assert names.role("Mitotic figure: Metaphase") == "mitosis"
    assert names.role("Mitosis") is None
    assert names.region == "Region*"


def test_every_role_can_be_renamed_and_names_may_hold_spaces_and_equals_signs() -> None:
    names = ClassMap.parse(["atypical= AMF ", "normal=NMF", "non_mitosis=a=b", "region=ROI:10 HPF"])
    assert [names.role(name) for name in ("AMF", "NMF", "a=b", "ROI: 10 HPF", "Mitosis")] == [
        "atypical",
        "normal",
        "non_mitosis",
        "region",
        "mitosis",
    ]


@pytest.mark.parametrize("option", ["mitose=X", "mitosis", "mitosis=", "=X", ""])
def test_an_option_that_maps_nothing_is_told_the_roles(option: str) -> None:
    with pytest.raises(ProjectError, match="mitosis, normal, atypical, non_mitosis, region"):
        ClassMap.parse([option])


def test_one_class_cannot_mean_two_things() -> None:
    with pytest.raises(ProjectError, match="two roles"):
        ClassMap.parse(["normal=X", "atypical=X"])


def test_each_class_we_add_has_a_colour_of_its_own() -> None:
    classes = ClassMap().path_classes()
    assert [item.name for item in classes][:3] == ["Mitosis", "Mitosis: Normal", "Mitosis: Atypical"]
    colors = [item.color for item in classes]
    assert len(set(colors)) == 5
    assert all(color is not None and color >> 24 == 0xFF for color in colors)
