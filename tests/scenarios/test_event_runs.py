"""Outages and events through a run: read, planned in steps, told in tables; and what is refused before."""

import json
from datetime import date

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from fleet.models import Card, Delivery, FirmwareSet, Order, PowerNode, Region, Service
from scenarios.engine import run_compute
from scenarios.event_facts import event_facts
from scenarios.models import Run, Scenario
from scenarios.planning.params import EventParams
from scenarios.reports import report_build
from scenarios.result_tables import tables_of
from scenarios.services import run_submit, scenario_save
from tests.factories import START, fleet_rows
from tests.runs import run_work


@pytest.fixture
def fleet(db):
    """Six GPU hosts in two racks; the first rack hangs on one feed, the second on two."""
    made = fleet_rows(hosts=6)
    first, second = made["racks"]
    for slug, rack in (("feed-1", first), ("feed-2a", second), ("feed-2b", second)):
        PowerNode.objects.create(slug=slug, site=made["site"], kind="feed", rack=rack, voltage_v=400, current_a=63)
    order = Order.objects.create(
        slug="o-1", supplier="Broker & Sons", host_type=made["kinds"][1], quantity=2, ordered_on=START
    )
    Delivery.objects.create(
        slug="d-1",
        order=order,
        host_type=made["kinds"][1],
        site=made["site"],
        quantity=2,
        expected_on=date(2027, 2, 1),
        slip_p50_days=0,
        slip_p90_days=0,
    )
    return made


def asked(kind, **params):
    return Scenario(
        name="What if",
        kind=kind,
        starts_on=START,
        ends_on=date(2027, 4, 1),
        draws=10,
        seed=5,
        params=params,
    )


def computed(scenario):
    run = run_submit(scenario=scenario_save(scenario), owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    assert run.status == Run.Status.DONE, run.error
    return run


def test_an_outage_is_answered_with_what_is_lost_and_what_to_do(fleet):
    run = computed(asked("outage", node="feed-1", day="2027-02-01"))
    incident, words = run.result["incident"], run.result["fleet"]["sentence"]
    assert words.startswith("Power feed-1 is lost on 2027-02-01 and not repaired. 4 hosts cannot serve, of 8")
    assert [(row["place"], row["kind"], row["month"], row["hit_hosts"]) for row in incident["hits"]] == [
        ("dc01/h1", "h20-8x", "2027-02", 3.0),
        ("dc01/h1", "ppu-16x", "2027-02", 1.0),  # of two that come: as large a share as of the racks
    ]
    assert incident["month"] == "2027-02"
    before, after = (
        [row[f"supply_{world}_tok_s"] for row in incident["changes"] if not row["tier"]]
        for world in ("before", "after")
    )
    assert before[0] == after[0]
    assert after[1] == pytest.approx(before[1] / 2)
    assert {plan["name"]: plan["status"] for plan in incident["plans"]} == {"before": "optimal", "after": "optimal"}
    assert run.result["regions"][0]["name"] == "North"


def test_a_node_with_another_one_beside_it_takes_nothing(fleet):
    incident = computed(asked("outage", node="feed-2a")).result["incident"]
    assert incident["hits"] == []
    assert incident["notes"]
    assert incident["cost"]["more"] == 0.0
    assert {row["replan_months"] for row in incident["recovery"]} == {0.0}


def test_steps_of_workers_and_one_process_give_the_same_bytes(fleet):
    run = computed(asked("event", event="ban", subject="h20-96", month="2027-03"))
    again = run_compute(run.inputs, on_progress=lambda _ratio, _stage: None)
    assert json.dumps(again, sort_keys=True) == json.dumps(run.result, sort_keys=True)
    stages = list(dict.fromkeys(run.steps.order_by("pk").values_list("stage_name", flat=True)))
    assert stages == ["prepare", "plans", "replans", "merge"]
    worlds = [step.payload.get("world") for step in run.steps.order_by("pk")]
    assert worlds[1:3] == ["before", "after"]
    assert run.result["incident"]["since_month"] == "2027-03"


def test_what_is_foreseen_or_begins_at_once_is_planned_beside_the_plan_before(fleet):
    for more in ({"month": "2027-03", "foreseen": True}, {}):
        run = computed(asked("event", event="ban", subject="h20-96", **more))
        assert not run.steps.filter(stage_name="replans").exists()
        assert run.steps.filter(stage_name="plans").count() >= 2
        assert run.result["incident"]["since_month"] == "2027-01"


def test_tables_and_a_report_tell_of_it(fleet):
    run = computed(asked("event", event="ban", subject="nvidia"))
    names = [table.name for table in tables_of(run.result)]
    assert names[0] == "event-recovery"
    assert {"event-changes", "event-hosts", "event-exposure", "event-cost", "ratings"} <= set(names)
    for table in tables_of(run.result):
        assert table.csv().count("\r\n") == len(table.rows) + 1
    built = report_build(run)
    assert "nvidia may not be used from 2027-01 on" in built.html
    assert built.csv.startswith("region,tier,")


def test_a_new_model_is_rated_and_comes_on_top(fleet):
    run = computed(asked("event", event="new_model", subject="chat", model="qwen3-8b", request_s=4, month="2027-02"))
    result = run.result
    assert {row["service"] for row in result["ratings"]} == {"chat", "chat+new"}
    assert next(row["model"] for row in result["ratings"] if row["service"] == "chat+new") == "qwen3-8b"
    whole = {row["month"]: row for row in result["incident"]["changes"] if not row["tier"]}
    assert whole["2027-01"]["demand_after_tok_s"] == whole["2027-01"]["demand_before_tok_s"]
    assert whole["2027-02"]["demand_after_tok_s"] > whole["2027-02"]["demand_before_tok_s"]
    assert result["snapshot_digest"] == computed(asked("outage", node="feed-1")).result["snapshot_digest"]


def test_facts_of_an_event_come_from_orders_and_cards(fleet):
    stopped = EventParams(event="supplier_stop", subject="broker & sons")
    assert event_facts(stopped, START).suppliers == {"d-1": "Broker & Sons"}
    old, new = (FirmwareSet.objects.create(slug=f"fw-{at}", chip="h20-96", rank=at) for at in (1, 2))
    hosts = list(fleet["racks"][0].hosts.order_by("slug"))
    for host, firmware in zip(hosts, (old, new, None), strict=True):
        Card.objects.create(serial=f"c-{host.slug}", host=host, slot=0, firmware=firmware)
    facts = event_facts(EventParams(event="firmware_baseline", subject="h20-96", firmware="fw-2"), START)
    assert facts.below == (hosts[0].slug, hosts[2].slug)
    assert len(facts.unrecorded) == 3
    told = computed(asked("event", event="firmware_baseline", subject="h20-96", firmware="fw-2", upgrades_per_month=1))
    assert told.result["incident"]["drain"]["total"] == 2
    assert "2 fall out, 1 a month are brought up to it" in told.result["fleet"]["sentence"]


@pytest.mark.parametrize(
    ("kind", "params", "words"),
    [
        ("outage", {}, "params.node: the name of what is lost is needed"),
        ("outage", {"node": "feed-9"}, "params.node: there is no power 'feed-9'"),
        ("outage", {"tree": "hall", "node": "h1"}, "params.node: there is no hall 'h1'"),
        ("outage", {"tree": "moon", "node": "x"}, "params.tree: 'moon' is none of power"),
        ("outage", {"node": "feed-1", "day": "2028-01-01"}, "params.day: 2028-01-01 does not lie in"),
        ("outage", {"node": "feed-1", "repair_days": 0}, "params.repair_days: 0 is below 1"),
        ("event", {}, "params.event: what happens is needed"),
        ("event", {"event": "ban"}, "params.subject: what it happens to is needed"),
        ("event", {"event": "ban", "subject": "h99"}, "params.subject: chip, host type or vendor 'h99' is not there"),
        ("event", {"event": "ban", "subject": "h20-96", "month": "2031-01"}, "params.month: '2031-01' does not lie in"),
        ("event", {"event": "ban", "subject": "h20-96", "region": "x"}, "params.region: there is no region 'x'"),
        ("event", {"event": "supplier_stop", "subject": "x"}, "params.subject: supplier or vendor 'x' is not there"),
        ("event", {"event": "client_doubles", "subject": "x"}, "params.subject: service 'x' is not there"),
        ("event", {"event": "new_model", "subject": "chat", "model": "gpt-0"}, "params.model: "),
        ("event", {"event": "new_model", "subject": "chat", "request_s": 0}, "params.request_s: it must be above 0"),
        ("event", {"event": "client_doubles", "subject": "chat", "region": "north"}, "params.region: only a ban"),
        (
            "event",
            {"event": "firmware_baseline", "subject": "h20-96", "firmware": "x", "months": 2},
            "params.months: a firmware baseline holds for good",
        ),
        (
            "event",
            {"event": "firmware_baseline", "subject": "h20-96", "firmware": "x"},
            "params.firmware: there is no firmware set 'x'",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once_by_field(fleet, kind, params, words):
    with pytest.raises(ValidationError) as error:
        scenario_save(asked(kind, **params))
    assert any(words in text for text in error.value.message_dict["params"]), error.value.message_dict
    assert not Scenario.objects.exists()


def test_a_new_model_like_a_service_without_demand_needs_requests(fleet):
    fleet["service"].demand_request_s = 0
    fleet["service"].save()
    with pytest.raises(ValidationError, match=r"params.request_s: chat has no demand of its own"):
        scenario_save(asked("event", event="new_model", subject="chat"))
    alone = asked("event", event="new_model", subject="chat", request_s=5)
    run = run_submit(scenario=scenario_save(alone), owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    assert "params.subject: no other service asked about demands anything" in run.error


def test_a_service_asked_about_alone_stays_alone_beside_a_new_model_named_with_a_comma(fleet):
    south = Region.objects.create(slug="south", name="South")
    chat = Service.objects.get(slug="chat")
    chat.pk, chat.slug, chat.name, chat.region = None, "hidden", "Hidden", south
    chat.save()
    scenario = asked("event", event="new_model", subject="chat,", request_s=4)
    scenario.services = ["chat"]
    result = computed(scenario).result
    assert "hidden" not in json.dumps(result)
    assert {row["service"] for row in result["ratings"]} == {"chat", "chat+new"}


def test_the_command_refuses_with_the_field_and_stores_nothing(fleet, tmp_path):
    path = tmp_path / "outage.toml"
    path.write_text('tree = "hall"\nnode = "nowhere/h1"\n')
    with pytest.raises(CommandError) as caught:
        call_command("run_scenario", "outage", "--params", str(path))
    assert "params.node: there is no hall 'nowhere/h1'" in str(caught.value)
    assert caught.value.returncode == 2
    assert not Scenario.objects.exists()


def test_a_client_without_a_history_fails_the_run_with_its_reason(fleet):
    run = run_submit(scenario=scenario_save(asked("event", event="client_doubles", subject="chat")), owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    assert run.status == Run.Status.FAILED
    assert "params.client_ratio: no history of chat says how much its biggest client asks for" in run.error
