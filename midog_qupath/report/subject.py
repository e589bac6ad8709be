"""What a report is about: a run of ``annotate``, or a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from midog_qupath.errors import MidogError, ProjectError
from midog_qupath.models.find import MODEL_FILE, model_of_run
from midog_qupath.project.manifest import RunManifest, load_manifests
from midog_qupath.project.model import Project
from midog_qupath.project.qpproj import open_project

_REMEDY = "Give a project, a folder of midog-qupath/detections, or the folder of a training."


@dataclass(frozen=True)
class Subject:
    """A run (``run`` and its ``project``; ``model`` None where its file is gone), or a ``model`` alone.

    ``project`` of a model: the one it lies in or was asked for, None without any. ``folder``: where its
    report is written unless the user says otherwise.
    """

    folder: Path
    project: Project | None
    run: RunManifest | None
    model: Path | None

    @property
    def name(self) -> str:
        """Short name for headings."""
        if self.run is not None:
            return f"run {self.run.run}"
        return f"model {self.folder.name}"


def find_subject(target: Path, project: Path | None = None) -> Subject:
    """What ``target`` names: a project (its newest run, else its newest model), a run or a model.

    Parameters
    ----------
    target
        A ``project.qpproj`` or its folder; ``midog-qupath/detections/<run>`` or
        ``midog-qupath/runs/<run>.json``; the folder of a training or a model file.
    project
        On which project a model is measured, instead of the one it lies in.

    Raises
    ------
    MidogError
        If it is none of these, or the project has neither run nor model.
    """
    if not target.exists():
        raise ProjectError(f"There is nothing at {target}.", _REMEDY)
    model = target / MODEL_FILE if target.is_dir() else target
    if model.suffix == ".safetensors" and model.is_file():
        own = _enclosing(model) if project is None else open_project(project)
        return Subject(model.parent.resolve(), own, None, model)
    around = _enclosing(target)
    if around is not None and _is_run(target, around):
        return _of_named_run(around, target.resolve().stem if target.is_file() else target.resolve().name)
    return _of_project(open_project(target))


def _enclosing(path: Path) -> Project | None:
    """The project in whose ``midog-qupath`` folder a path lies."""
    for folder in path.resolve().parents:
        if folder.name == "midog-qupath":
            try:
                return open_project(folder.parent)
            except MidogError:
                return None
    return None


def _is_run(target: Path, project: Project) -> bool:
    parent = target.resolve().parent
    return parent in (
        (project.ours / "detections").resolve(),
        (project.ours / "runs").resolve(),
    )


def _of_named_run(project: Project, name: str) -> Subject:
    manifests = {manifest.run: manifest for manifest in load_manifests(project)}
    if name not in manifests:
        known = ", ".join(manifests) or "none"
        raise ProjectError(
            f"{project.path} has no record of the run {name}.",
            f"Its runs are: {known}. A run that was cut short before it wrote has none.",
        )
    return _of_run(project, manifests[name])


def _of_run(project: Project, run: RunManifest) -> Subject:
    model = model_of_run(project, run.model, run.model_sha256)
    return Subject(project.ours / "detections" / run.run, project, run, model)


def _of_project(project: Project) -> Subject:
    runs = [manifest for manifest in load_manifests(project) if manifest.images and not manifest.undone]
    if runs:
        return _of_run(project, max(runs, key=lambda manifest: manifest.number))
    trained = sorted((project.ours / "models").glob(f"*/{MODEL_FILE}"))
    if trained:
        return Subject(trained[-1].parent, project, None, trained[-1])
    raise ProjectError(
        f"{project.path} has neither a run nor a model to report.",
        f"Run `midog-qupath annotate {project.path}` first.",
    )
