"""Beside its objects a data file says what the image is; that stays, and is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from native_images import detection, drawings, new_bytes

from midog_qupath.project.qpdata.document import image_type, read_document, stains
from midog_qupath.project.qpdata.edit import edit


@pytest.mark.realdata
def test_image_types_are_those_of_the_summaries(data_dir: Path) -> None:
    found = set()
    for path in data_dir.glob("**/data/*/data.qpdata"):
        said = json.loads((path.parent / "summary.json").read_bytes())["imageType"]
        document = read_document(path.read_bytes())
        assert image_type(document) == said
        assert (stains(document) is not None) == said.startswith("BRIGHTFIELD")
        found.add(said)
    assert len(found) > 1


def test_type_and_stains_of_a_file_of_ours_stay_when_it_is_edited() -> None:
    data = new_bytes(drawings())
    changed = read_document(edit(data, frozenset(), [detection(1)]))
    assert image_type(changed) == "BRIGHTFIELD_H_E"
    vectors = json.loads(stains(changed) or "")
    assert vectors["Stain 1"] == "Hematoxylin"
    assert len(vectors["Values 2"].split()) == 3
