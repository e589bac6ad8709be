"""``midog-qupath pseudo-masks``: the pixel masks that training learns from, to look at and for QuPath."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json
from midog_qupath.cli.train import Duration, _dataset_folder
from midog_qupath.progress import Progress

if TYPE_CHECKING:
    from shapely.geometry import Polygon

    from midog_qupath.dataset.store import Dataset
    from midog_qupath.learning.ground import AreaGround
    from midog_qupath.learning.mask_report import AreaMasks, MaskCounts
    from midog_qupath.learning.recipe import Recipe
    from midog_qupath.models.bundle import Bundle
    from midog_qupath.project.model import PathClass, PathObject

#: Colour (packed ARGB) of normal nuclei in QuPath, that of their contours in the overlays.
_NUCLEUS_COLOUR = 0xFF00823C


@click.command("pseudo-masks")
@click.argument("source", type=click.Path(path_type=Path), metavar="PROJECT|DATASET")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
    help="Folder for overlays and objects; default: <project>/midog-qupath/pseudo-masks/<time>, "
    "or pseudo-masks/<time> beside the dataset.",
)  # fmt: skip
@click.option("--recipe", default="standard", show_default=True, help="Shipped recipe, or a TOML file.")
@click.option("--time-limit", type=Duration(), help="Longest training of the teacher; default: by recipe.")
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="MODEL",
    help="Take this trained model (file or folder) for the teacher instead of training one.",
)  # fmt: skip
@click.option("--objects", is_flag=True, help="Also the masks as QuPath detections, a GeoJSON an image.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N labelled areas.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@json_option
def command(
    source: Path,
    output: Path | None,
    recipe: str,
    time_limit: float | None,
    model: Path | None,
    objects: bool,
    limit: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Write the pixel masks that training would learn from, as overlays to look at.

    PROJECT is a project.qpproj or its folder, DATASET a folder that export wrote. Contours: mitosis red,
    look-alike amber, normal nucleus green, the label itself white; what no loss looks at is shaded.

    The files of --objects are for a copy of the project: drag them onto the open image in QuPath.
    """
    from midog_qupath.inference.device import choose_device
    from midog_qupath.learning.recipe import load_recipe

    progress = TerminalProgress()
    chosen, kind = load_recipe(recipe), choose_device(device)
    folder = _dataset_folder(source, progress)
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    out = output or folder.absolute().parent / "pseudo-masks" / time
    asked = _Asked(folder, out, chosen, time_limit, model, objects, limit, kind)
    total = _write(asked, progress)
    if as_json:
        shares = {"share_whole": total.share_whole, "share_ignored": total.share_ignored}
        print_json({"folder": str(out), **asdict(total), **shares})
    else:
        _show(total, out)


@dataclass(frozen=True)
class _Asked:
    """What the command line says."""

    dataset: Path
    out: Path
    recipe: Recipe
    seconds: float | None
    model: Path | None
    objects: bool
    limit: int | None
    device: str


def _write(asked: _Asked, progress: Progress) -> MaskCounts:
    """Overlays and objects of the labelled areas; what is in them."""
    from midog_qupath.dataset.store import Dataset
    from midog_qupath.learning.ground import gather
    from midog_qupath.learning.mask_report import MaskCounts, count

    data = Dataset.open(asked.dataset)
    teacher = _teacher(asked, data, progress)
    areas = gather([data], lambda row: True, asked.recipe.student.soft_labels).areas[: asked.limit]
    names, total = _file_names([area.image.name for area in areas]), MaskCounts()
    with progress.task("pseudo-masks", len(areas), "areas") as advance:
        for image, name in names.items():
            found: list[tuple[int, Polygon]] = []
            for number, area in enumerate(area for area in areas if area.image.name == image):
                masks = _masks(area, teacher, asked.recipe)
                total += count(masks)
                _write_overlays(masks, asked.out / "overlays", f"{name}-{number + 1}" if number else name)
                found.extend(_outlines(masks) if asked.objects else ())
                advance(1)
            if asked.objects:
                _write_objects(asked.out / "objects" / f"{name}.geojson", image, found)
    return total


def _teacher(asked: _Asked, data: Dataset, progress: Progress) -> Bundle | None:
    """The network whose opinion makes the masks; None where the recipe has none."""
    from midog_qupath.learning.teach_only import TeachOptions, train_teacher
    from midog_qupath.models.bundle import load_bundle

    model = asked.model
    if model is None:
        options = TeachOptions(asked.recipe, asked.seconds, asked.device)
        model = train_teacher([data], options, asked.out / "teacher.safetensors", progress)
        if model is None:
            progress.note(f"The recipe {asked.recipe.name} has no teacher: these are its first masks.")
            return None
        progress.note(f"Teacher: {model} (--model takes it again)")
    return load_bundle(model, asked.device)


def _masks(area: AreaGround, teacher: Bundle | None, recipe: Recipe) -> AreaMasks:
    from midog_qupath.learning.mask_report import masks_of
    from midog_qupath.learning.predict import class_probabilities

    opinion = class_probabilities(teacher.network, teacher.card, area) if teacher else None
    return masks_of(area, opinion, recipe.teacher)


def _outlines(masks: AreaMasks) -> Iterator[tuple[int, Polygon]]:
    from midog_qupath.learning.mask_outlines import outlines

    return outlines(masks)


def _file_names(images: Sequence[str]) -> dict[str, str]:
    """Image name to a file name without extension that no other image has, on any system."""
    from midog_qupath.project.qpproj import safe_stem

    names: dict[str, str] = {}
    for image in images:
        stem, number = safe_stem(image), 1
        taken = {name.lower() for other, name in names.items() if other != image}
        while (name := stem if number == 1 else f"{stem}-{number}").lower() in taken:
            number += 1
        names[image] = name
    return names


def _write_overlays(masks: AreaMasks, folder: Path, name: str) -> None:
    import cv2

    from midog_qupath.files import write_bytes
    from midog_qupath.learning.mask_report import overlay, pages

    windows = pages(masks.area)
    for window in windows:
        place = f"-y{window[0]}-x{window[1]}" if len(windows) > 1 else ""
        picture = cv2.cvtColor(overlay(masks, window), cv2.COLOR_RGB2BGR)
        # cv2.imwrite cannot write to paths with other letters than ASCII on Windows.
        write_bytes(folder / f"{name}{place}.png", cv2.imencode(".png", picture)[1].tobytes())


def _write_objects(file: Path, image: str, found: Iterable[tuple[int, Polygon]]) -> None:
    from midog_qupath.project.geojson import write_features

    write_features(file, _detections(image, found))


def _detections(image: str, found: Iterable[tuple[int, Polygon]]) -> Iterator[PathObject]:
    from midog_qupath.project.model import ObjectKind, PathObject, Roi, RoiKind

    classes = _classes()
    for number, (pixel_class, polygon) in enumerate(found):
        yield PathObject(
            # The same masks have the same ids: imported again they are the same objects.
            id=uuid5(NAMESPACE_URL, f"midog-qupath pseudo-mask {image} {number} {polygon.wkt}"),
            kind=ObjectKind.DETECTION,
            roi=Roi(RoiKind.POLYGON, polygon),
            path_class=classes[pixel_class],
        )


def _classes() -> dict[int, PathClass]:
    from midog_qupath.models.student import HARD_NEGATIVE, MITOSIS, NUCLEUS
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.model import PathClass

    usual, colours = ClassMap(), {item.name: item for item in ClassMap().path_classes()}
    return {
        MITOSIS: colours[usual.mitosis],
        HARD_NEGATIVE: colours[usual.non_mitosis],
        NUCLEUS: PathClass("Nucleus", _NUCLEUS_COLOUR),
    }


def _show(total: MaskCounts, out: Path) -> None:
    click.echo(f"Labelled objects          {total.objects}")
    click.echo(f"  one mask in the label   {total.whole} ({100 * total.share_whole:.1f} %)")
    click.echo(f"Normal nuclei             {total.nuclei}")
    click.echo(f"Labelled ground ignored   {100 * total.share_ignored:.1f} %")
    click.echo(f"Folder                    {out}")
