"""What is replayed of a plan, each load once, and what its result says of it."""

from dataclasses import replace

import pytest

from accelerator import Slo, profile_mix
from scenarios.plan_replay import RatedUnit, ReplayFacts, ServedFacts, apart_rows, replay_asked, replay_result
from scenarios.planning.plan import LoadRow, MigrationAnswer, OpenRow, SolverNote
from scenarios.planning.problem import problem_read
from scenarios.replay_values import ConfigValues, UnitValues

UNIT = UnitValues("h20-96", 8, ConfigValues("fp8", tp=2))
MIX = profile_mix("azure-conv")


def problem(**more):
    return problem_read(
        {
            "periods": ["2027-01", "2027-02", "2027-03"],
            "sites": [{"slug": "dc01", "region": "north"}],
            "kinds": [{"slug": "gpu", "homegrown": False}, {"slug": "own", "homegrown": True}],
            "services": [
                {"slug": "chat", "region": "north", "demand_tok_s": [4000, 5000, 6000], "tier": "gold"},
                {"slug": "code", "region": "north", "demand_tok_s": 500},
            ],
            "rates": [
                {"service": "chat", "kind": "gpu", "tok_s": 2000},
                {"service": "chat", "kind": "gpu", "tok_s": 2000, "phase": "prefill"},
                {"service": "code", "kind": "own", "tok_s": 500},
            ],
            **more,
        }
    )


def answer(*loads):
    return MigrationAnswer(
        status="optimal",
        solver=SolverNote("by hand", "Optimal", 0.0, 0.0, 0.0, "money"),
        loads=loads,
        opened=(OpenRow(1, "code", "own", "whole"), OpenRow(2, "code", "own", "whole")),
    )


def facts(*, trace_digest="", own=None):
    units = (RatedUnit("gpu", "whole", UNIT), RatedUnit("gpu", "prefill", UNIT), own or RatedUnit("own", "whole", UNIT))
    return ReplayFacts(
        "digest",
        trace_digest,
        tuple(ServedFacts(slug, "qwen3-32b", MIX, Slo(2.0, 0.05), 0.5, units) for slug in ("chat", "code")),
    )


CHAT = tuple(LoadRow(at, "chat", "dc01", "gpu", "whole", 2.0, 0.0, 0.0, 8) for at in range(3))
CODE = tuple(LoadRow(at, "code", "dc01", "own", "whole", 1.0, 0.0, 0.0, 4 + at) for at in range(3))


def asked(*loads, **more):
    return replay_asked(facts(**more), problem(), answer(*loads), seed=7)


def row(**more):
    return {
        "service": "chat", "region": "north", "tier": "gold", "percentile": 0.95, "ttft_limit_s": 2.0,
        "tpot_limit_s": 0.05, "planned_tok_s": 4000.0, "request_s": 10.0, "served_tok_s": 4000.0,
        "within_tok_s": 3900.0, "disagreement_ratio": 0.0, "disagreement_error_ratio": 0.0, "verdict": "held",
        "samples": 8, "share_ratio": 0.97, "share_error_ratio": 0.01, "ttft_s": 1.0, "tpot_s": 0.04, "kinds": [],
        "storms": [], "sentence": " chat (gold): all is well.", **more,
    }  # fmt: skip


def test_months_of_the_same_load_are_replayed_once_and_shown_each():
    found = asked(*CHAT, *CODE)
    assert [(one.period, one.service, one.load) for one in found.shown] == [
        ("2027-02", "chat", 0),
        ("2027-02", "code", 1),
        ("2027-03", "chat", 0),
        ("2027-03", "code", 2),
    ]
    assert [one.service for one in found.loads] == ["chat", "code", "code"]
    assert {(one.seed, one.reserve_ratio, one.cache_hit_ratio) for one in found.loads} == {(7, 0.0, 0.5)}
    shown = replay_result(found, [row(), row(service="code"), row(service="code")], facts())["services"]
    assert [(one["month"], one["demand_tok_s"]) for one in shown if one["service"] == "chat"] == [
        ("2027-02", 5000),
        ("2027-03", 6000),
    ]
    assert shown[2]["sentence"] == "2027-03 chat (gold): all is well."


def test_what_was_refused_is_left_out_with_its_reason():
    found = asked(*CHAT, *CODE, own=RatedUnit("own", "whole", None, "no weights fit"))
    said = replay_result(found, [row()], facts())
    assert {(one["service"], one["reason"]) for one in said["left_out"]} == {("code", "own (whole): no weights fit")}
    assert said["sentence"].endswith("2 of 4 services and months could not be replayed.")
    unrated = asked(*CHAT, replace(CODE[1], kind="gpu", phase="decode"))
    assert [one.reason for one in unrated.shown if one.load is None] == ["gpu (decode): it was not rated"]


def test_replicas_of_a_phase_are_not_those_of_the_whole():
    (whole, *_), (phase, *_) = (asked(load).loads for load in (CHAT[1], replace(CHAT[1], phase="prefill")))
    assert (whole.loads[0].replicas, phase.loads[0].replicas) == (8, None)


def test_where_simulation_and_plan_disagree_is_said_by_how_much():
    bad = row(service="code", served_tok_s=3000.0, disagreement_ratio=0.25, verdict="missed")
    slight = row(service="code", served_tok_s=3880.0, disagreement_ratio=0.03, verdict="within the sampling error")
    said = replay_result(asked(*CHAT, *CODE), [row(), bad, slight], facts())
    assert [one["month"] for one in apart_rows(said)] == ["2027-02", "2027-03"]
    assert said["sentence"] == (
        "Simulation and plan disagree by more than 2 % in 2 of 4 replayed peak hours of services, in 1 of them beyond "
        "the sampling error; most for code in 2027-02, where 4,000 tok/s are planned and 3,000 keep the promise, "
        "25.0% less."
    )
    assert said["sentences"] == [one["sentence"] for one in said["services"] if one["disagreement_ratio"]]


@pytest.mark.parametrize(("digest", "words"), [("", "built-in profiles"), ("ab", "recorded requests")])
def test_a_replay_says_whose_requests_it_took(digest, words):
    assert replay_result(asked(*CHAT), [row(), row()], facts(trace_digest=digest))["workload"] == words


def test_a_plan_without_waves_has_nothing_to_replay():
    still = replace(answer(*CHAT), opened=())
    found = replay_asked(facts(), problem(), still, seed=1)
    assert found.loads == found.shown == ()
    assert replay_result(found, [], facts())["sentence"] == "Nothing opens, so no month was replayed."
