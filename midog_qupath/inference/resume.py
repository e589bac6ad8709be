"""What an interrupted run had done, so that the same command goes on from there.

Each image has a log that only grows: a header that says of which image, model and windows it speaks, then
a line for every few windows. A line that was cut short by a crash is not counted.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
import torch

from midog_qupath import files
from midog_qupath.detection import Detection
from midog_qupath.inference.adapt import Look
from midog_qupath.inference.grid import Tile
from midog_qupath.project.disk import writing
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.run import RunInfo

#: Seconds of work that may be lost.
_EVERY = 10.0


@dataclass(frozen=True)
class Unfinished:
    """The folder of a run that is under way, None to keep nothing.

    ``warn`` is told where it cannot be written.
    """

    folder: Path | None
    warn: Callable[[str], None]

    @classmethod
    def of(cls, project: Project, asked: Mapping[str, object], warn: Callable[[str], None]) -> Unfinished:
        """That of a run that does what is ``asked`` (plain values); runs that do else have their own."""
        key = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        return cls(project.ours / "unfinished" / key, warn)

    def begin(self, run: RunInfo, batch: int | None) -> tuple[RunInfo, int | None]:
        """The run under its first name and with its first batch size, if it was begun before."""
        if self.folder is None:
            return run, batch
        path = self.folder / "run.json"
        known = _json(path)
        if known is not None:
            number, started = int(known["number"]), str(known["started"])
            return replace(run, run=str(known["run"]), number=number, started=started), known["batch"]
        with writing(path):
            files.write_json(
                path, {"run": run.run, "number": run.number, "started": run.started, "batch": batch}
            )
        return run, batch

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return self.folder is not None and (self.folder / "run.json").is_file()

    def done(self) -> None:
        """Nothing is unfinished any more."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def image(self, entry: ImageEntry) -> ImageLog | None:
        """The log of one image."""
        if self.folder is None:
            return None
        return ImageLog(self.folder / f"{entry.entry_id}.log", identity(entry), self.warn)

    def look(self, entry: ImageEntry, make: Callable[[], Look]) -> Look:
        """What the model saw of an image when it got used to it: from before, else made and kept."""
        if self.folder is None:
            return make()
        path = self.folder / f"{entry.entry_id}.npz"
        kept = _read_look(path, identity(entry))
        if kept is not None:
            return kept
        look = make()
        try:
            files.write_bytes(path, _look_bytes(look, identity(entry)))
        except OSError as error:
            self.warn(f"{path} cannot be written ({error}): an interrupted run starts again.")
        return look


def identity(entry: ImageEntry) -> str:
    """Tells whether an image's file is the same as before."""
    state = entry.path.stat() if entry.path is not None and entry.path.exists() else None
    return f"{entry.path} {state.st_size} {state.st_mtime_ns}" if state else f"{entry.path}"


class ImageLog:
    """What was done of one image; see :class:`midog_qupath.inference.detect.Memory`."""

    def __init__(self, path: Path, identity: str, warn: Callable[[str], None]) -> None:
        self._path, self._identity, self._warn = path, identity, warn
        self._told, self._written, self._last = 0, 0, time.monotonic()
        self._broken = False

    def recall(self, tiles: Sequence[Tile]) -> tuple[int, list[Detection]]:
        """Number of tiles done and the candidates found in them."""
        header = orjson.dumps({"image": self._identity, "tiles": _digest(tiles)})
        lines = self._path.read_bytes().split(b"\n") if self._path.is_file() else [b""]
        done, found, kept = 0, [], [header]
        if lines[0] == header:
            # What follows the last line end was cut short.
            for line in lines[1:-1]:
                record = orjson.loads(line)
                done = record["done"]
                found += [_detection(row) for row in record["found"]]
                kept.append(line)
        self._begin(kept)
        self._told, self._written = done, len(found)
        return done, found

    def _begin(self, lines: Sequence[bytes]) -> None:
        try:
            files.write_bytes(self._path, b"\n".join(lines) + b"\n")
        except OSError as error:
            self._give_up(error)

    def keep(self, done: int, found: Sequence[Detection], now: bool = False) -> None:
        """Add what is new since the last line, at most every 10 s unless ``now``."""
        due = now or time.monotonic() - self._last >= _EVERY
        if self._broken or done == self._told or not due:
            return
        new = [_row(detection) for detection in found[self._written :]]
        try:
            with self._path.open("ab") as stream:
                stream.write(orjson.dumps({"done": done, "found": new}) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            self._give_up(error)
            return
        self._told, self._written, self._last = done, len(found), time.monotonic()

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        self._warn(f"{self._path} cannot be written ({error}): an interrupted run starts this image again.")


def _digest(tiles: Sequence[Tile]) -> str:
    return hashlib.sha256(orjson.dumps([asdict(tile) for tile in tiles])).hexdigest()


def _row(detection: Detection) -> list[object]:
    outline = detection.polygon.wkb_hex if detection.polygon is not None else None
    return [detection.x, detection.y, detection.mitosis_probability, detection.atypical_probability, outline]


def _detection(row: Sequence[Any]) -> Detection:
    x, y, mitosis, atypical, outline = row
    return Detection(x, y, mitosis, atypical, shapely.from_wkb(outline) if outline else None)


def _look_bytes(look: Look, identity: str) -> bytes:
    arrays: dict[str, Any] = {
        f"s{j}-{i}": t.cpu().numpy() for i, pair in enumerate(look.statistics) for j, t in enumerate(pair)
    }
    stream = io.BytesIO()
    np.savez(stream, identity=np.array(identity), nuclei=look.nuclei, **arrays)
    return stream.getvalue()


def _read_look(path: Path, identity: str) -> Look | None:
    try:
        with np.load(path) as kept:
            if str(kept["identity"]) != identity:
                return None
            count = sum(name.startswith("s0-") for name in kept.files)
            pairs = [tuple(torch.from_numpy(kept[f"s{j}-{i}"]) for j in (0, 1)) for i in range(count)]
            return Look(tuple((mean, variance) for mean, variance in pairs), kept["nuclei"])
    except (OSError, ValueError, KeyError):
        return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return (
        value if isinstance(value, dict) and value.keys() == {"run", "number", "started", "batch"} else None
    )
