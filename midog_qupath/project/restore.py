"""Images put back as they were in a backup, after what they are now is backed up too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from midog_qupath.errors import SafetyError
from midog_qupath.files import sha256
from midog_qupath.progress import Progress
from midog_qupath.project.alone import alone
from midog_qupath.project.backup import (
    BackupRecord,
    all_backups,
    back_up,
    checked_record,
    image_names,
    now_as_time,
    put_back,
)
from midog_qupath.project.labels.past import forget_imports
from midog_qupath.project.manifest import (
    ImageRecord,
    RunManifest,
    load_manifests,
    manifest_path,
    save_manifest,
)
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.select import select_images


@dataclass(frozen=True)
class RestoreReport:
    """What was put back from ``source``; ``same`` images were as in the backup already.

    ``backup`` holds what was replaced; None where nothing was.
    """

    source: Path
    restored: tuple[str, ...]
    same: tuple[str, ...]
    backup: Path | None


def restore(project: Project, time: str, patterns: Sequence[str], progress: Progress) -> RestoreReport:
    """Put the objects of images back as they were in the backup ``time``.

    ``patterns``: only images whose name fits one. Project file and classes stay as they are: nothing of
    ours takes anything out of them. Cut short, each image is whole, and the same command goes on.

    Raises SafetyError, before anything is changed, when there is no such backup, it is damaged or holds none
    of the images, somebody else is writing, or the disk refuses.
    """
    source = _find(project, time)
    with alone(project, progress):
        entries = _entries(project, source, patterns)
        record = checked_record(project, entries, source)
        changed = [entry for entry in entries if not _is_as_in(project, entry, record)]
        same = tuple(entry.name for entry in entries if entry not in changed)
        if not changed:
            return RestoreReport(source, (), same, None)
        backup = back_up(project, changed, now_as_time(), f"before restoring {source.name}")
        # First: a run that is said to be taken back and still stands does no harm, one that is gone and said
        # to stand would look as if a person had deleted its detections.
        _rewind(project, source, record, changed)
        forget_imports(project, source.name, (entry.entry_id for entry in changed))
        replaced = checked_record(project, [], backup)
        with progress.task("Restoring", total=len(changed), unit="images") as advance:
            for entry in changed:
                put_back(project, entry, source, replaced.files.get(image_names(project, entry)[0], ""))
                _require_restored(project, entry, record, backup)
                advance(1)
        return RestoreReport(source, tuple(entry.name for entry in changed), same, backup)


def _find(project: Project, time: str) -> Path:
    found = {backup.time: backup.folder for backup in all_backups(project)}
    if time not in found:
        known = ", ".join(found) or "none"
        raise SafetyError(f"There is no backup {time} in {project.ours / 'backups'}.", f"There are: {known}.")
    return found[time]


def _entries(project: Project, source: Path, patterns: Sequence[str]) -> list[ImageEntry]:
    record = checked_record(project, [], source)
    held = [entry for entry in select_images(project, patterns) if entry.entry_id in record.images]
    if not held:
        raise SafetyError(f"Backup {source.name} holds none of these images.", "Take another backup.")
    return held


def _is_as_in(project: Project, entry: ImageEntry, record: BackupRecord) -> bool:
    now = {
        name: sha256(project.folder / name)
        for name in image_names(project, entry)
        if (project.folder / name).is_file()
    }
    return now == {name: record.files[name] for name in image_names(project, entry) if name in record.files}


def _require_restored(project: Project, entry: ImageEntry, record: BackupRecord, backup: Path) -> None:
    if not _is_as_in(project, entry, record):
        raise SafetyError(
            f"Image '{entry.name}' changed while it was restored.",
            f"Close the project in QuPath and run this again; what was there is in {backup}.",
        )


def _rewind(project: Project, source: Path, record: BackupRecord, entries: Sequence[ImageEntry]) -> None:
    """Let our manifests say of the restored images what they said when the backup was made."""
    for manifest in load_manifests(project):
        then = _manifest_then(source, record, manifest_path(project, manifest.run).name)
        changed = manifest
        for entry in entries:
            if (now := manifest.image(entry.entry_id)) is not None:
                earlier = then.image(entry.entry_id) if then else None
                changed = changed.with_image(_rewound(now, earlier))
        if changed != manifest:
            undone = all(image.state == "undone" for image in changed.images)
            save_manifest(project, changed.model_copy(update={"undone": undone}))


def _manifest_then(source: Path, record: BackupRecord, file: str) -> RunManifest | None:
    path = source / "midog-qupath" / "runs" / file
    if record.files.get(path.relative_to(source).as_posix()) is None:
        return None
    try:
        return RunManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SafetyError(f"{path} is damaged: nothing is restored.", "Take another backup.") from error


def _rewound(now: ImageRecord, then: ImageRecord | None) -> ImageRecord:
    """What was written since is taken back; it stays on record, should QuPath save it over again."""
    if then is None:
        every = tuple(written.id for written in now.objects)
        return now.model_copy(update={"state": "undone", "taken_back": every})
    before = {written.id for written in then.objects}
    later = [written for written in now.objects if written.id not in before]
    return then.model_copy(
        update={
            "objects": (*then.objects, *later),
            "taken_back": (*then.taken_back, *(written.id for written in later)),
        }
    )
