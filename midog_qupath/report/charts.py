"""Charts as SVG pictures (matplotlib), each with a text for those who cannot see it and its numbers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.curves import Froc, PrecisionRecall
from midog_qupath.report.measure import ReliabilityPoint

#: Colour-blind safe (Okabe and Ito), in the order in which they are taken.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
#: Points drawn of a curve: more cannot be told apart.
_POINTS = 300
#: Rows of numbers given with a curve.
_ROWS = 12
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "midog-qupath",
    "font.family": "sans-serif",
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Chart:
    """A picture (``uri``, SVG), what it shows (``alt``: for those who cannot see it), and its numbers."""

    key: str
    title: str
    says: str
    alt: str
    uri: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def precision_recall_chart(curve: PrecisionRecall, threshold: float, ends: str) -> Chart:
    """Precision against recall with the operating point; ``ends``: down to which threshold."""

    def draw(axes: Any) -> None:
        kept, at = _thin(len(curve.recall)), _at(curve.thresholds, threshold)
        axes.plot(curve.recall[kept], curve.precision[kept], color=COLORS[0])
        axes.plot(curve.recall[at], curve.precision[at], "o", color=COLORS[1], label=f"at {threshold:.2f}")
        axes.legend(frameon=False)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))

    return Chart(
        key="precision-recall",
        title="Precision and recall",
        says=f"Each point is a threshold on the mitosis probability, {ends}",
        alt=f"Precision falls from {curve.precision[0]:.2f} to {curve.precision[-1]:.2f} "
        f"as recall grows to {curve.recall[-1]:.2f}.",
        uri=svg_uri(draw),
        heads=("threshold", "precision", "recall"),
        rows=_rows(curve.thresholds, curve.precision, curve.recall),
    )


def froc_chart(curve: Froc, ends: str) -> Chart:
    """Sensitivity against false positives per mm² of labelled ground; ``ends``: down to which threshold."""

    def draw(axes: Any) -> None:
        kept = _thin(len(curve.sensitivity))
        axes.plot(curve.fp_per_mm2[kept], curve.sensitivity[kept], color=COLORS[0])
        axes.set(xlabel="false positives per mm²", ylabel="sensitivity", ylim=(0, 1.02))
        axes.set_xlim(left=0)

    return Chart(
        key="froc",
        title="FROC",
        says=f"Mitoses found against false positives, over all thresholds, {ends}",
        alt=f"Sensitivity reaches {curve.sensitivity[-1]:.2f} at {curve.fp_per_mm2[-1]:.1f} false positives "
        "per square millimetre.",
        uri=svg_uri(draw),
        heads=("threshold", "false positives per mm²", "sensitivity"),
        rows=_rows(curve.thresholds, curve.fp_per_mm2, curve.sensitivity),
    )


def reliability_chart(curves: Mapping[str, Sequence[ReliabilityPoint]]) -> Chart:
    """How often a prediction is right against what it says, a line a named set of predictions."""

    def draw(axes: Any) -> None:
        axes.plot((0, 1), (0, 1), color="#888888", linestyle=":", label="as it should be")
        for color, (name, points) in zip(COLORS, curves.items(), strict=False):
            axes.plot(
                [p.predicted for p in points],
                [p.observed for p in points],
                marker="o",
                color=color,
                label=name,
            )
        axes.set(xlabel="probability said", ylabel="share that are", xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False)

    rows = tuple(
        (name, f"{point.predicted:.3f}", f"{point.observed:.3f}", str(point.n))
        for name, points in curves.items()
        for point in points
    )
    return Chart(
        key="reliability",
        title="Reliability",
        says="Whether a probability can be taken at its word: on the dotted line it can.",
        alt=f"Reliability of {', '.join(curves)}; the numbers are in the table below.",
        uri=svg_uri(draw),
        heads=("predictions", "probability said", "share that are", "how many"),
        rows=rows,
    )


def domain_chart(scores: Mapping[str, Mapping[str, float | None]]) -> Chart:
    """F1, precision and recall of each domain as bars; ``scores``: domain -> figure -> 0..1 or None."""
    figures = ("f1", "precision", "recall")

    def draw(axes: Any) -> None:
        at = np.arange(len(scores))
        for number, name in enumerate(figures):
            heights = [score[name] or 0.0 for score in scores.values()]
            axes.bar(at + (number - 1) * 0.27, heights, 0.25, color=COLORS[number], label=name.capitalize())
        axes.set_xticks(at, list(scores), rotation=0 if len(scores) <= 6 else 60)
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.13))

    rows = tuple(
        (name, *("-" if score[f] is None else f"{score[f]:.3f}" for f in figures))
        for name, score in scores.items()
    )
    return Chart(
        key="domains",
        title="Domains and region types",
        says="Pooled over the images of a domain, and of a type of region where images have one.",
        alt=f"F1, precision and recall of {len(scores)} domains; the numbers are in the table below.",
        uri=svg_uri(draw),
        heads=("domain", "F1", "precision", "recall"),
        rows=rows,
    )


def certainty_chart(certainties: Mapping[str, Sequence[float]], threshold: float) -> Chart:
    """How many detections of each class have which mitosis probability."""
    edges = np.linspace(0, 1, 21)

    def draw(axes: Any) -> None:
        axes.hist(
            list(certainties.values()),
            bins=edges,
            stacked=True,
            color=list(COLORS[: len(certainties)]),
            label=list(certainties),
        )
        axes.axvline(threshold, color="#444444", linestyle=":", label=f"threshold {threshold:.2f}")
        axes.set(xlabel="mitosis probability", ylabel="detections", xlim=(0, 1))
        axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))

    counted = [np.histogram(values, bins=edges)[0] for values in certainties.values()]
    rows = tuple(
        (f"{edges[i]:.2f} to {edges[i + 1]:.2f}", *(str(counts[i]) for counts in counted))
        for i in range(len(edges) - 1)
        if any(counts[i] for counts in counted)
    )
    total = sum(len(values) for values in certainties.values())
    return Chart(
        key="certainty",
        title="Certainty",
        says="Mitosis probability of all detections.",
        alt=f"{total} detections by mitosis probability; the numbers are in the table below.",
        uri=svg_uri(draw),
        heads=("probability", *certainties),
        rows=rows,
    )


def training_charts(log: Sequence[tuple[str, int, str, float]]) -> tuple[Chart, ...]:
    """A chart a logged value over the steps, a line a phase; ``log`` as ``learning.runlog`` reads it."""
    return tuple(_training_chart(name, log) for name in dict.fromkeys(row[2] for row in log))


def _training_chart(name: str, log: Sequence[tuple[str, int, str, float]]) -> Chart:
    phases = {
        phase: [(step, value) for of, step, called, value in log if (of, called) == (phase, name)]
        for phase in dict.fromkeys(row[0] for row in log if row[2] == name)
    }

    def draw(axes: Any) -> None:
        for color, (phase, points) in zip(COLORS, phases.items(), strict=False):
            kept = np.array(points, dtype=np.float64)[_thin(len(points))]
            axes.plot(kept[:, 0], kept[:, 1], color=color, label=phase)
        axes.set_xlabel("step")
        axes.legend(frameon=False)

    ends = tuple(
        (phase, f"{points[0][1]:.4g}", f"{points[-1][1]:.4g}", str(points[-1][0]))
        for phase, points in phases.items()
    )
    return Chart(
        key=f"training-{name.replace(' ', '-')}",
        title=name,
        says="",
        alt=f"{name} over the steps of the training: "
        + "; ".join(f"{phase} from {first} to {last}" for phase, first, last, _ in ends)
        + ".",
        uri=svg_uri(draw, (4.2, 2.6)),
        heads=("phase", "first", "last", "steps"),
        rows=ends,
    )


def svg_uri(draw: Callable[[Any], None], inches: tuple[float, float] = (5.2, 3.6)) -> str:
    """What ``draw`` draws into matplotlib axes, as a ``data:image/svg+xml`` URI; the same each time."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(text.getvalue().encode()).decode('ascii')}"


def _thin(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))


def _at(thresholds: NDArray[np.float64], threshold: float) -> int:
    """Index of the lowest observed threshold that is not below ``threshold``."""
    return max(0, int(np.searchsorted(-thresholds, -threshold, side="right")) - 1)


def _rows(*columns: NDArray[np.float64]) -> tuple[tuple[str, ...], ...]:
    chosen = np.unique(np.linspace(0, len(columns[0]) - 1, _ROWS).round().astype(np.int64))
    return tuple(tuple(f"{column[index]:.3f}" for column in columns) for index in chosen)
