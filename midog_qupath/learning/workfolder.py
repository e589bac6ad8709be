"""The folder of a training: what it was started with, where it stands, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midog_qupath import files
from midog_qupath.errors import ModelError
from midog_qupath.learning.ground import Spot, SpotSet
from midog_qupath.models.bundle import FILE_NAME

#: What must be the same for a training to continue, in words where its name says too little.
_SETTINGS = {
    "datasets": "data",
    "recipe": "recipe",
    "start": "model to start from",
    "time_limit_seconds": "time limit",
}


class WorkFolder:
    """MODEL_DIR. ``work/`` holds checkpoints and masks until the model is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / FILE_NAME
        self.log = path / "log.csv"
        self.curves = path / "curves.png"
        self._work = path / "work"

    def begin(self, settings: dict[str, Any]) -> bool:
        """Take possession of the folder; True if an interrupted training with these settings continues.

        Raises
        ------
        ModelError
            If the folder holds a finished model, a training with other settings, or anything else.
        """
        if self.model.exists():
            raise ModelError(f"{self.path} already holds a model.", "Give another folder with -o.")
        file = self.path / "settings.json"
        if not file.is_file():
            entries = self.path.iterdir() if self.path.is_dir() else ()
            others = sorted(entry.name for entry in entries if entry != self._work)
            if others:
                raise ModelError(
                    f"{self.path} holds other things ({others[0]}).", "Give a new folder with -o."
                )
            self._work.mkdir(parents=True, exist_ok=True)
            files.write_json(file, settings)
            return False
        before, now = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        other = [_SETTINGS.get(name, name) for name in names]
        if other:
            raise ModelError(
                f"{self.path} holds an unfinished training with other settings ({', '.join(other)}).",
                "Give the same as then to continue it, or another folder with -o.",
            )
        return True

    def spent_seconds(self) -> float:
        """What the unfinished training took until its last checkpoint."""
        file = self._work / "spent-seconds.json"
        return float(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else 0.0

    def keep_spent_seconds(self, seconds: float) -> None:
        """Remember what the training took so far."""
        files.write_json(self._work / "spent-seconds.json", seconds)

    def checkpoint(self, phase: str) -> Path:
        """Where a phase keeps its checkpoint."""
        return self._work / f"{phase}.pt"

    def save_maps(self, name: str, maps: Sequence[NDArray[np.uint8]]) -> None:
        """Keep pixel-class maps (compressed) for a training that continues."""
        with files.atomic_writer(self._work / f"{name}.npz") as stream:
            np.savez_compressed(stream, *maps)

    def load_maps(self, name: str) -> list[NDArray[np.uint8]] | None:
        """Maps saved before, or None."""
        file = self._work / f"{name}.npz"
        if not file.is_file():
            return None
        with np.load(file) as stored:
            return [stored[key] for key in stored.files]

    def save_spots(self, name: str, spots: SpotSet) -> None:
        """Keep mined look-alikes for a training that continues."""
        files.write_json(self._work / f"{name}.json", [asdict(spot) for spot in spots.spots])

    def load_spots(self, name: str) -> SpotSet | None:
        """Look-alikes saved before, or None."""
        file = self._work / f"{name}.json"
        if not file.is_file():
            return None
        rows = json.loads(file.read_text(encoding="utf-8"))
        return SpotSet(tuple(Spot(**{**row, "window": tuple(row["window"])}) for row in rows))

    def take_over(self, other: WorkFolder) -> None:
        """Copy the checkpoints and masks of another folder; what is here already stays."""
        self._work.mkdir(parents=True, exist_ok=True)
        for file in sorted(other._work.iterdir()):
            own = self._work / file.name
            if not own.exists():
                files.write_bytes(own, file.read_bytes())

    def clean(self) -> None:
        """Remove checkpoints and masks of a finished training."""
        for file in self._work.iterdir():
            file.unlink()
        self._work.rmdir()
