"""Whatever goes wrong while an image is written, its files are as they were, or whole and new."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from native_images import detection, drawings, made_project

from midog_qupath.errors import StoreError
from midog_qupath.project.model import ImageEntry
from midog_qupath.project.qpdata import save as save_module
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore


@pytest.fixture
def image(tmp_path: Path) -> tuple[NativeStore, ImageEntry]:
    project = made_project(tmp_path)
    store, entry = NativeStore(project), project.images[0]
    store.create(entry, drawings())
    return store, entry


def content(entry: ImageEntry) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in entry.data_dir.glob("*")}


def add_one(store: NativeStore, entry: ImageEntry) -> None:
    store.apply(entry, Edit(frozenset(), (detection(9),), store.fingerprint(entry)))


def failing(real: Callable[..., Any], at: int, error: BaseException) -> Callable[..., Any]:
    calls = iter(range(1, 1000))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            raise error
        return real(*args, **kwargs)

    return call


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [
        (os, "fsync", 1),
        (os, "fsync", 2),
        (tempfile, "mkstemp", 1),
        (tempfile, "mkstemp", 2),
        (os, "replace", 1),
        (os, "replace", 2),
    ],
)
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_every_file_as_it_was(
    image: tuple[NativeStore, ImageEntry],
    module: Any,
    name: str,
    at: int,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, entry = image
    before = content(entry)
    with monkeypatch.context() as disk:
        disk.setattr(module, name, failing(getattr(module, name), at, error))
        with pytest.raises((StoreError, KeyboardInterrupt)) as caught:
            add_one(store, entry)
    assert content(entry) == before
    if error is FULL:
        assert "No space left" in str(caught.value)
        assert "free space" in caught.value.remedy
    add_one(store, entry)


def test_a_crash_between_the_files_leaves_an_image_that_is_read(
    image: tuple[NativeStore, ImageEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the machine had stopped after each step: nothing tidies up, nothing is put back."""
    store, entry = image
    count = len(store.read(entry))
    for at in (1, 2, 3):
        states: list[int] = []
        real = os.replace

        def stop_and_look(source: Any, target: Any, states: list[int] = states, real: Any = real) -> None:
            states.append(len(store.read(entry)))
            real(source, target)
            states.append(len(store.read(entry)))

        with monkeypatch.context() as disk:
            disk.setattr(save_module.os, "replace", stop_and_look)
            add_one_id = detection(20 + at)
            store.apply(entry, Edit(frozenset(), (add_one_id,), store.fingerprint(entry)))
        assert states == [count, count, count, count + 1, count + 1, count + 1]
        count += 1


def test_an_image_that_is_saved_meanwhile_is_left_alone(
    image: tuple[NativeStore, ImageEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QuPath saved it after the edit was begun and before it would be written."""
    from midog_qupath.project.stores import native

    store, entry = image
    path, real = entry.data_dir / "data.qpdata", native.edit_data

    def slow(*args: Any) -> Any:
        path.write_bytes(b"saved by somebody")
        return real(*args)

    monkeypatch.setattr(native, "edit_data", slow)
    with pytest.raises(StoreError, match="changed by somebody else"):
        add_one(store, entry)
    assert path.read_bytes() == b"saved by somebody"


def test_an_image_that_is_saved_at_the_last_moment_is_left_alone(
    image: tuple[NativeStore, ImageEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QuPath saved it when all new bytes were on the disk already."""
    store, entry = image
    path, real = entry.data_dir / "data.qpdata", os.fsync

    def slow(handle: int) -> None:
        real(handle)
        path.write_bytes(b"saved by somebody")

    monkeypatch.setattr(os, "fsync", slow)
    before = content(entry).keys()
    with pytest.raises(StoreError, match="changed by somebody else"):
        add_one(store, entry)
    assert path.read_bytes() == b"saved by somebody"
    assert content(entry).keys() == before


def test_a_save_by_qupath_between_objects_and_counts_keeps_no_counts_of_ours(
    image: tuple[NativeStore, ImageEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, entry = image
    path, real = entry.data_dir / "data.qpdata", os.replace
    saved = path.read_bytes()

    def busy(source: Any, target: Any) -> None:
        real(source, target)
        if Path(target) == path:
            path.unlink()
            path.write_bytes(saved)

    monkeypatch.setattr(save_module.os, "replace", busy)
    add_one(store, entry)
    assert len(store.read(entry)) == len(drawings())
    assert not (entry.data_dir / "summary.json").exists()


def test_files_stay_readable_for_those_who_could_read_them(image: tuple[NativeStore, ImageEntry]) -> None:
    store, entry = image
    path = entry.data_dir / "data.qpdata"
    path.chmod(0o640)
    kept = stat.S_IMODE(path.stat().st_mode)
    add_one(store, entry)
    assert stat.S_IMODE(path.stat().st_mode) == kept


@pytest.mark.parametrize("damage", ['{"images": [', "{}", '{"images": [{"entryID": 1}]}', '{"images": []}'])
def test_a_project_file_that_changed_stops_a_new_image(tmp_path: Path, damage: str) -> None:
    project = made_project(tmp_path)
    project.path.write_text(damage, encoding="utf-8")
    with pytest.raises(StoreError):
        NativeStore(project).create(project.images[0], drawings())
    assert NativeStore(project).read(project.images[0]) == []
