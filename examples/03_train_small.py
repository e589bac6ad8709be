"""A small model in a minute, to see the whole course: python examples/03_train_small.py PROJECT FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import midog_qupath

RECIPE = """
[network]
encoder = "tu-mobilenetv3_small_050"
decoder_channels = [32, 16, 16]
[sampling]
batch = 8
[teacher]
steps = 5
[student]
steps = 20
mine_at = []
"""


def main(path: str, folder: Path) -> Path:
    """Export PROJECT, train a network too small to be good, and print what it says of itself."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    options = midog_qupath.ExportOptions(folder=folder / "dataset")
    data = midog_qupath.export(path, options, store="native")
    model = midog_qupath.train([data], folder / "model", recipe=str(recipe), start="none", device="cpu")
    card = midog_qupath.load(model).card
    print(f"{model}: threshold {card.threshold:.3f}, {card.operating_point.chosen_on}")
    return model


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
