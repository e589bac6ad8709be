"""How good a model is on labelled cases it has not seen: python examples/05_evaluate.py PROJECT [MODEL]"""

from __future__ import annotations

import sys

import midog_qupath


def main(path: str, model: str | None = None) -> None:
    """Print F1 pooled and by domain (matching within 7.5 µm), and balanced accuracy of the types."""
    result = midog_qupath.evaluate(path, model=model, store="native")
    if result.detection is not None:
        for name, row in {"pooled": result.detection.pooled, **result.detection.per_domain}.items():
            counts = row.counts
            print(f"{name}\tF1 {counts.f1:.3f}\t{counts.tp} TP\t{counts.fp} FP\t{counts.fn} FN")
    balanced = result.types.pooled.figures["balanced_accuracy"] if result.types else None
    if balanced is not None:
        low, high = balanced.low, balanced.high
        print(f"types\tbalanced accuracy {balanced.value:.3f}, 95 % interval {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
