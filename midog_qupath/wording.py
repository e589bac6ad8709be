"""Words for numbers: what messages share."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``; ``many``: the plural, where it is not ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"
