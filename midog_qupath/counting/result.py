"""A mitotic count: of one image, of a project, and as plain values and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from midog_qupath.counting.figures import Figure, Word
from midog_qupath.counting.hotspot import Spot
from midog_qupath.counting.interval import CountInterval, count_interval
from midog_qupath.counting.nottingham import (
    LARGEST_MM,
    SMALLEST_MM,
    SOURCE,
    field_area_mm2,
    mitotic_score,
    per_ten_fields,
)
from midog_qupath.counting.window import Shape, Window
from midog_qupath.errors import MidogError
from midog_qupath.project.cases import image_case, image_domain
from midog_qupath.project.model import ImageEntry
from midog_qupath.units import MicronsPerPixel

#: What the interval is of.
INTERVAL_NOTE = (
    "95 % interval of the count, because unreviewed detections may be wrong, by their calibrated "
    "probabilities (Poisson-binomial); what the model missed, and that the place was chosen as the richest, "
    "are not in it"
)


@dataclass(frozen=True)
class Settings:
    """How is counted: area of the window, its shape, and the microscope's field for the score."""

    area_mm2: float = 2.0
    shape: Shape = "circle"
    field_diameter_mm: float = 0.55


@dataclass(frozen=True)
class ImageCount:
    """The count of one image.

    ``spot``: centre of the window in slide pixels; None where no window fits, and everything in the searched
    area is counted. ``area_mm2``: counted area, ``tissue_share`` of it tissue, ``searched_mm2`` all tissue.
    ``figures``: what is counted there, ``in_all``: how many there are in all of the searched area.
    ``uncalibrated``: why there is no interval, None where there is one.
    """

    entry: ImageEntry
    settings: Settings
    mpp: MicronsPerPixel
    window: Window
    spot: Spot | None
    area_mm2: float
    tissue_share: float
    searched_mm2: float
    figures: tuple[Figure, ...]
    in_all: int
    uncalibrated: str | None

    def by(self, word: Word) -> int:
        """How many a person drew, a person reviewed, or nobody reviewed."""
        return sum(figure.word == word for figure in self.figures)

    @property
    def total(self) -> int:
        """All figures that are counted."""
        return len(self.figures)

    @property
    def atypical(self) -> int:
        """Atypical ones among them."""
        return sum(figure.role == "atypical" for figure in self.figures)

    @property
    def normal(self) -> int:
        """Normal ones among them."""
        return sum(figure.role == "normal" for figure in self.figures)

    @property
    def atypical_share(self) -> float | None:
        """Atypical ones among those of known type; None without any."""
        typed = self.atypical + self.normal
        return self.atypical / typed if typed else None

    @property
    def per_mm2(self) -> float | None:
        """Figures per square millimetre; None where nothing can be searched."""
        return self.total / self.area_mm2 if self.area_mm2 > 0 else None

    @property
    def per_10_hpf(self) -> float | None:
        """Figures per 10 high-power fields of the diameter in the settings."""
        if self.per_mm2 is None:
            return None
        return per_ten_fields(self.per_mm2, self.settings.field_diameter_mm)

    @property
    def score(self) -> int | None:
        """Nottingham mitotic score.

        None where no window fits, its area is not about that of 10 fields (a half to twice), or the table
        does not know the field.
        """
        fields = self.settings.area_mm2 / (10 * field_area_mm2(self.settings.field_diameter_mm))
        if self.spot is None or self.per_10_hpf is None or not 0.5 <= fields <= 2:
            return None
        return mitotic_score(self.per_10_hpf, self.settings.field_diameter_mm)

    @property
    def interval(self) -> CountInterval | None:
        """Of :attr:`total`, see :data:`INTERVAL_NOTE`; None where the model is not calibrated."""
        if self.uncalibrated is not None:
            return None
        open_ones = [f.probability or 0.0 for f in self.figures if f.word == "unreviewed"]
        return count_interval(open_ones, self.total - len(open_ones))

    def as_row(self) -> dict[str, Any]:
        """One row of the table; names say the unit."""
        place = self.spot
        interval = self.interval
        return {
            "image": self.entry.name,
            "entry_id": self.entry.entry_id,
            "domain": image_domain(self.entry),
            "case": image_case(self.entry),
            "shape": self.settings.shape if place else "whole",
            "x_px": place.x if place else None,
            "y_px": place.y if place else None,
            "x_um": place.x * self.mpp if place else None,
            "y_um": place.y * self.mpp if place else None,
            "area_mm2": self.area_mm2,
            "tissue_share": self.tissue_share,
            "searched_mm2": self.searched_mm2,
            "count": self.total,
            "by_people": self.by("person"),
            "reviewed": self.by("reviewed"),
            "unreviewed": self.by("unreviewed"),
            "in_searched_area": self.in_all,
            "normal": self.normal,
            "atypical": self.atypical,
            "atypical_share": self.atypical_share,
            "per_mm2": self.per_mm2,
            "per_10_hpf": self.per_10_hpf,
            "field_diameter_mm": self.settings.field_diameter_mm,
            "nottingham_score": self.score,
            "expected": interval.expected if interval else None,
            "interval_low": interval.low if interval else None,
            "interval_high": interval.high if interval else None,
            "no_interval_because": self.uncalibrated,
        }


@dataclass(frozen=True)
class ProjectCount:
    """Counts of a project's images. ``skipped``: image name -> why it was not counted."""

    count: str
    settings: Settings
    images: tuple[ImageCount, ...]
    skipped: Mapping[str, MidogError]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "count": self.count,
            "area_mm2": self.settings.area_mm2,
            "shape": self.settings.shape,
            "field_diameter_mm": self.settings.field_diameter_mm,
            "field_area_mm2": field_area_mm2(self.settings.field_diameter_mm),
            "score_source": SOURCE,
            "score_knows_fields_mm": [SMALLEST_MM, LARGEST_MM],
            "interval_note": INTERVAL_NOTE,
            "images": [image.as_row() for image in self.images],
            "failed": {name: str(error) for name, error in self.skipped.items()},
        }

    def as_csv(self) -> str:
        """One row an image; nothing where a number does not exist."""
        rows = [image.as_row() for image in self.images]
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["image"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
