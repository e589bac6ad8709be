"""How good a model is on labelled cases it has not seen: python examples/05_evaluate.py PROJECT [MODEL]"""

from __future__ import annotations

import sys
from pathlib import Path

from midog_qupath.evaluation.project import EvaluateOptions, evaluate_model
from midog_qupath.evaluation.result import EvaluationResult
from midog_qupath.inference.device import choose_device
from midog_qupath.models.find import find_model
from midog_qupath.progress import SILENT
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


def main(path: Path, chosen: Path | None = None) -> EvaluationResult:
    """Print F1 pooled and by domain (matching within 7.5 µm), and balanced accuracy of the types."""
    project = open_project(path)
    model, _ = find_model(project, chosen)
    with NativeStore(project) as store:
        result = evaluate_model(project, store, model, choose_device("auto"), EvaluateOptions(), SILENT)
    if result.detection is not None:
        rows = {"pooled": result.detection.pooled, **result.detection.per_domain}
        for name, row in rows.items():
            counts = row.counts
            print(f"{name}\tF1 {counts.f1:.3f}\t{counts.tp} TP\t{counts.fp} FP\t{counts.fn} FN")
    balanced = result.types.pooled.figures["balanced_accuracy"] if result.types else None
    if balanced is not None:
        low, high = balanced.low, balanced.high
        print(f"types\tbalanced accuracy {balanced.value:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
