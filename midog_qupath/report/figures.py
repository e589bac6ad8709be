"""The figures that come first, the charts, and what a run was asked to do."""

from __future__ import annotations

import math

from midog_qupath.evaluation.bootstrap import Interval
from midog_qupath.evaluation.curves import froc, precision_recall
from midog_qupath.evaluation.metrics import sweep
from midog_qupath.evaluation.result import DetectionScore, counts_json
from midog_qupath.project.manifest import RunManifest
from midog_qupath.report.card import Fact, fitted_reliability
from midog_qupath.report.charts import (
    Chart,
    certainty_chart,
    domain_chart,
    froc_chart,
    precision_recall_chart,
    reliability_chart,
)
from midog_qupath.report.gather import Material
from midog_qupath.report.measure import Measured, reliability
from midog_qupath.wording import counted


def summary(material: Material) -> tuple[Fact, ...]:
    """Name and value of the figures that a reader wants first."""
    facts: list[Fact] = []
    run, found = material.subject.run, material.found
    if run is not None:
        roles = [role for of in found.roles.values() for role in of]
        facts += [("Images", str(len(run.images))), ("Detections", f"{len(roles):,}")]
        facts += [("Normal", f"{roles.count('normal'):,}"), ("Atypical", f"{roles.count('atypical'):,}")]
        if material.reviewed is not None:
            facts.append(("Reviewed", f"{sum(material.reviewed.values()):,}"))
    if material.measured is not None:
        facts += _scores(material.measured)
    return tuple(facts)


def _scores(measured: Measured) -> list[Fact]:
    result = measured.result
    facts: list[Fact] = []
    if result.detection is not None:
        figures = result.detection.pooled.figures
        facts += [(name, _figure(figures.get(key))) for name, key in _SCORES]
        facts.append(
            ("Measured on", f"{counted(result.detection.images, 'image')}, {result.detection.mm2:.3g} mm²")
        )
    if result.curves is not None:
        facts += [(name, _figure(result.curves.pooled.get(key))) for name, key in _OVER_ALL]
    if result.types is not None:
        balanced = result.types.pooled.figures.get("balanced_accuracy")
        facts.append(("Balanced accuracy of types", _figure(balanced)))
    return facts


_SCORES = (("F1", "f1"), ("Precision", "precision"), ("Recall", "recall"))
_OVER_ALL = (("Average precision", "average_precision"), ("FROC-AUC (0 to 8)", "froc_auc"))


def _figure(figure: Interval | None) -> str:
    """A value with its 95 % interval, where there is one."""
    if figure is None:
        return "–"
    known = not math.isnan(figure.low)
    return f"{figure.value:.3f}" + (f" ({figure.low:.2f} to {figure.high:.2f})" if known else "")


def charts_of(material: Material) -> tuple[Chart, ...]:
    """The charts for which there is something to draw."""
    charts: list[Chart | None] = []
    measured = material.measured
    detection = measured.result.detection if measured else None
    if measured is not None and detection is not None:
        charts += _curves(measured, detection, material)
    fitted = fitted_reliability(material.card) if material.card else ()
    here = reliability(measured.scored) if measured else ()
    reliable = {"measured here": here, "what calibrated the model": fitted}
    if present := {name: points for name, points in reliable.items() if points}:
        charts.append(reliability_chart(present))
    charts.append(_certainties(material))
    return tuple(chart for chart in charts if chart is not None)


def _curves(measured: Measured, detection: DetectionScore, material: Material) -> list[Chart | None]:
    of_run = (
        "The run kept no detection below, so the curve ends there; a report of the model draws all of it."
    )
    below = of_run if material.subject.run is not None else "Below, the model's candidates are not kept."
    ends = f"from 1 down to {measured.lowest:.2f}. {below}"
    swept = sweep(measured.scored)
    drawn: list[Chart | None] = []
    curve, rate = precision_recall(swept), froc(swept, detection.mm2)
    if curve is not None and len(curve.thresholds):
        drawn.append(precision_recall_chart(curve, material.threshold, ends))
    if rate is not None and len(rate.thresholds):
        drawn.append(froc_chart(rate, ends))
    rows = {**detection.per_domain, **detection.per_region_type}
    scores = {name: counts_json(row.counts) for name, row in rows.items()}
    drawn.append(domain_chart(scores))
    return drawn


def _certainties(material: Material) -> Chart | None:
    by_class: dict[str, list[float]] = {}
    for spot in material.found.all():
        if spot.certainty is not None:
            by_class.setdefault(spot.label, []).append(spot.certainty)
    return certainty_chart(dict(sorted(by_class.items())), material.threshold) if by_class else None


def run_facts(run: RunManifest) -> tuple[Fact, ...]:
    """What a run was asked to do, and with which software."""
    atypical = f"{run.atypical_threshold:.3f} (probability)" if run.atypical_threshold is not None else "none"
    return (
        ("Run", run.run),
        ("Started", run.started),
        ("Finished", run.finished or "cut short, or still at work"),
        ("Model", run.model),
        ("SHA-256 of the model", run.model_sha256),
        ("Mitosis threshold", f"{run.threshold:.3f} (probability)"),
        ("Atypical threshold", atypical),
        ("Store", run.store),
        ("Earlier detections kept", "yes" if run.keep else "no"),
        *((f"Version of {name}", version) for name, version in sorted(run.software.items())),
    )
