"""Figures of an evaluation as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from midog_qupath.wording import counted

_CURVES = (("average_precision", "average precision"), ("froc_auc", "FROC-AUC (0 to 8)"))
_TYPES = (
    ("balanced_accuracy", "balanced accuracy"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("roc_auc", "ROC AUC"),
)
_KINDS = (("per_domain", "domain"), ("per_region_type", "region type"))


def result_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """An evaluation as :meth:`EvaluationResult.as_json` gives it; intervals are 95 %, by case."""
    mark = " (in-sample)" if data["in_sample"] else ""
    if data["in_sample"]:
        yield "IN-SAMPLE: cases the model was trained or tuned on are included."
    if data["detection"] is not None:
        yield from _detection(data["detection"], data["curves"], mark)
    if data["atypical"] is not None:
        yield from _types(data["atypical"], mark)
    if data["left_out_cases"]:
        yield f"Left out: {counted(len(data['left_out_cases']), 'case')} that the model has seen"


def difference_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Differences as :func:`comparison_json` gives them."""
    parts = [("detection", ["precision", "recall", "f1"]), ("curves", [name for name, _ in _CURVES])]
    parts.append(("atypical", [name for name, _ in _TYPES]))
    images, cases = counted(data["images"], "image"), counted(data["cases"], "case")
    yield f"Difference on {images} of {cases} (detections - against):"
    if data["cases"] < 2:
        yield "  none: an interval needs at least two cases"
    for part, names in parts:
        for name in names:
            if name in data[part]:
                yield f"  {name.replace('_', ' '):24} {_with_interval(data[part], name, sign=True)}"
    for key, kind in _KINDS:
        by = data["detection"]["f1_by"][key]
        for name in (name for name in by if name != "ci" and len(by) > 2):
            yield f"  {'F1, ' + kind + ' ' + name:24} {_with_interval(by, name, sign=True)}"


def _detection(detection: Mapping[str, Any], curves: Mapping[str, Any] | None, mark: str) -> Iterator[str]:
    at = f", threshold {detection['threshold']:.3f}" if detection["threshold"] is not None else ""
    area = f", {detection['mm2']:.3g} mm²" if detection["mm2"] is not None else ""
    yield f"Detection{mark}: {counted(detection['images'], 'image')}{area}{at}"
    yield f"  {'':24}{'TP':>6}{'FP':>6}{'FN':>6}  {'precision':22}{'recall':22}F1"
    yield _counts("pooled", detection["pooled"])
    for key, kind in _KINDS:
        if len(detection[key]) > 1 or key == "per_domain":
            for name, row in detection[key].items():
                yield _counts(name if key == "per_domain" else f"{kind} {name}", row)
    for name, label in _CURVES if curves else ():
        yield f"  {label:24} {_with_interval(curves or {}, name)}"


def _counts(name: str, row: Mapping[str, Any]) -> str:
    counts = "".join(f"{row[key]:>6}" for key in ("tp", "fp", "fn"))
    figures = "".join(f"{_with_interval(row, key):22}" for key in ("precision", "recall", "f1"))
    return f"  {name:24}{counts}  {figures.rstrip()}"


def _types(types: Mapping[str, Any], mark: str) -> Iterator[str]:
    yield f"Normal against atypical{mark}: {types['n_normal']} normal, {types['n_atypical']} atypical"
    for name, label in _TYPES:
        yield f"  {label:24} {_with_interval(types, name)}"
    for key, kind in _KINDS:
        if len(types[key]) > 1:
            for group, row in types[key].items():
                label = f"{kind} {group}"
                yield f"  {label:24} balanced accuracy {_with_interval(row, 'balanced_accuracy')}"
    if types["undetected"]:
        yield f"  {types['undetected']} figures of known type had no typed prediction near"


def _with_interval(figures: Mapping[str, Any], name: str, *, sign: bool = False) -> str:
    value, ends = figures.get(name), figures["ci"].get(name)
    if value is None:
        return "-"
    plus = "+" if sign else ""
    interval = f" [{ends[0]:{plus}.3f}, {ends[1]:{plus}.3f}]" if ends else ""
    return f"{value:{plus}.{3 if ends else 4}f}{interval}"
