"""The pages in a real browser over a real server: they load clean, are usable by all, and act."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browser import Watched, chromium, context_of, watch
from support.pages_stage import FLAG, ROLLOUT, Stage, staged
from support.server import running

PAGES = (
    "/",
    "/flags",
    f"/flags/{FLAG}",
    f"/flags/{FLAG}?environment=production&unit=u1&context=%7B%22plan%22:1%7D",
    f"/flags/{FLAG}?environment=staging",
    "/rollouts",
    f"/rollouts/{ROLLOUT}",
    "/explore",
    f"/explore?calc=P99&of=duration_ms&calc=COUNT&of=&by=http.route&by=flag.{FLAG}&range=10m",
    "/explore?where=error&op==&value=nothing",
    "/explore?calc=P99&of=duration",
    "/patterns",
    "/rollouts?show=ended",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    with staged(tmp_path_factory.mktemp("pages") / "data") as stage:
        yield stage


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium() as browser:
        yield browser


def sign_in(context: BrowserContext, stage: Stage) -> None:
    page = context.new_page()
    page.goto(stage.login())
    expect(page.get_by_role("heading", level=1)).to_have_text("What is in force")
    page.close()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, stage: Stage) -> Generator[BrowserContext]:
    with context_of(browser) as context:
        sign_in(context, stage)
        yield context


@pytest.fixture
def watched(signed_in: BrowserContext) -> Generator[Watched]:
    watched = watch(signed_in)
    yield watched
    watched.page.close()


def drawn(page: Page) -> None:
    """Return once every chart on the page has painted."""
    page.wait_for_function(
        "[...document.querySelectorAll('line-chart, evidence-chart')]"
        ".every((one) => one.shadowRoot?.querySelector('canvas'))"
    )


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 400)])
def test_every_page_loads_without_complaint_and_axe_finds_nothing(
    browser: Browser, stage: Stage, scheme: str, width: int
) -> None:
    found: dict[str, list[str]] = {}
    with context_of(
        browser, scheme="dark" if scheme == "dark" else "light", width=width
    ) as context:
        sign_in(context, stage)
        for path in PAGES:
            watched = watch(context)
            answered = watched.page.goto(stage.server.url + path)
            assert answered is not None
            assert answered.status == 200, path
            drawn(watched.page)
            found[path] = watched.axe() + watched.complaints
            wide = watched.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} wide on a screen of {width}"
            watched.page.close()
    assert not {path: said for path, said in found.items() if said}


@pytest.mark.parametrize("path", ["/flags/nw-checkout", "/rollouts/x", "/nowhere"])
def test_an_error_page_says_what_happened_and_the_way_back(
    watched: Watched, stage: Stage, path: str
) -> None:
    answered = watched.page.goto(stage.server.url + path)
    assert answered is not None
    assert answered.status == 404
    expect(watched.page.get_by_role("heading", level=1)).to_contain_text("is not a")
    expect(watched.page.get_by_role("link", name="Home", exact=True).first).to_be_visible()
    assert not watched.axe()


def test_a_stranger_is_told_how_to_sign_in(browser: Browser, stage: Stage) -> None:
    with context_of(browser) as context:
        watched = watch(context)
        answered = watched.page.goto(f"{stage.server.url}/flags")
        assert answered is not None
        assert answered.status == 401
        expect(watched.page.get_by_role("heading", level=1)).to_have_text("Sign in")
        expect(watched.page.get_by_text("inprod login", exact=True)).to_be_visible()
        assert not watched.axe()


def test_a_new_server_shows_the_next_commands(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path / "new") as server, context_of(browser) as context:
        watched = watch(context)
        watched.page.goto(server.login)
        start = watched.page.get_by_role("region", name="Nothing is turned up yet")
        expect(start.get_by_text("inprod env add production")).to_be_visible()
        expect(start.locator("li")).to_have_count(3)
        expect(watched.page.get_by_text("OTEL_EXPORTER_OTLP_ENDPOINT")).to_contain_text(server.url)
        assert not watched.axe() + watched.complaints
        for path in ("/flags", "/rollouts", "/explore"):
            watched.page.goto(server.url + path)
            expect(watched.page.locator("main")).to_contain_text("yet")
            assert not watched.axe() + watched.complaints


def test_home_says_what_is_turned_up_by_whom_and_that_traffic_arrives(
    watched: Watched, stage: Stage
) -> None:
    page = watched.page
    page.goto(stage.server.url)
    dials = page.get_by_role("region", name="Dials above their safe level")
    expect(dials.get_by_role("link", name=f"flag/{FLAG}")).to_be_visible()
    expect(dials.get_by_role("link", name=ROLLOUT)).to_be_visible()
    rollouts = page.get_by_role("region", name="Active rollouts")
    expect(rollouts.get_by_role("link", name=ROLLOUT)).to_be_visible()
    expect(page.get_by_role("region", name="Is traffic arriving?")).to_contain_text("arriving")


def test_the_flags_table_filters_as_one_types_and_the_url_keeps_it(
    watched: Watched, stage: Stage
) -> None:
    page = watched.page
    page.goto(f"{stage.server.url}/flags")
    rows = page.locator("#flags-table tbody tr:visible")
    expect(rows).to_have_count(2)
    page.get_by_label("Filter").fill("payments")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(f"{stage.server.url}/flags?q=payments")
    page.reload()
    expect(rows).to_have_count(1)
    expect(page.locator("#flags-table")).to_contain_text(re.compile("ago|just now"))
    page.goto(f"{stage.server.url}/flags")
    expect(page.locator("#flags-table")).to_contain_text("expired")


def test_try_it_says_the_value_and_the_path_it_took(watched: Watched, stage: Stage) -> None:
    page = watched.page
    page.goto(f"{stage.server.url}/flags/{FLAG}")
    page.get_by_label("user.id").fill("u1")
    page.get_by_label("More attributes, as JSON").fill('{"user.email": "ann@example.com"}')
    page.get_by_role("button", name="Evaluate").click()
    path = page.get_by_role("list", name="The path it took")
    expect(path).to_contain_text("staff matched")
    assert parse_qs(urlsplit(page.url).query)["unit"] == ["u1"]
    page.get_by_label("More attributes, as JSON").fill("{not json")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.get_by_text("the attributes are not JSON")).to_be_visible()


def test_the_kill_switch_works_from_the_keyboard_and_the_history_brings_it_back(
    watched: Watched, stage: Stage
) -> None:
    page = watched.page
    page.goto(f"{stage.server.url}/flags/banner")
    page.get_by_label("Reason", exact=True).focus()
    page.keyboard.type("it was ugly")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Turn off in production")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Off in production.")).to_be_visible()
    history = page.get_by_role("region", name="History")
    expect(history).to_contain_text("it was ugly")
    history.get_by_role("button", name="Revert").last.click()
    expect(page.get_by_role("button", name="Turn off in production")).to_be_visible()
    expect(history).to_contain_text("reverted to")
    assert not watched.complaints


def test_a_percent_that_cannot_be_is_refused_in_words(watched: Watched, stage: Stage) -> None:
    page = watched.page
    before = stage.flag_percent()
    page.goto(f"{stage.server.url}/flags/{FLAG}")
    page.get_by_label("Set percent").fill("101")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("101")
    assert stage.flag_percent() == before
