"""Splits by case: no slide or patient in two of them, mitoses shared out, every domain where it can be.

Within a domain the cases that hold mitoses come first, those with many before those with few, each to the
split that is furthest below its share of the domain's mitoses; cases without mitoses follow by number of
cases. A domain of three or more cases reaches all three splits. Of two cases the one with more mitoses
trains and the other tests (a threshold can be chosen on other domains, a domain without a test case can
never be measured); two cases without a mitosis, and a single case, train. Where validation or test would
be left without a mitosis though three cases hold some, domains are pooled and split as one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midog_qupath.dataset.format import ImageRow, ObjectRow, Split

FRACTIONS: Mapping[Split, float] = {"train": 0.6, "val": 0.2, "test": 0.2}
#: Where two splits are equally short; a lone second case with mitoses goes to the test.
_ORDER: tuple[Split, ...] = ("train", "test", "val")


@dataclass(frozen=True)
class CaseTally:
    """How much one case weighs: its labelled mitotic figures and look-alikes."""

    case: str
    domain: str
    mitoses: int
    look_alikes: int


def tally_cases(images: Iterable[ImageRow], objects: Iterable[ObjectRow]) -> tuple[CaseTally, ...]:
    """The cases of a dataset by name. A mosaic's own case is none: its cells are of many."""
    domains: dict[str, Counter[str]] = defaultdict(Counter)
    mitoses: Counter[str] = Counter()
    look_alikes: Counter[str] = Counter()
    for image in images:
        if image.cell_px is None:
            domains[image.case][image.domain] += 1
    for row in objects:
        domains[row.case][row.domain] += 1
        (look_alikes if row.role == "non_mitosis" else mitoses)[row.case] += 1
    return tuple(
        CaseTally(case, min(seen, key=lambda d: (-seen[d], d)), mitoses[case], look_alikes[case])
        for case, seen in sorted(domains.items())
    )


def split_cases(
    cases: Sequence[CaseTally], seed: int = 0, fractions: Mapping[Split, float] = FRACTIONS
) -> dict[str, Split]:
    """The split of each case; the same cases and seed give the same splits in whatever order they come."""
    splits = _split_domains(cases, seed, fractions)
    held = Counter(splits[tally.case] for tally in cases if tally.mitoses)
    if held.total() >= 3 and min(held["val"], held["test"]) == 0:
        return _split_domains([replace(tally, domain="") for tally in cases], seed, fractions)
    return splits


def _split_domains(
    cases: Sequence[CaseTally], seed: int, fractions: Mapping[Split, float]
) -> dict[str, Split]:
    rng = np.random.default_rng(seed)
    splits: dict[str, Split] = {}
    for domain in sorted({tally.domain for tally in cases}):
        splits |= _split_domain(_ranked([t for t in cases if t.domain == domain], rng), fractions)
    return splits


def _ranked(cases: Sequence[CaseTally], rng: np.random.Generator) -> list[CaseTally]:
    """Many mitoses first; cases of the same magnitude (power of two) in an order that the seed decides."""
    luck = dict(zip(sorted(t.case for t in cases), rng.permutation(len(cases)), strict=True))
    return sorted(cases, key=lambda t: (-t.mitoses.bit_length(), -t.look_alikes.bit_length(), luck[t.case]))


def _split_domain(ranked: Sequence[CaseTally], fractions: Mapping[Split, float]) -> dict[str, Split]:
    total = sum(tally.mitoses for tally in ranked)
    if len(ranked) < 2 or (len(ranked) == 2 and not total):
        return {tally.case: "train" for tally in ranked}
    if len(ranked) == 2:
        most, other = sorted(ranked, key=lambda t: -t.mitoses)
        return {most.case: "train", other.case: "test"}
    holding = [tally for tally in ranked if tally.mitoses]
    empty = [tally for tally in ranked if not tally.mitoses]
    splits = _share_out([(t.case, t.mitoses) for t in holding], {}, fractions, total)
    counts = Counter(splits.values())
    return splits | _share_out([(t.case, 1) for t in empty], dict(counts), fractions, len(ranked))


def _share_out(
    cases: Sequence[tuple[str, int]],
    given: Mapping[Split, float],
    fractions: Mapping[Split, float],
    total: float,
) -> dict[str, Split]:
    """Each (case, weight) to the split furthest below its share; the last ones fill splits still empty."""
    have = {split: given.get(split, 0.0) for split in _ORDER}
    splits: dict[str, Split] = {}
    for index, (case, weight) in enumerate(cases):
        empty = [split for split in _ORDER if have[split] == 0]
        open_to = empty if len(cases) - index <= len(empty) else _ORDER
        chosen = max(open_to, key=lambda split: fractions[split] * total - have[split])
        have[chosen] += weight
        splits[case] = chosen
    return splits


def missing_splits(cases: Iterable[CaseTally], splits: Mapping[str, Split]) -> dict[str, tuple[Split, ...]]:
    """The splits that a domain reaches with no case, for the domains that lack any."""
    reached: dict[str, set[Split]] = defaultdict(set)
    for tally in cases:
        reached[tally.domain].add(splits[tally.case])
    return {
        domain: tuple(split for split in FRACTIONS if split not in found)
        for domain, found in sorted(reached.items())
        if len(found) < len(FRACTIONS)
    }


def with_splits(
    images: Iterable[ImageRow], objects: Iterable[ObjectRow], splits: Mapping[str, Split]
) -> tuple[tuple[ImageRow, ...], tuple[ObjectRow, ...]]:
    """Write the split of each row's case into the rows.

    A mosaic's image row says ``train``: its objects have splits of their own.
    """
    return (
        tuple(replace(row, split="train" if row.cell_px is not None else splits[row.case]) for row in images),
        tuple(replace(row, split=splits[row.case]) for row in objects),
    )


def leave_one_domain_out(
    images: Sequence[ImageRow], objects: Sequence[ObjectRow], domain: str
) -> tuple[tuple[ImageRow, ...], tuple[ObjectRow, ...]]:
    """The same rows with every case of ``domain`` in test, and of the others test cases in train.

    Validation cases of other domains stay, so that a threshold is never chosen on the domain left out.
    A case that lies in several domains goes to test whole.
    """
    rows: Iterable[ImageRow | ObjectRow] = (*images, *objects)
    left_out = {row.case for row in rows if row.domain == domain}

    def split(row: ImageRow | ObjectRow) -> Split:
        if row.case in left_out:
            return "test"
        return "val" if row.split == "val" else "train"

    return (
        tuple(replace(row, split=split(row)) for row in images),
        tuple(replace(row, split=split(row)) for row in objects),
    )
