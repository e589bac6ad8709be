"""From measured images to the figures of an evaluation: pooled, by domain, by region type."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from midog_qupath.evaluation.bootstrap import Interval, case_index
from midog_qupath.evaluation.figures import (
    Figures,
    Statistics,
    curve_statistics,
    detection_statistics,
    differences,
    type_statistics,
)
from midog_qupath.evaluation.measured import (
    UNKNOWN,
    Measured,
    MeasuredImage,
    all_types,
    grouped,
    with_detection,
)
from midog_qupath.evaluation.metrics import Counts, type_score
from midog_qupath.evaluation.resampled import ScoredCases
from midog_qupath.evaluation.result import (
    Comparison,
    CurveScore,
    DetectionRow,
    DetectionScore,
    TypeRow,
    TypesScore,
)

_Key = Callable[[MeasuredImage], str]


def _domain(image: MeasuredImage) -> str:
    return image.domain


def _region_type(image: MeasuredImage) -> str:
    return image.region_type


def detection_score(images: Measured) -> DetectionScore | None:
    """Precision, recall and F1; None where detections are measured in no image."""
    measured = with_detection(images)
    if not measured:
        return None
    return DetectionScore(
        pooled=_detection_row(measured),
        per_domain={name: _detection_row(group) for name, group in grouped(measured, _domain).items()},
        per_region_type={n: _detection_row(group) for n, group in grouped(measured, _region_type).items()},
        images=len(measured),
        mm2=sum(image.mm2 for image in measured),
    )


def _detection_row(images: Measured) -> DetectionRow:
    statistics = detection_statistics(images)
    counts = sum((image.counts or Counts() for image in images), Counts())
    return DetectionRow(counts, statistics.figures(), len(statistics.cases))


def types_score(images: Measured) -> TypesScore | None:
    """Normal against atypical; None where no figure of known type was called either."""
    types = all_types(images)
    if not (types.called != UNKNOWN).any():
        return None
    typed = [image for image in images if len(image.types.cases)]
    return TypesScore(
        pooled=_type_row(typed),
        per_domain={name: _type_row(group) for name, group in grouped(typed, _domain).items()},
        per_region_type={name: _type_row(group) for name, group in grouped(typed, _region_type).items()},
        undetected=int((types.called == UNKNOWN).sum()),
    )


def _type_row(images: Measured) -> TypeRow:
    types, statistics = all_types(images), type_statistics(images)
    known = types.called != UNKNOWN
    score = type_score(types.is_atypical[known], types.called[known] == 1)
    return TypeRow(score, statistics.figures(), len(statistics.cases))


def curve_score(images: Measured, lowest: float) -> CurveScore:
    """Average precision and FROC-AUC of images whose candidates are known, ROC AUC of atypical ones."""
    scored = [image for image in images if image.scored is not None]
    together = _scored_cases(scored)

    def by(key: _Key) -> Mapping[str, Figures]:
        index = {id(image): number for number, image in enumerate(scored)}
        found = {}
        for name, group in grouped(scored, key).items():
            cases, case = case_index([image.case for image in group])
            part = together.subset([index[id(image)] for image in group], case.tolist(), len(cases))
            found[name] = curve_statistics(group, part).figures()
        return found

    auc = type_statistics(images).figure("roc_auc")
    pooled = curve_statistics(scored, together).figures()
    return CurveScore(lowest, pooled, by(_domain), by(_region_type), auc)


def _scored_cases(images: Measured) -> ScoredCases:
    cases, index = case_index([image.case for image in images])
    return ScoredCases.of([i.scored for i in images if i.scored is not None], index.tolist(), len(cases))


def compare(new: Measured, old: Measured) -> Comparison:
    """Differences between two systems measured on the same images in the same order.

    Raises
    ------
    ValueError
        If the images are not the same.
    """
    if [image.name for image in new] != [image.name for image in old]:
        raise ValueError("two systems are compared on the same images in the same order")
    both = _both(new, old, detection_statistics)
    return Comparison(
        images=len(new),
        cases=len(detection_statistics(new).cases or type_statistics(new).cases),
        detection=differences(*both),
        per_domain=_f1_differences(new, old, _domain),
        per_region_type=_f1_differences(new, old, _region_type),
        types=differences(*_both(new, old, type_statistics)),
        curves=differences(*_both(new, old, _curves)),
    )


def _both(
    new: Measured, old: Measured, statistics: Callable[[Measured], Statistics]
) -> tuple[Statistics, Statistics]:
    return statistics(new), statistics(old)


def _curves(images: Measured) -> Statistics:
    scored = [image for image in images if image.scored is not None]
    return curve_statistics(scored, _scored_cases(scored))


def _f1_differences(new: Measured, old: Measured, key: _Key) -> dict[str, Interval | None]:
    olds = grouped(with_detection(old), key)
    return {
        name: differences(detection_statistics(group), detection_statistics(olds[name])).get("f1")
        for name, group in grouped(with_detection(new), key).items()
    }
