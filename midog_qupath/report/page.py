"""The page itself: what it holds, and how it becomes one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from midog_qupath.report.card import Fact
from midog_qupath.report.charts import Chart
from midog_qupath.report.spots import Gallery

if TYPE_CHECKING:
    from midog_qupath.report.hotspots import Hotspots

#: A cell of a table: text, a number, or nothing.
Cell = str | float | int | None


@dataclass(frozen=True)
class Column:
    """A column: what stands above it, with its unit; ``digits`` after the point, None for text."""

    head: str
    digits: int | None = None


@dataclass(frozen=True)
class Table:
    """A table that sorts, filters and pages. ``key``: an id for the page.

    ``place``: columns of image, x and y, whose values a button copies; None for a table of no places.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    place: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Shown:
    """A gallery with the pictures of some of its spots, by their index; ``left_out`` have none."""

    gallery: Gallery
    pictures: Mapping[int, str]

    @property
    def left_out(self) -> int:
        """How many spots have no picture."""
        return len(self.gallery.spots) - len(self.pictures)


@dataclass(frozen=True)
class Page:
    """Everything on the page, in the order in which it stands.

    ``summary``: the figures that come first. ``notes``: what a reader has to know before he trusts them.
    ``names``: name of each image by its entry's id. ``card``: HTML that is already safe.
    """

    title: str
    subtitle: str
    summary: tuple[Fact, ...]
    notes: tuple[str, ...]
    images: Table | None
    detections: Table | None
    galleries: tuple[Shown, ...]
    errors: tuple[Shown, ...]
    hotspots: Hotspots | None
    charts: tuple[Chart, ...]
    training: tuple[Chart, ...]
    facts: tuple[Fact, ...]
    run: tuple[Fact, ...]
    settings: tuple[Fact, ...]
    card: str | None
    names: Mapping[str, str]
    made: str
    crop_um: float
    saved: tuple[Table, ...] = field(default=())

    @property
    def intervals(self) -> bool:
        """Whether a figure of the summary has an interval."""
        return any(" to " in value for _, value in self.summary)


def render(page: Page) -> str:
    """The page as HTML: style, script, pictures and data inside, nothing from elsewhere.

    A content security policy in it forbids the browser to load anything. Text from projects reaches it
    through jinja's escaping, or as JSON that the script writes as text.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_asset("page.html"))
    return template.render(
        page=page,
        # Ours, not a project's.
        style=Markup(_asset("report.css")),  # noqa: S704
        script=Markup(_asset("report.js")),  # noqa: S704
        # Rendered by card.card_html, which lets no HTML through.
        card=Markup(page.card) if page.card else None,  # noqa: S704
        data=_data(page),
    )


def _asset(name: str) -> str:
    return files("midog_qupath.report").joinpath("assets", name).read_text(encoding="utf-8")


def _data(page: Page) -> dict[str, Any]:
    counted = page.hotspots.table if page.hotspots else None
    tables = [table for table in (page.images, page.detections, counted, *page.saved) if table is not None]
    ids = list(page.names)
    order = {entry_id: index for index, entry_id in enumerate(ids)}
    return {
        "images": [page.names[entry_id] for entry_id in ids],
        "tables": {table.key: _table(table) for table in tables},
        "galleries": {shown.gallery.key: _gallery(shown, order) for shown in (*page.galleries, *page.errors)},
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "columns": [{"head": column.head, "digits": column.digits} for column in table.columns],
        "rows": table.rows,
        "place": table.place,
    }


def _gallery(shown: Shown, order: Mapping[str, int]) -> list[Sequence[Any]]:
    """Rows of image, x, y, label, certainty, atypical, picture."""
    return [
        (
            order[spot.entry_id],
            round(spot.x, 1),
            round(spot.y, 1),
            spot.label,
            _rounded(spot.certainty),
            _rounded(spot.atypical),
            shown.pictures[index],
        )
        for index, spot in enumerate(shown.gallery.spots)
        if index in shown.pictures
    ]


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 4)
