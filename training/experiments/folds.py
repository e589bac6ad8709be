"""Folds: which cases train, which choose a threshold in-domain, which are tested. No case is ever cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midog_qupath.dataset.format import ImageRow, ObjectRow, Split
from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError

#: Groups of folds. A threshold for a fold of the first three is chosen on the predictions for the other
#: folds of its group (each by the model that did not see it), for ``OWN`` on the run's validation cases.
SOURCES, SLIDES, SCANNERS, NEGATIVES = "source left out", "slides left out", "scanner left out", "no mitoses"
IN_DOMAIN, FEW_LABELS, EVERYTHING = "in-domain", "few labels", "everything"
OWN = "own"
FINE_TUNING_SOURCE = "midesec"
#: Mitoses of the left-out source that fine-tuning may see.
FEW = (10, 20, 40)
_FOLDS_BY_SLIDE = 5


@dataclass(frozen=True)
class Fold:
    """The split of every case; a case that is not named is not used.

    ``threshold_from``: the group of folds whose left-out predictions choose the threshold, or ``OWN``.
    """

    name: str
    group: str
    splits: Mapping[str, Split]
    threshold_from: str


def folds_of(experiment: str, dataset: Dataset, seed: int) -> tuple[Fold, ...]:
    """The folds of an experiment; ``seed`` matters only where fields are drawn at random.

    Raises
    ------
    DatasetError
        If the dataset has none of the sources that the experiment leaves out.
    """
    folds = _MAKERS[experiment](dataset, seed)
    if not folds:
        raise DatasetError(
            f"The dataset {dataset.folder} has nothing that the experiment {experiment} leaves out.",
            "It needs fields of two sources or more, or mosaics.",
        )
    return folds


def apply_fold(dataset: Dataset, fold: Fold) -> Dataset:
    """The same dataset with the splits of a fold, without the cases that the fold does not use."""
    objects = tuple(
        replace(row, split=fold.splits[row.case]) for row in dataset.objects if row.case in fold.splits
    )
    with_objects = {row.image for row in objects}
    images = tuple(
        replace(row, split=fold.splits.get(row.case, "train"))
        for row in dataset.images
        if (row.name in with_objects if row.cell_px else row.case in fold.splits)
    )
    kept = {row.name for row in images}
    areas = tuple(row for row in dataset.areas if row.image in kept)
    return replace(dataset, images=images, objects=objects, areas=areas)


def field_sources(dataset: Dataset) -> dict[str, int]:
    """The domains of exhaustively labelled images, and how many mitoses each holds there."""
    counts = {row.domain: 0 for row in dataset.images if _is_field(row)}
    fields = {row.name for row in dataset.images if _is_field(row)}
    for thing in dataset.objects:
        if thing.image in fields and thing.role != "non_mitosis":
            counts[thing.domain] += 1
    return dict(sorted(counts.items()))


def _is_field(row: ImageRow) -> bool:
    return row.extent != "objects"


def _cases(dataset: Dataset) -> dict[str, list[ObjectRow | ImageRow]]:
    """The rows of every case; a mosaic's own case is none, its cells are of many."""
    rows: dict[str, list[ObjectRow | ImageRow]] = defaultdict(list)
    everything: list[ObjectRow | ImageRow] = [r for r in dataset.images if not r.cell_px]
    for row in [*everything, *dataset.objects]:
        rows[row.case].append(row)
    return dict(sorted(rows.items()))


def _case_domains(dataset: Dataset) -> dict[str, set[str]]:
    return {case: {row.domain for row in rows} for case, rows in _cases(dataset).items()}


def _field_splits(dataset: Dataset) -> dict[str, Split]:
    return {row.case: row.split for row in dataset.images if _is_field(row)}


def source_folds(dataset: Dataset, keep_validation: bool) -> tuple[Fold, ...]:
    """Every source of fields left out once; a source without mitoses measures false positives alone.

    ``keep_validation``: the fields that the dataset itself marks for validation stay out of training, so
    that a threshold chosen on seen sources can be compared.
    """
    domains, own = _case_domains(dataset), _field_splits(dataset)

    def split(case: str, left_out: str) -> Split:
        if left_out in domains[case]:
            return "test"
        return "val" if keep_validation and own.get(case) == "val" else "train"

    return tuple(
        Fold(source, SOURCES if mitoses else NEGATIVES, {c: split(c, source) for c in domains}, SOURCES)
        for source, mitoses in field_sources(dataset).items()
    )


def slide_folds(dataset: Dataset, count: int = _FOLDS_BY_SLIDE) -> tuple[Fold, ...]:
    """The mosaics' slides in ``count`` folds with about as many atypical mitoses each; fields all train.

    Slides with many atypical mitoses first, each to the fold that has fewest so far (then fewest normal).
    """
    tested = _typed_cases(dataset)
    ranked = sorted(tested, key=lambda case: (-tested[case][1], -tested[case][0], case))
    totals = [(0, 0, index) for index in range(count)]
    chosen: dict[str, int] = {}
    for case in ranked:
        normal, atypical = tested[case]
        most_needed = min(totals)
        chosen[case] = most_needed[2]
        totals[most_needed[2]] = (most_needed[0] + atypical, most_needed[1] + normal, most_needed[2])
    return tuple(
        _leave_out(dataset, f"slides {number + 1}", SLIDES, {c for c in chosen if chosen[c] == number})
        for number in range(count)
    )


def scanner_folds(dataset: Dataset) -> tuple[Fold, ...]:
    """Every scanner (domain of typed mitoses) left out once, whole cases."""
    domains = _case_domains(dataset)
    typed = _typed_cases(dataset)
    scanners = sorted({domain for case in typed for domain in domains[case]})
    return tuple(
        _leave_out(dataset, scanner, SCANNERS, {case for case in domains if scanner in domains[case]})
        for scanner in scanners
    )


def _typed_cases(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Number of normal and of atypical mitoses of each case that has any."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in dataset.objects:
        if row.role in ("normal", "atypical"):
            counts[row.case][row.role == "atypical"] += 1
    return {case: (normal, atypical) for case, (normal, atypical) in sorted(counts.items())}


def _leave_out(dataset: Dataset, name: str, group: str, left_out: set[str]) -> Fold:
    splits: dict[str, Split] = {case: "test" if case in left_out else "train" for case in _cases(dataset)}
    return Fold(name, group, splits, group)


def in_domain_fold(dataset: Dataset) -> Fold:
    """The dataset's own split: left-out cases of every source, threshold from its validation cases."""
    splits: dict[str, Split] = {case: rows[0].split for case, rows in _cases(dataset).items()}
    return Fold("in-domain", IN_DOMAIN, splits, OWN)


def everything_fold(dataset: Dataset) -> Fold:
    """Every case trains; nothing is tested."""
    return Fold("everything", EVERYTHING, dict.fromkeys(_cases(dataset), "train"), SOURCES)


def few_label_folds(dataset: Dataset, seed: int, source: str = FINE_TUNING_SOURCE) -> tuple[Fold, ...]:
    """Fields of one source drawn at random until they hold 10, 20, 40 mitoses; the others are tested.

    The fields of 10 are among those of 20 and so on, and all are tested on the fields outside the largest
    set, so that the three can be compared. Nothing else of the dataset is used.
    """
    mitoses = _mitoses_by_field_case(dataset, source)
    if sum(mitoses.values()) <= max(FEW):
        return ()
    order = [sorted(mitoses)[i] for i in np.random.default_rng(seed).permutation(len(mitoses))]
    largest = _first_with(order, mitoses, max(FEW))
    tested: dict[str, Split] = {case: "test" for case in order if case not in largest}
    return tuple(
        Fold(
            f"{few} mitoses",
            FEW_LABELS,
            {**tested, **dict.fromkeys(_first_with(order, mitoses, few), "train")},
            OWN,
        )
        for few in FEW
    )


def _mitoses_by_field_case(dataset: Dataset, source: str) -> dict[str, int]:
    fields = {row.name: row.case for row in dataset.images if _is_field(row) and row.domain == source}
    counts = dict.fromkeys(fields.values(), 0)
    for row in dataset.objects:
        if row.image in fields and row.role != "non_mitosis":
            counts[row.case] += 1
    return counts


def _first_with(order: Sequence[str], mitoses: Mapping[str, int], wanted: int) -> list[str]:
    taken: list[str] = []
    for case in order:
        if sum(mitoses[c] for c in taken) >= wanted:
            break
        taken.append(case)
    return taken


def _mitotic_sources(dataset: Dataset) -> tuple[Fold, ...]:
    return tuple(fold for fold in source_folds(dataset, False) if fold.group == SOURCES)


def _type_folds(dataset: Dataset, seed: int) -> tuple[Fold, ...]:
    return (*slide_folds(dataset), *scanner_folds(dataset))


def _released_folds(dataset: Dataset, seed: int) -> tuple[Fold, ...]:
    return (*source_folds(dataset, False), in_domain_fold(dataset), everything_fold(dataset))


_MAKERS: Mapping[str, Callable[[Dataset, int], tuple[Fold, ...]]] = {
    "detection": lambda data, seed: source_folds(data, True),
    "atypical": _type_folds,
    "types": _type_folds,
    "fine-tuning": few_label_folds,
    "students": lambda data, seed: _mitotic_sources(data),
    "floor": lambda data, seed: _mitotic_sources(data),
    "small-tiles": lambda data, seed: (*_released_folds(data, seed), *slide_folds(data)),
    "released": _released_folds,
}
