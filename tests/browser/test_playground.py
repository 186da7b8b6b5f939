"""The playground as a person has it: every family, in a real browser, with nothing from outside."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.processes import ServiceProcess, start_service

HERE = Path(__file__).parent
SHOTS = HERE.parents[1] / "build" / "screenshots"
CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
FAMILIES = (
    *("similarity", "whitening", "tokenization", "geodesic", "opinions"),
    *("distribution", "attention", "generation"),
)
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def live(models_dir: Path) -> Iterator[ServiceProcess]:
    """Return a service as a person starts it: that of the other tests allows short texts only."""
    with start_service(models_dir) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "install chromium (apt-get install chromium), or name it in CHROMIUM"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


class Watched:
    """Hold a page and everything that it complained about or asked for."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)
        page.on("request", lambda request: self._see(request.url, origin))

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def _see(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "blob:", "data:")):
            self.strangers.append(url)


@pytest.fixture
def watched(browser: Browser, live: ServiceProcess) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    watching = Watched(page, live.url)
    page.goto(live.url)
    yield watching
    context.close()
    assert watching.errors == []
    assert watching.strangers == []


def open_family(page: Page, family: str) -> None:
    page.click(f"#families a[href='#{family}']")
    expect(page.locator(f"#families a[href='#{family}']")).to_have_attribute("aria-current", "page")
    expect(page.locator("#main")).to_be_focused()


def await_end(page: Page) -> None:
    # no wait_for_function: it evaluates text in the page, which the page's own policy forbids
    expect(page.locator("#progress")).to_have_text(re.compile("^(Done|Refused)"), timeout=120_000)


def run(page: Page) -> None:
    page.click("#run")
    await_end(page)


def save(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_works_with_its_samples(watched: Watched, family: str) -> None:
    page = watched.page
    open_family(page, family)
    run(page)
    assert page.inner_text("#problem") == ""
    assert page.inner_text("#progress").startswith("Done")
    assert len(page.inner_text("#shown")) > 20
    assert page.evaluate("document.getElementById('raw').textContent.length") > 20
    for image in page.query_selector_all("#shown img"):
        assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 100
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    save(page, family)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(
    browser: Browser, live: ServiceProcess, scheme: Any
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(live.url)
    open_family(page, "tokenization")
    run(page)
    page.wait_for_selector("#shown img")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    save(page, f"phone-{scheme}")
    context.close()


def test_refusals_are_shown_with_their_place(watched: Watched) -> None:
    page = watched.page
    open_family(page, "similarity")
    page.fill("#field-texts", "")
    run(page)
    assert "/texts" in page.inner_text("#problem")
    watched.errors.clear()  # the browser itself notes the 422


def test_keys_alone_are_enough(watched: Watched) -> None:
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the form"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "field-texts"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "run"
    page.keyboard.press("Enter")
    await_end(page)
    page.focus("#languages [aria-selected=true]")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#languages [aria-selected=true]") == "Python"
    assert "httpx.post" in page.inner_text("#code")


def test_the_code_shown_is_the_request_made(watched: Watched) -> None:
    page = watched.page
    page.fill("#field-texts", 'it\'s\n"quoted"')
    assert "'\\''" in page.inner_text("#code")  # the shell's way to write an apostrophe
    page.click("#languages button:has-text('TypeScript')")
    assert '"it\'s"' in page.inner_text("#code")


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_serious_against_accessibility(watched: Watched, family: str) -> None:
    axe = HERE / "node_modules" / "axe-core" / "axe.min.js"
    assert axe.exists(), "run `npm ci --ignore-scripts` in tests/browser"
    page = watched.page
    open_family(page, family)
    run(page)
    page.evaluate(
        axe.read_text(encoding="utf-8")
    )  # not as a script tag: the page's policy forbids it
    found = page.evaluate("axe.run().then((result) => result.violations)")
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    assert serious == [], [(each["id"], each["nodes"][0]["html"]) for each in serious]
