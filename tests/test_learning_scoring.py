"""A model is used to each area by that area's own pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from learning_data import make_dataset

from midog_qupath.dataset.format import ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset, write_pixels
from midog_qupath.learning.ground import Ground, gather
from midog_qupath.learning.scoring import score_fields, score_types, used_to
from midog_qupath.models.bundle import Bundle, BundleCard, OperatingPoint
from midog_qupath.models.student import NetworkConfig, Student
from midog_qupath.progress import SILENT


def _validation(*datasets: Dataset) -> Ground:
    def keep(row: ObjectRow | ImageRow) -> bool:
        return row.split == "val"

    return gather(datasets, keep, soft_labels=False, domains=("domain-0", "domain-1"))


def test_images_of_two_projects_are_kept_apart_though_their_files_are_called_alike(tmp_path: Path) -> None:
    one = make_dataset(tmp_path / "one", splits=("val", "val"))
    other = make_dataset(tmp_path / "other", splits=("val", "val"))
    for area in other.areas:
        write_pixels(tmp_path / "other", area, np.asarray(255 - other.pixels(area)))
    torch.manual_seed(0)
    point = OperatingPoint(statistics_share=0.3, nuclei_quantile=0.0)
    card = BundleCard(name="x", created="", network=NetworkConfig(), operating_point=point, has_atypical=True)
    bundle = Bundle(card, Student(card.network).eval(), "")
    both = _validation(one, Dataset.open(tmp_path / "other"))
    assert len(used_to(bundle, both.areas, both, SILENT).looks) == 4
    together = score_types(bundle, both).probabilities
    apart = [
        score_types(bundle, _validation(Dataset.open(tmp_path / n))).probabilities for n in ("one", "other")
    ]
    assert np.allclose(together, np.concatenate(apart), atol=1e-6)
    assert not np.allclose(apart[0], apart[1], atol=1e-4)


def test_a_threshold_is_chosen_on_what_counts_from_the_nuclei_however_low_the_model_before_counted(
    tmp_path: Path,
) -> None:
    ground = _validation(make_dataset(tmp_path, splits=("val", "val")))
    torch.manual_seed(0)
    point = OperatingPoint(nuclei_quantile=0.975, nuclei_level=15.0)
    card = BundleCard(name="x", created="", network=NetworkConfig(), operating_point=point)
    bundle = Bundle(card, Student(card.network).eval(), "")
    scored = score_fields(bundle, ground, SILENT)
    assert len(scored) == 2
    assert all(0 <= field.nuclei_log_odds < 15.0 for field in scored)
    adapter = used_to(bundle, ground.areas, ground, SILENT)
    measured = scored[0].nuclei_log_odds
    assert adapter.bundle_for("0").nuclei_log_odds == pytest.approx((measured + 15.0) / 2)
