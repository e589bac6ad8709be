"""Pseudo-masks measured: nuclei against those outlined by hand, mitoses against drawn outlines.

The teacher sees no outline: of each label it is shown the centre. It is trained on all cases, because none
of the images that judge its nuclei is among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from midog_qupath.errors import DatasetError
from midog_qupath.evaluation.masks import read_nuclei
from midog_qupath.files import write_bytes, write_json
from midog_qupath.learning.ground import gather
from midog_qupath.learning.mask_report import MaskCounts, count, masks_of
from midog_qupath.learning.nuclei_scores import compare_nuclei
from midog_qupath.learning.point_masks import as_points, compare_with_outlines
from midog_qupath.learning.predict import class_probabilities
from midog_qupath.learning.recipe import Recipe, load_recipe
from midog_qupath.learning.teach_only import TeachOptions, train_teacher
from midog_qupath.models.bundle import load_bundle
from training.experiments.folds import apply_fold, everything_fold
from training.experiments.outcomes import Line, read_csv, write_csv
from training.experiments.records import digest
from training.experiments.runs import NO_RESULT, Bench, code_digest, timed

#: The name of the experiment.
MASKS = "masks"
SEEDS = (0, 1, 2)
_BASE = "standard"
_NUCLEI, _OUTLINES, _OBJECTS = "normal nuclei", "mitoses from centres", "labelled objects"
_MADE = "Made by `./run experiments masks`; never edit by hand."


def make_masks(
    bench: Bench, nuclei: Path, folder: Path, seeds: Sequence[int] = (), steps: int | None = None
) -> None:
    """Train the teachers that are missing, measure them, and write tables.

    ``nuclei``: folder of images with outlined nuclei, never trained on. ``folder``: of the results.

    Raises
    ------
    DatasetError
        If there are no outlined nuclei to compare with.
    """
    if not nuclei.is_dir():
        raise DatasetError(f"{nuclei} holds no outlined nuclei.", "Give their folder with --nuclei.")
    lines: list[Line] = []
    for seed in seeds or SEEDS:
        lines += _measured(_recipe(seed, steps), bench, nuclei)
    write_csv(folder / "runs.csv", lines, _MADE)
    write_mask_table(folder)


def write_mask_table(folder: Path) -> None:
    """``table.md`` from ``runs.csv``."""
    lines = read_csv(folder / "runs.csv")
    text = "\n\n".join([f"<!-- {_MADE} -->", "# Masks that nobody drew", *_sections(lines)])
    write_bytes(folder / "table.md", (text + "\n").encode())


def _recipe(seed: int, steps: int | None) -> Recipe:
    recipe = load_recipe(_BASE)
    teacher = recipe.teacher.model_copy(update={"steps": steps or recipe.teacher.steps})
    return recipe.model_copy(update={"seed": seed, "teacher": teacher})


def _measured(recipe: Recipe, bench: Bench, nuclei: Path) -> list[Line]:
    """The figures of one teacher, read where they exist."""
    decides = recipe.model_dump(mode="json", exclude={*NO_RESULT, "student", "operating_point"})
    mark = digest([decides, bench.dataset.sha256])
    folder = bench.work / MASKS / f"seed-{recipe.seed}-{mark[:10]}"
    stored = folder / "result.json"
    if not stored.is_file():
        bench.progress.note(f"Run: {MASKS} · seed {recipe.seed}")
        with timed(folder / "seconds.json") as spent:
            figures = _figures(recipe, bench, nuclei, folder / "teacher.safetensors")
        about: Line = {"seed": recipe.seed, "steps": recipe.teacher.steps, "seconds": spent()}
        about |= {"dataset_sha256": bench.dataset.sha256[:12], "code_sha256": code_digest()}
        write_json(stored, [{**about, **line} for line in figures])
    lines: list[Line] = orjson.loads(stored.read_bytes())
    return lines


def _figures(recipe: Recipe, bench: Bench, nuclei: Path, model: Path) -> list[Line]:
    data = apply_fold(bench.dataset, everything_fold(bench.dataset))
    if not model.is_file():
        options = TeachOptions(recipe=recipe, device=bench.device, points_only=True)
        train_teacher([data], options, model, bench.progress)
    bundle = load_bundle(model, bench.device)
    ground = gather([data], lambda row: True, recipe.student.soft_labels)
    lines: list[Line] = [
        {"what": _NUCLEI, "way": way, "image": score.name, "dice": score.dice, "aji": score.aji}
        for way, scores in compare_nuclei(read_nuclei(nuclei), bundle.network, bundle.card).items()
        for score in scores
    ]
    for found in compare_with_outlines(ground, bundle.network, bundle.card):
        lines.append(
            {
                "what": _OUTLINES,
                "way": found.masks,
                "count": found.count,
                "median": found.median,
                "lower_quartile": found.lower_quartile,
                "upper_quartile": found.upper_quartile,
                "share_below_03": found.share_below_03,
            }
        )
    total = MaskCounts()
    pointed = as_points(ground)
    with bench.progress.task("masks of labelled objects", len(pointed.areas), "areas") as advance:
        for area in pointed.areas:
            opinion = class_probabilities(bundle.network, bundle.card, area)
            total += count(masks_of(area, opinion, recipe.teacher))
            advance(1)
    lines.append({"what": _OBJECTS, "way": "teacher", "count": total.objects, "whole": total.whole})
    return lines


def _sections(lines: Sequence[Line]) -> Iterator[str]:
    seeds = sorted({int(line["seed"] or 0) for line in lines})
    steps = sorted({int(line["steps"] or 0) for line in lines})
    yield (
        f"Teachers of {', '.join(map(str, steps))} steps, {len(seeds)} seeds. They were shown the centre of "
        "every label, no outline, and none of the images with outlined nuclei. Figures are means over seeds."
    )
    yield "## Normal nuclei, against nuclei outlined by hand"
    yield _nuclei_table([line for line in lines if line["what"] == _NUCLEI], seeds)
    yield "## Mitoses from their centre point, against drawn outlines (intersection over union)"
    yield _outline_table([line for line in lines if line["what"] == _OUTLINES])
    objects = [line for line in lines if line["what"] == _OBJECTS]
    whole, asked = (sum(int(line[key] or 0) for line in objects) for key in ("whole", "count"))
    yield "## Labelled objects"
    yield (
        f"One non-empty component inside the label's extent (8 µm around a point): {whole} of {asked} "
        f"masks ({100 * whole / asked:.2f} %)."
    )


def _nuclei_table(lines: Sequence[Line], seeds: Sequence[int]) -> str:
    ways = list(dict.fromkeys(str(line["way"]) for line in lines))
    images = list(dict.fromkeys(str(line["image"]) for line in lines))
    rows = [["image", *(f"{way} {figure}" for figure in ("Dice", "AJI") for way in ways)]]
    rows.append(["---"] * len(rows[0]))
    for image in [*images, "mean"]:
        of = [line for line in lines if image in (line["image"], "mean")]
        cells = [f"{_mean(of, way, figure):.3f}" for figure in ("dice", "aji") for way in ways]
        rows.append([image, *cells])
    better = [sum(_better(lines, image, seed) for image in images) for seed in seeds]
    return (
        _table(rows)
        + "\n\nTeacher above its seeds in AJI: "
        + ", ".join(
            f"{number} of {len(images)} (seed {seed})" for number, seed in zip(better, seeds, strict=True)
        )
        + "."
    )


def _better(lines: Sequence[Line], image: str, seed: int) -> bool:
    of = [line for line in lines if line["image"] == image and line["seed"] == seed]
    return _mean(of, "teacher", "aji") > _mean(of, "seeds", "aji")


def _outline_table(lines: Sequence[Line]) -> str:
    rows = [["masks", "outlines", "median", "lower quartile", "upper quartile", "share below 0.3"]]
    rows.append(["---"] * len(rows[0]))
    for way in dict.fromkeys(str(line["way"]) for line in lines):
        figures = ("median", "lower_quartile", "upper_quartile", "share_below_03")
        rows.append(
            [way, f"{_mean(lines, way, 'count'):.0f}", *(f"{_mean(lines, way, f):.3f}" for f in figures)]
        )
    return _table(rows)


def _mean(lines: Sequence[Line], way: str, figure: str) -> float:
    return float(np.mean([float(line[figure] or 0) for line in lines if line["way"] == way]))


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
