"""Files that ship with the package from one source: recipes and Groovy scripts.

In a wheel they lie in ``midog_qupath/_shipped``; in a clone at the top level.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CLONE = {"recipes": "training/recipes", "groovy": "groovy"}


def shipped(kind: str) -> Path:
    """Folder of the shipped ``recipes`` or ``groovy`` scripts."""
    packaged = _PACKAGE / "_shipped" / kind
    return packaged if packaged.is_dir() else _PACKAGE.parent / _CLONE[kind]
