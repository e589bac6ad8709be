"""What the commands do, as functions: one call each, on paths or on things that are open already.

``import midog_qupath`` loads none of this; a name is imported when it is first used. Every function raises
only :class:`midog_qupath.errors.MidogError` for what a user can act on, and takes ``progress`` (default:
silent). Coordinates are full-resolution pixels of the image as QuPath shows it, x right, y down;
``mpp`` is microns per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from midog_qupath.counting.count import CountOptions, count_project
from midog_qupath.counting.result import ProjectCount
from midog_qupath.dataset.export import export_project
from midog_qupath.dataset.read_image import ExportOptions
from midog_qupath.dataset.store import Dataset
from midog_qupath.evaluation.project import EvaluateOptions, evaluate_model, evaluate_run
from midog_qupath.evaluation.result import EvaluationResult
from midog_qupath.evaluation.truth import people
from midog_qupath.inference.annotate import AnnotateReport, annotate_project
from midog_qupath.inference.crop_files import list_files
from midog_qupath.inference.crops import CropReport, classify_files
from midog_qupath.inference.device import choose_device
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.learning.mask_report import MaskCounts
from midog_qupath.learning.recipe import load_recipe
from midog_qupath.learning.start import starting_model
from midog_qupath.learning.train import TrainOptions
from midog_qupath.learning.train import train as train_on
from midog_qupath.mask_files import MaskOptions, write_masks
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.models.find import bare_model, find_model
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.ground_truth import GroundTruth, ground_truth
from midog_qupath.project.info import ProjectInfo, describe
from midog_qupath.project.labels.given import Words
from midog_qupath.project.labels.read import read_labels
from midog_qupath.project.labels.tables import read_image_table
from midog_qupath.project.labels.write import (
    ImportReport,
    LabelSource,
    import_beside_project,
    import_into_project,
)
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.select import select_images
from midog_qupath.project.stores.choose import StoreFactory, choose_store
from midog_qupath.project.undo import UndoReport, run_to_undo, store_to_undo, undo_run
from midog_qupath.report.gather import ReportOptions
from midog_qupath.report.make import ReportResult, default_path, make_report
from midog_qupath.report.subject import find_subject
from midog_qupath.units import WORKING_MPP, MicronsPerPixel

StoreName: TypeAlias = Literal["paquo", "native", "sidecar"]
ProjectLike: TypeAlias = Project | Path | str


def new_project(
    folder: Path | str, images: Sequence[NewImage | Path | str], progress: Progress = SILENT
) -> Project:
    """Make a project that QuPath opens; see :func:`midog_qupath.project.create.create_project`.

    ``images``: files, or :class:`NewImage` with microns per pixel and metadata (domain, case, labelled).
    """
    new = [image if isinstance(image, NewImage) else NewImage(Path(image)) for image in images]
    return create_project(Path(folder), new, progress)


def info(
    project: ProjectLike,
    *,
    store: StoreName | None = None,
    class_map: ClassMap | None = None,
    mpp: float | None = None,
    progress: Progress = SILENT,
) -> ProjectInfo:
    """Images, pixel sizes, annotations by class and problems of a project; nothing is changed."""
    opened = _opened(project)
    with _factory(opened, store)() as objects:
        return describe(opened, objects, class_map or ClassMap(), mpp=mpp, progress=progress)


def read_objects(
    project: ProjectLike, image: ImageEntry, *, store: StoreName | None = None
) -> list[PathObject]:
    """All objects of an image but the root, parents before children; shapes (shapely) in slide pixels."""
    with _factory(_opened(project), store)() as objects:
        return list(objects.read(image))


def labels_of(
    project: ProjectLike,
    image: ImageEntry,
    *,
    store: StoreName | None = None,
    class_map: ClassMap | None = None,
) -> GroundTruth:
    """Labelled objects, exhaustively labelled regions and labelled extent of an image.

    What counts is what people drew, and detections of this tool that a person changed or reviewed.
    """
    opened = _opened(project)
    things = read_objects(opened, image, store=store)
    return ground_truth(image, things, class_map or ClassMap(), people(opened))


def import_labels(
    project: ProjectLike,
    files: Sequence[Path | str],
    *,
    image_table: Path | str | None = None,
    whole: bool = False,
    words: Sequence[str] = (),
    bring_back: bool = False,
    store: StoreName | None = None,
    class_map: ClassMap | None = None,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> ImportReport:
    """Put labels of COCO, CSV or GeoJSON files into a project, as ``import-labels`` does.

    ``image_table``: domain, case and extent of images. ``whole``: all mitotic figures of every image with
    a label are labelled. ``words``: what labels mean, ``WORD=ROLE``. ``bring_back``: also labels of earlier
    imports that a person deleted since. ``store`` sidecar: beside the project.
    """
    opened, names = _opened(project), class_map or ClassMap()
    given = read_labels([Path(file) for file in files], Words(names, words))
    facts = read_image_table(Path(image_table)) if image_table is not None else ()
    source = LabelSource(given, facts, names, whole, bring_back)
    if store == "sidecar":
        return import_beside_project(opened, opened.ours / "ground-truth", source, progress, dry_run)
    return import_into_project(opened, _factory(opened, store), source, progress, dry_run)


def export(
    project: ProjectLike,
    options: ExportOptions | None = None,
    *,
    store: StoreName | None = None,
    progress: Progress = SILENT,
) -> Dataset:
    """Make training data of what pathologists drew; default folder: the project's own."""
    opened = _opened(project)
    chosen = options or ExportOptions(folder=opened.ours / "dataset")
    with _factory(opened, store)() as objects:
        return export_project(opened, objects, chosen, progress)


def train(
    datasets: Sequence[Dataset | Path | str],
    folder: Path | str,
    *,
    recipe: str = "standard",
    start: Path | str | None = None,
    seconds: float | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Path:
    """Train a model into ``folder``; returns its file. An interrupted training continues.

    Parameters
    ----------
    datasets
        Folders that :func:`export` wrote, or what it returned.
    folder
        Of the model.
    recipe
        Name of a recipe, or the path of a TOML file.
    start
        A model to continue from, or ``"none"``; None: the released one, where the recipe fits it.
    seconds
        Time limit in all.
    device
        auto, cpu, cuda or mps.
    """
    chosen = load_recipe(recipe)
    opened = [one if isinstance(one, Dataset) else Dataset.open(Path(one)) for one in datasets]
    first = starting_model(str(start) if start is not None else None, chosen, progress)
    options = TrainOptions(Path(folder), chosen, first, seconds, choose_device(device))
    return train_on(opened, options, progress)


def annotate(
    project: ProjectLike,
    options: AnnotateOptions | None = None,
    *,
    model: Path | str | None = None,
    store: StoreName | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> AnnotateReport:
    """Find mitotic figures and put them into the project, safely: backup, manifest, verification.

    ``model``: a file or the folder of a training; None: the project's newest, else the released one.
    """
    opened, chosen = _opened(project), options or AnnotateOptions()
    select_images(opened, chosen.images)
    found, _ = find_model(opened, Path(model) if model is not None else None)
    bundle = load_bundle(found, choose_device(device))
    return annotate_project(opened, _factory(opened, store), bundle, found, chosen, progress)


def undo(
    project: ProjectLike,
    run: str | None = None,
    *,
    store: StoreName | None = None,
    progress: Progress = SILENT,
) -> UndoReport:
    """Take a run (None: the newest) out of a project again; what people touched stays."""
    opened = _opened(project)
    manifest = run_to_undo(opened, run)
    factory, _ = choose_store(opened, store_to_undo(manifest, store))
    return undo_run(opened, factory, manifest.run, progress)


def evaluate(
    project: ProjectLike,
    options: EvaluateOptions | None = None,
    *,
    model: Path | str | None = None,
    run: str | None = None,
    store: StoreName | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> EvaluationResult:
    """Measure a model, or the detections of a ``run``, on the labelled ground of a project.

    Detections count within 7.5 µm of a label, one label each, as in the MIDOG challenge; cases that the
    model has seen are left out.
    """
    opened, chosen = _opened(project), options or EvaluateOptions()
    with _factory(opened, store)() as objects:
        if run is not None:
            return evaluate_run(opened, objects, run, chosen, progress)
        found, _ = find_model(opened, Path(model) if model is not None else None)
        return evaluate_model(opened, objects, found, choose_device(device), chosen, progress)


def classify(
    paths: Sequence[Path | str],
    *,
    mpp: float = WORKING_MPP,
    model: Path | str | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> CropReport:
    """Normal or atypical for crops (files or folders), each centred on a mitotic figure, at ``mpp``."""
    found, _ = bare_model(Path(model) if model is not None else None)
    files = list_files([Path(path) for path in paths])
    return classify_files(load(found, device), files, MicronsPerPixel(mpp), progress)


def count(
    project: ProjectLike,
    options: CountOptions | None = None,
    *,
    store: StoreName | None = None,
    progress: Progress = SILENT,
) -> ProjectCount:
    """Count mitoses in the richest place of each image; nothing is written. Areas in mm²."""
    opened = _opened(project)
    with _factory(opened, store)() as objects:
        return count_project(opened, objects, options or CountOptions(), progress)


def write_report(
    target: Path | str,
    output: Path | str | None = None,
    *,
    options: ReportOptions | None = None,
    store: StoreName | None = None,
    progress: Progress = SILENT,
) -> ReportResult:
    """Write one HTML page, which needs no network, about a run's folder, a model's folder or a project."""
    subject = find_subject(Path(target), None)
    out, chosen = Path(output) if output else default_path(subject), options or ReportOptions()
    if subject.project is None:
        return make_report(subject, None, out, chosen, progress)
    with _factory(subject.project, store)() as objects:
        return make_report(subject, objects, out, chosen, progress)


def pseudo_masks(
    dataset: Dataset | Path | str,
    folder: Path | str,
    *,
    recipe: str = "standard",
    model: Path | str | None = None,
    seconds: float | None = None,
    objects: bool = False,
    limit: int | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> MaskCounts:
    """Write the pixel masks that training would learn from into ``folder``, as pictures; what is in them.

    Parameters
    ----------
    dataset
        A folder that :func:`export` wrote, or what it returned.
    folder
        Gets ``overlays/*.png``, ``teacher.safetensors`` and, with ``objects``, ``objects/*.geojson``: the
        masks as QuPath detections in full-resolution pixels.
    recipe
        Name of a recipe, or the path of a TOML file.
    model
        A trained model (file or folder) that is taken for the teacher, instead of training one.
    seconds
        Longest training of the teacher.
    limit
        Only so many labelled areas, the first.
    device
        auto, cpu, cuda or mps.
    """
    opened = dataset if isinstance(dataset, Dataset) else Dataset.open(Path(dataset))
    given = Path(model) if model is not None else None
    chosen, kind = load_recipe(recipe), choose_device(device)
    options = MaskOptions(Path(folder), chosen, seconds, given, objects, limit, kind)
    return write_masks(opened, options, progress)


def load(model: Path | str, device: str = "auto") -> Bundle:
    """A model with its card: network, classes, thresholds and how they were calibrated. Never unpickles."""
    return load_bundle(Path(model), choose_device(device))


def _opened(project: ProjectLike) -> Project:
    return project if isinstance(project, Project) else open_project(Path(project))


def _factory(project: Project, store: StoreName | None) -> StoreFactory:
    return choose_store(project, store)[0]
