"""Every page in a real browser, on a real web server and worker: what a person with a keyboard or a phone meets."""

import re
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from tests.processes import ROOT, Ground

pytestmark = pytest.mark.chromium

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PASSWORD = "a-long-password-1"
SETUP = f"""
import io
import django
django.setup()
from datetime import UTC, date, datetime
from django.contrib.auth.models import Group, User
from api.roles import roles_load
from fleet.demo import demo_fleet_load
from fleet.models import Gate
from scenarios.imports import import_submit
from scenarios.models import Scenario, Schedule
from scenarios.rating_store import rating_get_or_compute, rating_question
from scenarios.schedules import schedule_save
from scenarios.services import run_submit, scenario_save
from tests.calibrations import row, version_make

roles_load()
user = User.objects.create_user("planner", password="{PASSWORD}")
user.groups.add(Group.objects.get(name="planner"))
for gate, state in (("G1", "open"), ("G2", "partly"), ("G5", "failed")):
    Gate.objects.create(family="qwen3", chip="ascend-910c", gate=gate, state=state, evidence="71 ms of 50 ms at P95")
demo_fleet_load(date(2027, 1, 1))
span = dict(starts_on=date(2027, 1, 1), ends_on=date(2028, 12, 1), draws=10)
first = scenario_save(Scenario(name="How long does it last?", kind="capacity", **span))
second = scenario_save(Scenario(name="Leaving the GPUs", kind="migration", params={{"pareto_points": 2}}, **span))
weekly = schedule_save(Schedule(name="Mondays", scenario=first, cron="0 7 * * 1", zone="Asia/Shanghai"))
run_submit(scenario=first, owner=user, schedule=weekly, fire_at=datetime(2027, 1, 4, tzinfo=UTC))
run_submit(scenario=second, owner=user)
for chip in ("h20-96", "thead-ppu-810e", "a10"):
    limits = dict(mix="m-small", ttft_p95_s=5.0, tpot_p95_s=0.1)
    rating_get_or_compute(rating_question(chip=chip, model="qwen3-0.6b", **limits))
version_make(row(), row("own-2", chip="l20", value="400"))
for content in (b"slug,name\\nchat,Talk\\n", b"slug,region\\nchat,nowhere\\n"):
    what = dict(name="services.csv", entry="services", mode="upsert", dry_run=True, why="", owner=user)
    import_submit(io.BytesIO(content), **what)
"""
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI} at ${event.sourceFile}`);
});
"""
PAGES = ["/", "/fleet/", "/fleet/?day=2027-08-01", "/chips/", "/scenarios/", "/scenarios/1/", "/scenarios/new/"]
PAGES += ["/scenarios/1/edit/", "/runs/1/", "/runs/2/", "/reports/", "/schedules/", "/schedules/new/"]
PAGES += ["/chips/ratings/", "/chips/ratings/?model=deepseek-r1&mix=m-large"]  # stored, and not stored
PAGES += ["/fleet/timeline/", "/fleet/failure/", "/fleet/lists/", "/fleet/changes/"]
PAGES += ["/readiness/", "/readiness/?state=passed"]  # with pairs, and without
PAGES += ["/fleet/imports/", "/fleet/imports/1/", "/fleet/imports/2/"]  # with rows that change, and with errors
PAGES += ["/demand/", "/demand/services/chat/", "/demand/services/agent/?from=2026-01&months=3"]
PAGES += ["/accuracy/", "/accuracy/?scheme=chips&chip=h100-sxm"]


def port_free():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


PATIENCE_S = 400  # only so that a broken product fails these tests instead of hanging them


def wait_for(what, ask):
    end_s = time.monotonic() + PATIENCE_S
    while not ask():
        assert time.monotonic() < end_s, f"{what} did not happen in {PATIENCE_S} s"
        time.sleep(0.1)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The address of a twin of its own with two finished runs and a report."""
    ground = Ground(tmp_path_factory.mktemp("pages"))
    try:
        if not (ROOT / "static" / "vendor" / "vega.js").exists():
            ground.call("manage.py", "static_build")
        ground.call("manage.py", "migrate", "--verbosity", "0")
        port = port_free()
        web = (sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", f"127.0.0.1:{port}")
        ground._start((*web, "--worker-class", "gthread", "--threads", "4", "--no-control-socket"))
        ground.worker_start()
        ground.call("-c", SETUP)
        with ground.rows() as ask:
            ended = "SELECT count(*) FROM scenarios_run WHERE status = 'done'"
            wait_for("two finished runs", lambda: ask(ended)[0][0] == 2)
            tried = "SELECT count(*) FROM scenarios_importjob WHERE status = 'done'"
            wait_for("two imports that were tried", lambda: ask(tried)[0][0] == 2)
        url = f"http://127.0.0.1:{port}"
        wait_for("a page", lambda: answers(f"{url}/healthz"))
        yield url
    finally:
        ground.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield started
        started.close()


@contextmanager
def page_open(browser, *, width=1440, theme="light"):
    """A page in a browser of its own, and what it complains about."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
    context.add_init_script(WATCH)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page, said
    context.close()


def sign_in(page, base):
    page.goto(f"{base}/login/")
    page.fill("#id_username", "planner")
    page.fill("#id_password", PASSWORD)
    page.click("main button")
    page.wait_for_url(f"{base}/")


def charts_wait(page):
    """Every chart is drawn, as a vector image with marks in it."""
    page.wait_for_function(
        "[...document.querySelectorAll('[data-spec]')].every(one => one.querySelector('svg path'))", timeout=20_000
    )


def links(page, base, path, selector):
    page.goto(base + path)
    return page.locator(selector).first.get_attribute("href")


def fleet_pages(page, base):
    """A site, and from it on the first of everything down to a card; its three trees, and a node of the first."""
    found = [links(page, base, "/fleet/?day=2027-01-01", "tbody th a")]
    for _ in ("row", "rack", "host", "card"):
        found.append(links(page, base, found[-1], "tbody th a"))
    hall, power = (links(page, base, found[0], selector) for selector in ("tbody td a", ".page-head .links a"))
    trees = [power, *(power.replace("/power/", f"/{tree}/") for tree in ("cooling", "network"))]
    return [*found, hall, *trees, links(page, base, power, "tbody th a")]


@pytest.mark.parametrize(
    ("width", "theme"), [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark"), (320, "light")]
)
def test_pages_draw_without_complaint_and_without_sideways_scrolling(base, browser, width, theme):
    with page_open(browser, width=width, theme=theme) as (page, said):
        sign_in(page, base)
        report = links(page, base, "/reports/", "tbody th a")
        places = fleet_pages(page, base)
        kinds = (
            "sites/",
            "/rows/",
            "racks/",
            "hosts/",
            "cards/",
            "/halls/",
            "/power/",
            "/cooling/",
            "/network/",
            "/failure/",
        )
        assert all(kind in path for kind, path in zip(kinds, places, strict=True)), places
        charts = 0
        for path in [*PAGES, report, f"{report}page/", *places]:
            response = page.goto(base + path)
            assert response.status == 200, path
            page.wait_for_load_state("load")
            charts_wait(page)
            charts += page.locator("[data-spec] svg").count()
            beyond_px = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert beyond_px <= 0, f"{path} is {beyond_px} px too wide"
            assert page.locator("h1").count() == 1, path
            assert not said, f"{path}: {said}"
        assert (
            charts == 3 + 5 + 9 + 1 + 1 + 1 + 2 + 1
        )  # overview, capacity, migration, ratings, demand of two services, accuracy with own points, and none


def test_the_watch_notices_a_violated_policy(base, browser):
    with page_open(browser) as (page, said):
        sign_in(page, base)
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')")
        page.wait_for_timeout(200)
        assert any("policy violated: style-src" in text for text in said)


def focused(page):
    """Name of what has the keyboard: its label, or its text."""
    return page.evaluate(
        "(() => { const one = document.activeElement; return (one.labels?.[0]?.innerText || one.innerText || one.id)"
        ".trim(); })()"
    )


def tab_to(page, name, limit=60):
    for _ in range(limit):
        page.keyboard.press("Tab")
        if re.match(name, focused(page)):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{name} has the focus and does not show it"
            return
    raise AssertionError(f"no way by Tab to {name}")


def test_a_keyboard_alone_signs_in_starts_a_run_and_reads_its_answer(base, browser):
    with page_open(browser) as (page, said):
        page.goto(f"{base}/")
        tab_to(page, "Username")
        page.keyboard.type("planner")
        tab_to(page, "Password")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{base}/")
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto(f"{base}/")
        tab_to(page, "Scenarios")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{base}/scenarios/")
        tab_to(page, "How long does it last")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/scenarios/1/$"))
        tab_to(page, "Run$")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/runs/\d+/$"))
        page.get_by_role("heading", name="Answer").wait_for(timeout=1000 * PATIENCE_S)
        charts_wait(page)
        tab_to(page, "Table of this chart")
        page.keyboard.press("Enter")
        assert page.locator("details[open] table").first.is_visible()
        assert not said


def test_a_chosen_theme_stays_and_redraws_the_charts(base, browser):
    def label_colour(page):
        charts_wait(page)
        return page.evaluate("document.querySelector('[data-spec] svg text').getAttribute('fill')")

    with page_open(browser, theme="light") as (page, said):
        sign_in(page, base)
        page.goto(f"{base}/runs/1/")
        light = label_colour(page)
        page.select_option("#theme", "dark")
        page.wait_for_function("document.querySelector('[data-spec]').dataset.drawn === 'dark'")
        assert label_colour(page) != light
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.wait_for_function("document.querySelector('[data-spec]')?.dataset.drawn === 'dark'")
        assert not said


def test_the_slider_of_months_moves_the_page_by_keyboard_and_keeps_the_focus(base, browser):
    with page_open(browser) as (page, said):
        sign_in(page, base)
        hall = f"{fleet_pages(page, base)[5].split('?')[0]}?metric=units"
        page.goto(f"{base}{hall}")
        page.focus("#id_month")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        moved = page.input_value("#id_day")
        assert page.get_attribute("#id_month", "aria-valuetext") == moved
        assert moved.endswith("-01")
        page.wait_for_url(re.compile(rf"metric=units&day={moved}"))
        page.wait_for_load_state()
        assert page.evaluate("document.activeElement.id") == "id_month"
        assert f"on {moved}" in page.locator("h1").inner_text()
        assert page.get_attribute("#id_month", "value") != "12"
        assert not said


def test_a_narrow_timeline_shows_first_what_is_around_its_day(base, browser):
    with page_open(browser, width=390) as (page, said):
        sign_in(page, base)
        page.goto(f"{base}/fleet/timeline/")
        names, line, place = (
            page.locator(f".timeline{part}").bounding_box() for part in (" .margin", " line.today", "")
        )
        assert names["x"] + names["width"] < line["x"] < place["x"] + place["width"]
        assert not said


def test_the_day_can_be_chosen_without_javascript(base, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, base)
    page.goto(f"{base}/fleet/")
    assert not page.locator("#id_month").is_visible()
    page.fill("#id_day", "2027-08-01")
    page.click(".day button")
    page.wait_for_url(f"{base}/fleet/?day=2027-08-01")
    assert "Fleet on 2027-08-01" in page.locator("h1").inner_text()
    context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/fleet/",
        "/fleet/failure/",
        "/fleet/timeline/",
        "/scenarios/new/",
        "/runs/1/",
        "/schedules/",
        "/chips/ratings/",
        "/accuracy/",
        "/readiness/",
        "/demand/",
        "/demand/services/chat/",
    ],
)
def test_targets_are_large_enough_for_a_finger(base, browser, path):
    with page_open(browser, width=360) as (page, _):
        sign_in(page, base)
        page.goto(base + path)
        small = page.evaluate(
            """[...document.querySelectorAll("button, select, summary, nav a, .button, .links a, input[type=checkbox]")]
            .filter((one) => one.checkVisibility())
            .map((one) => [one.innerText || one.id, one.closest("label, .check")?.offsetHeight || one.offsetHeight])
            .filter(([, height_px]) => height_px < 24)"""
        )
        assert small == []
