"""The page in a real browser against a real server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SERVE = """
import sys
from pathlib import Path
from onehull.serve import serve
serve(sys.argv[1], port=0, events=Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server(litert_bundle, tmp_path_factory):
    """Address and event directory of a server in a process of its own; it must stop cleanly when interrupted."""
    events = tmp_path_factory.mktemp("served") / "events"
    command = [sys.executable, "-u", "-c", SERVE, str(litert_bundle), str(events)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert process.stdout is not None
    seen = []
    address = None
    for line in process.stdout:
        seen.append(line)
        address = re.search(r"http://\S+", line)
        if address:
            break
    assert address, "".join(seen)
    yield address[0], events
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    assert "Stopped." in rest


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no browser: chromium, chromium-browser or google-chrome must be on PATH")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, server):
    """Opens the page in a window of some size; at the end, nothing may have gone wrong in its console."""
    wrong: list[str] = []
    contexts = []

    def open_page(width=1280, height=860, path="/", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(server[0] + path)
        page.wait_for_selector(".card:not(.ghost)")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def order(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


def until(holds, seconds=10):
    """Waits until something holds. (The page's policy forbids the eval that a browser's own waiting would need.)"""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.03)


def text(page, selector):
    return page.locator(selector).inner_text()


def logged(read, directory, stream, event):
    """The latest line of one kind, once there is one."""
    until(lambda: any(line["event"] == event for line in read(directory, stream)))
    return [line for line in read(directory, stream) if line["event"] == event][-1]


def test_the_feed_appears_with_scores_and_origin(visit):
    page = visit()
    assert len(order(page)) == 10
    card = page.locator(".card").first
    assert "in the harbour" in card.locator("h3").inner_text()
    assert card.locator(".bar-row").count() == 3
    assert re.fullmatch(r"[\d.]+ %", card.locator("[data-task=click] .value").inner_text())
    assert page.locator("#simulated").is_visible()
    assert page.locator("#formula").inner_text() == "click^1 * (1 + watch)^0.5 + 4 * like"


def test_the_feed_goes_on_when_it_is_scrolled_to_its_end(visit):
    page = visit()
    for _ in range(30):
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(60)
        if "That is all" in page.locator("#end").inner_text():
            break
    shown = order(page)
    assert len(shown) == len(set(shown)) == 100
    assert "100 items" in page.locator("#end").inner_text()


def test_a_slider_reranks_at_once_and_the_formula_follows(visit):
    page = visit(path="/#user=u3")
    before = order(page)
    for weight in ("like.times", "click.power"):
        slider = page.locator(f'[data-weight="{weight}"]')
        slider.fill("0")
    until(lambda: text(page, "#formula") == "click^0 * (1 + watch)^0.5 + 0 * like")
    until(lambda: order(page)[0] != before[0])
    watch = [float(text) for text in page.locator("[data-task=watch] .value").all_inner_texts()]
    assert watch == sorted(watch, reverse=True)
    page.get_by_role("button", name="Reset weights").click()
    until(lambda: order(page)[: len(before)] == before)


def test_a_slider_moves_by_keyboard(visit):
    page = visit()
    slider = page.locator('[data-weight="like.times"]')
    slider.focus()
    slider.press("ArrowRight")
    until(lambda: "4.1 * like" in text(page, "#formula"))


def test_a_like_is_in_the_event_log(visit, server, read_log):
    page = visit(path="/#user=u5")
    card = page.locator(".card").nth(1)
    item = card.get_attribute("data-id")
    card.get_by_role("button", name=re.compile("^like")).click()
    like = logged(read_log, server[1], "feedback", "like")
    shown = {line["id"]: line for line in read_log(server[1], "impressions")}
    assert (shown[like["impression"]]["item"], shown[like["impression"]]["user"]) == (item, "u5")
    assert card.locator("[data-action=like]").get_attribute("aria-pressed") == "true"


def test_watching_sends_a_click_and_then_the_seconds(visit, server, read_log):
    page = visit(path="/#user=u6")
    card = page.locator(".card").first
    card.locator(".art").click()
    assert page.get_by_role("dialog").is_visible()
    page.wait_for_timeout(1200)
    page.keyboard.press("Escape")
    watch = logged(read_log, server[1], "feedback", "watch")
    click = logged(read_log, server[1], "feedback", "click")
    assert click["impression"] == watch["impression"]
    assert 1.0 <= watch["value"] <= 6.0


def test_another_viewer_has_another_feed(visit):
    page = visit(path="/#user=u0")
    before = order(page)
    page.get_by_label("Search viewers").fill("gardening")
    until(lambda: page.locator("#users button").count() == 9)
    page.locator("#users button").first.click()
    until(lambda: "u0" not in text(page, "#viewer h2") and page.locator(".card:not(.ghost)").count())
    until(lambda: order(page) not in ([], before))
    assert "gardening" in page.locator("#viewer").inner_text()


def test_anybody_can_be_viewed_also_one_the_model_does_not_know(visit):
    page = visit()
    page.get_by_label("Search viewers").fill("nobody-1")
    page.get_by_role("button", name="nobody-1").click()
    page.wait_for_selector("text=Feed of nobody-1")
    page.wait_for_selector(".card:not(.ghost)")
    assert "does not know" in page.locator("#viewer").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_within_its_width(visit, scheme):
    page = visit(390, 844, color_scheme=scheme, has_touch=True)
    for panel in (None, "tune", "people"):
        if panel:
            page.click(f"[data-open={panel}]")
            until(page.locator(f"#{panel}").is_visible)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        small = page.evaluate("""() => [...document.querySelectorAll('button, input, select')]
            .filter(element => element.checkVisibility({visibilityProperty: true}))
            .map(element => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
            .filter(([, box]) => Math.round(box.width) < 44 || Math.round(box.height) < 44)
            .map(([html]) => html)""")
        assert small == []
    page.keyboard.press("Escape")
    until(page.locator("#people").is_hidden)


def test_items_without_a_title_and_tasks_with_classes_are_shown_well(browser, server):
    context = browser.new_context()
    page = context.new_page()

    def plain(route):
        answer = route.fetch()
        document = answer.json()
        for item in document.get("items", []) if "request" in document else []:
            item["show"] = {}
            item["scores"]["click"] = [0.1, 0.7, 0.2]
        if "recall" in document:
            document["tasks"]["click"] = {"kind": "multiclass", "classes": 3}
        route.fulfill(response=answer, json=document)

    page.route(re.compile(r"/(rank|about)$"), plain)
    page.goto(server[0])
    page.wait_for_selector(".card:not(.ghost)")
    card = page.locator(".card").first
    assert card.locator("h3").inner_text() == card.get_attribute("data-id")
    assert "duration" in card.locator(".chips").inner_text()
    assert card.locator("[data-task=click] .value").inner_text() == "class 1 · 70 %"
    assert not re.search(r"null|undefined|false|NaN", page.locator("#feed").inner_text())
    context.close()


def test_a_service_that_is_away_is_told_and_can_be_tried_again(browser, server):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/rank", lambda route: route.abort())
    page.goto(server[0])
    page.wait_for_selector("text=The feed did not load")
    page.unroute("**/rank")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".card:not(.ghost)")
    context.close()


def test_a_port_in_use_is_told(server, litert_bundle, tmp_path):
    from onehull.errors import ArtifactError
    from onehull.serve import serve

    port = int(server[0].rsplit(":", 1)[1])
    with pytest.raises(ArtifactError, match="cannot be listened on"):
        serve(litert_bundle, port=port, events=tmp_path / "events")
