"""``detect_mitoses.groovy`` runs the installed program and takes what it finds into the open image."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from dataset_project import label, square
from groovy_project import call, run_script
from inference_standin import painted, painted_project, save_untrained
from shapely.geometry import box

from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ObjectKind, Project
from midog_qupath.project.shapes import centres
from midog_qupath.project.stores.native import NativeStore

pytestmark = [pytest.mark.qupath, pytest.mark.long]
SCRIPT = "detect_mitoses.groovy"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two images, one of a name that a pattern would misread, with an annotation to select; and a model."""
    names = {"a[1].png": painted(300, 200, [(60, 60), (200, 60)]), "b.png": painted(300, 200, [(150, 100)])}
    labels = {"a[1].png": [label("Look here", box(0, 0, 120, 200), 1), label("Mitosis", square(60, 60), 2)]}
    project = painted_project(tmp_path / "p", names, labels)
    save_untrained(project.ours / "models" / "20250101-000000" / "model.safetensors")
    return project


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The installed command; one that is named by its path, as a person would name it."""
    path = tmp_path / "with a space" / "midog-qupath"
    path.parent.mkdir()
    start = "from midog_qupath.cli.main import main; main()"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{start}" "$@"\n')
    path.chmod(0o755)
    return path


def digest(project: Project) -> str:
    files = sorted((project.folder / "data").rglob("*.*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_the_whole_image_and_the_data_file_stays_as_it_is_until_it_is_saved(
    project: Project, program: Path
) -> None:
    before, first = digest(project), project.images[0]
    environment = {"MIDOG_QUPATH": str(program)}
    (ids,) = run_script(project, SCRIPT, first, words=("--without-saving",), environment=environment)
    assert ids
    assert digest(project) == before
    (manifest,) = load_manifests(project)
    assert [image.state for image in manifest.images] == ["sidecar"]
    assert {str(thing.id) for thing in manifest.images[0].objects} == set(ids)


def test_only_the_selected_annotations_and_again_replaces(project: Project, program: Path) -> None:
    words, environment = ("--select", "Look here"), {"MIDOG_QUPATH": str(program)}
    (first,) = run_script(project, SCRIPT, project.images[0], words=words, environment=environment)
    things = [
        thing for thing in NativeStore(project).read(project.images[0]) if thing.kind is ObjectKind.DETECTION
    ]
    assert {str(thing.id) for thing in things} == set(first) != set()
    assert all(x <= 120 for x, _ in centres(things))
    (second,) = run_script(project, SCRIPT, project.images[0], words=words, environment=environment)
    assert len(second) == len(first)
    assert not set(second) & set(first)


def test_what_the_program_says_and_how_far_it_is_comes_while_it_runs(project: Project, program: Path) -> None:
    code = """
    def lines = []
    def window = [say: { lines << it }, started: { assert it.isAlive() }]
    script.detect(System.getenv('MIDOG_QUPATH'), project, entry, data, [], window)
    def searching = lines.findAll { it.startsWith('searching') }
    [searching, script.shareDone(searching.last())]
    """
    searching, share = call(project, SCRIPT, code, {"MIDOG_QUPATH": str(program)})
    assert len(searching) >= 2
    assert share > 0.9


def test_a_cancelled_run_changes_nothing_and_the_next_one_completes(project: Project, program: Path) -> None:
    code = """
    def process = null
    def cancel = { if (it.startsWith('searching')) process.toHandle().destroy() }
    def window = [started: { process = it }, say: cancel]
    def message = ''
    try {
        script.detect(System.getenv('MIDOG_QUPATH'), project, entry, data, [], window)
    } catch (IllegalStateException error) {
        message = error.getMessage()
    }
    def left = data.getHierarchy().getDetectionObjects().size()
    script.detect(System.getenv('MIDOG_QUPATH'), project, entry, data, [], [started: { }, say: { }])
    [message, left, data.getHierarchy().getDetectionObjects().size()]
    """
    message, left, then = call(project, SCRIPT, code, {"MIDOG_QUPATH": str(program)})
    assert message == "Cancelled."
    assert left == 0
    assert then > 0
    assert not (project.ours / "lock").exists()


def test_an_error_is_the_programs_own_words(project: Project, program: Path) -> None:
    (model,) = (project.ours / "models").rglob("*.safetensors")
    model.write_bytes(b"half a mod")
    code = """
    try {
        script.detect(System.getenv('MIDOG_QUPATH'), project, entry, data, [], [started: { }, say: { }])
    } catch (IllegalStateException error) {
        return error.getMessage()
    }
    """
    assert "damaged" in call(project, SCRIPT, code, {"MIDOG_QUPATH": str(program)})


def test_where_the_program_is_looked_for(project: Project, program: Path) -> None:
    folder = program.parent
    code = f"""
    def memory = new Expando(get: {{ key, other -> null }})
    def knows = new Expando(get: {{ key, other -> '{program}' }})
    def missing = {{ memory_, environment ->
        try {{
            script.findProgram(memory_, environment)
        }} catch (IllegalStateException error) {{
            error.getMessage()
        }}
    }}
    [
        script.findProgram(memory, [MIDOG_QUPATH: '{program}']),
        script.findProgram(knows, [PATH: '/nowhere']),
        script.findProgram(memory, [PATH: '/nowhere' + File.pathSeparator + '{folder}']),
        missing(memory, [PATH: '/nowhere', MIDOG_QUPATH: '{folder}']),
    ]
    """
    *found, message = call(project, SCRIPT, code)
    assert found == [str(program)] * 3
    assert "MIDOG_QUPATH" in message
