"""Command blocks of the documentation, and a shell for them that stays in this process.

A block is a fence of the language ``sh`` or ``python``. A comment line before it, ``<!-- gpu -->``, says
that it cannot run everywhere; the tags are those of :data:`TAGS`.
"""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from glob import glob
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
TAGS = ("internet", "gui", "cluster", "gpu")
_FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<tag>[a-z]+) -->\n+ *)?"
    r"```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_OURS = re.compile(r"^(midog-qupath|\./run|python3? |pip |torchrun|paquo|git )", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A command block: where it stands, and what is in it."""

    page: Path
    line: int
    tag: str | None
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Words of each line of a shell block; lines that end in a backslash go on."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def pages() -> list[Path]:
    """Every page that a user reads."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The command blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        if match["language"] in ("sh", "python"):
            line = text.count("\n", 0, match.start("text"))
            indent = match["indent"]
            body = "\n".join(row.removeprefix(indent) for row in match["text"].splitlines())
            found.append(Block(page, line, match["tag"], match["language"], body))
    return found


def disguised(page: Path) -> list[str]:
    """Fences of other languages that hold commands all the same."""
    return [
        match["text"]
        for match in _FENCE.finditer(page.read_text(encoding="utf-8"))
        if match["language"] not in ("sh", "python") and _OURS.search(match["text"])
    ]


def midog_arguments(words: list[str]) -> list[str] | None:
    """What follows ``midog-qupath``, ``./run`` or ``-m midog_qupath``; None for other commands."""
    for index, word in enumerate(words):
        if word in ("midog-qupath", "./run"):
            return words[index + 1 :]
        if word == "midog_qupath" and index and words[index - 1] == "-m":
            return words[index + 1 :]
    return None


def run(block: Block, folder: Path) -> None:
    """Run a block in a folder; raises AssertionError where a command fails."""
    with chdir(folder):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
            return
        lines = [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]
        for line in lines:
            if "$(" in line:
                _in_bash(block, line)
            elif words := shlex.split(line, comments=True):
                _run(block, words)


def _in_bash(block: Block, line: str) -> None:
    """What only a shell can do; slower, as each command starts anew."""
    python = shlex.quote(sys.executable)
    ours = f'midog-qupath() {{ {python} -m midog_qupath "$@"; }}; python() {{ {python} "$@"; }}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{ours}\n{line}"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"


def _run(block: Block, words: list[str]) -> None:
    target = None
    if ">" in words:
        at = words.index(">")
        target, words = Path(words[at + 1]), words[:at]
    words = [inner for word in words for inner in (sorted(glob(word)) or [word])]
    said = StringIO()
    arguments = midog_arguments(words)
    if arguments is not None:
        code = _call(arguments, said)
    elif words[0] == "python" and words[1].endswith(".py"):
        code = _script(words[1:], said)
    else:
        if words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        code = done.returncode
        said.write(done.stdout)
    assert code == 0, f"{block}: {shlex.join(words)} ended with {code}\n{said.getvalue()}"
    if target is not None:
        target.write_text(said.getvalue(), encoding="utf-8")


def _call(arguments: list[str], said: StringIO) -> int:
    from midog_qupath.cli.main import main

    before = sys.argv
    sys.argv = ["midog-qupath", *arguments]
    try:
        with redirect_stdout(said):
            main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def _script(words: list[str], said: StringIO) -> int:
    before = sys.argv
    script = words[0] if Path(words[0]).is_file() else str(ROOT / words[0])
    sys.argv = [script, *words[1:]]
    try:
        with redirect_stdout(said):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0
