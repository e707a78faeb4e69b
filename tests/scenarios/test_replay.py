"""The replay of a plan's peak hour: it agrees with ratings, finds plans that promise too much, and says so in words."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from accelerator import Slo, chip_get, goodput_search, model_get, profile_mix, rating_best, workload_generate
from accelerator.samples import Sample
from accelerator.serving_calibration import serving_calibration_load
from scenarios.planning.plain import ProblemError, plain_of
from scenarios.replay import SAID_RATIO, replay_merge, replay_payloads, replay_shard
from scenarios.replay_figures import HELD, MISSED, UNSURE, Taken, figures_of, half_width, recovery_s, served_of
from scenarios.replay_plan import unit_of_label, unit_of_rating
from scenarios.replay_values import ConfigValues, LoadValues, ReplayQuestion, UnitValues, units_of
from tests.conftest import ROOT

DIGEST = serving_calibration_load().digest
H20 = ("h20-96", "qwen3-8b", "azure-conv", Slo(2.0, 0.05))
DEMO_PAIRS = [
    ("h20-96", "qwen3-32b", "azure-conv", Slo(2.0, 0.05)),
    ("thead-ppu-810e", "qwen3-32b", "azure-conv", Slo(2.0, 0.05)),
    ("a100-80", "qwen2.5-7b", "m-small", Slo(2.0, 0.05)),
    ("ascend-910c", "deepseek-v3", "m-large", Slo(4.0, 0.06)),
    ("h20-141", "deepseek-r1", "r1-reasoning", Slo(4.0, 0.06)),
]
by_demo_pair = pytest.mark.parametrize("pair", DEMO_PAIRS, ids=lambda pair: f"{pair[0]} {pair[1]}")


@cache
def rated(chip, model, mix, slo):
    """Return the rating by simulation of a demo pair and what stands on a host for it."""
    spec = chip_get(chip)
    rating = goodput_search(spec, model_get(model), profile_mix(mix), slo, host_chips=spec.host_chips)
    return rating, unit_of_rating(rating, spec.host_chips)


def load_of(pair, *, factor=1.0, hosts=10.0, **more):
    """Return hosts that the plan takes for as much as their rating, times a factor."""
    rating, unit = rated(*pair)
    tok_s = rating.request_s.p50 * profile_mix(pair[2]).output_tok * unit.per_host * factor
    return LoadValues(
        **{"place": "a/1", "site": "a", "kind": pair[0], "hosts": hosts, "tok_s": tok_s, "unit": unit} | more
    )


def question(pair=H20, loads=None, **more):
    _, model, mix, slo = pair
    values = {"period": "2027-03", "service": "chat", "tier": "gold", "demand_tok_s": 1000.0}
    limits = {"ttft_s": slo.ttft_s, "tpot_s": slo.tpot_s, "percentile": slo.percentile}
    loads = (load_of(pair),) if loads is None else loads
    return ReplayQuestion(model=model, mix=profile_mix(mix), loads=tuple(loads), **(values | limits | more))


def replayed(*questions, most=16):
    return [
        row for one in replay_payloads(questions, calibration_digest=DIGEST, most=most) for row in replay_shard(one)
    ]


def phase(chip, label, phase, *, hosts, tok_s, site="a", **more):
    spec = chip_get(chip)
    unit = unit_of_label(label, chip, spec.host_chips)
    return LoadValues(f"{site}/1", site, chip, hosts, tok_s, unit, phase=phase, **more)


def apart(factor=1.0):
    """Return a plan that reads prompts on one chip and answers on another, at 20 requests per second."""
    tok_s = 20 * profile_mix("azure-conv").output_tok * factor
    return [
        phase("thead-ppu-810e", "int8 tp2", "prefill", hosts=0.5, tok_s=tok_s / 0.5),  # four replicas
        phase("h20-96", "fp8 tp1", "decode", hosts=0.5, tok_s=tok_s / 0.5),  # four too
    ]


# --- agreement with ratings -------------------------------------------------------------------------------------------
@by_demo_pair
def test_a_plan_at_half_of_the_rating_holds_with_margin(pair):
    (row,) = replayed(question(pair, [load_of(pair, factor=0.5)]))
    assert row["verdict"] == HELD
    assert min(row["ttft_share_ratio"], row["tpot_share_ratio"]) > row["percentile"] + 0.03
    assert (row["served_tok_s"], row["disagreement_ratio"]) == (row["planned_tok_s"], 0)


@by_demo_pair
def test_a_plan_at_the_rating_holds_to_within_a_tenth(pair):
    """A tenth is how far other requests of a mix move a rating (test_goodput)."""
    (row,) = replayed(question(pair))
    assert row["kinds"][0]["load_ratio"] == pytest.approx(1)
    assert row["verdict"] in {HELD, UNSURE}
    assert row["disagreement_ratio"] < 0.05
    (safe,) = replayed(question(pair, [load_of(pair, factor=0.9)]))
    assert safe["verdict"] == HELD


@by_demo_pair
def test_a_plan_a_tenth_above_the_rating_does_not_hold(pair):
    (row,) = replayed(question(pair, [load_of(pair, factor=1.1)]))
    assert row["verdict"] == MISSED
    assert row["disagreement_ratio"] == pytest.approx(1 - 1 / 1.1, abs=0.06)


@by_demo_pair
def test_a_fifth_too_much_is_found_and_said_in_words(pair):
    (row,) = replayed(question(pair, [load_of(pair, factor=1.2)]))
    assert row["disagreement_ratio"] == pytest.approx(1 - 1 / 1.2, abs=0.06)
    assert row["served_tok_s"] == pytest.approx(row["planned_tok_s"] * (1 - row["disagreement_ratio"]))
    said = replay_merge([[row]])["sentences"]
    assert len(said) == 1
    assert f"the plan says {row['planned_tok_s']:,.0f} tok/s" in said[0]
    assert f"{row['disagreement_ratio']:.1%} less" in said[0]


def test_what_agrees_is_not_said():
    rows = replayed(question(loads=[load_of(H20, factor=0.5)]))
    assert replay_merge([rows])["sentences"] == []
    assert "as planned (TTFT" in rows[0]["sentence"]


# --- hosts and replicas -----------------------------------------------------------------------------------------------
def test_a_filled_host_is_its_replicas_at_their_rating():
    unit = UnitValues("h20-96", 8, ConfigValues("fp8", tp=2))
    load = LoadValues("a/1", "a", "h20-8x", 2.5, 1000.0, unit)
    assert unit.per_host == 4
    assert units_of(load, 0.0) == 10
    assert units_of(load, 0.2) == pytest.approx(12.5)  # spread over what is kept free too
    assert units_of(replace(load, replicas=11.0), 0.2) == 11


def test_idle_chips_of_a_host_hold_no_replica_and_a_large_replica_fills_hosts():
    assert UnitValues("h20-96", 8, ConfigValues("fp8", tp=2, pp=2)).per_host == 2
    assert UnitValues("h20-96", 8, ConfigValues("fp8", tp=1, pp=3)).per_host == 2
    assert UnitValues("h20-96", 8, ConfigValues("fp8", tp=8, pp=2)).per_host == 0.5
    reading = UnitValues("h20-96", 8, ConfigValues("fp8", tp=1), 1, ConfigValues("fp8", tp=1), 3)
    assert (reading.chips, reading.per_host) == (4, 2)


def test_the_reserve_takes_its_share_of_the_load_off_each_replica():
    (row,) = replayed(question(reserve_ratio=0.2, loads=[load_of(H20, factor=1.1)]))
    assert row["kinds"][0]["load_ratio"] == pytest.approx(0.8)
    assert row["verdict"] == HELD  # 1.1 x 0.8 of the rating


def test_whole_replicas_are_loaded_as_they_are_many():
    _, unit = rated(*H20)
    (row,) = replayed(question(loads=[load_of(H20, hosts=1.0, replicas=2 * unit.per_host)]))
    assert row["kinds"][0]["load_ratio"] == pytest.approx(0.5)
    assert row["verdict"] == HELD


def test_places_of_a_kind_are_one_pool_and_planned_tokens_add_up():
    one = replayed(question(loads=[load_of(H20, hosts=10.0)]))
    two = replayed(question(loads=[load_of(H20, hosts=4.0), load_of(H20, hosts=6.0, place="b/1", site="b")]))
    assert one[0]["kinds"][0]["hosts"] == two[0]["kinds"][0]["hosts"] == 10
    assert two[0]["ttft_s"] == pytest.approx(one[0]["ttft_s"])
    assert two[0]["planned_tok_s"] == pytest.approx(one[0]["planned_tok_s"])
    assert two[0]["request_s"] == pytest.approx(two[0]["planned_tok_s"] / profile_mix("azure-conv").output_tok)


# --- kinds ------------------------------------------------------------------------------------------------------------
def test_kinds_count_by_their_share_of_the_requests():
    pairs = (H20, ("h200", *H20[1:]))
    loads = [load_of(pairs[0], factor=0.5, hosts=9.0), load_of(pairs[1], factor=1.3, hosts=1.0)]
    (row,) = replayed(question(loads=loads))
    kinds = {kind["kind"]: kind for kind in row["kinds"]}
    assert kinds["h20-96"]["verdict"] == HELD
    assert kinds["h200"]["verdict"] == MISSED
    weights = {name: kind["planned_tok_s"] / row["planned_tok_s"] for name, kind in kinds.items()}
    assert row["share_ratio"] == pytest.approx(sum(weights[n] * kinds[n]["share_ratio"] for n in kinds))
    assert row["samples"] == sum(kind["samples"] for kind in kinds.values())
    assert row["within_tok_s"] == pytest.approx(sum(kind["within_tok_s"] for kind in kinds.values()))
    if row["disagreement_ratio"]:
        assert row["served_tok_s"] == pytest.approx(sum(kind["served_tok_s"] for kind in kinds.values()))


def test_a_rating_by_the_formula_leaves_the_limits_of_a_step_open():
    """Its rate is one at which means hold; percentiles do not, and the replay says by how much."""
    chip, model, mix, slo = "h20-96", "qwen3-32b", "azure-conv", Slo(2.0, 0.05)
    rating = rating_best(
        chip_get(chip), model_get(model), profile_mix(mix), slo, host_chips=8, calibration=serving_calibration_load()
    )
    unit = unit_of_rating(rating, 8)
    assert unit.config.is_open
    load = LoadValues("a/1", "a", "h20-8x", 10.0, rating.tok_s.p50 * unit.per_host, unit)
    (row,) = replayed(question((chip, model, mix, slo), [load]))
    assert row["verdict"] == MISSED
    assert row["disagreement_ratio"] > SAID_RATIO


def test_planning_values_are_those_without_a_calibration():
    slo = H20[3]
    rating = rating_best(chip_get("h20-96"), model_get("qwen3-8b"), profile_mix("azure-conv"), slo, host_chips=8)
    unit = unit_of_rating(rating, 8)
    load = LoadValues("a/1", "a", "h20-8x", 1.0, rating.tok_s.p50 * unit.per_host * 0.3, unit)
    (payload,) = replay_payloads([question(loads=[load])], calibration_digest="")
    assert replay_shard(payload)[0]["verdict"] == HELD


def test_nothing_planned_is_nothing_replayed():
    (row,) = replayed(question(loads=[]))
    assert (row["planned_tok_s"], row["kinds"], row["disagreement_ratio"]) == (0, [], 0)
    assert replay_merge([[row]])["tiers"][0]["share_ratio"] is None


# --- prompts and answers apart ----------------------------------------------------------------------------------------
def test_one_chip_reads_and_another_answers():
    (row,) = replayed(question(loads=apart()))
    (kind,) = row["kinds"]
    assert (kind["prompts_kind"], kind["kind"], kind["site"]) == ("thead-ppu-810e", "h20-96", "a")
    assert kind["slice"] == [1, 1]
    assert (kind["prompts_units"], kind["units"]) == (pytest.approx(4), pytest.approx(4))
    assert row["ttft_s"] > 0.05
    (more,) = replayed(question(loads=apart(1.5)))
    assert more["ttft_s"] > row["ttft_s"]
    assert more["tpot_s"] > row["tpot_s"]


def test_two_kinds_of_either_phase_are_paired_by_their_shares():
    tok_s = 10 * profile_mix("azure-conv").output_tok
    loads = [
        phase("thead-ppu-810e", "int8 tp2", "prefill", hosts=1.0, tok_s=tok_s),
        phase("h20-96", "fp8 tp1", "prefill", hosts=1.0, tok_s=3 * tok_s),
        phase("h20-96", "fp8 tp1", "decode", hosts=1.0, tok_s=2 * tok_s),
        phase("a100-80", "int8 tp1", "decode", hosts=1.0, tok_s=2 * tok_s),
    ]
    (row,) = replayed(question(loads=loads))
    shares = {(k["prompts_kind"], k["kind"]): k["planned_tok_s"] / row["planned_tok_s"] for k in row["kinds"]}
    assert shares == {
        ("thead-ppu-810e", "h20-96"): pytest.approx(1 / 8),
        ("thead-ppu-810e", "a100-80"): pytest.approx(1 / 8),
        ("h20-96", "h20-96"): pytest.approx(3 / 8),
        ("h20-96", "a100-80"): pytest.approx(3 / 8),
    }
    reading = sum(k["prompts_units"] for k in row["kinds"] if k["prompts_kind"] == "thead-ppu-810e")
    assert reading == pytest.approx(loads[0].unit.per_host)
    assert all(k["prompts_load_ratio"] == pytest.approx(1) for k in row["kinds"])


def test_prompts_that_no_one_answers_at_their_site_are_refused():
    loads = [apart()[0], replace(apart()[1], site="b")]
    with pytest.raises(ProblemError, match=r"replay\.questions\[0\]\.loads: at a prompts of .* answers of 0 tok/s"):
        replayed(question(loads=loads))


def test_recorded_requests_are_replayed_with_their_own_lengths():
    recorded = workload_generate("m-small", requests=3000, seed=3)
    asked = replace(question(loads=[load_of(H20, factor=0.2)]), mix=replace(recorded.token_mix(), name="ours"))
    (payload,) = replay_payloads([asked], calibration_digest=DIGEST)
    (row,) = replay_shard(payload, workload=recorded)
    assert row["mix"] == "ours"
    assert row["verdict"] == HELD
    with pytest.raises(ProblemError, match="mix ours is no built-in profile"):
        replay_shard(payload)


# --- the first hour after a flip --------------------------------------------------------------------------------------
def test_a_flip_that_loses_its_cache_is_said_with_what_it_does_to_ttft():
    loads = [load_of(H20, factor=0.8, flips=True)]
    (row,) = replayed(question(loads=loads, cache_hit_ratio=0.5625))
    (storm,) = row["storms"]
    assert storm["prompt_factor"] == pytest.approx(2.29, abs=0.005)
    assert storm["ttft_s"] > 2 * storm["usual_ttft_s"]
    assert storm["share_ratio"] < storm["usual_share_ratio"]
    assert storm["span_s"] == 3600
    assert 0 < storm["recovery_s"] < 3600
    assert f"over its limit for {storm['recovery_s'] / 60:.0f} minutes" in storm["sentence"]
    assert 0 < storm["flip_ratio"] < 1
    assert f"{storm['flip_ratio']:.0%} of the traffic could come at once" in storm["sentence"]
    assert replay_merge([[row]])["sentences"] == [storm["sentence"]]


def test_what_could_come_at_once_does_and_a_tenth_more_does_not():
    def storm(factor):
        (row,) = replayed(question(loads=[load_of(H20, factor=factor, flips=True)], cache_hit_ratio=0.5625))
        return row["storms"][0]

    most = storm(1.0)["flip_ratio"]
    assert 0 < most < 1
    assert storm(most)["flip_ratio"] == 1
    assert storm(most + 0.1)["flip_ratio"] < 1


def test_a_cache_that_warms_at_once_leaves_no_trace():
    loads = [load_of(H20, factor=0.5, flips=True)]
    slow, fast = replayed(*(question(loads=loads, cache_hit_ratio=0.5625, cache_warm_s=s) for s in (600.0, 1.0)))
    assert fast["storms"][0]["ttft_s"] == pytest.approx(fast["storms"][0]["usual_ttft_s"], rel=0.05)
    assert slow["storms"][0]["ttft_s"] > fast["storms"][0]["ttft_s"]


def test_without_a_flip_or_without_hits_there_is_no_storm():
    still, cacheless = [load_of(H20, factor=0.5)], [load_of(H20, factor=0.5, flips=True)]
    rows = replayed(question(loads=still, cache_hit_ratio=0.5), question(loads=cacheless))
    assert [row["storms"] for row in rows] == [[], []]


# --- shards -----------------------------------------------------------------------------------------------------------
def questions():
    return [
        question(service=service, period=period, loads=[load_of(H20, factor=factor, flips=period == "2027-03")], **more)
        for period in ("2027-02", "2027-03")
        for service, factor, more in (("chat", 1.2, {}), ("code", 0.5, {"tier": "batch", "cache_hit_ratio": 0.3}))
    ]


def test_any_number_of_shards_gives_the_same_bytes():
    def merged(most):
        payloads = json.loads(json.dumps(replay_payloads(questions(), calibration_digest=DIGEST, most=most)))
        parts = {at: replay_shard(payload) for at, payload in reversed(list(enumerate(payloads)))}
        return json.dumps(replay_merge([parts[at] for at in sorted(parts)]), allow_nan=False)

    assert merged(1) == merged(3)


def test_another_process_gives_the_same_bytes():
    (payload,) = replay_payloads([question(loads=apart()), questions()[0]], calibration_digest=DIGEST)
    code = (
        "import json, sys; from scenarios.replay import replay_shard; "
        "print(json.dumps(replay_shard(json.load(sys.stdin))))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "77"},
        check=True,
    )
    assert there.stdout.strip() == json.dumps(replay_shard(payload))


def test_another_seed_is_another_hour_and_a_period_of_the_same_plan_is_the_same():
    one, again, other = replayed(question(), question(period="2027-04"), question(seed=2))
    assert one["ttft_s"] == again["ttft_s"] != other["ttft_s"]


def test_tiers_add_their_services_up():
    merged = replay_merge([replayed(*questions())])
    assert [(tier["period"], tier["tier"]) for tier in merged["tiers"]] == [
        ("2027-02", "gold"),
        ("2027-02", "batch"),
        ("2027-03", "gold"),
        ("2027-03", "batch"),
    ]
    gold, row = merged["tiers"][0], merged["services"][0]
    assert gold["missed"] == ["chat"]
    assert gold["served_tok_s"] == row["served_tok_s"]
    assert gold["share_ratio"] == pytest.approx(row["share_ratio"])
    assert gold["disagreement_ratio"] == pytest.approx(row["disagreement_ratio"])


# --- figures by hand --------------------------------------------------------------------------------------------------
def sample(ttft_s, tpot_s=0.01, tok=10, arrival_s=0.0):
    count = len(ttft_s)
    tpot = np.full(count, tpot_s)
    arrival = np.full(count, arrival_s) + np.arange(count)
    return Sample(arrival, np.array(ttft_s, dtype=float), tpot, np.full(count, tok), "")


def test_shares_and_percentiles_of_two_kinds_by_hand():
    """A quarter of the requests on a kind that keeps half of its promises, the rest on one that keeps all."""
    half = [sample([1.0, 3.0]), sample([1.0, 3.0])]
    whole = [sample([0.5] * 8), sample([0.5] * 8)]
    slo = Slo(2.0, 0.05, 0.8)
    found = figures_of(slo, [Taken(0.25, tuple(half)), Taken(0.75, tuple(whole))], 100.0)
    assert found["ttft_share_ratio"] == pytest.approx(0.875)
    assert found["tpot_share_ratio"] == 1
    assert found["ttft_s"] == 1.0  # 0.75 at 0.5 s, 0.875 at 1 s
    assert found["within_tok_s"] == pytest.approx(87.5)
    assert found["verdict"] == HELD
    assert found["share_error_ratio"] == 0  # samples of a kind are alike
    strict = figures_of(Slo(2.0, 0.05, 0.95), [Taken(0.25, tuple(half)), Taken(0.75, tuple(whole))], 100.0)
    assert (strict["verdict"], strict["ttft_s"]) == (MISSED, 3.0)


def test_the_sampling_error_is_that_of_students_t_over_the_samples():
    """Two samples, 0.9 and 1.0: standard error 0.05, t with one degree of freedom 12.706."""
    assert half_width([(1.0, [0.9, 1.0])]) == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert half_width([(0.5, [0.9, 1.0]), (0.5, [0.9, 1.0])]) == pytest.approx(4.3027 * 0.05 / 2**0.5, rel=1e-4)


def test_what_scatters_across_the_promise_is_neither_held_nor_missed():
    scattered = [sample([1.0] * 10), sample([1.0] * 9 + [3.0]), sample([1.0] * 9 + [3.0])]
    found = figures_of(Slo(2.0, 0.05, 0.95), [Taken(1.0, tuple(scattered))], 1.0)
    assert (found["verdict"], found["is_held"]) == (UNSURE, False)
    assert found["ttft_low_s"] <= found["ttft_s"] <= found["ttft_high_s"]


def test_a_latency_without_end_is_none():
    lost = [sample([float("inf")] * 5), sample([1.0] * 5)]
    found = figures_of(Slo(2.0, 0.05), [Taken(1.0, tuple(lost))], 1.0)
    assert found["ttft_s"] is None
    assert found["share_ratio"] == 0.5


def test_served_tokens_are_what_holds_of_each_kind():
    assert served_of(100.0, [(0.25, 0.8, 0.04), (0.75, 1.0, 0.0)]) == {
        "served_tok_s": pytest.approx(95.0),
        "disagreement_ratio": pytest.approx(0.05),
        "disagreement_error_ratio": pytest.approx(0.01),
    }


def test_recovery_is_the_end_of_the_last_window_over_the_limit():
    slo = Slo(2.0, 0.05)
    good, bad = ([0.1] * 100, [9.0] * 100)
    assert recovery_s([sample(good), sample(good, arrival_s=600.0)], slo) == 0
    assert recovery_s([sample(bad), sample(good, arrival_s=600.0)], slo) == 300
    assert recovery_s([sample(good), sample(bad, arrival_s=300.0), sample(good, arrival_s=900.0)], slo) == 600
    assert recovery_s([sample(good), sample(bad, arrival_s=600.0)], slo) is None


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"percentile": 1.5}, r"replay\.questions\[0\]\.percentile: 1\.5 is above"),
        ({"cache_hit_ratio": 1.0}, r"replay\.questions\[0\]\.cache_hit_ratio"),
        ({"samples": 1}, r"replay\.questions\[0\]\.samples: 1 is below 3"),
        ({"model": "no-such-model"}, r"replay\.questions\[0\]: .*no-such-model"),
        ({"colour": "blue"}, r"replay\.questions\[0\]\.colour: unknown"),
    ],
)
def test_bad_values_are_refused_by_their_place(change, place):
    (payload,) = replay_payloads([question()], calibration_digest=DIGEST)
    payload["questions"][0] |= change
    with pytest.raises(ProblemError, match=place):
        replay_shard(payload)


def test_a_load_without_replicas_or_on_an_unknown_chip_is_refused():
    with pytest.raises(ProblemError, match=r"questions\[0\]\.loads\[0\]\.replicas: none serve 10 hosts"):
        replayed(question(loads=[load_of(H20, replicas=0.0)]))
    strange = replace(load_of(H20), unit=replace(rated(*H20)[1], chip="h2o"))
    with pytest.raises(ProblemError, match=r"questions\[0\]: unknown chip"):
        replayed(question(loads=[strange]))
    huge = replace(
        load_of(H20), unit=UnitValues("h20-96", 8, ConfigValues("bf16", tp=1, max_batched_tok=8192, max_seqs=8))
    )
    with pytest.raises(ProblemError, match=r"questions\[0\]"):
        replayed(replace(question(loads=[huge]), model="deepseek-r1"))


def test_answers_of_no_tokens_are_refused():
    asked = replace(question(), mix=replace(profile_mix("azure-conv"), output_tok=0.0))
    with pytest.raises(ProblemError, match=r"questions\[0\]\.mix\.output_tok: requests have no answers"):
        replayed(asked)


def test_another_calibration_than_the_one_named_is_refused():
    (payload,) = replay_payloads([question()], calibration_digest="0123456789abcdef")
    with pytest.raises(ProblemError, match=f"replay.calibration_digest: 0123456789ab is asked for, {DIGEST[:12]}"):
        replay_shard(payload)


def test_a_question_survives_json():
    asked = question(loads=apart(), cache_hit_ratio=0.3)
    (payload,) = replay_payloads([asked], calibration_digest=DIGEST)
    assert json.loads(json.dumps(payload))["questions"][0] == plain_of(asked)
