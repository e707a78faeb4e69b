import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api.filters import cursor_make
from api.urls import router
from scenarios.models import Report, Run, Scenario, Schedule, Trace
from tests.api.conftest import SCENARIO, assert_problem

LISTS = [prefix for prefix, _, _ in router.registry]
ROWS = [(prefix, view) for prefix, view, _ in router.registry if view.queryset is not None]


@pytest.mark.parametrize("query", ["colour=red", "limit=x", "limit=0", "limit=1001", "offset=-1", "fields=colour"])
def test_every_list_refuses_what_it_does_not_know_and_names_it(client, query):
    for prefix in LISTS:
        body = assert_problem(client.get(f"/api/v1/{prefix}/?{query}"), 400, "invalid")
        assert body["errors"][0]["field"] == query.split("=")[0], prefix


WRONG = {
    "integer": "many",
    "number": "much",
    "decimal": "1.234",
    "date": "tomorrow",
    "datetime": "noon",
    "boolean": "maybe",
    "text": "\x00",
}


@pytest.mark.parametrize(("prefix", "view"), ROWS)
def test_every_filter_refuses_an_ill_typed_value_and_takes_a_right_one(client, prefix, view):
    right = {
        "integer": "1",
        "number": "1.5",
        "decimal": "1.5",
        "date": "2027-01-01",
        "datetime": "2027-01-01T08:00:00Z",
        "boolean": "true",
        "text": "x",
    }
    params = view().params()
    assert params
    for param in params.values():
        response = client.get(f"/api/v1/{prefix}/", {param.name: WRONG[param.kind]})
        assert assert_problem(response, 400)["errors"][0]["field"] == param.name
        value = param.choices[0] if param.choices else right[param.kind]
        assert client.get(f"/api/v1/{prefix}/", {param.name: value}).status_code == 200, param.name


def test_one_row_takes_no_filter(client, fleet):
    for prefix in LISTS:
        for row in client.get(f"/api/v1/{prefix}/?limit=1").json()["results"]:
            assert_problem(client.get(row["url"], {"limit": 1}), 400)


def slugs(client, path):
    response = client.get(path)
    assert response.status_code == 200, response.content
    return {row["slug"] for row in response.json()["results"]}


def test_a_repeated_parameter_means_or(client, fleet):
    assert slugs(client, "/api/v1/sites/?slug=dc01&slug=dc03") == {"dc01", "dc03"}
    assert slugs(client, "/api/v1/sites/?slug__n=dc01&slug__n=dc03") == {"dc02", "dc04"}


def test_suffixes_narrow_text_numbers_and_dates(client, fleet):
    everything = slugs(client, "/api/v1/host-types/")
    assert slugs(client, "/api/v1/host-types/?slug__isw=H") == {slug for slug in everything if slug[0] == "h"}
    assert slugs(client, "/api/v1/host-types/?slug__ic=0B") == {slug for slug in everything if "0b" in slug} != set()
    above, below = slugs(client, "/api/v1/host-types/?chips__gt=8"), slugs(client, "/api/v1/host-types/?chips__lte=8")
    assert above == {"ppu-16x"}
    assert below == everything - above
    assert client.get("/api/v1/deliveries/?expected_on__lt=2000-01-01").json()["count"] == 0
    assert client.get("/api/v1/hosts/?in_service_on__isnull=true&limit=1").json()["count"] > 0


def test_related_rows_are_named_by_slug_or_id(client, fleet):
    region = client.get("/api/v1/regions/?slug=north").json()["results"][0]
    by_slug = slugs(client, "/api/v1/racks/?region=north&limit=1000")
    assert by_slug
    assert by_slug == slugs(client, f"/api/v1/racks/?region_id={region['id']}&limit=1000")
    assert slugs(client, "/api/v1/racks/?region=nowhere") == set()


def test_search_looks_into_names(client, fleet):
    assert slugs(client, "/api/v1/services/?q=CHAT") >= {"chat"}


def test_ordering_sorts_and_refuses_unknown_fields(client, fleet):
    rows = client.get("/api/v1/host-types/?ordering=-power_w").json()["results"]
    powers = [row["power_w"] for row in rows]
    assert powers == sorted(powers, reverse=True)
    assert_problem(client.get("/api/v1/host-types/?ordering=colour"), 400)


def test_pages_cover_all_rows_once(client, fleet):
    for start in ("/api/v1/racks/?limit=50", "/api/v1/racks/?limit=50&cursor="):
        seen, url = [], start
        for _ in range(10):
            page = client.get(url).json()
            seen += [row["id"] for row in page["results"]]
            url = page["next"]
            if url is None:
                break
        assert len(seen) == len(set(seen)) == page["count"] > 100


def test_the_previous_page_is_linked(client, fleet):
    page = client.get("/api/v1/racks/?limit=10&offset=15").json()
    assert "offset=5" in page["previous"]
    assert client.get("/api/v1/racks/?limit=10").json()["previous"] is None


@pytest.mark.parametrize("cursor", ["x", "YQ", cursor_make(1) + "!", "é"])
def test_a_broken_cursor_is_400(client, fleet, cursor):
    assert_problem(client.get("/api/v1/racks/", {"cursor": cursor}), 400)


def test_a_cursor_goes_with_no_offset(client, fleet):
    assert_problem(client.get("/api/v1/racks/?cursor=&offset=5"), 400)


def test_fields_and_brief_shape_the_rows(client, fleet):
    row = client.get("/api/v1/sites/?fields=slug,pue_ratio").json()["results"][0]
    assert set(row) == {"slug", "pue_ratio"}
    row = client.get("/api/v1/sites/?brief=1").json()["results"][0]
    assert set(row) == {"id", "url", "display", "slug"}
    assert set(client.get(row["url"] + "?brief=true").json()) == {"id", "url", "display", "slug"}


def queries_of(client, path):
    with CaptureQueriesContext(connection) as queries:
        page = client.get(path).json()
    return [query["sql"] for query in queries], page


def test_a_longer_page_of_the_fleet_needs_no_more_queries(client, fleet):
    client.get("/api/v1/regions/")  # notes the use of the token
    for prefix in ("sites", "halls", "rows", "racks", "hosts", "services", "readiness", "deliveries"):
        short, _ = queries_of(client, f"/api/v1/{prefix}/?limit=1")
        long, page = queries_of(client, f"/api/v1/{prefix}/?limit=10")
        assert len(page["results"]) > 1, prefix
        assert len(short) == len(long) <= 5, prefix


def test_a_longer_page_of_questions_and_answers_needs_no_more_queries_either(client, planner):
    for number in range(4):
        trace = Trace.objects.create(digest=str(number), name="t", requests=1, mix={}, arrays=b"", owner=planner)
        scenario = Scenario.objects.create(**SCENARIO, trace=trace, owner=planner)
        schedule = Schedule.objects.create(name="s", scenario=scenario, cron="0 7 * * 1", owner=planner)
        run = Run.objects.create(
            scenario=scenario, schedule=schedule, inputs={}, inputs_digest="x", seed=1, owner=planner
        )
        Report.objects.create(run=run, schedule=schedule, title="r", html="", csv="")
    client.get("/api/v1/runs/")
    for prefix in ("traces", "scenarios", "schedules", "runs", "reports"):
        short, _ = queries_of(client, f"/api/v1/{prefix}/?limit=1")
        long, page = queries_of(client, f"/api/v1/{prefix}/?limit=4")
        assert len(page["results"]) == 4
        assert len(short) == len(long) <= 5, prefix
        assert not any(heavy in sql for sql in long for heavy in ('"arrays"', '"result"', '"html"')), prefix
