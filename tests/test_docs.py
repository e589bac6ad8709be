"""The documentation is true: its commands run, its pages build, the messages it explains exist."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import cv2
import pytest
from dataset_project import label, square
from doc_blocks import ROOT, TAGS, Block, blocks, disguised, midog_arguments, pages, run
from inference_standin import painted
from tiny_recipe import TINY

import midog_qupath.demo.project
import midog_qupath.learning.recipe
from midog_qupath.cli.main import cli
from midog_qupath.demo.project import generate_project
from midog_qupath.project.geojson import write_features

BLOCKS = [block for page in pages() for block in blocks(page)]
#: Pages whose blocks run in every test run; the rest in the long one.
QUICK = (
    "README.md",
    "docs/how-to/classes.md",
)


@pytest.fixture(scope="session")
def playground(tmp_path_factory) -> Path:
    """What the pages take for granted: a project, slides, crops, another project."""
    folder = tmp_path_factory.mktemp("docs") / "playground"
    generate_project(folder, seed=3, count=12, size_px=192)
    images = sorted((folder / "images").iterdir())
    (folder / "slides").mkdir()
    tiffs = [image for image in images if image.suffix == ".tif"]
    for number, tiff in enumerate(tiffs[:2], start=1):
        shutil.copy(tiff, folder / "slides" / f"case-{number}.tif")
    (folder / "crops").mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / "crops" / f"{number}.png"), painted(96, 96, [(48, 48)]))
    rows = "image,x,y,label\nviolet-01.png,60,60,mitotic figure\nviolet-01.png,120,90,hard negative\n"
    (folder / "labels.csv").write_text(rows, encoding="utf-8")
    _annotators(folder)
    generate_project(folder / "other-project", seed=4, count=1, size_px=128, domains=1)
    return folder


def _annotators(folder: Path) -> None:
    """Two people's labels of one image, as GeoJSON; they agree on one figure of two."""
    for name, second in (("anna", 150.0), ("bert", 30.0)):
        places = [(60.0, 60.0), (second, 120.0)]
        things = [label("Mitosis", square(x, y), number + 1) for number, (x, y) in enumerate(places)]
        write_features(folder / name / "violet-01.geojson", things)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recipe, and the demo, small."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY, encoding="utf-8")
    load = midog_qupath.learning.recipe.load_recipe
    monkeypatch.setattr(midog_qupath.learning.recipe, "load_recipe", lambda name: load(str(file)))
    small = partial(generate_project, count=12, size_px=192)
    monkeypatch.setattr(midog_qupath.demo.project, "generate_project", small)


def _parameter(page: Path) -> object:
    name = page.relative_to(ROOT).as_posix()
    return pytest.param(page, id=name, marks=[] if name in QUICK else [pytest.mark.long])


RUN = [_parameter(page) for page in pages() if any(block.tag is None for block in blocks(page))]


@pytest.mark.skipif(os.name == "nt", reason="the pages show a shell of Linux and macOS")
@pytest.mark.parametrize("page", RUN)
def test_every_command_of_a_page_runs(page: Path, playground: Path, tiny: None, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(playground, here)
    for block in blocks(page):
        if block.tag is None:
            run(block, here)


def test_every_command_stands_in_a_block_that_is_run() -> None:
    assert [text for page in pages() for text in disguised(page)] == []
    assert {block.tag for block in BLOCKS} <= {None, *TAGS}


def test_few_blocks_are_excused(record_property: Callable[[str, object], None]) -> None:
    excused = [f"{block} ({block.tag})" for block in BLOCKS if block.tag is not None]
    record_property("not run", excused)
    assert len(excused) <= 0.15 * len(BLOCKS), excused


def _ours(block: Block) -> Iterator[list[str]]:
    for words in block.commands() if block.language == "sh" else ():
        inside = [word.partition("=")[2] for word in words if word.startswith("--wrap=")]
        for line in (words, *map(shlex.split, inside)):
            arguments = midog_arguments(line)
            if arguments is not None:
                yield arguments[: arguments.index(">")] if ">" in arguments else arguments


def _parse(arguments: list[str]) -> None:
    context = click.Context(cli, info_name="midog-qupath")
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    command.make_context(command.name, list(arguments), parent=context)


#: A command whose words a shell puts together is run, not parsed.
PARSED = [block for block in BLOCKS if block.tag is not None or "$(" not in block.text]


@pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in PARSED])
def test_options_are_those_of_the_command_line(block: Block) -> None:
    for arguments in _ours(block):
        # What ./run does itself before it hands on to midog-qupath.
        if arguments and arguments[0] not in ("test", "bench", "experiments"):
            _parse(arguments)


def test_the_parser_would_notice() -> None:
    for wrong in (["annotate", "p", "--no-such-option"], ["train", "p", "--time-limit", "30"]):
        with pytest.raises(click.UsageError):
            _parse(wrong)


def test_explained_messages_are_messages_of_the_program() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "midog_qupath").rglob("*.py"))
    # Literals that go on in the next line, and what is filled in.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    source = re.sub(r"\{[^{}]*\}", "...", source)
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    messages = re.findall(r"\*\*(.+?)\*\*", text)
    assert len(messages) > 20
    gone = [
        message
        for message in messages
        if not all(part.strip() in source for part in message.split("...") if part.strip())
    ]
    assert gone == []


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("mkdocs is not installed (pip install '.[docs]')")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    commands = (tmp_path / "site" / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert 'id="annotate"' in commands
    assert "--sidecar-only" in commands
    for page in (tmp_path / "site").rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]+)"', html)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="(https?:[^"]+)"', html)
        assert loaded == [], page


def _figures() -> Callable[..., object]:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.strip


def test_pictures_are_made_from_generated_tissue_and_show_what_is_annotated(playground: Path) -> None:
    from midog_qupath.project.model import ObjectKind
    from midog_qupath.project.qpproj import open_project

    strip = _figures()
    project = open_project(playground)
    drawn, bare = strip(project, ObjectKind.ANNOTATION), strip(project, ObjectKind.DETECTION)
    assert drawn.shape == bare.shape
    changed = (drawn != bare).any(axis=2).mean()
    assert 0.001 < changed < 0.2
    used = {
        Path(name).name
        for page in pages()
        for name in re.findall(r"\]\(([^)]*pictures/[^)]*)\)", page.read_text(encoding="utf-8"))
    }
    assert used == {file.name for file in (ROOT / "docs" / "pictures").iterdir()}
