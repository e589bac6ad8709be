"""A new project holds its images as QuPath would have added them, or nothing at all is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result
from slide_images import smooth, write_picture, write_pyramid, write_tiff

from midog_qupath import files
from midog_qupath.cli.new import command
from midog_qupath.errors import MidogError, ProjectError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project, unique_names
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides.check import open_entry


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return write_picture(tmp_path / "images" / "a.png", smooth())


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_what_is_in_a_new_project(tmp_path: Path, picture: Path) -> None:
    tiff = write_pyramid(picture.with_name("b.tif"), smooth(), inside=False, mpp=0.23)
    grey = write_picture(picture.with_name("Schnitt Ä 1.jpg"), smooth()[..., 0])
    metadata = {"domain": "laboratory 1", "case": "c7", "labelled": "whole"}
    images = [NewImage(picture, 0.25, metadata), NewImage(tiff), NewImage(grey)]
    project = create_project(tmp_path / "p", images)
    assert [image.name for image in project.images] == ["a.png", "b.tif", "Schnitt Ä 1.jpg"]
    assert [image.entry_id for image in project.images] == ["1", "2", "3"]
    assert [image.mpp for image in project.images] == [0.25, pytest.approx(0.23), None]
    assert [image.path for image in project.images] == [picture, tiff, grey]
    assert not any(image.stale for image in project.images)
    assert project.images[0].metadata == metadata
    assert project.classes == tuple(
        type(known)(known.name, (known.color or 0) - 2**32) for known in ClassMap().path_classes()
    )
    with NativeStore(project) as store:
        assert [list(store.read(image)) for image in project.images] == [[], [], []]
    for image in project.images:
        with open_entry(image) as slide:
            assert (slide.width, slide.height) == (230, 150)
        assert cv2.imread(str(image.data_dir / "thumbnail.jpg")).shape == (150, 230, 3)
        assert sorted(path.name for path in image.data_dir.iterdir()) == ["server.json", "thumbnail.jpg"]
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    assert raw["lastID"] == 3
    assert raw["uri"] == project.path.as_uri()
    assert raw["images"][2]["serverBuilder"]["metadata"]["isRGB"] is False


@pytest.mark.realdata
def test_an_entry_looks_as_qupath_itself_wrote_it(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "breast-mitosis"
    theirs = json.loads((source / "project.qpproj").read_text(encoding="utf-8"))
    numbers = (0, 40, 69)
    paths = [source / "images" / theirs["images"][i]["imageName"] for i in numbers]
    images = [
        NewImage(path, 0.25, theirs["images"][i]["metadata"]) for i, path in zip(numbers, paths, strict=True)
    ]
    made = json.loads(create_project(tmp_path / "p", images).path.read_text(encoding="utf-8"))
    assert made.keys() == theirs.keys()
    for i, ours in zip(numbers, made["images"], strict=True):
        expected = theirs["images"][i]
        for entry in (ours, expected):
            entry["serverBuilder"].pop("uri")
            entry.pop("randomizedName")
            entry.pop("entryID")
        assert ours == expected


def test_output_may_be_a_folder_or_a_file_new_or_there(tmp_path: Path, picture: Path) -> None:
    assert create_project(tmp_path / "v1.2", [NewImage(picture)]).path == tmp_path / "v1.2" / "project.qpproj"
    assert create_project(tmp_path / "b" / "c" / "my.qpproj", [NewImage(picture)]).path.name == "my.qpproj"
    assert create_project(tmp_path / "images", [NewImage(picture)]).folder == picture.parent
    assert everything(picture.parent)[:2] == ["a.png", "classifiers"]


def test_images_of_one_name_are_told_apart_by_their_folders() -> None:
    root = Path("/data").absolute()
    paths = [
        root / "x" / "s" / "1.png",
        root / "y" / "s" / "1.png",
        root / "y" / "t" / "1.png",
        root / "2.png",
    ]
    assert unique_names(paths) == ["x/s/1.png", "y/s/1.png", "t/1.png", "2.png"]


@pytest.mark.parametrize("there", ["project.qpproj", "data", "classifiers"])
def test_a_project_that_is_there_is_not_touched(tmp_path: Path, picture: Path, there: str) -> None:
    (tmp_path / "p" / there).mkdir(parents=True)
    before = everything(tmp_path)
    with pytest.raises(ProjectError, match="already"):
        create_project(tmp_path / "p", [NewImage(picture)])
    assert everything(tmp_path) == before


def test_every_unreadable_image_is_named_and_nothing_written(tmp_path: Path, picture: Path) -> None:
    cut = picture.with_name("cut.png")
    cut.write_bytes(picture.read_bytes()[:-40])
    text = picture.with_name("text.svs")
    text.write_text("no slide")
    # Opens, and fails only when its pixels are read.
    broken = write_tiff(picture.with_name("c.tif"), smooth(), compression="zlib", rowsperstrip=16)
    data = bytearray(broken.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    broken.write_bytes(data)
    before = everything(tmp_path)
    images = [NewImage(path) for path in (picture, cut, text, broken, tmp_path / "gone.png")]
    with pytest.raises(ProjectError, match="4 of 5 images") as caught:
        create_project(tmp_path / "deep" / "p", images)
    assert all(name in caught.value.what for name in ("cut.png", "text.svs", "c.tif", "gone.png"))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False], ids=["existing folder", "new folder"])
@pytest.mark.parametrize("step", range(8))
def test_a_failure_at_any_step_leaves_nothing(
    tmp_path: Path,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    there: bool,
    step: int,
) -> None:
    if there:
        (tmp_path / "p").mkdir()
    before = everything(tmp_path)
    steps = iter(range(100))

    def failing(function: object) -> object:
        def wrapped(*args: object) -> object:
            if next(steps) == step:
                raise error
            return function(*args)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", failing(files.write_bytes))
        patch.setattr(Path, "rename", failing(Path.rename))
        if step < 7:
            with pytest.raises((MidogError, KeyboardInterrupt)):
                create_project(tmp_path / "p", [NewImage(picture)])
            assert everything(tmp_path) == before
        else:
            create_project(tmp_path / "p", [NewImage(picture)])
    assert open_project(tmp_path / "p").images if step == 7 else True


def test_where_nothing_can_be_written(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(ProjectError, match="is a file"):
        create_project(picture, [NewImage(picture)])
    with pytest.raises(ProjectError, match="cannot be written"):
        create_project(picture / "p", [NewImage(picture)])


def test_the_command(tmp_path: Path, picture: Path) -> None:
    write_tiff(picture.with_name("b.tif"), smooth())
    picture.with_name("notes.txt").write_text("not an image")
    picture.with_name("._a.png").write_text("left by macOS")
    done = run(picture.parent, "-o", tmp_path / "p", "--mpp", "0.25", "--json")
    assert done.exit_code == 0
    rows = json.loads(done.stdout)["images"]
    assert [(row["name"], row["width"], row["height"], row["mpp"]) for row in rows] == [
        ("a.png", 230, 150, 0.25),
        ("b.tif", 230, 150, 0.25),
    ]
    assert "--mpp" in run(picture, "-o", tmp_path / "q").stderr


def test_a_table_gives_domain_case_and_extent(tmp_path: Path, picture: Path) -> None:
    write_picture(picture.with_name("b.jpg"), smooth())
    table = tmp_path / "table.csv"
    table.write_text("image;domain;case;extent\nimages/a;lab 1;c1;whole\nz;lab 2;;\n", encoding="utf-8")
    done = run(picture.parent, "-o", tmp_path / "p", "--mpp", "0.25", "--image-table", table, "--json")
    assert done.exit_code == 0
    assert [row["metadata"] for row in json.loads(done.stdout)["images"]] == [
        {"domain": "lab 1", "case": "c1", "labelled": "whole"},
        {},
    ]
    assert "In the table, without an image (1 line): z." in done.stderr
    assert "Not in the table (1 image): b.jpg." in done.stderr
    raw = json.loads((tmp_path / "p" / "project.qpproj").read_text(encoding="utf-8"))
    assert raw["images"][0]["metadata"] == {"domain": "lab 1", "case": "c1", "labelled": "whole"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,domain\nz,1\n", "none of the images"),
        ("image,domain\na,1\na.tif,2\n", "as another line does"),
        ("image,domain\nx,1\n", "several images"),
        ("image,size\na,1\n", "has the columns"),
        ("image,extent\na,everything\n", "extent"),
    ],
)
def test_tables_that_do_not_fit_stop_a_new_project(
    tmp_path: Path, picture: Path, text: str, message: str
) -> None:
    for name in ("x.png", "x.jpg"):
        write_picture(picture.with_name(name), smooth())
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    result = run(picture.parent, "-o", tmp_path / "p", "--image-table", tmp_path / "t.csv")
    assert isinstance(result.exception, MidogError)
    assert message in str(result.exception)
    assert not (tmp_path / "p").exists()


@pytest.mark.realdata
def test_thumbnails_are_those_that_qupath_makes(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "breast-mitosis"
    theirs = [image for image in open_project(source).images if image.entry_id in ("1", "37", "55", "70")]
    project = create_project(tmp_path / "p", [NewImage(image.path) for image in theirs if image.path])
    for one, other in zip(project.images, theirs, strict=True):
        ours, wanted = (cv2.imread(str(entry.data_dir / "thumbnail.jpg")) for entry in (one, other))
        assert ours.shape == wanted.shape
        assert abs(ours.astype(int).mean(axis=(0, 1)) - wanted.mean(axis=(0, 1))).max() < 1
        assert abs(ours.astype(int) - wanted).mean() < 8


def test_the_commands_refusals(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "empty").mkdir()
    gif = picture.with_name("a.gif")
    gif.write_bytes(b"GIF89a")

    def error(*arguments: str | Path) -> str:
        result = run(*arguments, "-o", tmp_path / "p")
        assert isinstance(result.exception, MidogError)
        return str(result.exception)

    assert "named twice" in error(picture, picture.parent / ".." / "images" / "a.png")
    assert "no images in" in error(tmp_path / "empty")
    assert "unknown kind" in error(picture, gif)
    assert "no image at" in error(tmp_path / "gone.png")
    assert run(picture, "-o", tmp_path / "p", "--mpp", "50").exit_code == 2
    assert not (tmp_path / "p").exists()


def described(project: Path) -> list[dict]:
    """What QuPath finds in a project, an image each."""
    command = [sys.executable, Path(__file__).with_name("qupath_opens.py"), project]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120, encoding="utf-8")
    return [json.loads(line) for line in done.stdout.splitlines()]


def without_times(builder: dict) -> dict:
    """A builder but for the times of its one time point: QuPath 0.6 writes 0 there, 0.5 nothing."""
    metadata = builder["metadata"]
    calibration = {k: v for k, v in metadata["pixelCalibration"].items() if k != "timepoints"}
    return {**builder, "metadata": {**metadata, "pixelCalibration": calibration}}


@pytest.mark.qupath
@pytest.mark.realdata
def test_qupath_opens_it_and_sees_what_it_would_have_seen(
    data_dir: Path, tmp_path: Path, picture: Path
) -> None:
    rgb = smooth(600, 800)
    paths = [
        picture,
        write_picture(picture.with_name("b.jpg"), rgb),
        write_picture(picture.with_name("grey.png"), rgb[..., 1]),
        write_pyramid(picture.with_name("pages.tif"), rgb, inside=False),
        write_pyramid(picture.with_name("sub-files.tif"), rgb, inside=True),
        data_dir / "slides" / "cmu-1-small-region.svs",
        data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs",
    ]
    sized = NewImage(write_picture(picture.with_name("sized.png"), rgb), 0.3)
    images = [NewImage(path, metadata={"case": "7"}) for path in paths]
    project = create_project(tmp_path / "p", [*images, sized])
    *rows, last = described(project.path)
    assert [row["name"] for row in rows] == [path.name for path in paths]
    assert last["mpp"] == 0.3
    for row, image in zip(rows, project.images, strict=False):
        assert without_times(row["ours"]) == without_times(row["own"]), image.name
        assert not row["has_data"]
        assert row["objects"] == 0
        assert row["metadata"] == {"case": "7"}
        with open_entry(image) as slide:
            downsample = row["ours"]["metadata"]["levels"][-1]["downsample"]
            corner = slide.read(10 * downsample, 10 * downsample, 1, 1, downsample)[0, 0]
        assert abs(corner.astype(int) - row["rgb"]).max() <= 12, image.name
    assert [row["levels"] for row in rows] == [1, 1, 1, 3, 1, 1, 2]
