"""Whether this computer can do the work: what is found, what is missing, and what to do about it.

Each check stands for itself and never raises: a doctor who falls ill is of no use.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from midog_qupath.errors import MidogError
from midog_qupath.project.lock import qupath_is_running
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.paquo_bridge import OLDEST
from midog_qupath.wording import counted

State = Literal["ok", "note", "problem"]
#: Libraries without which a command fails, by the name they are imported under.
_LIBRARIES = {
    "numpy": "numpy",
    "opencv-python": "cv2",
    "openslide-python": "openslide",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "shapely": "shapely",
    "scipy": "scipy",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "torch": "torch",
}
_OLDEST_PYTHON = (3, 11)
#: Free memory and disk in GiB below which a word is due; annotating one field on a CPU took 1.5 GiB.
_ENOUGH_MEMORY, _ENOUGH_DISK = 2.0, 2.0
#: Starting Java takes a second; seconds until it is given up.
_PATIENCE_S = 90
_GIB = 2.0**30
_ASK_QUPATH = (
    "from paquo import java; from paquo._utils import QuPathVersion as V; "
    f"print('VERSION', java.qupath_version, java.qupath_version >= V('{OLDEST}'))"
)


@dataclass(frozen=True)
class Check:
    """One finding. ``problem`` keeps work from being done, ``note`` makes it slower or less convenient."""

    name: str
    state: State
    found: str
    remedy: str | None = None


def examine(project: Path | None = None) -> Iterator[Check]:
    """All checks, one by one, as each is done.

    Parameters
    ----------
    project
        A project whose folder should be writable; None looks at the current folder.
    """
    yield python()
    yield from libraries()
    yield device()
    yield qupath()
    yield model()
    yield memory()
    yield from place(project)


def as_json(checks: list[Check]) -> dict[str, Any]:
    """Findings as ``doctor --json`` prints them."""
    return {"checks": [asdict(check) for check in checks], "healthy": healthy(checks)}


def healthy(checks: list[Check]) -> bool:
    """Whether nothing keeps work from being done."""
    return all(check.state != "problem" for check in checks)


def python() -> Check:
    """Version of Python and of this package, and the system."""
    version = importlib.metadata.version
    try:
        own = version("midog-qupath")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed, run from its folder"
    found = f"{platform.python_version()} on {platform.platform()} ({platform.machine()}); midog-qupath {own}"
    if sys.version_info < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        return Check("Python", "problem", found, f"Install Python {oldest} or newer, and midog-qupath in it.")
    return Check("Python", "ok", found)


def libraries() -> Iterator[Check]:
    """Each library: imported, not only installed, as a wheel can be for another machine."""
    for package, module in _LIBRARIES.items():
        try:
            importlib.import_module(module)
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "of unknown version"
        except (ImportError, OSError) as error:
            why = " ".join(str(error).split())[:200]
            yield Check(
                package, "problem", f"cannot be loaded: {why}", f"pip install --force-reinstall {package}"
            )
            continue
        yield Check(package, "ok", _with_library(module, version))


def _with_library(module: str, version: str) -> str:
    """The version, and of OpenSlide that of the library beneath."""
    if module != "openslide":
        return version
    import openslide

    return f"{version} (OpenSlide {openslide.__library_version__})"


def device() -> Check:
    """The accelerator that torch sees."""
    try:
        import torch

        from midog_qupath.inference.device import choose_device, device_name

        kind = choose_device("auto")
        if kind != "cpu":
            return Check("device", "ok", f"{kind}: {device_name(kind)}")
        threads = torch.get_num_threads()
    except (ImportError, OSError, RuntimeError) as error:
        return Check("device", "problem", f"torch fails: {error}", "pip install --force-reinstall torch")
    return Check(
        "device",
        "note",
        f"cpu, {threads} threads (torch {torch.__version__} sees no GPU)",
        "Training and whole slides want a GPU; with an NVIDIA card, install the torch that fits its driver.",
    )


def qupath() -> Check:
    """QuPath as paquo finds it, started once; without one the ``native`` store does its work."""
    from midog_qupath.project.stores.paquo import find_qupath

    folder = find_qupath()
    if folder is None:
        java = shutil.which("java")
        beside = f"; Java at {java}, which is not needed" if java else "; no Java, which is not needed"
        return Check(
            "QuPath",
            "note",
            f"none found (projects are read and written without it){beside}",
            "To work through QuPath itself: paquo get_qupath --install-path DIR 0.6.0, then set "
            "PAQUO_QUPATH_DIR to the folder that it names.",
        )
    version, why = qupath_version()
    if version is None:
        return Check(
            "QuPath",
            "problem",
            f"at {folder}, and cannot be used: {why}",
            "Install it anew with paquo get_qupath, unset PAQUO_QUPATH_DIR, or give --store native.",
        )
    return Check("QuPath", "ok", f"{version} at {folder}, with its own Java")


def qupath_version() -> tuple[str | None, str]:
    """QuPath's version as its own classes say it, or None and why it does not do."""
    command = [sys.executable, "-c", _ASK_QUPATH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("VERSION ")]
    lines = (done.stderr or done.stdout).strip().splitlines()
    if not said:
        return None, lines[-1][:200] if lines else f"it ended with code {done.returncode}"
    version, new_enough = said[0]
    return (version, "") if new_enough == "True" else (None, f"it is {version}, {OLDEST} or newer is needed")


def model() -> Check:
    """The model that comes with this version."""
    from midog_qupath.models.find import released_model

    released = released_model()
    if released is None:
        return Check("model", "note", "none comes with this version", "midog-qupath train PROJECT makes one.")
    return Check("model", "ok", f"{released} ({released.stat().st_size / 2**20:.0f} MiB)")


def memory() -> Check:
    """Memory of the computer, in GiB."""
    import psutil

    known = psutil.virtual_memory()
    total, free = known.total / _GIB, known.available / _GIB
    found = f"{total:.1f} GiB, {free:.1f} free; {os.cpu_count()} processors"
    if free < _ENOUGH_MEMORY:
        return Check("memory", "note", found, "Close other programs; annotate takes about 1.5 GiB.")
    return Check("memory", "ok", found)


def place(project: Path | None) -> Iterator[Check]:
    """Where results would be written: of a project its folder, else the current one."""
    folder = Path.cwd()
    if project is not None:
        try:
            opened = open_project(project)
        except MidogError as error:
            yield Check("project", "problem", error.what, error.remedy)
            return
        folder = opened.folder
        missing = sum(image.path is None for image in opened.images)
        yield Check(
            "project",
            "note" if missing else "ok",
            f"{opened.path}: {counted(len(opened.images), 'image')}, {missing} of them not found",
            "midog-qupath info names them." if missing else None,
        )
    yield _writable(folder)
    yield _disk(folder)
    if project is not None and qupath_is_running():
        yield Check("QuPath at work", "note", "QuPath is running", "Close the project there before annotate.")


def _writable(folder: Path) -> Check:
    try:
        # Asking for permissions says little on shares and on Windows; trying does.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".midog-doctor-"):
            pass
    except OSError as error:
        return Check(
            "write access",
            "problem",
            f"{folder}: {error.strerror or error}",
            "Ask for write access to that folder, or work on a copy.",
        )
    return Check("write access", "ok", str(folder))


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / _GIB
    if free < _ENOUGH_DISK:
        remedy = "Free some space: backups and datasets are written there."
        return Check("disk", "note", f"{free:.1f} GiB free at {folder}", remedy)
    return Check("disk", "ok", f"{free:.1f} GiB free at {folder}")
