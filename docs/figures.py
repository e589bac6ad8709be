"""The pictures of the documentation, from generated tissue: python docs/figures.py [DEMO]

DEMO is a folder that `midog-qupath demo` made; without it one is made, which takes minutes. Screens of the
report need Chromium and are left as they are where it is missing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from midog_qupath.models.find import MODEL_FILE
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.model import ObjectKind, PathObject, Project
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides.check import open_entry

PICTURES = Path(__file__).parent / "pictures"
#: Images side by side, pixels of each, and how much larger they are drawn.
IMAGES, SIDE, SCALE = 4, 320, 1
#: Sections of the report that are photographed, and the height of the picture.
SCREENS = {"report.png": ("body", 760), "errors.png": ("#errors", 620)}


def main(demo: Path, out: Path = PICTURES) -> None:
    """Write all pictures of a demo project into a folder."""
    project = open_project(demo)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "annotations.jpg", strip(project, ObjectKind.ANNOTATION))
    write(out / "detections.jpg", strip(project, ObjectKind.DETECTION))
    with tempfile.TemporaryDirectory() as folder:
        write(out / "masks.jpg", masks(project, Path(folder)))
        screens(project, Path(folder), out)


def strip(project: Project, kind: ObjectKind) -> NDArray[np.uint8]:
    """The middle of some images side by side, objects of a kind outlined in their classes' colours."""
    colors = {item.name: item.color for item in ClassMap().path_classes()}
    pieces = []
    with NativeStore(project) as store:
        for entry in _chosen(project):
            with open_entry(entry) as slide:
                x, y = (slide.width - SIDE) / 2, (slide.height - SIDE) / 2
                picture = slide.read(x, y, SIDE * SCALE, SIDE * SCALE, 1 / SCALE).copy()
            for thing in store.read(entry):
                if thing.kind is kind and thing.class_name in colors:
                    outline(picture, thing, colors[thing.class_name] or 0, (x, y))
            pieces.append(np.pad(picture, ((0, 0), (2, 2), (0, 0)), constant_values=255))
    return np.hstack(pieces)


def _chosen(project: Project) -> Sequence:
    whole = [entry for entry in project.images if entry.metadata.get("labelled") == "whole"]
    return whole[-IMAGES:]


def outline(picture: NDArray[np.uint8], thing: PathObject, color: int, corner: tuple[float, float]) -> None:
    """Draw an object, a point as a cross; ``color`` is packed ARGB, ``corner`` the picture's in the image."""
    assert thing.roi is not None
    rgb = [(color >> shift) & 255 for shift in (16, 8, 0)]
    for part in shapely.get_parts(thing.roi.geometry):
        ring = part.exterior if part.geom_type == "Polygon" else part
        at = np.rint((shapely.get_coordinates(ring) - corner) * SCALE).astype(np.int32)
        if part.geom_type == "Polygon":
            cv2.polylines(picture, [at], True, rgb, 2, cv2.LINE_AA)
        else:
            cv2.drawMarker(picture, at[0].tolist(), rgb, cv2.MARKER_CROSS, 14, 2, cv2.LINE_AA)


def masks(project: Project, folder: Path) -> NDArray[np.uint8]:
    """An overlay of the command ``pseudo-masks``, its middle."""
    model = sorted((project.ours / "models").glob(f"*/{MODEL_FILE}"))[-1]
    midog("pseudo-masks", project.path, "--model", model, "--limit", 1, "-o", folder)
    picture = cv2.cvtColor(cv2.imread(str(next((folder / "overlays").glob("*.png")))), cv2.COLOR_BGR2RGB)
    height, width = (min(side, 2 * SIDE) for side in picture.shape[:2])
    return np.asarray(picture[:height, :width])


def screens(project: Project, folder: Path, out: Path) -> None:
    """Photograph sections of the report on the newest run."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return
    from playwright.sync_api import sync_playwright

    page_file = folder / "report.html"
    midog("report", project.path, "--store", "native", "-o", page_file)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (section, height) in SCREENS.items():
            page = browser.new_page(viewport={"width": 1180, "height": height})
            page.goto(page_file.as_uri())
            # The folder of whoever made the pictures is nobody's business.
            page.locator("header p").evaluate("line => { line.textContent = 'my-demo/project.qpproj'; }")
            page.locator(section).evaluate("part => part.scrollIntoView()")
            page.screenshot(path=str(out / name))
        browser.close()


def midog(*words: object) -> None:
    """Run a command of midog-qupath."""
    subprocess.run([sys.executable, "-m", "midog_qupath", *map(str, words)], check=True)  # noqa: S603


def write(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB as JPEG."""
    path.write_bytes(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            midog("demo", Path(made) / "demo")
            main(Path(made) / "demo")
