"""Demand in the database: histories, fans of a snapshot, commands, and the demo's invented histories."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from numpy.testing import assert_allclose

from accelerator import Workload
from fleet.models import DemandEvent, DemandOverride, Service
from fleet.selectors import snapshot_take
from scenarios import demands
from scenarios.backtests import WINDOW
from scenarios.demand import months_list
from scenarios.demands import HistoryChangedError, coverage_of, demand_fans, demand_views, history_store, scores_of
from scenarios.demo_histories import DEMO_HISTORIES, demo_histories_store
from scenarios.forecast import HISTORY_LEAST_S, STATED_MEAN_RATIO
from scenarios.histories import HOUR_S, History, HistoryError
from scenarios.models import DemandHistory
from scenarios.services import trace_keep, trace_of
from tests.factories import START, fleet_rows
from tests.scenarios.test_forecast import made

MONTHS = months_list(date(2027, 1, 1), date(2027, 12, 1))


@pytest.fixture
def service(db):
    return fleet_rows()["service"]


def fan_now():
    return demand_fans(snapshot_take(START), MONTHS)[0]


def keep(service, history, **values):
    return history_store(service, history, name="test", owner=None, **values)


def test_without_a_history_the_fan_is_stated_with_the_profiles_mix(service):
    found = fan_now()
    assert (found.service, found.basis, found.mean_ratio) == ("chat", "stated", STATED_MEAN_RATIO)
    assert found.p50_request_s[0] <= found.p50_request_s[-1]
    assert found.input_tok > found.output_tok > 0


def test_a_history_makes_the_fan_and_is_read_once(service, django_assert_num_queries):
    keep(service, made(20, day=0.4, fast=0.1))
    snapshot = snapshot_take(START)
    first = demand_fans(snapshot, MONTHS)
    with django_assert_num_queries(1):
        assert demand_fans(snapshot, MONTHS) == first
    assert first[0].basis == "history"
    assert 100 < first[0].p50_request_s[0] < 300


def test_less_than_a_day_of_history_is_none(service):
    keep(service, History(1_798_761_600, HOUR_S, np.full(HISTORY_LEAST_S // HOUR_S - 1, 50.0)))
    assert fan_now().basis == "stated"


def test_one_fan_for_each_service_of_the_snapshot_in_its_order(service):
    service.pk, service.slug = None, "aaa"
    service.save(force_insert=True)
    keep(service, made(20))
    assert [(one.service, one.basis) for one in demand_fans(snapshot_take(START), MONTHS)] == [
        ("aaa", "history"),
        ("chat", "stated"),
    ]


def test_new_windows_are_joined_and_instead_forgets_the_old_ones(service):
    first = made(20)
    keep(service, first)
    later = History(first.end_s, HOUR_S, np.full(48, 70.0))
    assert keep(service, later).windows == 22 * 24
    assert keep(service, later, is_new=True).windows == 48
    assert DemandHistory.objects.count() == 1
    with pytest.raises(HistoryError, match="do not go on"):
        keep(service, History(first.end_s, 600, np.full(48, 70.0)))
    assert DemandHistory.objects.get().windows == 48


def test_its_own_backtest_is_kept_with_it(service):
    stored = keep(service, made(20, day=0.4, fast=0.1))
    scores = scores_of(stored)
    assert {one.series for one in scores} == {"chat"}
    assert 0.6 < coverage_of([one for one in scores if one.what == WINDOW]) <= 1
    assert keep(service, History(stored_end(stored), HOUR_S, np.full(5, 9.0)), is_new=True).scores == []


def stored_end(stored):
    return int(stored.ends_at.timestamp())


def test_who_writes_meanwhile_is_not_overwritten(service, monkeypatch):
    keep(service, made(3))
    real = demands.backtest

    def slow(history, series):
        monkeypatch.setattr(demands, "backtest", real)
        keep(service, made(3, level=55.0, seed=9))
        return real(history, series)

    monkeypatch.setattr(demands, "backtest", slow)
    with pytest.raises(HistoryChangedError):
        keep(service, made(4))
    kept = History.from_bytes(bytes(DemandHistory.objects.get().arrays))
    assert kept.request_s.mean() == pytest.approx(55, rel=0.2)


def test_a_history_goes_with_its_service(service):
    keep(service, made(3))
    Service.objects.filter(pk=service.pk).delete()
    assert not DemandHistory.objects.exists()


# --- what people know better ---
def event_make(service, **values):
    band = {"multiplier_low_ratio": 1.5, "multiplier_ratio": 2.0, "multiplier_high_ratio": 2.5}
    days = {"starts_on": date(2027, 3, 1), "ends_on": date(2027, 4, 1)}
    return DemandEvent.objects.create(slug="e-1", service=service, reason="a launch", **{**band, **days, **values})


def override_make(service, **values):
    band = {"p10_request_s": 1.0, "p50_request_s": 2.0, "p90_request_s": 3.0}
    months = {"first_on": date(2027, 5, 1), "last_on": date(2027, 6, 1)}
    people = {"author": "Li", "reason": "a contract"}
    return DemandOverride.objects.create(slug="o-1", service=service, **{**band, **months, **people, **values})


def test_events_multiply_overrides_replace_and_the_model_alone_is_told(service):
    plain = fan_now()
    event_make(service)
    override_make(service)
    snapshot = snapshot_take(START)
    view = demand_views(snapshot.services, snapshot, MONTHS)[0]
    assert view.model == plain
    assert_allclose(np.array(view.fan.p50_request_s[:4]) / plain.p50_request_s[:4], [1, 1, 2, 1])
    assert view.fan.p50_request_s[4:6] == (2, 2)
    assert view.fan.p90_request_s[5] == 3
    assert view.fan.p50_request_s[6:] == plain.p50_request_s[6:]


# --- commands ---
def test_a_file_is_kept_by_the_command(service, tmp_path, capsys):
    path = tmp_path / "rates.csv"
    path.write_text("window_start_s,rate_rps\n" + "".join(f"{600 * at},{5 + at % 3}\n" for at in range(200)))
    call_command("demand_history", "chat", "--file", str(path), "--start", "2027-01-01T00:00:00Z")
    assert "chat: 200 windows of 600 s from 2027-01-01 00:00" in capsys.readouterr().out
    assert DemandHistory.objects.get().name == "rates.csv"


def test_a_stored_trace_is_counted_in_windows(service, capsys):
    arrivals = np.arange(0, 4000, 2.0)
    lengths = np.full(len(arrivals), 100, dtype=np.int64)
    workload = Workload(name="t", arrival_s=arrivals, input_tok=lengths, output_tok=lengths // 5)
    trace, _ = trace_keep(trace_of(workload, owner=None))
    call_command("demand_history", "chat", "--trace", str(trace.pk), "--start", "2027-01-01T00:00:00Z")
    kept = History.from_bytes(bytes(DemandHistory.objects.get().arrays))
    assert_allclose(kept.request_s, np.full(6, 0.5))
    assert_allclose(kept.output_tok, np.full(6, 20.0))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nobody", "--trace", "1"), "no service nobody"),
        (("chat", "--trace", "999"), "no trace 999"),
        (("chat", "--file", "{bad}"), r"2 row\(s\) are wrong; nothing was kept\nbad.csv:2: column rate_rps"),
        (("chat", "--file", "{none}"), "No such file"),
    ],
)
def test_bad_input_of_the_command_is_told_and_nothing_is_kept(service, tmp_path, arguments, reason):
    bad = tmp_path / "bad.csv"
    bad.write_text("window_start,rate_rps\n2027-01-01T00:00:00Z,x\n2027-01-01T00:10:00Z,y\n")
    texts = [text.format(bad=bad, none=tmp_path / "none.csv") for text in arguments]
    with pytest.raises(CommandError, match=reason) as caught:
        call_command("demand_history", *texts)
    assert caught.value.returncode == 2
    assert not DemandHistory.objects.exists()


def test_the_backtest_command_writes_figures_with_day_and_source(tmp_path, capsys):
    path, out = tmp_path / "mine.csv", tmp_path / "out.csv"
    path.write_text(made(10, fast=0.1).csv())
    call_command("demand_backtest", str(path), "--out", str(out), "--source", "made")
    rows = out.read_text().splitlines()
    assert rows[0].endswith("computed_on,source")
    assert rows[1].startswith("mine,first,window,3600")
    assert rows[1].endswith(",made")
    assert "all series, rest:" in capsys.readouterr().out
    short = tmp_path / "short.csv"
    short.write_text(History(1_798_761_600, HOUR_S, np.ones(5)).csv())
    with pytest.raises(CommandError, match="too short"):
        call_command("demand_backtest", str(short), "--out", str(out))


# --- the demo ---
def test_the_demos_histories_are_invented_marked_and_agree_with_what_it_states(service):
    for slug in DEMO_HISTORIES:
        if slug != service.slug:
            service.pk, service.slug = None, slug
            service.save(force_insert=True)
    demo_histories_store(START)
    rows = DemandHistory.objects.order_by("service__slug")
    assert [row.service.slug for row in rows] == sorted(DEMO_HISTORIES)
    assert all(row.is_invented and row.name == "invented for the demo" for row in rows)
    assert {row.ends_at for row in rows} == {datetime(2027, 1, 1, tzinfo=UTC)}
    for found in demand_fans(snapshot_take(START), MONTHS):
        assert found.basis == "history"
        assert found.p50_request_s[0] == pytest.approx(20, rel=1e-6)
        assert found.p50_request_s[-1] == pytest.approx(20 * 1.05**11, rel=0.15)
        assert 0 < found.cache_hit_ratio < 0.6


def test_the_demos_histories_are_the_same_each_time(service):
    demo_histories_store(START)
    first = DemandHistory.objects.get(service=service).digest
    demo_histories_store(START)
    assert DemandHistory.objects.get(service=service).digest == first


def test_fans_of_equal_facts_are_equal(service):
    snapshot = snapshot_take(START)
    assert demand_fans(snapshot, MONTHS) == demand_fans(replace(snapshot), MONTHS)
