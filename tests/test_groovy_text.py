"""What holds for the text of every script that runs inside QuPath, with no QuPath on the machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midog_qupath.resources import shipped

SCRIPTS = sorted(shipped("groovy").glob("*.groovy"))
#: From a function's comment, or its first line, to the closing brace at the line's start.
FUNCTION = re.compile(r"^(?:List|Map|String|boolean|double|void|Object|[A-Z]\w+) (\w+)\(.*?^}", re.M | re.S)


def functions(path: Path) -> dict[str, str]:
    return {found[1]: found[0] for found in FUNCTION.finditer(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_it_is_run_and_needs_nothing_that_qupath_lacks(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("/*")
    assert "Run for project" in text
    assert "QuPath 0.5 to 0.7" in text
    assert text.isascii()
    # QuPath ships Groovy without its JSON and file modules.
    assert not re.search(r"groovy\.(json|nio|sql|yaml|toml)", text)


def test_functions_of_one_name_are_the_same_in_every_script() -> None:
    seen: dict[str, str] = {}
    shared = 0
    for path in SCRIPTS:
        for name, body in functions(path).items():
            shared += name in seen
            assert seen.setdefault(name, body) == body, f"{name} in {path.name}"
    assert shared >= 20  # or the pattern above finds nothing any more
