import json
from datetime import date

import pytest
from django.core.management import CommandError, call_command

from fleet.models import Host, Region, Service, Site
from scenarios import engine
from scenarios.demo import demo_load, demo_remove
from scenarios.engine import Inputs, run_compute
from scenarios.models import Run, Scenario, Schedule
from scenarios.ratings import RATES_BASIS
from scenarios.result_tables import tables_of
from tests.factories import START

pytestmark = pytest.mark.django_db


def compute(scenario, **values):
    inputs = {**Inputs.of(scenario).as_dict(), **values}
    return run_compute(inputs, on_progress=lambda _ratio, _stage: None)


def test_inputs_survive_the_database(scenario):
    inputs = Inputs.of(scenario)
    assert Inputs.from_dict(json.loads(json.dumps(inputs.as_dict()))) == inputs


def test_the_same_inputs_give_the_same_bytes(scenario):
    first, again = (json.dumps(compute(scenario), sort_keys=True) for _ in range(2))
    assert first == again
    assert json.dumps(compute(scenario, seed=6), sort_keys=True) != first


def test_a_result_says_where_it_came_from(scenario):
    result = compute(scenario)
    assert result["seed"] == 5
    assert len(result["snapshot_digest"]) == len(result["inputs_digest"]) == 64
    assert {row["kind"] for row in result["ratings"]} == {"h20-8x", "ppu-16x"}
    assert all(row["basis"] for row in result["ratings"])
    assert RATES_BASIS in result["assumptions"]
    assert any(result["serving_calibration"]["digest"][:12] in line for line in result["assumptions"])


def test_a_scenario_that_starts_in_mid_month_judges_the_whole_month(scenario):
    Host.objects.filter(slug="host-0").update(out_of_service_on=date(2027, 1, 10))
    result = compute(scenario, starts_on="2027-01-15")
    assert result["as_of"] == "2027-01-01"
    assert [period["hosts"] for period in result["regions"][0]["periods"][:2]] == [{"h20-8x": 4}, {"h20-8x": 3}]


def test_a_site_without_a_hall_and_a_region_without_a_site_are_answered_for(scenario):
    chat = Service.objects.get(slug="chat")
    for slug in ("south", "west"):
        region = Region.objects.create(slug=slug, name=slug.capitalize())
        values = {f.attname: getattr(chat, f.attname) for f in Service._meta.concrete_fields if not f.primary_key}
        Service.objects.create(**{**values, "slug": slug, "region_id": region.pk})
    Site.objects.create(slug="bare", name="Bare", region=Region.objects.get(slug="south"))
    result = compute(scenario)
    bindings = {region["slug"]: region["periods"][0]["binding"] for region in result["regions"]}
    assert bindings == {"north": "chips", "south": "no_host", "west": "no_host"}
    (bare,) = (site for site in result["sites"] if site["slug"] == "bare")
    assert (bare["periods"][0]["power_limit_w"], bare["periods"][0]["binding"]) == (0.0, "no_rack")
    assert all(table.cells() for table in tables_of(result))


def test_a_result_is_json_without_holes(scenario):
    json.loads(json.dumps(compute(scenario), allow_nan=False))
    scenario.kind = Scenario.Kind.MIGRATION
    json.loads(json.dumps(compute(scenario), allow_nan=False))


def test_every_figure_of_a_table_has_a_unit_or_is_a_count(scenario):
    for table in tables_of(compute(scenario)):
        text = {"region", "site", "month", "service", "kind", "binding", "sentence", "model", "mix", "precision"}
        text |= {"binds", "refusal", "hosts", "waiting", "replicas_per_host", "tier", "services", "domain"}
        text |= {"beyond_hosts", "order_by_on", "run_out_expected_on"}
        text |= {f"{name}_{quantile}" for name in ("run_out", "order_by") for quantile in ("p10", "p50", "p90")}
        assert [column.name for column in table.columns if not column.unit and column.name not in text] == []


def test_the_demo_shows_what_it_promises(monkeypatch):
    monkeypatch.setattr(engine, "RATED_MOST", 0)  # by formula: by simulation they take half a minute
    assert demo_load(START)
    assert not demo_load(START)
    params = {"capacity": {}, "migration": {"pareto_points": 0}}
    capacity, migration = (compute(Scenario.objects.get(kind=k), draws=8, params=p) for k, p in params.items())
    assert len(capacity["regions"]) == 2
    assert len(capacity["sites"]) == 4
    assert len(capacity["kinds"]) >= 6
    assert len(capacity["services"]) == 12
    assert len(capacity["months"]) == 24
    bindings = {site["slug"]: site["periods"][12]["binding"] for site in capacity["sites"]}
    assert set(bindings.values()) == {"chips", "rack_power"}
    assert capacity["fleet"]["run_out"]["p50"] is not None
    left = {row["service"]: row["reason"] for row in migration["plan"]["left"]}
    assert left["tenant-cuda"] == "may not move"
    assert migration["fleet"]["first_move_month"] < migration["fleet"]["last_move_month"]
    assert migration["fleet"]["periods"][-1]["homegrown_token_ratio"] > 0.3
    assert [len(region["periods"]) for region in migration["regions"]] == [24, 24]
    assert migration["plan"]["promises"]["draws"] == 8
    replay = migration["plan"]["replay"]
    assert {row["month"] for row in replay["services"]} == {row["month"] for row in migration["plan"]["waves"]}
    assert replay["left_out"] == []


def test_the_demo_can_be_removed_and_takes_nothing_else_with_it(scenario):
    from fleet.models import Gate, HostType

    Region.objects.filter(slug="north").update(slug="ours")
    Service.objects.filter(slug="chat").update(slug="our-chat")
    Site.objects.filter(slug="dc01").update(slug="our-dc01")
    Gate.objects.create(family="qwen3", chip="ascend-910c", gate="G1", owner="us")
    demo_remove()  # there is none yet
    assert Site.objects.filter(slug="our-dc01").exists()
    demo_load(date(2027, 1, 1))
    demo_remove()
    assert list(Region.objects.values_list("slug", flat=True)) == ["ours"]
    assert list(Service.objects.values_list("slug", flat=True)) == ["our-chat"]
    assert HostType.objects.filter(slug="h20-8x").exists()
    assert list(Gate.objects.values_list("family", "owner")) == [("qwen3", "us")]
    assert list(Scenario.objects.values_list("name", flat=True)) == ["How long?"]
    assert not Run.objects.exists()
    assert not Schedule.objects.exists()


def test_a_demo_on_which_others_have_built_is_not_removed(db):
    demo_load(date(2027, 1, 1))
    Site.objects.create(slug="ours", name="Ours", region=Region.objects.get(slug="north"))
    before = Site.objects.count()
    with pytest.raises(CommandError, match="nothing was removed: it is used by 1 site"):
        call_command("demo_remove")
    assert Site.objects.count() == before
    assert Scenario.objects.exists()
