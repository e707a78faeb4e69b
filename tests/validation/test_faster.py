"""What a faster chip is sure to give: with the same requests in the same order, on one replica."""

from dataclasses import replace

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.ledger import Latency
from accelerator.simulation import Limits, Load, LoadKind, Plan, Pool, Router
from accelerator.simulator import simulate
from accelerator.steps import DeploymentConfig, step_table_build
from tests.accelerator.simulations import requests, table

LEVELS = np.linspace(0.01, 1, 100)
TIMES = (
    "linear_s", "decode_s", "context_s_per_tok", "window_s_per_tok", "prefill_s_per_tok2", "window_s_per_tok2",
    "prefill_s", "fixed_s",
)  # fmt: skip
ROUNDING = 1e-9


def scaled(step_table, factor):
    """Return a table whose every step takes so many times as long."""
    parts = {name: factor * getattr(step_table, name) for name in TIMES}
    activity = replace(step_table.activity, linear_busy_s=factor * step_table.activity.linear_busy_s)
    return replace(step_table, **parts, activity=activity)


def first_tokens_s(step_table, workload, load=None, **limits):
    """Return the time to first token of every request. [s]"""
    plan = Plan([Pool("p", step_table, **limits)], load=load or Load())
    return simulate(plan, workload, keep_requests=True).exact[Latency.TTFT]


def random_requests(rng, mean_gap_s, n, most_prompt_tok=40, most_answer_tok=30):
    arrival_s = np.cumsum(rng.exponential(mean_gap_s, n))
    return requests(
        *zip(arrival_s, rng.integers(1, most_prompt_tok, n), rng.integers(1, most_answer_tok, n), strict=True)
    )


def percentiles_s(latencies_s):
    return np.quantile(latencies_s, LEVELS, method="inverted_cdf")


def test_a_faster_step_may_just_miss_an_arrival():
    """Why there is no simpler law: the replica decodes, and a request arrives at 9.9.

    With steps of 10 s it is in the step from 10 to 20. With steps of 9 s the second step began at 9, so it waits for
    the one from 18 to 27.
    """
    workload = requests((0, 1, 5), (9.9, 1, 1))
    slow_s, fast_s = (first_tokens_s(table(fixed_s=step_s), workload)[1] for step_s in (10.0, 9.0))
    assert (slow_s, fast_s) == (pytest.approx(20 - 9.9), pytest.approx(27 - 9.9))
    assert slow_s < fast_s < slow_s + 9


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99])
def test_with_one_sequence_at_a_time_no_request_waits_longer(factor):
    """Nobody shares a step, so a request begins when it has come and the one before has ended, and then takes less."""
    slow = table(token_s=0.02, context_s=0.001, pair_s=0.002, fixed_s=0.3)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        workload = random_requests(rng, rng.choice([5, 7, 15]), 60)
        slow_s, fast_s = (
            first_tokens_s(scaled(slow, times), workload, max_seqs=1, max_batched_tok=16) for times in (1, factor)
        )
        assert (fast_s <= slow_s).all()


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("max_seqs", [2, 8])
def test_with_steps_of_one_length_no_first_token_comes_more_than_a_step_later(max_seqs, factor):
    """And so no percentile does. A step is that of the faster chip.

    By induction over the requests in order: a request is admitted at the first end of a step after it has come and a
    place is free. On the faster chip a step ends at most one step after it came, and places become free at most one
    step later than on the slower chip, by induction. So it is admitted at most one step later; its own steps are
    shorter, so it ends at most one step later, too.
    """
    later = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        workload = random_requests(rng, rng.choice([0.7, 1, 3]) * 15 / max_seqs, 60, most_prompt_tok=8)
        slow_s, fast_s = (
            first_tokens_s(table(fixed_s=step_s), workload, max_seqs=max_seqs) for step_s in (1.0, factor)
        )
        assert (fast_s <= slow_s + factor + ROUNDING).all()
        later += (percentiles_s(fast_s) > percentiles_s(slow_s) + ROUNDING).any()
    assert later > 0 or factor == 0.5  # it does happen


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.95, 0.99])
def test_no_percentile_rises_by_more_than_the_longest_step_and_means_fall_by_the_factor(factor):
    """Steps that are longer the more they hold have no such proof. A search found nothing worse than one of them.

    The longest step is one of the faster chip that fills its budget of tokens.
    """
    means_s = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        fixed_s, budget_tok, busy = (rng.choice(choice) for choice in ([0.05, 0.3, 1.0], [8, 16, 64], [0.7, 1, 3]))
        limits = {"max_seqs": 8, "max_batched_tok": int(budget_tok)}
        workload = random_requests(rng, busy * (15 * fixed_s / 8 + 0.4), 60)
        slow = table(token_s=0.02, fixed_s=fixed_s)
        slow_s, fast_s = (first_tokens_s(scaled(slow, times), workload, **limits) for times in (1, factor))
        longest_s = factor * (fixed_s + 0.02 * budget_tok)
        assert (percentiles_s(fast_s) <= percentiles_s(slow_s) + longest_s).all()
        means_s.append((slow_s.mean(), fast_s.mean()))
    slow_mean_s, fast_mean_s = np.mean(means_s, axis=0)
    assert fast_mean_s < factor * slow_mean_s


def test_a_faster_real_chip_answers_sooner():
    """An H200 beside an A100: both with 70 B parameters on two chips, at a load that the A100 just serves."""
    config = DeploymentConfig("bf16", tp=2, max_batched_tok=512, max_seqs=128)
    slow, fast = (step_table_build(chip_get(chip), model_get("llama-3.1-70b"), config) for chip in ("a100-80", "h200"))
    for seed in range(5):
        workload = random_requests(np.random.default_rng(seed), 0.7, 2000, 1800, 400)
        slow_s, fast_s = (percentiles_s(first_tokens_s(step_table, workload)) for step_table in (slow, fast))
        assert (fast_s < slow_s).all()


@pytest.mark.parametrize(
    "load", [Load(LoadKind.CLOSED, 5), Load(LoadKind.STATIC, 7), Load()], ids=["closed", "static", "all at once"]
)
@pytest.mark.parametrize("factor", [0.3, 0.9, 0.99])
def test_where_arrivals_follow_the_chip_everything_is_faster_by_the_factor(load, factor):
    for seed in range(10):
        workload = random_requests(np.random.default_rng(seed), 1.0, 60)
        workload = replace(workload, arrival_s=np.zeros(60))
        slow = table(token_s=0.02, context_s=0.001, pair_s=0.002, fixed_s=0.3)
        slow_s, fast_s = (
            first_tokens_s(scaled(slow, times), workload, load, kv_blocks=20, max_batched_tok=16)
            for times in (1, factor)
        )
        assert fast_s == pytest.approx(factor * slow_s)


def test_equal_seeds_give_equal_bytes_whatever_is_random():
    """Random routing, pauses and acceptance; another seed gives other bytes."""
    step_table = table(64, 8, token_s=0.003, fixed_s=0.01, context_s=0.0001)
    pool = Pool("p", step_table, replicas=3, kv_blocks=60, draft_tok=2, acceptance_ratio=0.6)
    load = Load(LoadKind.CLOSED, 20, think_s=0.5, think_random=True)
    for router in (Router.RANDOM, Router.POWER_OF_TWO):
        content = [
            simulate(
                Plan([pool], router=router, load=load, seed=seed, slos=[Limits(0.5, 0.1)]),
                random_requests(np.random.default_rng(1), 1.0, 500),
            ).to_bytes()
            for seed in (5, 5, 6)
        ]
        assert content[0] == content[1] != content[2]
