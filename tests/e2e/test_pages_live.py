"""Rollouts and Explore in a real browser: live evidence, buttons, charts, no JavaScript."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from support.browser import chromium, context_of, watch
from support.pages_stage import FLAG, ROLLOUT, Stage, staged
from support.server import running


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    with staged(tmp_path_factory.mktemp("pages") / "data") as stage:
        yield stage


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def signed_in(browser: Browser, stage: Stage) -> Generator[BrowserContext]:
    with context_of(browser) as context:
        page = context.new_page()
        page.goto(stage.login())
        page.close()
        yield context


@pytest.fixture
def page(signed_in: BrowserContext) -> Generator[Page]:
    watched = watch(signed_in)
    yield watched.page
    said = list(watched.complaints)
    watched.page.close()
    assert not said


def guard_tile(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name)


def test_a_rollout_shows_evidence_per_guard_with_a_chart_and_its_table(
    page: Page, stage: Stage
) -> None:
    page.goto(f"{stage.server.url}/rollouts/{ROLLOUT}")
    tile = guard_tile(page, "errors")
    expect(tile.get_by_role("img", name="errors:")).to_be_visible()
    expect(tile.get_by_role("row", name="treated")).to_be_visible()
    expect(tile.locator("canvas")).to_have_count(2)
    tile.locator("evidence-chart summary").click()
    expect(tile.get_by_role("columnheader", name="ln e, harm")).to_be_visible()
    expect(page.get_by_role("list", name="Steps").get_by_role("listitem")).to_have_count(3)
    expect(page.get_by_role("region", name="Journal")).to_contain_text("Start")


def test_evidence_comes_in_live_and_what_one_types_and_looks_at_stays(
    page: Page, stage: Stage
) -> None:
    page.goto(f"{stage.server.url}/rollouts/{ROLLOUT}")
    tile = guard_tile(page, "errors")
    expect(tile.locator("canvas")).to_have_count(2)
    page.evaluate("document.querySelector('evidence-chart').shadowRoot.kept = true")
    rows = tile.locator("evidence-chart tbody tr")
    before = rows.count()
    reason = page.get_by_label("Reason", exact=True)
    reason.fill("half a sente")
    page.get_by_role("region", name="Plan").click()
    reason.focus()
    stage.wait(lambda: rows.count() > before + 3, "more evidence on the page")
    expect(reason).to_have_value("half a sente")
    expect(reason).to_be_focused()
    assert page.evaluate("document.querySelector('evidence-chart').shadowRoot.kept")


def test_the_chart_is_read_with_the_arrow_keys(page: Page, stage: Stage) -> None:
    page.goto(f"{stage.server.url}/rollouts/{ROLLOUT}")
    tile = guard_tile(page, "errors")
    plot = tile.get_by_role("group", name="errors: evidence over time")
    plot.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    said = tile.locator("output").last
    expect(said).to_contain_text("of harm")
    expect(said).to_contain_text("rolls back at")


def test_pause_resume_advance_and_roll_back_with_a_reason_in_the_journal(
    page: Page, stage: Stage
) -> None:
    page.goto(f"{stage.server.url}/rollouts/{ROLLOUT}")
    journal = page.get_by_role("region", name="Journal")
    page.get_by_label("Reason", exact=True).fill("lunch")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(journal).to_contain_text("lunch")
    assert stage.phase() == "held"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Advance to 50 %").click()
    stage.wait(lambda: stage.flag_percent() == 50, "50 %")
    page.get_by_label("Reason", exact=True).fill("customers complain")
    page.get_by_role("button", name="Roll back to 0 %").click()
    stage.wait(lambda: stage.flag_percent() == 0, "0 %")
    expect(page.locator("main")).to_contain_text("Rolled back by")
    expect(journal).to_contain_text("customers complain")
    expect(page.get_by_text("This rollout has ended")).to_be_visible()
    assert stage.phase() == "rolled_back"


def test_the_question_is_the_url_and_the_url_is_the_question(page: Page, stage: Stage) -> None:
    page.goto(f"{stage.server.url}/explore")
    page.keyboard.press("/")
    page.keyboard.press("Tab")
    page.get_by_label("Calculation 1", exact=True).select_option("P99")
    page.get_by_label("Column of calculation 1").fill("duration_ms")
    page.get_by_label("Column of filter 1").fill("http.route")
    page.get_by_label("Value of filter 1").fill("/pay")
    page.get_by_label("Group by 1").fill(f"flag.{FLAG}")
    page.get_by_label("Dataset").select_option("shop")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", name="P99(duration_ms)")).to_be_visible()
    asked = parse_qs(urlsplit(page.url).query)
    assert asked == {
        "dataset": ["shop"], "calc": ["P99"], "of": ["duration_ms"], "where": ["http.route"],
        "op": ["="], "value": ["/pay"], "by": [f"flag.{FLAG}"], "combine": ["AND"],
    }  # fmt: skip
    page.reload()
    expect(page.get_by_label("Value of filter 1")).to_have_value("/pay")
    result = page.get_by_role("region", name="Result")
    expect(result.get_by_role("columnheader")).to_have_text([f"flag.{FLAG}", "P99(duration_ms)"])
    result.get_by_role("link", name="only off").click()
    expect(page.get_by_label("Value of filter 2")).to_have_value("off")
    expect(result.locator("tbody tr")).to_have_count(1)
    page.go_back()
    expect(result.locator("tbody tr")).to_have_count(2)


def test_a_range_is_chosen_with_the_keyboard_and_becomes_the_time(page: Page, stage: Stage) -> None:
    page.goto(f"{stage.server.url}/explore?range=10m")
    plot = page.get_by_role("group", name="COUNT,")
    plot.focus()
    page.keyboard.press("End")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("line-chart output")).to_contain_text("Selected")
    page.keyboard.press("Enter")
    page.wait_for_url("**start=**")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["start"] < asked["end"]
    expect(page.get_by_label("From (UTC)")).to_have_value(asked["start"][0])


def test_a_drag_over_the_chart_zooms_in_dark_too(browser: Browser, stage: Stage) -> None:
    with context_of(browser, scheme="dark") as context:
        page = context.new_page()
        page.goto(stage.login())
        page.goto(f"{stage.server.url}/explore?range=10m")
        over = page.locator("line-chart .u-over")
        expect(over).to_be_visible()
        box = over.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 60, steps=5)
        shade = page.locator("line-chart .u-select").evaluate(
            "(one) => getComputedStyle(one).backgroundColor"
        )
        assert shade == "rgba(85, 200, 198, 0.28)"
        page.mouse.up()
        page.wait_for_url("**start=**")


def test_an_unknown_column_is_answered_with_the_nearest_name(page: Page, stage: Stage) -> None:
    page.goto(f"{stage.server.url}/explore?calc=P99&of=duration")
    expect(page.locator("main")).to_contain_text("Did you mean duration_ms?")


def test_the_lever_halts_and_is_released_without_javascript(browser: Browser, stage: Stage) -> None:
    with context_of(browser, javascript=False) as context:
        page = context.new_page()
        page.goto(stage.login())
        page.get_by_label("Why").fill("the error rate doubled")
        page.get_by_role("button", name="Halt production").click()
        expect(page.get_by_text("Halted: production")).to_be_visible()
        expect(page.locator("main")).to_contain_text("the error rate doubled")
        levers = stage.server.remote.get("/api/levers")["levers"]
        assert [one["name"] for one in levers] == ["production"]
        page.get_by_role("button", name="Release production").click()
        expect(page.get_by_text("none pulled")).to_be_visible()
        assert stage.server.remote.get("/api/levers")["levers"] == []


def test_pages_show_their_numbers_and_act_without_javascript(
    browser: Browser, stage: Stage
) -> None:
    with context_of(browser, javascript=False) as context:
        page = context.new_page()
        page.goto(stage.login())
        page.goto(f"{stage.server.url}/explore")
        page.get_by_label("Group by 1").fill("http.route")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("region", name="Result")).to_contain_text("/pay")
        expect(page.locator("line-chart table")).to_be_visible()
        page.goto(f"{stage.server.url}/flags?q=banner")
        expect(page.locator("#flags-table tbody tr")).to_have_count(1)
        page.goto(f"{stage.server.url}/flags/banner")
        page.get_by_role("button", name="Turn off in production").click()
        expect(page.get_by_text("Off in production.")).to_be_visible()
        page.get_by_role("button", name="Turn on in production").click()
        expect(page.get_by_role("button", name="Turn off in production")).to_be_visible()
        page.goto(f"{stage.server.url}/rollouts/{ROLLOUT}")
        expect(page.locator("evidence-chart table").first).to_be_visible()


def test_when_the_server_is_gone_the_page_keeps_what_it_shows_and_says_so(
    browser: Browser, tmp_path: Path
) -> None:
    with running(tmp_path / "gone") as server, context_of(browser) as context:
        page = context.new_page()
        page.goto(server.login)
        expect(page.locator("#stale")).to_be_hidden()
        server.stop()
        expect(page.locator("#stale")).to_be_visible(timeout=15_000)
        expect(page.get_by_role("region", name="Nothing is turned up yet")).to_be_visible()


def test_a_key_that_may_only_look_sees_no_buttons(browser: Browser, stage: Stage) -> None:
    server = stage.server
    key = server.add_key("onlooker", "read")
    login = str(server.remote_with(key).post("/api/logins")["url"])
    with context_of(browser) as context:
        page = context.new_page()
        page.goto(login)
        expect(page.get_by_text("Your key may look but not pull.")).to_be_visible()
        for path in (f"/flags/{FLAG}", f"/rollouts/{ROLLOUT}"):
            page.goto(server.url + path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            expect(page.locator("main form[method=post]")).to_have_count(0)


def test_a_halt_shows_on_other_open_pages_by_itself(page: Page, stage: Stage) -> None:
    server = stage.server
    page.goto(server.url)
    expect(page.get_by_text("none pulled")).to_be_visible()
    lever = {"scope": "environment", "environment": "staging", "reason": "from a shell"}
    server.remote.post("/api/levers", lever)
    expect(page.get_by_text("Halted: staging")).to_be_visible()
    page.get_by_role("button", name="Release staging").click()
    expect(page.get_by_text("none pulled")).to_be_visible()
