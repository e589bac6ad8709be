"""The released model: trained on everything, its thresholds from the folds' left-out predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np

import midog_qupath
from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError
from midog_qupath.files import write_bytes, write_json
from midog_qupath.learning.operating_point import operating_point_from
from midog_qupath.learning.recipe import Recipe
from midog_qupath.models.bundle import (
    FILE_NAME,
    Bundle,
    BundleCard,
    load_bundle,
    save_bundle,
)
from training.experiments.folds import EVERYTHING, FINE_TUNING_SOURCE, IN_DOMAIN, SOURCES
from training.experiments.outcomes import decision
from training.experiments.plan import HERE, load_experiment
from training.experiments.records import RunResult
from training.experiments.runs import Bench, Run, Start, runs_of

#: What a user is told before the first use.
LICENCE = (
    "The released model is for research only, not for diagnosis, and not under the licence of the code: "
    "see midog_qupath/models/released/LICENSE.md."
)
#: Where the product looks for its own model.
RELEASED = Path(midog_qupath.__file__).parent / "models" / "released"


def start_model(bench: Bench, steps: int | None) -> Start:
    """The model of the released recipe that has not seen the source on which fine-tuning is tried.

    Its threshold is chosen on the other sources, each predicted by the model that had not seen it.

    Raises
    ------
    DatasetError
        If the runs of the released recipe that this needs are not made yet.
    """
    made = _made(_planned(bench, steps), bench)
    sources = [(run, result) for run, result in made if run.fold.group == SOURCES]
    mine = next((pair for pair in sources if pair[0].fold.name == FINE_TUNING_SOURCE), None)
    others = [result for _, result in sources if result.key.fold != FINE_TUNING_SOURCE]
    chosen = decision(mine[1], others) if mine else None
    if mine is None or chosen is None:
        raise DatasetError(
            "The model to fine-tune, trained without the left-out source, is not made yet.",
            "Run the experiment `released` first (its folds of left-out sources).",
        )
    return Start(mine[0].model(bench), chosen.threshold, chosen.nuclei_level, mine[1].recipe_sha256)


def publish(bench: Bench, steps: int | None, results: Path, folder: Path) -> Path:
    """Write the model trained on everything with the folds' operating point, its card as JSON and to read.

    ``results``: folder of the experiment's tables, which become part of the card to read.

    Raises
    ------
    DatasetError
        If a run that this needs is not made yet, or its table.
    """
    planned = _planned(bench, steps)
    made = _made(planned, bench)
    folds = {run.fold.name for run, _ in made}
    missing = [run.fold.name for run in planned if run.fold.name not in folds]
    tables = results / "table.md"
    if missing or not tables.is_file():
        raise DatasetError(
            f"Not made yet of the released recipe: {', '.join(missing) or tables.name}.",
            "Run the experiment `released` to its end first.",
        )
    (final,) = (run for run in planned if run.fold.group == EVERYTHING)
    left_out = [result for run, result in made if run.fold.group == SOURCES]
    in_domain = [result for run, result in made if run.fold.group == IN_DOMAIN]
    bundle = load_bundle(final.model(bench))
    card = _with_operating_point(bundle, left_out, in_domain)
    save_bundle(folder / FILE_NAME, card, bundle.network)
    write_json(folder / "card.json", card.model_dump(mode="json"))
    text = _card_to_read(card, bench.dataset, tables.read_text(encoding="utf-8"))
    write_bytes(folder / "MODEL_CARD.md", text.encode())
    return folder / FILE_NAME


def _card_to_read(card: BundleCard, dataset: Dataset, tables: str) -> str:
    """The model card: its template, filled with numbers."""
    mitoses = [row for row in dataset.objects if row.role != "non_mitosis"]
    mosaics = {image.name for image in dataset.images if image.cell_px is not None}
    sources = Counter("mosaics" if row.image in mosaics else row.domain for row in mitoses)
    # Title and note of the tables' own file are left out, headings go one deeper.
    body = "\n".join(tables.splitlines()[3:]).strip().replace("\n## ", "\n### ")
    smallest, largest = Recipe.model_validate(card.recipe).augmentation.scale
    values = {
        "finest": f"{card.mpp / largest:.2f}",
        "coarsest": f"{card.mpp / smallest:.2f}",
        "network": f"A UNet with the encoder {card.network.encoder}, random initialisation.",
        "mitoses": len(mitoses),
        "atypical": sum(row.role == "atypical" for row in mitoses),
        "negatives": len(dataset.objects) - len(mitoses),
        "cases": len(card.trained_cases),
        "tables": body,
        "chosen_on": card.operating_point.chosen_on,
        **{name: sources[name] for name in ("midesec", "brecahad", "cmc", "mosaics")},
    }
    return Template((HERE / "model_card.md").read_text(encoding="utf-8")).substitute(values)


def _planned(bench: Bench, steps: int | None) -> list[Run]:
    """The runs of the first row and seed of the released experiment."""
    experiment = load_experiment("released", steps)
    runs = runs_of(experiment, bench.dataset, experiment.plan.seeds[:1])
    return [run for run in runs if run.row.order == 0]


def _made(planned: Sequence[Run], bench: Bench) -> list[tuple[Run, RunResult]]:
    """Those of them that have a result."""
    return [(run, result) for run in planned if (result := run.result(bench))]


def _with_operating_point(
    bundle: Bundle, left_out: Sequence[RunResult], in_domain: Sequence[RunResult]
) -> BundleCard:
    """The card of a model with an operating point from cases unseen by those who predicted them."""
    sources = " and ".join(result.key.fold for result in left_out)
    point = operating_point_from(
        [image for result in left_out for image in result.images],
        np.concatenate([result.types.labels() for result in in_domain]),
        np.concatenate([result.types.scores() for result in in_domain]),
        f"{sources}, each predicted by a model of this recipe that had not seen it "
        "(types: of left-out cases of every scanner)",
        bundle.card.operating_point,
    )
    tuned = {field.case for result in left_out for field in result.fields}
    tuned |= {case for result in in_domain for case in result.types.cases}
    return bundle.card.model_copy(
        update={
            "name": "released",
            "operating_point": point,
            "tuned_cases": tuple(sorted(tuned)),
            "licence": LICENCE,
        }
    )
