"""The report in a real browser: it opens, sorts, filters, pages, copies, by keyboard too, and stays quick."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_project import large_project, project_with_run

from midog_qupath.progress import SILENT
from midog_qupath.project.model import Project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.report.gather import ReportOptions
from midog_qupath.report.make import make_report
from midog_qupath.report.subject import find_subject

sync_api = pytest.importorskip("playwright.sync_api")

expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found")


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        # The sandbox needs rights that containers do not have; the page is our own.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A page, and what it said and asked for."""

    def __init__(self, browser: sync_api.Browser, file: Path) -> None:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        began = time.perf_counter()
        self.page.goto(file.as_uri())
        self.seconds = time.perf_counter() - began
        self.page.set_default_timeout(5000)

    def column(self, table: str, number: int) -> list[str]:
        """What a column shows now."""
        cells = self.page.locator(f'[data-table="{table}"] tbody tr')
        return [row.locator("th, td").nth(number).inner_text() for row in cells.all()]

    def certainties(self, gallery: str) -> list[float]:
        """Certainties of the pictures that a gallery shows now."""
        texts = self.page.locator(f'[data-gallery="{gallery}"] li').all_inner_texts()
        return [float(re.findall(r"certainty ([0-9.]+)", text)[0]) for text in texts]


def report(project: Project, out: Path, **options: int) -> Path:
    with NativeStore(project) as store:
        make_report(find_subject(project.path), store, out, ReportOptions(**options), SILENT)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    return report(project_with_run(folder / "p")[0], folder / "report.html")


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    return report(large_project(folder / "p", 10_000, 10)[0], folder / "report.html")


def test_it_opens_without_a_word_or_a_request(browser, small):
    opened = Opened(browser, small)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [small.as_uri()]
    assert opened.page.locator("img").evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 0)")
    assert "midog-qupath" in opened.page.title()


def test_the_table_sorts_and_filters(browser, small):
    opened = Opened(browser, small)
    images = opened.page.locator('[data-table="images"]')
    head = images.get_by_role("button", name="detections")
    head.click()
    assert opened.column("images", 5) == ["3", "1", "1"]
    assert images.locator('th[aria-sort="descending"]').inner_text() == "detections"
    head.click()
    assert opened.column("images", 5) == ["1", "1", "3"]
    images.get_by_label("Filter by words").fill("NORTH")
    expect(images.locator("tbody tr")).to_have_count(1)
    assert opened.column("images", 0) == ["a.png"]
    images.get_by_label("Filter by words").fill("")
    images.get_by_label("and by").select_option(label="detections")
    images.get_by_label("to", exact=True).fill("2")
    expect(images.locator("tbody tr")).to_have_count(2)
    assert "a.png" not in opened.column("images", 0)


def test_a_hostile_name_is_shown_as_text(browser, small):
    opened = Opened(browser, small)
    assert "b&<i>.png" in opened.column("images", 0)
    assert opened.page.locator("main i").count() == 0


def test_places_are_copied_as_coordinates_or_script(browser, small):
    opened = Opened(browser, small)
    wrong = opened.page.locator('[data-gallery="false-positives"]')
    wrong.get_by_role("button", name="Copy").click()
    expect(opened.page.locator("#said")).to_have_text("Copied 350, 350")
    assert opened.page.evaluate("navigator.clipboard.readText()") == "350, 350"
    opened.page.get_by_label("a line of script").check()
    wrong.get_by_role("button", name="Copy").click()
    expect(opened.page.locator("#said")).to_contain_text("setCenter")
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert copied == "getCurrentViewer().setCenterPixelLocation(350, 350)"


def test_the_keyboard_is_enough(browser, small):
    opened = Opened(browser, small)
    keyboard = opened.page.keyboard
    keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    keyboard.press("Enter")
    for _ in range(40):
        keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement.textContent") == "detections":
            break
    else:
        pytest.fail("the head of a column is not reached by Tab")
    keyboard.press("Enter")
    assert opened.column("images", 5) == ["3", "1", "1"]
    unnamed = opened.page.locator("button, input, select").evaluate_all(
        "all => all.filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    )
    assert unnamed == 0


def test_ten_thousand_detections_open_and_answer_at_once(browser, large):
    opened = Opened(browser, large)
    assert opened.said == []
    # Generous for a machine that is busy with other things; measured alone it is a tenth.
    assert opened.seconds < 10
    assert large.stat().st_size < 6_000_000
    assert opened.page.locator('[data-table="detections"] tbody tr').count() == 50
    assert "of 200, 10,000 rows" in opened.page.locator('[data-table="detections"] .pager').inner_text()
    sort = opened.page.locator('[data-table="detections"]').get_by_role("button", name="mitosis probability")
    milliseconds = sort.evaluate(
        "b => { const t = performance.now(); b.click(); return performance.now() - t; }"
    )
    assert milliseconds < 1000
    shown = [float(text) for text in opened.column("detections", 2)]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > 0.99


def test_a_gallery_pages_orders_and_filters_by_certainty(browser, large):
    opened = Opened(browser, large)
    gallery = opened.page.locator('[data-gallery="class-0"]')
    assert gallery.locator("li").count() == 48
    first = opened.certainties("class-0")
    assert first == sorted(first, reverse=True)
    gallery.get_by_role("button", name="Next").click()
    second = opened.certainties("class-0")
    assert max(second) <= min(first)
    gallery.get_by_label("Certainty from").fill("0.4")
    gallery.get_by_label("to", exact=True).fill("0.5")
    gallery.get_by_label("Order").select_option("rising")
    expect(gallery.locator(".pager")).not_to_contain_text("240 pictures")
    chosen = opened.certainties("class-0")
    assert chosen == sorted(chosen)
    assert chosen[0] >= 0.4
    assert chosen[-1] <= 0.5
    texts = opened.page.locator("#galleries").inner_text()
    assert "left out" in texts
