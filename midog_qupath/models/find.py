"""Which model a command uses when it is told none, or a folder."""

from __future__ import annotations

from pathlib import Path

from midog_qupath import files
from midog_qupath.errors import ModelError
from midog_qupath.project.model import Project

#: Name of the bundle inside a MODEL_DIR.
MODEL_FILE = "model.safetensors"
_RELEASED = Path(__file__).parent / "released" / MODEL_FILE


def released_model() -> Path | None:
    """The model that ships with this version, None if it ships none. Its card and licence lie beside it."""
    return _RELEASED if _RELEASED.is_file() else None


def find_model(project: Project, option: Path | None) -> tuple[Path, str]:
    """The model's file, and in words why it was taken.

    An ``option`` (a file, or the folder that a training made) decides; else the newest model of the
    project, by the name of its folder, which is the time of its training; else the released one.

    Raises
    ------
    ModelError
        If the option names no model, or there is none at all.
    """
    if option is not None:
        return _named(option), "given by --model"
    trained = sorted((project.ours / "models").glob(f"*/{MODEL_FILE}"))
    if trained:
        return trained[-1], f"the newest of {len(trained)} in this project"
    released = released_model()
    if released is not None:
        return released, "the released one; this project has none of its own"
    raise ModelError(
        f"{project.path} has no trained model yet, and this version ships none.",
        f"Run `midog-qupath train {project.path}` first, or give --model.",
    )


def bare_model(option: Path | None) -> tuple[Path, str]:
    """The model for crops that belong to no project: the one given, else the released one; and why.

    Raises ModelError where none is given and none ships.
    """
    if option is not None:
        return _named(option), "given by --model"
    released = released_model()
    if released is None:
        raise ModelError(
            "This version ships no model, and crops belong to no project that could have one.",
            "Give the folder or file that `midog-qupath train` made by --model.",
        )
    return released, "the released one"


def model_of_run(project: Project, named: str, sha256: str) -> Path | None:
    """The model file of a run, wherever it is now; None where it is gone.

    Looked for where the run found it (``named``, relative to the project's folder), among the project's
    models and the released one; ``sha256`` tells whether it is the same.
    """
    candidates = [
        project.folder / named,
        *sorted((project.ours / "models").glob("*/*.safetensors")),
        _RELEASED,
    ]
    return next((path for path in candidates if path.is_file() and files.sha256(path) == sha256), None)


def _named(option: Path) -> Path:
    file = option / MODEL_FILE if option.is_dir() else option
    if not file.is_file():
        raise ModelError(
            f"There is no model at {option}.", "Give the folder or file that `midog-qupath train` made."
        )
    return file
