"""From a plan's loads to what is replayed: services, places, whole replicas, waves."""

import pytest

from accelerator import Slo, chip_get, goodput_search, model_get, profile_mix, rating_best
from scenarios.planning.plan import LoadRow, MigrationAnswer, OpenRow, SolverNote
from scenarios.planning.problem import PlanProblem, problem_read
from scenarios.replay_plan import Served, periods_with_waves, replay_questions, unit_of_label, unit_of_rating
from scenarios.replay_values import ConfigValues, UnitValues

SLO = Slo(2.0, 0.05)
CONV = profile_mix("azure-conv")
UNIT = UnitValues("h20-96", 8, ConfigValues("fp8", tp=2))
OWN = UnitValues("thead-ppu-810e", 16, ConfigValues("int8", tp=4))


def problem() -> PlanProblem:
    return problem_read(
        {
            "periods": ["2027-01", "2027-02", "2027-03"],
            "sites": [{"slug": "dc01", "region": "north"}],
            "places": [{"slug": "dc01/h1", "site": "dc01"}, {"slug": "dc01/h2", "site": "dc01"}],
            "kinds": [{"slug": "h20-8x", "homegrown": False}, {"slug": "ppu-16x", "homegrown": True}],
            "services": [
                {"slug": "chat", "region": "north", "demand_tok_s": [4000, 5000, 6000], "tier": "gold"},
                {"slug": "code", "region": "north", "demand_tok_s": 500},
            ],
            "rates": [
                {"service": "chat", "kind": "h20-8x", "tok_s": 2000},
                {"service": "chat", "kind": "ppu-16x", "tok_s": 3000, "ready": 1},
                {"service": "code", "kind": "h20-8x", "tok_s": 500},
            ],
        }
    )


def answer(*loads: LoadRow) -> MigrationAnswer:
    return MigrationAnswer(
        status="optimal",
        solver=SolverNote("by hand", "Optimal", 0.0, 0.0, 0.0, "money"),
        loads=loads,
        opened=(OpenRow(2, "chat", "ppu-16x", "whole"), OpenRow(1, "code", "ppu-16x", "whole")),
    )


def served():
    units = {("h20-8x", "whole"): UNIT, ("ppu-16x", "whole"): OWN}
    return {
        "chat": Served("qwen3-32b", CONV, SLO, units),
        "code": Served("qwen3-8b", CONV, Slo(1.0, 0.03, 0.99), units),
    }


LOADS = (
    LoadRow(1, "chat", "dc01/h1", "h20-8x", "whole", 2.5, 0.0, 0.0),
    LoadRow(2, "chat", "dc01/h1", "h20-8x", "whole", 1.5, 0.0, 1.0),
    LoadRow(2, "chat", "dc01/h2", "ppu-16x", "whole", 1.0, 0.0, 0.0, 5),
    LoadRow(2, "code", "dc01/h1", "h20-8x", "whole", 0.0, 0.0, 1.0),
    LoadRow(2, "chat", "dc01/h1", "ppu-16x", "whole", 1.0, 0.5, 0.5, 8),
)


def asked(**more):
    return replay_questions(problem(), answer(*LOADS), served(), periods=(1, 2), seed=7, **more)


def test_each_service_of_each_period_is_a_question_in_order():
    found = asked()
    assert [(one.period, one.service) for one in found] == [
        ("2027-02", "chat"),
        ("2027-02", "code"),
        ("2027-03", "chat"),
        ("2027-03", "code"),
    ]
    chat, code = found[2], found[3]
    assert (chat.tier, chat.region, chat.model, chat.demand_tok_s) == ("gold", "north", "qwen3-32b", 6000)
    assert (code.ttft_s, code.tpot_s, code.percentile, code.demand_tok_s) == (1.0, 0.03, 0.99, 500)
    assert {one.seed for one in found} == {7}


def test_loads_are_what_serves_where_it_stands():
    first, second = asked()[0], asked()[2]
    assert [(one.place, one.site, one.hosts, one.tok_s, one.unit) for one in first.loads] == [
        ("dc01/h1", "dc01", 2.5, 2000, UNIT)
    ]
    assert [(one.place, one.kind, one.hosts) for one in second.loads] == [
        ("dc01/h1", "h20-8x", 1.5),
        ("dc01/h2", "ppu-16x", 1.0),
        ("dc01/h1", "ppu-16x", 1.0),
    ]


def test_a_service_that_only_holds_reserve_serves_nothing():
    assert asked()[3].loads == ()


def test_whole_replicas_are_shared_with_copies_and_what_is_held():
    """Of eight replicas that carry one host of traffic, half a host of copies and half in reserve four serve."""
    loads = asked()[2].loads
    assert [one.replicas for one in loads] == [None, 5, 4]


def test_what_opens_in_a_period_flips_in_it():
    assert [one.flips for one in asked()[2].loads] == [False, True, True]
    assert periods_with_waves(answer(*LOADS)) == (1, 2)


def test_options_reach_every_question():
    for one in asked(samples=5, reserve_ratio=0.1, cache_hit_ratio=0.5, cache_warm_s=60.0):
        assert (one.samples, one.reserve_ratio, one.cache_hit_ratio, one.cache_warm_s) == (5, 0.1, 0.5, 60.0)


def test_services_that_nobody_describes_are_left_out_and_kinds_are_an_error():
    one = {"chat": served()["chat"]}
    found = replay_questions(problem(), answer(*LOADS), one, periods=(2,), seed=1)
    assert [one.service for one in found] == ["chat"]
    bare = {"chat": Served("qwen3-32b", CONV, SLO, {("h20-8x", "whole"): UNIT})}
    with pytest.raises(ValueError, match="which replicas of ppu-16x serve chat"):
        replay_questions(problem(), answer(*LOADS), bare, periods=(2,), seed=1)


# --- what was rated ---------------------------------------------------------------------------------------------------
def test_a_rating_by_simulation_says_its_layout_with_all_limits():
    chip, model = chip_get("h20-96"), model_get("qwen3-32b")
    rating = goodput_search(chip, model, CONV, SLO, host_chips=8)
    unit = unit_of_rating(rating, 8)
    assert unit.config.config() == rating.config
    assert unit.prefill is not None
    assert unit.prefill.config() == rating.prefill_config
    assert (unit.replicas, unit.prefill_replicas) == (rating.replicas, rating.prefill_replicas)
    assert unit.chips == rating.chips


def test_a_rating_by_the_formula_says_no_limits_of_a_step():
    rating = rating_best(chip_get("h20-96"), model_get("qwen3-8b"), CONV, SLO, host_chips=8)
    unit = unit_of_rating(rating, 8)
    assert unit.config.is_open
    assert unit.config.config().label == rating.config.label


def test_a_refusal_serves_nobody():
    rating = rating_best(chip_get("a10"), model_get("deepseek-r1"), CONV, SLO, host_chips=1)
    with pytest.raises(ValueError, match="a10 does not serve deepseek-r1"):
        unit_of_rating(rating, 1)


@pytest.mark.parametrize("label", ["fp8 tp4", "int8_wo tp1", "int8 dp8 ep8", "bf16 tp8 pp2"])
def test_a_label_says_its_config(label):
    assert unit_of_label(label, "h20-96", 8).config.config().label == label


@pytest.mark.parametrize("label", ["", "tp4", "fp8", "fp8 tp4 x2", "1 x fp8 tp2 + 3 x fp8 tp2"])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(ValueError, match="is no config"):
        unit_of_label(label, "h20-96", 8)
