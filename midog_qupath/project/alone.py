"""Being the only one at work on a project: lock, a look for QuPath, and what killed runs left lying."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from midog_qupath.progress import Progress
from midog_qupath.project.disk import writing
from midog_qupath.project.lock import project_lock, qupath_is_running
from midog_qupath.project.model import Project
from midog_qupath.project.stores.native import finish_save
from midog_qupath.project.stores.paquo_guard import settle

#: Files under other names that only we make, while one is being written. Training, which needs no lock,
#: writes none of them.
_HALF_WRITTEN = (
    "data/*/.data.qpdata.*.tmp",
    "data/*/.summary.json.*.tmp",
    "data/*/.server.json.*.tmp",
    "classifiers/.classes.json.*.tmp",
    "midog-qupath/runs/.*.tmp",
    "midog-qupath/sidecar/.*.tmp",
    "midog-qupath/detections/*/.*.tmp",
    "midog-qupath/backups/.*.tmp",
)


@contextmanager
def alone(project: Project, progress: Progress) -> Iterator[None]:
    """Hold the project's lock; warn when QuPath runs; tidy up after runs that were killed.

    Raises SafetyError when somebody else is writing, or the folder cannot be written.
    """
    if qupath_is_running():
        progress.warn(
            "QuPath is running: close this project there, or its next save overwrites what is written."
        )
    with project_lock(project):
        with writing(project.folder):
            _tidy(project)
        yield


def _tidy(project: Project) -> None:
    for pattern in _HALF_WRITTEN:
        for path in project.folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    for entry in project.images:
        settle(entry.data_dir)
        finish_save(entry.data_dir)
