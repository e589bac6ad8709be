"""Words for numbers: what messages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``; ``many``: the plural, where it is not ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(counts: Mapping[str, int]) -> str:
    """``2 Mitosis, 1 Non-mitosis`` in the order given; nothing where there is none."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def first_of(words: Sequence[str], most: int) -> str:
    """``a, b and 3 more``: at most so many of the words, and how many others there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return f"{', '.join(words[:most])}{more}"
