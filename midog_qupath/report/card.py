"""What a model says of itself: facts, settings and its card as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midog_qupath.models.bundle import BundleCard
from midog_qupath.report.measure import ReliabilityPoint

if TYPE_CHECKING:
    from markdown_it.token import Token

Fact = tuple[str, str]
#: The card that lies beside a released model.
CARD_FILE = "MODEL_CARD.md"


def model_facts(card: BundleCard, sha256: str | None) -> tuple[Fact, ...]:
    """Name and value of what matters about a model."""
    point = card.operating_point
    atypical = f"{point.atypical_threshold:.3f} (probability)" if card.has_atypical else "none"
    facts = [
        ("Name", card.name),
        ("Made", card.created),
        ("Network", f"UNet, encoder {card.network.encoder}, {card.mpp:g} µm per pixel"),
        ("Mitosis threshold", f"{point.threshold:.3f} (probability)"),
        ("Atypical threshold", atypical),
        ("Thresholds chosen on", point.chosen_on),
        ("Probabilities", _calibration(card)),
        ("Trained on", f"{len(card.trained_cases)} cases of {', '.join(card.domains) or 'no named domain'}"),
        ("Tuned on", f"{len(card.tuned_cases)} cases"),
        ("Made on", card.device or "not recorded"),
        *((f"Note {number}", note) for number, note in enumerate(card.notes, start=1)),
    ]
    if card.licence:
        facts.append(("Licence", card.licence))
    if sha256:
        facts.append(("SHA-256", sha256))
    return tuple(facts)


def _calibration(card: BundleCard) -> str:
    calibration = card.operating_point.mitosis_calibration
    if calibration is None:
        return "not calibrated: take them as an order, not as shares"
    return (
        f"calibrated on {calibration.n} candidates ({calibration.chosen_on}), expected calibration error "
        f"{calibration.error_after:.3f}"
    )


def fitted_reliability(card: BundleCard) -> tuple[ReliabilityPoint, ...]:
    """The reliability curve on the objects that fitted the calibration; empty where there is none."""
    calibration = card.operating_point.mitosis_calibration
    bins = calibration.bins if calibration else ()
    return tuple(ReliabilityPoint(b.predicted, b.observed, b.n) for b in bins)


def settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[Fact]:
    """Nested settings as one line each: ``student.steps``, ``800``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def card_html(model: Path) -> str | None:
    """The model card that lies beside a model, as HTML without raw HTML, pictures or broken links."""
    file = model.parent / CARD_FILE
    if not file.is_file():
        return None
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(file.read_text(encoding="utf-8"))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # Under the headings of the page.
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        token.children = _without_local_links(token.children) if token.children else token.children
    return str(parser.renderer.render(tokens, parser.options, {}))


def _without_local_links(tokens: Sequence[Token]) -> list[Token]:
    """Links to files beside the card lead nowhere from the page: their text stays."""
    kept: list[Token] = []
    local = False
    for token in tokens:
        if token.type == "link_open":
            local = not str(token.attrGet("href") or "").startswith(("https://", "http://"))
        if not (local and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept
