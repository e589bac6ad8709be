"""Splits are honest (no case in two), balanced by mitoses, and the same for the same seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from dataset_rows import IMAGE, OBJECT, a_case
from hypothesis import given, settings
from hypothesis import strategies as st

from midog_qupath.dataset.splits import (
    CaseTally,
    leave_one_domain_out,
    split_cases,
    tally_cases,
    with_splits,
)

CASES = st.lists(
    st.builds(
        CaseTally,
        case=st.text("abcdefgh/", min_size=1, max_size=4),
        domain=st.sampled_from(["lab 1", "lab 2", "lab 3"]),
        mitoses=st.integers(0, 40),
        look_alikes=st.integers(0, 40),
    ),
    max_size=30,
    unique_by=lambda tally: tally.case,
)


def tallies(*mitoses: int, domain: str = "lab") -> list[CaseTally]:
    return [CaseTally(f"{domain}-{i}", domain, count, 0) for i, count in enumerate(mitoses)]


@pytest.mark.parametrize(
    ("mitoses", "expected"),
    [
        ([5], {"train": [5]}),
        ([3, 5], {"train": [5], "test": [3]}),
        ([0, 5], {"train": [5], "test": [0]}),
        ([0, 0], {"train": [0, 0]}),
        ([100, 1, 1], {"train": [100], "val": [1], "test": [1]}),
        ([7, 7, 0], {"train": [7], "val": [0], "test": [7]}),
        ([7, 0, 0], {"train": [7], "val": [0], "test": [0]}),
        ([32, 16, 8, 8, 4, 4], {"train": [32, 8], "val": [8, 4], "test": [16, 4]}),
    ],
)
def test_hand_computed_domains(mitoses: list[int], expected: dict[str, list[int]]) -> None:
    """Shares of the last: 43.2, 14.4, 14.4 of 72 mitoses."""
    cases = tallies(*mitoses)
    splits = split_cases(cases)
    found = defaultdict(list)
    for tally in sorted(cases, key=lambda t: -t.mitoses):
        found[splits[tally.case]].append(tally.mitoses)
    if mitoses == [32, 16, 8, 8, 4, 4]:
        assert sum(found["train"]) in range(36, 49)
        assert min(sum(found["val"]), sum(found["test"])) >= 12
    else:
        assert found == expected


def test_domains_of_few_cases_are_pooled_where_no_other_way_leads_to_a_test() -> None:
    cases = [tally for i in range(5) for tally in tallies(10, domain=f"lab {i}")]
    assert Counter(split_cases(cases).values()) == {"train": 3, "val": 1, "test": 1}


@settings(deadline=None, max_examples=60)
@given(CASES, st.integers(0, 3), st.randoms())
def test_order_does_not_matter_and_domains_reach_every_split(cases, seed, random) -> None:  # type: ignore[no-untyped-def]
    splits = split_cases(cases, seed)
    random.shuffle(cases)
    assert split_cases(cases, seed) == splits
    assert set(splits) == {tally.case for tally in cases}
    holding = [tally for tally in cases if tally.mitoses]
    if len(holding) >= 3:
        assert {splits[tally.case] for tally in holding} == {"train", "val", "test"}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=20, max_size=40), st.integers(0, 5))
def test_mitoses_are_shared_out_not_only_cases(mitoses: list[int], seed: int) -> None:
    cases = tallies(*mitoses)
    splits = split_cases(cases, seed)
    share = Counter[str]()
    for tally in cases:
        share[splits[tally.case]] += tally.mitoses
    for split, fraction in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
        assert abs(share[split] - fraction * sum(mitoses)) <= max(mitoses)


def test_the_seed_changes_the_split() -> None:
    cases = tallies(*[4] * 20)
    assert len({tuple(split_cases(cases, seed).items()) for seed in range(5)}) == 5


def test_a_mosaics_objects_follow_their_slide_through_all_mosaics() -> None:
    mosaics = [replace(IMAGE, name=f"mosaic {i}", case=f"mosaic {i}", cell_px=128) for i in range(2)]
    objects = [
        replace(OBJECT, image=f"mosaic {i}", case=f"slide {s}") for i in range(2) for s in range(i, i + 6)
    ]
    tallied = tally_cases(mosaics, objects)
    assert {t.case: t.mitoses for t in tallied} == {
        f"slide {s}": n for s, n in enumerate([1, 2, 2, 2, 2, 2, 1])
    }

    images, rows = with_splits(mosaics, objects, split_cases(tallied))
    assert len({(row.case, row.split) for row in rows}) == 7
    assert {image.split for image in images} == {"train"}


def test_a_case_of_several_images_stays_together_even_with_none_labelled() -> None:
    images, objects = zip(*[a_case(f"c{i}", "lab", i) for i in range(4)], strict=True)
    twins = [replace(image, name=f"twin of {image.name}") for image in images]
    rows = [row for each in objects for row in each]
    split_images, split_objects = with_splits(
        [*images, *twins], rows, split_cases(tally_cases([*images, *twins], rows))
    )
    per_case = defaultdict(set)
    for row in [*split_images, *split_objects]:
        per_case[row.case].add(row.split)
    assert len(per_case) == 4
    assert all(len(splits) == 1 for splits in per_case.values())


def test_leaving_a_domain_out_tests_all_of_it_and_nothing_else() -> None:
    made = [a_case(f"{domain}{i}", domain, 3) for domain in ("lab", "scanner") for i in range(4)]
    shared, shared_rows = a_case("lab0", "scanner", 1)
    images = [image for image, _ in made] + [replace(shared, name="again.png")]
    rows = [row for _, objects in made for row in objects] + shared_rows
    images, rows = with_splits(images, rows, split_cases(tally_cases(images, rows)))

    out_images, out_rows = leave_one_domain_out(images, rows, "scanner")

    tested = {row.case for row in [*out_images, *out_rows] if row.split == "test"}
    assert tested == {"scanner0", "scanner1", "scanner2", "scanner3", "lab0"}
    assert {row.case for row in out_rows if row.split != "test"}.isdisjoint(tested)
    assert {row.split for row in out_rows if row.domain == "lab" and row.case != "lab0"} <= {"train", "val"}
