"""Pages of the site that are made from elsewhere: one source, never a copy.

A hook of mkdocs (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from midog_qupath.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "midog_qupath" / "models" / "released"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages."""
    for address, text in {
        "reference/commands.md": commands(),
        "model-card.md": _relinked(RELEASED / "MODEL_CARD.md", {"LICENSE.md": "model-licence.md"}),
        "model-licence.md": _relinked(RELEASED / "LICENSE.md", {}),
        "contributing.md": _relinked(ROOT / "CONTRIBUTING.md", {"ARCHITECTURE.md": "architecture.md"}),
        "architecture.md": _relinked(ROOT / "ARCHITECTURE.md", {}),
        "changelog.md": _relinked(ROOT / "CHANGELOG.md", {}),
    }.items():
        files.append(File.generated(config, address, content=text))
    return files


def _relinked(file: Path, links: dict[str, str]) -> str:
    text = file.read_text(encoding="utf-8")
    for there, here in links.items():
        text = text.replace(f"]({there})", f"]({here})")
    return text


def commands() -> str:
    """The command reference as Markdown, from the commands themselves."""
    context = click.Context(cli, info_name="midog-qupath")
    parts = [
        "# Commands\n",
        "Made from the commands themselves; `midog-qupath COMMAND --help` says the same. Exit codes: 0 done, "
        "1 something failed (one line on standard error says what, where, and what to do), 2 wrong options, "
        "130 cancelled.\n",
    ]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += _command(name, command, context)
    return "\n".join(parts)


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent) as context:
        yield f"## {name}\n"
        yield f"```text\n{command.get_usage(context)}\n```\n"
        yield f"{_escaped(inspect.cleandoc(command.help or ''))}\n"
        rows = [row for row in map(_option, command.params, [context] * len(command.params)) if row]
        if rows:
            yield "| option | meaning |\n|---|---|"
            yield "\n".join(f"| {names} | {meaning} |" for names, meaning in rows) + "\n"
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                inner = command.get_command(context, sub)
                assert inner is not None
                yield from _command(f"{name} {sub}", inner, parent)


def _option(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    record: Any = parameter.get_help_record(context)
    if record is None:
        return None
    names, meaning = record
    return f"`{names.replace('|', '¦')}`", _escaped(meaning)


def _escaped(text: str) -> str:
    """No HTML, and nothing that ends a cell of a table."""
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|").replace("*", "\\*")
