"""What was found in images or said of crops, in the files that the MIDOG challenge takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from midog_qupath.challenge import CropClass, FigurePoint, write_classes, write_figures
from midog_qupath.detection import Detection
from midog_qupath.errors import FormatError
from midog_qupath.inference.crops import CropReport
from midog_qupath.project.disk import writing
from midog_qupath.units import MicronsPerPixel


def figures_file(path: Path, stem: str, images: int) -> Path:
    """Where the detections of an image go: ``path`` itself if it is a ``.json``, else ``<stem>.json`` in it.

    Raises
    ------
    FormatError
        If several images were to go into one file.
    """
    if path.suffix.lower() != ".json":
        return path / f"{stem}.json"
    if images > 1:
        raise FormatError(
            f"{path} is one file, and {images} images are to be annotated: the challenge wants one an image.",
            "Name one by --image, or give a folder.",
        )
    return path


def write_detections_mm(
    path: Path, detections: Sequence[Detection], mpp: MicronsPerPixel, threshold: float
) -> None:
    """Write detections of one image (slide pixels) in millimetres; below ``threshold`` as no figures."""
    scale = mpp / 1000
    points = [
        FigurePoint(d.x * scale, d.y * scale, d.mitosis_probability, d.mitosis_probability >= threshold)
        for d in detections
    ]
    with writing(path):
        write_figures(path, points)


def write_verdicts(path: Path, report: CropReport) -> list[Path]:
    """Write what was said of crops: into one ``.json``, or into a folder one file for each input file.

    Raises
    ------
    FormatError
        If a crop could not be read: the file must hold one entry for each, in order.
    """
    if report.failed:
        raise FormatError(
            f"{path} was not written: {len(report.failed)} crops could not be read, it must hold every one.",
            "Mend or leave out those files.",
        )
    by_file: dict[str, list[CropClass]] = {}
    for verdict in report.verdicts:
        source = verdict.file.rpartition("#")[0] or verdict.file
        said = CropClass(verdict.atypical, verdict.atypical_probability)
        by_file.setdefault("" if path.suffix.lower() == ".json" else source, []).append(said)
    written = []
    for source, classes in by_file.items():
        written.append(path / f"{Path(source).stem}.json" if source else path)
        with writing(written[-1]):
            write_classes(written[-1], classes)
    return written
