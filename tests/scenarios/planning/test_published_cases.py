"""Published fleets as problems: what the planner must answer is printed elsewhere.

A machine is rented by the hour here: it is bought for its rent and is worth nothing after the one period, so that the
money of a plan is dollars an hour. A request may stand where tokens do: rates and demand only need one unit.
"""

import itertools
import math

import pytest

from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import OPTIMAL
from scenarios.planning.problem import (
    DECODE,
    PREFILL,
    WHOLE,
    FloorValues,
    KindValues,
    LimitValues,
    OfferValues,
    PlanProblem,
    RateValues,
    RuleValues,
    ServiceValues,
    SiteValues,
    SolverValues,
    StandingValues,
    UseValues,
)
from tests.scenarios.planning.verifier import verify

EXACT = SolverValues(gap_ratio=0.0, nodes_most=None)
SITE = SiteValues("site", "region")


def rented(slug, usd_per_h, *, homegrown=False, **values):
    return KindValues(slug, homegrown, price=usd_per_h, life_months=1.0, **values)


def problem_of(*, kinds, services, rates, **values):
    return PlanProblem(
        periods=("one",),
        sites=(SITE,),
        kinds=tuple(kinds),
        services=tuple(services),
        rates=tuple(rates),
        offers=tuple(OfferValues(kind.slug, 0, 10_000) for kind in kinds),
        rules=RuleValues(reserve_ratio=0.0),
        solver=EXACT,
        currency="USD",
        **values,
    )


def planned(problem):
    """Return the plan, checked, and its hosts by kind."""
    answer = plan_migration(problem)
    assert answer.status == OPTIMAL
    assert verify(problem, answer) == []
    return answer, {row.kind: row.kept + row.new for row in answer.hosts}


# --- Melange: the cheapest mix of GPU types ---------------------------------------------------------------------------
# github.com/tyler-griggs/melange-release at d46ab438, melange/config/example.json and README: dollars an hour, requests
# per second of one GPU by slice of prompt and answer length, 30 requests per second shared as [[0.2, 0.1], [0.5, 0.2]].

SLICES = (("short", 6.0), ("short-in", 3.0), ("long-in", 15.0), ("long", 6.0))
GPUS = {"A10G": (1.01, (2.0, 1.0, 5.0, 2.0)), "A100-80GB": (3.67, (20.0, 20.0, 40.0, 20.0))}


def toy(gpus_of):
    """The toy whose slice number i may be served on `gpus_of[i]`."""
    return problem_of(
        kinds=[rented(gpu, usd) for gpu, (usd, _) in GPUS.items()],
        services=[ServiceValues(name, "region", (rate,)) for name, rate in SLICES],
        rates=[RateValues(SLICES[at][0], gpu, GPUS[gpu][1][at]) for at, gpus in enumerate(gpus_of) for gpu in gpus],
    )


@pytest.mark.parametrize(("gpu", "hosts", "usd_per_h"), [("A10G", 12, 12.12), ("A100-80GB", 2, 7.34)])
def test_melange_with_one_kind(gpu, hosts, usd_per_h):
    answer, by_kind = planned(toy([(gpu,)] * 4))
    assert by_kind == {gpu: hosts}
    assert answer.solver.objective == pytest.approx(usd_per_h, abs=0.005)


def test_melange_mixes_where_a_slice_is_served_on_one_kind():
    """Melange never divides a slice. So each assignment of slices to kinds is planned; the cheapest is as published."""
    plans = [planned(toy([(gpu,) for gpu in gpus])) for gpus in itertools.product(GPUS, repeat=4)]
    answer, by_kind = min(plans, key=lambda plan: plan[0].solver.objective)
    assert by_kind == {"A10G": 3, "A100-80GB": 1}
    assert answer.solver.objective == pytest.approx(6.70, abs=0.005)


def test_melange_is_cheaper_where_traffic_may_be_divided():
    """By hand: all is 1.125 A100. One A100 and an eighth of one more, which for long prompts is one A10G."""
    answer, by_kind = planned(toy([tuple(GPUS)] * 4))
    assert by_kind == {"A10G": 1, "A100-80GB": 1}
    assert answer.solver.objective == pytest.approx(4.68, abs=0.005)


# --- Splitwise: machines for prompts and machines for tokens ----------------------------------------------------------
# arXiv 2311.18677 and github.com/Mutinifni/splitwise-sim at 8f99e7dc: counts of 8-GPU machines of each design, which a
# search over simulations under an SLO found. Dollars an hour for a GPU: A100 2.21, H100 4.76; TDP of a GPU 400, 700,
# and 490 W capped. What one machine does is not printed: it follows from a design's counts, and differs between designs
# (ten A100 take the tokens of 130 requests per second after A100 prompts, sixteen after H100 prompts). So each design
# is planned from its own rates, for code beside whole machines at the rate of the baseline: the planner must buy the
# published counts, to the dollar and the watt, and prefer the split where both are there.

A100, H100, CAPPED = rented("A100", 8 * 2.21), rented("H100", 8 * 4.76), rented("H100-capped", 8 * 4.76)
MACHINE_W = {"A100": 8 * 400.0, "H100": 8 * 700.0, "H100-capped": 8 * 490.0}


def design(prompts, tokens, whole):
    """A service that one design serves with (kind, machines) for prompts, tokens or all of it."""
    parts = [(phase, *part) for phase, part in ((PREFILL, prompts), (DECODE, tokens), (WHOLE, whole)) if part]
    demand = float(math.prod(machines for _, _, machines in parts))  # so that rates are whole numbers
    kinds = {kind.slug: kind for _, kind, _ in parts}
    return problem_of(
        kinds=kinds.values(),
        services=[ServiceValues("requests", "region", (demand,))],
        rates=[RateValues("requests", kind.slug, demand / machines, phase) for phase, kind, machines in parts],
        limits=(LimitValues("gpus", (1e6,), tuple(UseValues("site", kind, MACHINE_W[kind]) for kind in kinds)),),
    )


@pytest.mark.parametrize(
    ("prompts", "tokens", "whole", "usd_per_h"),
    [
        pytest.param(None, None, (A100, 113), 1997.84, id="code-baseline-A100"),
        pytest.param(None, None, (H100, 51), 1942.08, id="code-baseline-H100"),
        pytest.param((A100, 54), (A100, 10), (A100, 113), 1131.52, id="code-AA"),
        pytest.param((H100, 23), (H100, 10), (H100, 51), 1256.64, id="code-HH"),
        pytest.param((H100, 23), (A100, 16), (H100, 51), 1158.72, id="code-HA"),
        pytest.param((H100, 23), (CAPPED, 10), (H100, 51), 1256.64, id="code-HHcap"),
        pytest.param(None, None, (A100, 86), 1520.48, id="cost-baseline-A100"),
        pytest.param(None, None, (H100, 40), 1523.20, id="cost-baseline-H100"),
        pytest.param((A100, 51), (A100, 35), None, 1520.48, id="cost-AA"),
        pytest.param((H100, 25), (H100, 15), None, 1523.20, id="cost-HH"),
        pytest.param((H100, 30), (A100, 21), None, 1513.68, id="cost-HA"),
        pytest.param((H100, 30), (CAPPED, 10), None, 1523.20, id="cost-HHcap"),
    ],
)
def test_splitwise_machines_and_dollars(prompts, tokens, whole, usd_per_h):
    answer, by_kind = planned(design(prompts, tokens, whole))
    expected = {}
    for kind, machines in (part for part in (prompts, tokens) if part) if prompts else [whole]:
        expected[kind.slug] = expected.get(kind.slug, 0) + machines
    assert by_kind == expected
    assert answer.solver.objective == pytest.approx(usd_per_h, abs=0.005)


@pytest.mark.parametrize(
    ("prompts", "tokens", "gpu_w"),
    [
        pytest.param((A100, 45), (A100, 25), 224_000, id="AA"),
        pytest.param((H100, 25), (H100, 15), 224_000, id="HH"),
        pytest.param((H100, 25), (A100, 26), 223_200, id="HA"),
        pytest.param((H100, 25), (CAPPED, 21), 222_320, id="HHcap"),
    ],
)
def test_splitwise_at_the_power_of_forty_h100_machines(prompts, tokens, gpu_w):
    answer, _ = planned(design(prompts, tokens, None))
    assert answer.limits[0].used == pytest.approx(gpu_w)


def test_the_cheapest_published_split_for_code_is_the_old_chip():
    splits = [((A100, 54), (A100, 10)), ((H100, 23), (H100, 10)), ((H100, 23), (A100, 16))]
    cheapest = min(splits, key=lambda split: planned(design(*split, None))[0].solver.objective)
    assert cheapest == ((A100, 54), (A100, 10))


# --- a day of DeepSeek-V3 and R1 --------------------------------------------------------------------------------------
# github.com/deepseek-ai/open-infra-index at 56d86855, day 6: 608e9 input tokens (342e9 of them from the cache) and
# 168e9 output tokens in 24 h; a node of 8 H800 reads 73,700 input tokens per second with hits, or makes 14,800; 2
# dollars a GPU-hour; 278 nodes at the peak, 226.75 in the mean, 87,072 dollars.

INPUT_TOK, MISSED_TOK, OUTPUT_TOK, DAY_S = 608e9, 266e9, 168e9, 86_400
MEAN_TOK_S = OUTPUT_TOK / DAY_S


def day(*kinds, demand_tok_s=MEAN_TOK_S, mean_ratio=1.0, **values):
    """The day as a problem; a kind is (kind, input tokens read per output token made, prefill and decode rates)."""
    service = ServiceValues("deepseek", "region", (demand_tok_s,), mean_ratio=mean_ratio)
    rates = []
    for kind, input_tok, prefill_tok_s, decode_tok_s in kinds:
        ready = {"in_use": True} if kind.homegrown else {}
        rates += [
            RateValues("deepseek", kind.slug, prefill_tok_s * OUTPUT_TOK / input_tok, PREFILL, **ready),
            RateValues("deepseek", kind.slug, decode_tok_s, DECODE, **ready),
        ]
    return problem_of(kinds=[kind for kind, *_ in kinds], services=[service], rates=rates, **values)


def filled(answer):
    """Hosts filled, by phase."""
    return {phase: sum(row.serving_hosts for row in answer.loads if row.phase == phase) for phase in (PREFILL, DECODE)}


@pytest.mark.parametrize(
    ("kind", "input_tok", "prefill_tok_s", "decode_tok_s", "prefill", "decode", "hosts"),
    [
        pytest.param(rented("H800", 16.0), INPUT_TOK, 73_700, 14_800, 95.5, 131.4, 227, id="H800"),
        # lmsys.org, 2025-09-26, Ant group: 8 H20-96 read 16,500 input tokens per second (4,096 each), make 5,700
        pytest.param(rented("H20", 16.0), MISSED_TOK, 16_500, 5_700, 186.6, 341.1, 528, id="H20"),
        # arXiv 2506.12708, CloudMatrix384: an NPU reads 6,688 and makes 1,943 at a TPOT under 50 ms, 538 at 15 ms
        pytest.param(rented("910C", 16.0, homegrown=True), MISSED_TOK, 53_504, 15_544, 57.5, 125.1, 183, id="910C"),
        pytest.param(rented("910C", 16.0, homegrown=True), MISSED_TOK, 53_504, 4_304, 57.5, 451.8, 510, id="910C-15ms"),
    ],
)
def test_hosts_of_the_deepseek_day(kind, input_tok, prefill_tok_s, decode_tok_s, prefill, decode, hosts):
    answer, by_kind = planned(day((kind, input_tok, prefill_tok_s, decode_tok_s)))
    assert filled(answer) == {PREFILL: pytest.approx(prefill, abs=0.05), DECODE: pytest.approx(decode, abs=0.05)}
    assert by_kind == {kind.slug: hosts}


def test_the_deepseek_day_costs_what_was_published():
    """Within the 1 % of the source's own roundings: whole hosts, all day long, at 2 dollars a GPU-hour."""
    answer, by_kind = planned(day((rented("H800", 8 * 24 * 2.0), INPUT_TOK, 73_700, 14_800)))
    assert by_kind == {"H800": 227}
    assert answer.solver.objective == 227 * 384 == pytest.approx(87_072, rel=0.01)


def test_the_deepseek_day_is_paid_by_its_mean_and_built_for_its_peak():
    """278 nodes stand for the peak, the mean 226.75 are paid: as a kilowatt each, at 16 dollars a kilowatt-hour."""
    node = KindValues("H800", homegrown=False, power_w=1000.0, idle_w=0.0)
    mean_nodes = INPUT_TOK / DAY_S / 73_700 + OUTPUT_TOK / DAY_S / 14_800
    peak = day(
        (node, INPUT_TOK, 73_700, 14_800), demand_tok_s=MEAN_TOK_S * 277.9 / mean_nodes, mean_ratio=226.75 / 277.9
    )
    problem = PlanProblem(
        **{
            **{name: getattr(peak, name) for name in ("periods", "kinds", "services", "rates", "offers", "solver")},
            "sites": (SiteValues("site", "region", tariff_per_kwh=(16.0,)),),
            "rules": RuleValues(reserve_ratio=0.0, period_months=24 / 730.5),
        }
    )
    answer, by_kind = planned(problem)
    assert by_kind == {"H800": 278}
    assert answer.solver.objective == pytest.approx(87_072, abs=0.5)


def test_the_deepseek_day_moves_from_528_h20_hosts_to_183_of_the_910c():
    h20, npu = KindValues("H20", homegrown=False), KindValues("910C", homegrown=True)
    problem = day(
        (h20, MISSED_TOK, 16_500, 5_700),
        (npu, MISSED_TOK, 53_504, 15_544),
        standing=(StandingValues("site", "H20", (528.0,)),),
        floors=(FloorValues(1.0),),
        limits=(LimitValues("rack-units", (183.0,), (UseValues("site", "910C", 1.0),)),),
    )
    answer, by_kind = planned(problem)
    assert by_kind["910C"] == 183
    assert {row.kind for row in answer.loads} == {"910C"}


@pytest.mark.parametrize("decode_ratio", [0.50, 0.60, 0.69])
def test_a_chip_weaker_in_bandwidth_than_in_compute_reads_prompts_first(decode_ratio):
    """Few of them beside H20 hosts: all of them read prompts.

    A PPU does 0.81 of an H20's prompts and 0.50 to 0.69 of its answers, by 120 of 148 TFLOPS (BF16, as published) and
    2.0 to 2.76 of 4.0 TB/s (what six stacks of HBM2e may give; its bandwidth is not published).
    """
    h20 = rented("H20", 16.0)
    ppu = rented("PPU", 0.0, homegrown=True)
    problem = day(
        (h20, MISSED_TOK, 16_500, 5_700),
        (ppu, MISSED_TOK, 0.81 * 16_500, decode_ratio * 5_700),
        limits=(LimitValues("racks", (100.0,), (UseValues("site", "PPU", 1.0),)),),
    )
    answer, by_kind = planned(problem)
    assert by_kind["PPU"] == 100
    on_ppu = {row.phase: row.serving_hosts for row in answer.loads if row.kind == "PPU"}
    assert on_ppu[PREFILL] > 98  # what the last whole H20 host leaves free may take the rest
    saved = 527.7 - by_kind["H20"]
    assert saved == pytest.approx(0.81 * 100, abs=1.0)
