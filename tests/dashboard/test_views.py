import csv
import io
import json
from datetime import date

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from dashboard.charts import charts_of
from dashboard.urls import urlpatterns
from fleet.models import Delivery, Host, Region
from fleet.services import row_save
from scenarios import services
from scenarios.models import Report, Run, RunStep, Scenario, Schedule, Trace
from scenarios.reports import report_build
from scenarios.services import run_submit
from tests.dashboard.conftest import fleet_grow, run_make, scenario_make
from tests.runs import run_work

TRACE = b"arrival_s,input_tokens,output_tokens\n0,100,20\n1.5,300,40\n3,200,30\n"
UID = "00000000-0000-4000-8000-000000000000"
SLUGS = dict.fromkeys(("slug", "hall_slug", "row_slug", "serial", "name"), "x")
ARGUMENTS = {**SLUGS, "pk": 1, "number": 1, "uid": UID}
OPEN = {"login", "logout"}


def address(pattern):
    return reverse(f"dashboard:{pattern.name}", kwargs={key: ARGUMENTS[key] for key in pattern.pattern.converters})


def form_values(**values):
    return {
        "name": "What if",
        "kind": "capacity",
        "starts_on": "2027-01-01",
        "ends_on": "2027-06-01",
        "reserve_ratio": "0.1",
        "dual_run_months": "1",
        "draws": "10",
        "seed": "1",
        **values,
    }


def text_of(response):
    return response.content.decode()


# --- who may come in --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pattern", [p for p in urlpatterns if p.name not in OPEN], ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_page_asks_a_stranger_to_sign_in(db, pattern, method):
    response = getattr(Client(), method)(address(pattern))
    assert response.status_code == 302
    assert response.url.startswith(reverse("dashboard:login"))


@pytest.mark.parametrize("pattern", urlpatterns, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("method", ["put", "patch", "delete", "trace"])
def test_no_page_takes_a_method_that_it_does_not_know(admin_client, pattern, method):
    response = getattr(admin_client, method)(address(pattern))
    assert response.status_code == 405
    assert response["Allow"]


@pytest.mark.parametrize("pattern", urlpatterns, ids=lambda pattern: pattern.name)
def test_every_page_takes_get_or_post(admin_client, pattern):
    answers = [getattr(admin_client, method)(address(pattern)).status_code for method in ("get", "post")]
    assert min(answers) != 405
    assert set(answers) <= {200, 302, 400, 404, 405}


@pytest.mark.parametrize("name", ["scenario_run", "run_cancel", "schedule_switch"])
def test_a_page_that_changes_something_refuses_get(pages, name):
    assert pages.get(reverse(f"dashboard:{name}", args=[1])).status_code == 405


def test_a_post_without_a_csrf_token_is_refused_with_a_page(planner, scenario):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(planner)
    response = strict.post(reverse("dashboard:scenario_run", args=[scenario.pk]))
    assert response.status_code == 403
    assert "The form has expired" in text_of(response)
    assert not Run.objects.exists()


def test_a_planner_finds_the_buttons_that_a_viewer_does_not(pages, scenario):
    page = text_of(pages.get(reverse("dashboard:scenario", args=[scenario.pk])))
    for name in ("scenario_run", "scenario_edit"):
        assert reverse(f"dashboard:{name}", args=[scenario.pk]) in page


def test_a_viewer_sees_but_changes_nothing(viewer_pages, scenario, schedule):
    page = viewer_pages.get(reverse("dashboard:scenario", args=[scenario.pk]))
    assert page.status_code == 200
    for name in ("scenario_run", "scenario_edit"):
        assert reverse(f"dashboard:{name}", args=[scenario.pk]) not in text_of(page)
    for name, values in (
        ("scenario_new", []),
        ("scenario_edit", [scenario.pk]),
        ("scenario_run", [scenario.pk]),
        ("schedule_new", []),
        ("schedule_switch", [schedule.pk]),
    ):
        response = viewer_pages.post(reverse(f"dashboard:{name}", args=values), form_values())
        assert response.status_code == 403, name
        assert "You may not do this" in text_of(response)
    assert Scenario.objects.count() == 1
    assert not Run.objects.exists()
    schedule.refresh_from_db()
    assert schedule.enabled


def test_sign_in_and_out(planner):
    client = Client()
    page = client.post(reverse("dashboard:login"), {"username": "planner", "password": "wrong"})
    assert "Please enter a correct username and password" in text_of(page)
    assert client.post(
        reverse("dashboard:login"), {"username": "planner", "password": "a-long-password-1"}
    ).url == reverse("dashboard:overview")
    assert client.post(reverse("dashboard:logout")).url == reverse("dashboard:login")
    assert client.get(reverse("dashboard:overview")).status_code == 302


# --- pages of errors --------------------------------------------------------------------------------------------------
def test_what_is_not_there_is_a_page_of_its_own(pages):
    response = pages.get("/scenarios/999/")
    assert response.status_code == 404
    assert "There is no such page" in text_of(response)


def test_the_page_of_a_server_error_needs_no_request_and_no_database(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        page = render_to_string("500.html")
    assert "Something went wrong here" in page


# --- overview ---------------------------------------------------------------------------------------------------------
def test_overview_of_an_empty_installation_says_what_to_do(pages):
    page = text_of(pages.get(reverse("dashboard:overview")))
    assert "No question has been answered yet" in page
    assert f"{reverse('dashboard:scenario_new')}?kind=migration" in page


def test_overview_shows_that_the_first_answer_is_being_computed(pages, scenario):
    run = run_submit(scenario=scenario, owner=None)
    page = text_of(pages.get(reverse("dashboard:overview")))
    assert "The first answer is being computed" in page
    poll = f"{reverse('dashboard:runs_active')}?shown={run.pk}"
    assert poll in page
    assert f"Run {run.pk}" in text_of(pages.get(poll))
    Run.objects.filter(pk=run.pk).update(status=Run.Status.FAILED)
    assert pages.get(poll)["HX-Refresh"] == "true"


def test_overview_answers_whether_we_are_fine(pages, capacity_run, migration_run):
    page = text_of(pages.get(reverse("dashboard:overview")))
    for sentence in (capacity_run.result["fleet"]["sentence"], migration_run.result["fleet"]["sentence"]):
        assert sentence in page
    for label in ("The fleet lasts until", "Least headroom", "Unserved", "Homegrown share", "No GPU needed from"):
        assert label in page
    assert "North" in page
    assert "Zhangbei 1" in page
    assert page.count("data-spec=") == 2


@pytest.mark.parametrize("month", ["2027-01", "2027-04"])
def test_pages_show_a_migration_without_a_plan_and_why(pages, fleet, month):
    floor = {"ratio": 1.0, "month": month}
    run = run_make(scenario_make("migration", params={"pareto_points": 0, "floors": [floor]}))
    for path in (reverse("dashboard:overview"), reverse("dashboard:run", args=[run.pk])):
        assert "There is no plan. These cannot all be kept" in text_of(pages.get(path))
    assert "There is no plan." in report_build(run).html


def test_an_answer_of_an_earlier_release_is_still_shown(pages, migration_run):
    result = migration_run.result
    band = {"p10": 0.1, "p50": 0.2, "p90": 0.3}
    periods = [{"month": month, "homegrown_token_ratio": band} for month in result["months"]]
    earlier = {name: value for name, value in result["plan"].items() if name not in {"promises", "replay", "left"}}
    places = {
        "fleet": {**result["fleet"], "periods": periods},
        "regions": [{**result["regions"][0], "periods": periods}],
    }
    for plan in ({"plan": earlier}, {}):
        kept = {name: value for name, value in result.items() if name != "plan"}
        Run.objects.filter(pk=migration_run.pk).update(result={**kept, **places, **plan})
        assert "20.0 (10.0 to 30.0) %" in text_of(pages.get(reverse("dashboard:overview")))
        page = text_of(pages.get(reverse("dashboard:run", args=[migration_run.pk])))
        assert result["fleet"]["sentence"] in page or result["plan"]["sentence"] in page


def test_overview_marks_an_answer_as_stale_once_the_fleet_has_changed(pages, capacity_run):
    assert "<strong>Stale:</strong>" not in text_of(pages.get(reverse("dashboard:overview")))
    region = Region.objects.get()
    region.name = "North 2"
    row_save(region)
    assert "<strong>Stale:</strong>" in text_of(pages.get(reverse("dashboard:overview")))
    assert "the fleet has changed since" in text_of(pages.get(reverse("dashboard:run", args=[capacity_run.pk])))


# --- fleet ------------------------------------------------------------------------------------------------------------
def test_fleet_counts_hosts_and_power_on_the_day_asked_for(pages, fleet):
    Host.objects.filter(slug="host-0").update(out_of_service_on=date(2027, 3, 1))
    before = text_of(pages.get(reverse("dashboard:fleet"), {"day": "2027-02-28"}))
    after = text_of(pages.get(reverse("dashboard:fleet"), {"day": "2027-03-01"}))
    assert "6 hosts in 2 racks; power planned 33.0 of 80.0 kW, 41 %" in before
    assert "5 hosts in 2 racks; power planned 27.5 of 80.0 kW, 34 %" in after
    assert "5 × h20-8x" in after


def test_fleet_shows_a_delivery_until_it_can_hardly_be_late_any_more(pages, fleet):
    Delivery.objects.create(
        slug="po-7",
        site=fleet["site"],
        host_type=fleet["kinds"][1],
        quantity=8,
        expected_on=date(2027, 2, 1),
        slip_p50_days=10,
        slip_p90_days=30,
        fill_ratio=0.9,
    )
    late = text_of(pages.get(reverse("dashboard:fleet"), {"day": "2027-03-03"}))
    assert "po-7" in late
    assert '<th scope="col">Delivery</th>' in late
    assert "2027-02-11" in late
    assert "2027-03-03" in late
    assert "po-7" not in text_of(pages.get(reverse("dashboard:fleet"), {"day": "2027-03-04"}))


def test_a_day_that_is_none_is_refused_beside_its_field(pages, fleet):
    response = pages.get(reverse("dashboard:fleet"), {"day": "2027-02-30"})
    assert response.status_code == 400
    assert "Enter a valid date" in text_of(response)


@pytest.mark.parametrize("name", ["fleet", "site", "rack"])
@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2100-01-02", "9999-12-31"])
def test_a_day_out_of_reach_is_refused_beside_its_field(pages, fleet, name, day):
    arguments = {"site": ["dc01"], "rack": ["dc01-a1"]}.get(name)
    response = pages.get(reverse(f"dashboard:{name}", args=arguments), {"day": day})
    assert response.status_code == 400
    assert f"{day} is out of reach: a day from 2000-01-01 to 2100-01-01 is needed" in text_of(response)


@pytest.mark.parametrize("day", ["2000-01-01", "2100-01-01"])
def test_the_first_and_the_last_day_are_shown_with_the_latest_delivery(pages, fleet, day):
    order = {"site": fleet["site"], "host_type": fleet["kinds"][1], "quantity": 8, "expected_on": date(2100, 1, 1)}
    Delivery.objects.create(slug="po-last", slip_p50_days=0.01, slip_p90_days=3650, **order)
    response = pages.get(reverse("dashboard:fleet"), {"day": day})
    assert response.status_code == 200
    assert "po-last" in text_of(response)


def test_an_empty_fleet_says_where_regions_are_entered(pages):
    page = text_of(pages.get(reverse("dashboard:fleet")))
    assert f'href="{reverse("admin:index")}"' in page
    assert "python manage.py createsuperuser" in page


def test_site_shows_its_rows_and_halls(pages, fleet):
    page = text_of(pages.get(reverse("dashboard:site", args=["dc01"]), {"day": "2027-01-01"}))
    for words in ("Hall 1", "Row a", "power of the cabinet of dc01-a1", "33.0 of 80.0 kW, 41 %"):
        assert words in page


def test_rack_draws_hosts_where_they_stand(pages, fleet):
    Host.objects.filter(slug="host-0").update(position_u=1)
    Host.objects.filter(slug="host-2").update(position_u=7)
    page = text_of(pages.get(reverse("dashboard:rack", args=["dc01-a1"]), {"day": "2027-01-01"}))
    assert page.count("host-0, h20-8x") == 2  # front and rear
    assert "36 U free" in page
    assert "1 host without a recorded position" in page
    assert "18 of 48 U" in page
    assert " style=" not in page  # the policy would block it


def test_an_overdrawn_rack_says_so_in_words(pages, fleet):
    fleet["racks"][0].power_limit_w = 16_000
    fleet["racks"][0].save()
    page = text_of(pages.get(reverse("dashboard:rack", args=["dc01-a1"]), {"day": "2027-01-01"}))
    assert "16.5 of 16.0 kW" in page
    assert "103 %" in page
    assert "over the limit" in page


def test_chips_come_with_unit_range_and_source(pages):
    page = text_of(pages.get(reverse("dashboard:chips")))
    assert "thead-ppu-810e" in page
    assert "TFLOP/s" in page
    assert "estimated" in page
    assert "homegrown" in page


# --- scenarios --------------------------------------------------------------------------------------------------------
def test_a_new_scenario_is_saved_for_its_owner(pages, planner, fleet):
    response = pages.post(reverse("dashboard:scenario_new"), form_values(services=["chat"]))
    saved = Scenario.objects.get()
    assert response.url == reverse("dashboard:scenario", args=[saved.pk])
    assert (saved.name, saved.services, saved.owner, saved.version) == ("What if", ["chat"], planner, 1)


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"ends_on": "2026-12-01"}, "ends_on", "before it begins"),
        ({"ends_on": "2099-12-01"}, "ends_on", "months are too many"),
        ({"reserve_ratio": "2"}, "reserve_ratio", "less than or equal to 0.9"),
        ({"services": ["nobody"]}, "services", "nobody is not one of the available choices"),
        ({"draws": "many"}, "draws", "Enter a whole number"),
        ({"name": ""}, "name", "This field is required"),
        ({"starts_on": "soon"}, "starts_on", "Enter a valid date"),
    ],
)
def test_wrong_input_is_named_beside_its_field_and_stores_nothing(pages, fleet, values, field, words):
    response = pages.post(reverse("dashboard:scenario_new"), form_values(**values))
    assert response.status_code == 400
    assert words in " ".join(response.context["form"].errors[field])
    assert words in text_of(response)
    assert not Scenario.objects.exists()


def test_an_uploaded_trace_is_kept_with_its_scenario(pages, planner, fleet):
    upload = SimpleUploadedFile("day.csv", TRACE)
    pages.post(reverse("dashboard:scenario_new"), form_values(trace_file=upload))
    trace = Scenario.objects.get().trace
    assert (trace.name, trace.requests, trace.owner) == ("day.csv", 3, planner)


@pytest.mark.django_db(transaction=True)
def test_an_upload_is_parsed_before_a_transaction_locks_other_writers_out(pages, fleet, monkeypatch):
    parse, locked = services.workload_parse, []

    def watched(*args, **kwargs):
        locked.append(connection.in_atomic_block)
        return parse(*args, **kwargs)

    monkeypatch.setattr(services, "workload_parse", watched)
    upload = SimpleUploadedFile("day.csv", TRACE)
    assert pages.post(reverse("dashboard:scenario_new"), form_values(trace_file=upload)).status_code == 302
    assert locked == [False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(TRACE.replace(b"300", b"-3"), "day.csv:3: column input_tokens", id="negative"),
        pytest.param(b"arrival_s,input_tokens\n0,1\n", "output_tokens", id="missing column"),
        pytest.param(b"", "empty", id="empty"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line_and_column_and_stores_nothing(pages, fleet, content, words):
    upload = SimpleUploadedFile("day.csv", content)
    response = pages.post(reverse("dashboard:scenario_new"), form_values(trace_file=upload))
    assert response.status_code == 400
    assert words in " ".join(response.context["form"].errors["trace_file"])
    assert not Scenario.objects.exists()
    assert not Trace.objects.exists()


def test_a_trace_above_the_limit_is_refused(pages, fleet):
    with override_settings(TRACE_MAX_BYTE=10):
        response = pages.post(
            reverse("dashboard:scenario_new"), form_values(trace_file=SimpleUploadedFile("day.csv", TRACE))
        )
    assert "larger than the limit" in text_of(response)
    assert not Trace.objects.exists()


def test_editing_raises_the_version_and_a_stale_editor_is_refused(pages, scenario):
    url = reverse("dashboard:scenario_edit", args=[scenario.pk])
    assert 'name="version" value="1"' in text_of(pages.get(url))
    assert pages.post(url, form_values(name="First", version="1")).status_code == 302
    late = pages.post(url, form_values(name="Second", version="1"))
    assert late.status_code == 409
    assert "Somebody else has edited this scenario" in text_of(late)
    scenario.refresh_from_db()
    assert (scenario.name, scenario.version) == ("First", 2)


def test_editing_without_a_version_is_refused(pages, scenario):
    url = reverse("dashboard:scenario_edit", args=[scenario.pk])
    assert pages.post(url, form_values(name="Second")).status_code == 409
    scenario.refresh_from_db()
    assert scenario.name != "Second"


def test_names_are_escaped(pages, fleet):
    scenario = scenario_make(name="<script>alert(1)</script>")
    for name in ("scenarios", "overview"):
        assert "<script>alert" not in text_of(pages.get(reverse(f"dashboard:{name}")))
    assert "&lt;script&gt;alert" in text_of(pages.get(reverse("dashboard:scenario", args=[scenario.pk])))


# --- runs -------------------------------------------------------------------------------------------------------------
def test_run_starts_by_post_and_shows_its_progress(pages, planner, scenario):
    response = pages.post(reverse("dashboard:scenario_run", args=[scenario.pk]))
    run = Run.objects.get()
    assert response.url == reverse("dashboard:run", args=[run.pk])
    assert run.owner == planner
    page = text_of(pages.get(response.url))
    assert "Queued: waiting for a worker" in page
    assert reverse("dashboard:run_progress", args=[run.pk]) in page
    Run.objects.filter(pk=run.pk).update(
        status=Run.Status.RUNNING, stage="draw 2 of 3", progress_ratio=0.5, attempt=2, heartbeat_at=timezone.now()
    )
    part = text_of(pages.get(reverse("dashboard:run_progress", args=[run.pk])))
    assert "Running: draw 2 of 3, 50 %, 0 of 1 steps done." in part
    assert '<th scope="row" class="nowrap">prepare 1</th>' in part
    assert "<html" not in part


def test_a_run_lists_its_steps_with_worker_attempt_and_time(pages, capacity_run):
    step = capacity_run.steps.get(stage_name="draws", number=0)
    RunStep.objects.filter(pk=step.pk).update(attempt=2, took_s=1.234, cpu_s=0.5, worker="machine-7:4711")
    page = text_of(pages.get(reverse("dashboard:run", args=[capacity_run.pk])))
    rows = page.split('<th scope="row" class="nowrap">draws 1</th>')[1].split("</tr>")[0]
    assert [cell in rows for cell in ("100 %", ">2<", "machine-7:4711", "1.23", "0.50")] == [True] * 5
    assert page.count("badge done") == 1 + capacity_run.steps.count()


def test_a_run_with_a_known_answer_says_whose_it_is_and_can_be_computed_anew(pages, scenario, capacity_run):
    pages.post(reverse("dashboard:scenario_run", args=[scenario.pk]))
    reused = Run.objects.get(reused_from=None, status=Run.Status.QUEUED)
    run_work(reused.pk)
    page = text_of(pages.get(reverse("dashboard:run", args=[reused.pk])))
    link = reverse("dashboard:run", args=[capacity_run.pk])
    assert f'this is the result of <a href="{link}">run {capacity_run.pk}</a>' in page
    assert "Compute it anew" in page
    pages.post(reverse("dashboard:scenario_run", args=[scenario.pk]), {"recompute": "1"})
    anew = Run.objects.get(status=Run.Status.QUEUED)
    run_work(anew.pk)
    anew.refresh_from_db()
    assert (anew.status, anew.reused_from) == (Run.Status.DONE, None)
    assert "this is the result of" not in text_of(pages.get(reverse("dashboard:run", args=[anew.pk])))


def test_a_result_that_a_limit_of_time_ended_says_so(pages, capacity_run):
    Run.objects.filter(pk=capacity_run.pk).update(is_reusable=False)
    assert "A limit of time ended a search" in text_of(pages.get(reverse("dashboard:run", args=[capacity_run.pk])))


@pytest.mark.parametrize("status", Run.ENDED)
def test_progress_of_a_run_that_has_ended_loads_its_page_anew(pages, capacity_run, status):
    Run.objects.filter(pk=capacity_run.pk).update(status=status)
    assert pages.get(reverse("dashboard:run_progress", args=[capacity_run.pk]))["HX-Refresh"] == "true"


def test_a_run_can_be_cancelled_once(pages, scenario):
    run = run_submit(scenario=scenario, owner=None)
    url = reverse("dashboard:run_cancel", args=[run.pk])
    assert "is cancelled" in text_of(pages.post(url, follow=True))
    assert "This run was cancelled" in text_of(pages.get(reverse("dashboard:run", args=[run.pk])))
    assert "had ended already" in text_of(pages.post(url, follow=True))


def test_a_failed_run_says_why(pages, scenario):
    run = run_submit(scenario=scenario, owner=None)
    Run.objects.filter(pk=run.pk).update(status=Run.Status.FAILED, error="nothing to plan: the fleet has no site")
    page = text_of(pages.get(reverse("dashboard:run", args=[run.pk])))
    assert "This run failed" in page
    assert "nothing to plan: the fleet has no site" in page


@pytest.mark.parametrize("which", ["capacity_run", "migration_run"])
def test_a_finished_run_shows_answer_charts_tables_and_where_it_came_from(pages, request, which):
    run = request.getfixturevalue(which)
    page = text_of(pages.get(reverse("dashboard:run", args=[run.pk])))
    assert run.result["fleet"]["sentence"] in page
    for chart in charts_of(run.result):
        assert f'data-spec="spec-{chart.name}"' in page
        assert f'<script id="spec-{chart.name}" type="application/json">' in page
    for digest in (run.inputs_digest, run.snapshot_digest):
        assert digest in page
    assert run.result["assumptions"][0] in page
    assert page.count("<table>") == page.count("<caption>")
    assert " style=" not in page


def test_a_run_says_that_its_scenario_was_edited_since(pages, capacity_run):
    url = reverse("dashboard:run", args=[capacity_run.pk])
    assert "edited since" not in text_of(pages.get(url))
    Scenario.objects.update(seed=77)
    assert "the scenario has been edited since" in text_of(pages.get(url))


@pytest.mark.parametrize("which", ["capacity_run", "migration_run"])
def test_csv_and_json_of_a_chart_hold_the_same_rows(pages, request, which):
    run = request.getfixturevalue(which)
    for chart in charts_of(run.result):
        answer = pages.get(reverse("dashboard:run_chart_json", args=[run.pk, chart.name])).json()
        response = pages.get(reverse("dashboard:run_table_csv", args=[run.pk, chart.table.name]))
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        head, *rows = csv.reader(io.StringIO(text_of(response)))
        assert len(head) == len(answer["columns"])
        names = [column["name"] for column in answer["columns"]]
        assert rows == [[str(row[name]) for name in names] for row in answer["rows"]]
        assert (answer["sentence"], answer["inputs_digest"]) == (chart.sentence, run.inputs_digest)


def test_tables_and_charts_that_a_run_lacks_are_404(pages, capacity_run, scenario):
    waiting = run_submit(scenario=scenario, owner=None)
    for pk, name in ((capacity_run.pk, "serving"), (waiting.pk, "capacity-north")):
        assert pages.get(reverse("dashboard:run_table_csv", args=[pk, name])).status_code == 404
        assert pages.get(reverse("dashboard:run_chart_json", args=[pk, name])).status_code == 404


def test_a_name_that_a_spreadsheet_would_run_is_defused_in_csv(pages, fleet):
    Region.objects.update(name='=HYPERLINK("http://x")')
    run = run_make(scenario_make())
    text = text_of(pages.get(reverse("dashboard:run_table_csv", args=[run.pk, "capacity"])))
    rows = list(csv.reader(io.StringIO(text)))
    assert {row[0] for row in rows[1:]} == {'\'=HYPERLINK("http://x")'}


# --- reports and schedules --------------------------------------------------------------------------------------------
def test_a_report_is_listed_and_opens(pages, report):
    assert report.title in text_of(pages.get(reverse("dashboard:reports")))
    page = text_of(pages.get(reverse("dashboard:report", args=[report.uid])))
    assert report.run.result["fleet"]["sentence"] in page
    assert text_of(pages.get(reverse("dashboard:report_csv", args=[report.uid]))) == report.csv


def test_a_stored_report_is_served_in_a_sandbox_that_allows_its_own_style_alone(pages, report):
    response = pages.get(reverse("dashboard:report_html", args=[report.uid]))
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "style-src 'sha256-" in policy
    assert "unsafe-inline" not in policy
    page = text_of(response)
    assert page == report.html
    for outside in ("<script", "<link", "<img", " style=", "http://", "https://"):
        assert outside not in page


def test_a_report_escapes_names(pages, fleet, schedule):
    Scenario.objects.update(name="<b>bold</b>")
    made = run_make(Scenario.objects.get(), schedule=schedule, fire_at=timezone.now()).report
    assert "&lt;b&gt;bold" in made.html
    assert "<b>bold" not in made.html


def test_schedules_show_the_next_five_times_in_their_zone(pages, schedule):
    page = text_of(pages.get(reverse("dashboard:schedules")))
    assert page.count("07:00 (UTC+0800)") == 5
    assert "Asia/Shanghai" in page


def test_a_new_schedule_is_saved_with_its_next_time(pages, planner, scenario):
    values = {"name": "Nightly", "scenario": scenario.pk, "cron": "0 3 * * *", "zone": "Europe/Berlin", "enabled": "on"}
    assert pages.post(reverse("dashboard:schedule_new"), values).status_code == 302
    saved = Schedule.objects.get()
    assert (saved.owner, saved.enabled) == (planner, True)
    assert saved.next_fire_at > timezone.now()


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"cron": "every day"}, "cron", "is not a cron expression"),
        ({"zone": "Mars/Olympus"}, "zone", "is not an IANA time zone"),
        ({"scenario": "99"}, "scenario", "Select a valid choice"),
    ],
)
def test_a_wrong_schedule_is_named_beside_its_field_and_stores_nothing(pages, scenario, values, field, words):
    good = {"name": "Nightly", "scenario": scenario.pk, "cron": "0 3 * * *", "zone": "UTC", "enabled": "on"}
    response = pages.post(reverse("dashboard:schedule_new"), {**good, **values})
    assert response.status_code == 400
    assert words in " ".join(response.context["form"].errors[field])
    assert not Schedule.objects.exists()


def test_a_schedule_is_disabled_and_enabled_by_its_button(pages, schedule):
    url = reverse("dashboard:schedule_switch", args=[schedule.pk])
    pages.post(url, {"enabled": "0"})
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.next_fire_at) == (False, None)
    pages.post(url, {"enabled": "1"})
    schedule.refresh_from_db()
    assert schedule.enabled
    assert schedule.next_fire_at > timezone.now()


# --- how much a page costs --------------------------------------------------------------------------------------------
def queries_of(pages, url):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert pages.get(url).status_code == 200
    return len(queries)


def test_the_cost_of_the_fleet_pages_does_not_grow_with_the_fleet(pages, fleet):
    fleet_grow(fleet, racks=1, hosts_per_rack=2)
    urls = ["/fleet/?day=2027-01-01", "/fleet/sites/dc01/?day=2027-01-01", "/fleet/racks/dc01-a1/?day=2027-01-01"]
    before = [queries_of(pages, url) for url in urls]
    fleet_grow(fleet, racks=5, hosts_per_rack=6)
    for at in range(5):
        Host.objects.create(slug=f"extra-{at}", host_type=fleet["kinds"][at % 2], rack=fleet["racks"][0])
        Delivery.objects.create(
            slug=f"po-{at}", site=fleet["site"], host_type=fleet["kinds"][0], quantity=1, expected_on=date(2027, 5, 1)
        )
    assert [queries_of(pages, url) for url in urls] == before


def test_the_cost_of_the_lists_does_not_grow_with_their_rows(pages, scenario, schedule, report):
    urls = ["/", "/scenarios/", f"/scenarios/{scenario.pk}/", "/reports/", "/schedules/"]
    before = [queries_of(pages, url) for url in urls]
    for at in range(4):
        other = scenario_make(name=f"Question {at}")
        for owner in (scenario, other):
            run = run_submit(scenario=owner, owner=None)
            Run.objects.filter(pk=run.pk).update(status=Run.Status.CANCELLED)
            Report.objects.create(run=run, schedule=schedule, title=f"R{run.pk}", html="", csv="")
        Schedule.objects.create(name=f"S{at}", scenario=other, cron="0 7 * * 1", next_fire_at=timezone.now())
    assert [queries_of(pages, url) for url in urls] == before


def test_lists_do_not_read_results(pages, capacity_run):
    for url in ("/scenarios/", f"/scenarios/{capacity_run.scenario_id}/"):
        with CaptureQueriesContext(connection) as queries:
            pages.get(url)
        assert not any('"scenarios_run"."result"' in query["sql"] for query in queries.captured_queries)


def test_specs_on_a_page_are_json_that_cannot_end_their_element(pages, fleet):
    Region.objects.update(name="</script><script>alert(1)</script>")
    run = run_make(scenario_make())
    page = text_of(pages.get(reverse("dashboard:run", args=[run.pk])))
    assert "<script>alert" not in page
    spec = page.split('type="application/json">', 1)[1].split("</script>", 1)[0]
    assert "alert(1)" in json.loads(spec)["description"]
