"""Which model a training begins from."""

from __future__ import annotations

from pathlib import Path

from midog_qupath.learning.recipe import Recipe
from midog_qupath.models.bundle import read_card
from midog_qupath.models.find import released_model
from midog_qupath.progress import Progress


def starting_model(start: str | None, recipe: Recipe, progress: Progress) -> Path | None:
    """The model to continue from: the one asked for, else the released one where the recipe fits it.

    ``start``: a path, ``none`` for none, None for the released one. None: from scratch.
    """
    if start not in (None, "none"):
        progress.note(f"Starting from {start}.")
        if read_card(Path(str(start))).network != recipe.network:
            progress.note("Its network is not the recipe's: that of the model is trained on.")
        return Path(str(start))
    released = released_model() if start is None and recipe.from_released else None
    if released is None:
        progress.note("Starting from scratch.")
        return None
    if read_card(released).network != recipe.network:
        progress.note("Starting from scratch: the recipe's network is not the released model's.")
        return None
    progress.note("Starting from the released model (--from none starts from scratch).")
    return released
