"""The face of the simulator: small cases by mental arithmetic, what always holds, what is refused, what adds up."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from accelerator import _des
from accelerator.errors import ConfigError
from accelerator.kernels import CHOICES, kernel_load
from accelerator.ledger import Amount, Count, Fate, Latency, Sampled, Time
from accelerator.outcome import Outcome, outcomes_merge
from accelerator.simulation import (
    UNLIMITED,
    Change,
    ChangeKind,
    Limits,
    Load,
    LoadKind,
    Plan,
    Pool,
    Progress,
    Role,
    Router,
    failures_draw,
    scaling,
)
from accelerator.simulator import simulate
from accelerator.traces import workload_read
from tests.accelerator.simulations import random_case, requests, run, table

SECOND = table(fixed_s=1.0)
"""Every step takes a second."""
PER_TOKEN = table(token_s=1.0, fixed_s=0.5)
"""A step takes a second per token and half a second more."""
CLOSED, STATIC = LoadKind.CLOSED, LoadKind.STATIC
SPAN = ((min, Time.BEGIN_S), (max, Time.END_S))


@pytest.fixture(params=CHOICES)
def des(request):
    return kernel_load(request.param, "des")


def outcome_of(pools, *rows, des=None, columns=None, changes=(), **plan):
    pools = [pools] if isinstance(pools, Pool) else pools
    changes = [Change(*change) for change in changes]
    workload = requests(*rows, **columns or {})
    return simulate(Plan(pools, changes=changes, **plan), workload, keep_requests=True, kernel=des)


def counted(outcome, what):
    return int(outcome.ledger.count[:, what].sum())


def amount(outcome, what):
    return outcome.ledger.amount[:, what].tolist()


def total_s(outcome, kind):
    return outcome.ledger.latency_sum_s[:, kind].sum()


def pool_row(outcome):
    return next(outcome.pool_rows())


def mean(outcome, kind):
    return outcome.latencies()[kind]["mean"]


# --- one request ------------------------------------------------------------------------------------------------------
def test_one_request_takes_a_step_for_its_prompt_and_one_for_each_later_token(des):
    """Four prompt tokens take 4.5 s and emit the first token, two more take 1.5 s each."""
    outcome = outcome_of(Pool("p", PER_TOKEN), (2, 4, 3), des=des)
    latencies = outcome.latencies()
    assert {name: row["mean"] for name, row in latencies.items()} == {
        "ttft_s": 4.5, "tpot_s": 1.5, "itl_s": 1.5, "e2e_s": 7.5, "queue_s": 0,
    }  # fmt: skip
    assert latencies["itl_s"]["samples"] == 2
    assert [outcome.kept[name][0] for name in ("arrival_s", "first_s", "finish_s")] == [2, 6.5, 9.5]
    assert (outcome.duration_s, counted(outcome, Count.STEPS), counted(outcome, Count.OUTPUT_TOK)) == (7.5, 3, 3)


def test_a_decode_step_reads_the_context_with_the_new_token(des):
    """After a prompt of 4 the second token sees 5, the third 6; a quarter of a second each."""
    outcome = outcome_of(Pool("p", table(fixed_s=1.0, context_s=0.25)), (0, 4, 3), des=des)
    assert outcome.kept["finish_s"][0] == 1 + (1 + 5 / 4) + (1 + 6 / 4)
    assert amount(outcome, Amount.KV_TOK_S) == [4 * 1 + 5 * 2.25 + 6 * 2.5]


def test_a_window_hides_what_is_before_it(des):
    """Contexts of 5, 6, 7 and 8 tokens, of which a window of 6 shows 5, 6, 6 and 6."""
    windowed = table(fixed_s=1.0, window_tok=6.0, window_s_per_tok=np.full(17, 0.5))
    outcome = outcome_of(Pool("p", windowed), (0, 4, 5), des=des)
    assert outcome.kept["finish_s"][0] == 5 + 0.5 * (5 + 6 + 6 + 6)


def test_a_window_hides_pairs_of_a_prompt_whatever_its_chunks(des):
    """Of ten tokens in a window of three each sees three at most: 3 x 10 - 3^2 / 2 pairs."""
    windowed = table(window_tok=3.0, window_s_per_tok2=1.0)
    for chunk_tok in (1, 2, 3, 4, 10, 64):
        outcome = outcome_of(Pool("p", windowed, max_batched_tok=chunk_tok, max_seqs=1), (0, 10, 1), des=des)
        assert outcome.kept["first_s"][0] == 25.5


def test_a_long_prompt_is_read_in_chunks_and_its_pairs_do_not_depend_on_them(des):
    """Ten tokens in chunks of 4, 4 and 2; 10^2 / 2 pairs in all."""
    outcome = outcome_of(Pool("p", PER_TOKEN, max_batched_tok=4, max_seqs=2), (0, 10, 1), des=des)
    assert (outcome.kept["first_s"][0], counted(outcome, Count.STEPS)) == (10 + 3 * 0.5, 3)
    pairs = table(pair_s=1.0)
    for chunk_tok in (1, 3, 4, 10, 64):
        outcome = outcome_of(Pool("p", pairs, max_batched_tok=chunk_tok, max_seqs=1), (0, 10, 1), des=des)
        assert outcome.kept["first_s"][0] == 50


def test_decodes_take_their_tokens_before_chunks_do(des):
    """The first request decodes beside the second one's prompt of 9: one token of four is its own, three are left."""
    outcome = outcome_of(Pool("p", PER_TOKEN, max_batched_tok=4, max_seqs=2), (0, 1, 10), (1, 9, 1), des=des)
    assert outcome.kept["first_s"].tolist() == [1.5, 1.5 + 3 * 4.5]


# --- loads ------------------------------------------------------------------------------------------------------------
def test_a_client_of_a_closed_loop_sends_after_its_last_answer_and_a_pause(des):
    load = Load(CLOSED, 1, think_s=0.25)
    outcome = outcome_of(Pool("p", SECOND), (9, 1, 2), (9, 1, 1), (9, 1, 3), load=load, des=des)
    assert outcome.kept["arrival_s"].tolist() == [0, 2.25, 3.5]
    assert outcome.kept["finish_s"].tolist() == [2, 3.25, 6.5]


def test_clients_begin_evenly_over_the_ramp(des):
    outcome = outcome_of(Pool("p", SECOND), *[(0, 1, 9)] * 5, load=Load(CLOSED, 4, ramp_s=8.0), des=des)
    assert outcome.kept["arrival_s"].tolist() == [0, 2, 4, 6, 9]


def test_random_pauses_are_exponential(des):
    load = Load(CLOSED, 1, think_s=0.5, think_random=True)
    kept = outcome_of(Pool("p", SECOND), *[(0, 1, 1)] * 2000, load=load, des=des).kept
    pauses_s = kept["arrival_s"][1:] - kept["finish_s"][:-1]
    assert pauses_s.mean() == pytest.approx(0.5, abs=3 * 0.5 / 2000**0.5)
    assert np.median(pauses_s) == pytest.approx(0.5 * np.log(2), abs=0.05)
    assert pauses_s.min() > 0


def test_a_static_batch_begins_when_all_of_the_last_one_have_ended(des):
    rows = [(0, 1, answer_tok) for answer_tok in (1, 3, 2, 2, 1)]
    kept = outcome_of(Pool("p", SECOND), *rows, load=Load(STATIC, 2), des=des).kept
    assert kept["arrival_s"].tolist() == [0, 0, 3, 3, 5]
    assert kept["finish_s"].tolist() == [1, 3, 5, 5, 6]


def test_all_at_once(des):
    outcome = outcome_of(Pool("p", SECOND, max_seqs=3), *[(0, 1, 2)] * 7, des=des)
    assert outcome.kept["finish_s"].tolist() == [2, 2, 2, 4, 4, 4, 6]
    assert (outcome.duration_s, outcome.rate(outcome.finished)) == (6, 7 / 6)


# --- limits of a replica ----------------------------------------------------------------------------------------------
def test_sequences_and_tokens_of_a_step_are_never_more_than_allowed(des):
    few_seqs = outcome_of(Pool("p", SECOND, max_seqs=3), *[(0, 1, 4)] * 8, des=des)
    assert pool_row(few_seqs)["peak_running"] == 3
    few_tok = outcome_of(Pool("p", table(4, 4, fixed_s=1.0)), *[(0, 3, 1)] * 4, des=des)
    assert few_tok.kept["first_s"].tolist() == [1, 2, 3, 3]  # 3 + 1, 2 + 2, 1 + 3 tokens of prompts


def test_preempted_requests_are_recomputed_and_still_get_every_token(des):
    pool = Pool("p", SECOND, kv_blocks=12, block_tok=4)
    outcome = outcome_of(pool, *[(0, 5, 20)] * 6, des=des)
    row = pool_row(outcome)
    assert row["preemptions"] == outcome.kept["preemptions"].sum() > 0
    assert (outcome.finished, row["output_tok"]) == (6, 6 * 20)
    assert row["prefill_tok"] == 6 * 5 + row["recomputed_tok"]
    assert row["recomputed_tok"] > 5 * row["preemptions"]  # prompts, and what they had emitted
    assert row["kv_peak_ratio"] == 1.0
    assert outcome.latencies()["queue_s"]["samples"] == 6 + row["preemptions"]


def test_a_watermark_keeps_blocks_for_those_that_run(des):
    """With two of five blocks spared, the second prompt waits for the first one's end; the third takes all, alone."""
    rows = [(0, 3, 2), (0, 3, 2), (4, 9, 1)]
    spared = outcome_of(Pool("p", SECOND, kv_blocks=5, block_tok=2, watermark_blocks=2), *rows, des=des)
    assert spared.kept["first_s"].tolist() == [1, 3, 5]
    plain = outcome_of(Pool("p", SECOND, kv_blocks=5, block_tok=2), *rows, des=des)
    assert plain.kept["first_s"].tolist() == [1, 1, 5]


@pytest.mark.parametrize(("state_blocks", "per_tok", "window_kv_tok"), [(2.0, 0, 0), (0, 0.25, 8), (1.5, 0.25, 2)])
def test_state_and_windows_take_blocks_beside_the_cache(des, state_blocks, per_tok, window_kv_tok):
    """Two blocks each, beside one for up to eight tokens: of six blocks, two requests run at once."""
    pool = Pool(
        "p", SECOND, kv_blocks=6, block_tok=8, state_blocks=state_blocks, window_blocks_per_tok=per_tok,
        window_kv_tok=window_kv_tok,
    )  # fmt: skip
    outcome = outcome_of(pool, *[(0, 7, 2)] * 3, des=des)
    assert outcome.kept["first_s"].tolist() == [1, 1, 3]
    assert outcome.ledger.count[0, Count.PEAK_BLOCKS] == 6


def test_requests_that_cannot_be_served_are_refused_each_with_its_reason(des):
    """Context for 20 tokens, memory for 16: the last token of an answer needs no memory."""
    pool = Pool("p", SECOND, kv_blocks=4, block_tok=4, context_most_tok=20)
    rows = [(0, 0, 5), (0, 5, 0), (0, 20, 1), (0, 19, 1), (0, 17, 1), (0, 16, 1), (0, 10, 7)]
    outcome = outcome_of(pool, *rows, des=des)
    assert outcome.refused == {
        "no prompt": 1, "no output asked for": 1, "longer than the context": 1, "longer than the KV memory": 2,
    }  # fmt: skip
    assert outcome.kept["fate"].tolist() == [
        Fate.NO_PROMPT, Fate.NO_OUTPUT, Fate.OVER_CONTEXT, Fate.OVER_MEMORY, Fate.OVER_MEMORY, Fate.FINISHED,
        Fate.FINISHED,
    ]  # fmt: skip
    assert (outcome.arrived, outcome.finished) == (7, 2)


def test_answers_that_cannot_fit_are_cut_and_counted(des):
    cut_by_context = outcome_of(Pool("p", SECOND, context_most_tok=10), (0, 4, 100), (0, 4, 6), des=des)
    cut_by_memory = outcome_of(Pool("p", SECOND, kv_blocks=9, block_tok=1), (0, 4, 100), (20, 4, 6), des=des)
    for outcome in (cut_by_context, cut_by_memory):
        assert outcome.ledger.fate[[Fate.FINISHED, Fate.TRUNCATED]].tolist() == [1, 1]
        assert (counted(outcome, Count.OUTPUT_TOK), outcome.as_dict()["truncated"]) == (12, 1)


# --- prefixes ---------------------------------------------------------------------------------------------------------
def prefixed(pool, *prefixes, des=None, prompt_tok=12, **plan):
    """Requests one after the other, with blocks of 4 tokens; returns the tokens found in the cache by each."""
    rows = [(100 * number, prompt_tok, 1) for number in range(len(prefixes))]
    outcome = outcome_of(pool, *rows, columns={"prefix_hashes": prefixes}, des=des, **plan)
    return outcome, (prompt_tok - (outcome.exact[Latency.TTFT] - 0.5)).astype(int).tolist()


def test_leading_blocks_in_the_cache_are_not_read_again_except_the_last_token(des):
    """Blocks of four tokens: a third request shares two blocks with the first, a fourth all three."""
    pool = Pool("p", PER_TOKEN, prefix_blocks=UNLIMITED, prefix_block_tok=4)
    outcome, hits_tok = prefixed(pool, (1, 2, 3), (7, 2, 3), (1, 2, 9), (1, 2, 3), (), des=des)
    assert hits_tok == [0, 0, 8, 11, 0]
    row = pool_row(outcome)
    assert (row["prefix_hit_tok"], row["prefix_looked_up_tok"], row["prefill_tok"]) == (19, 60, 60 - 19)


def test_the_block_unused_for_longest_leaves_a_full_cache_and_the_last_of_a_prompt_first(des):
    """Three blocks. 4 pushes 2 out, which is the last of its prompt; so 1 is still there, and 2 is not."""
    pool = Pool("p", PER_TOKEN, prefix_blocks=3, prefix_block_tok=4)
    _, hits_tok = prefixed(pool, (1, 2), (3,), (4,), (1, 2), (3,), des=des)
    assert hits_tok == [0, 0, 0, 4, 0]


def test_every_replica_has_a_cache_of_its_own_and_affinity_finds_it(des):
    pool = Pool("p", PER_TOKEN, replicas=2, prefix_blocks=UNLIMITED, prefix_block_tok=4)
    prefixes = [(first, 50) for first in (1, 2, 3) for _ in range(2)]
    _, hits_tok = prefixed(pool, *prefixes, router=Router.PREFIX_AFFINITY, des=des)
    assert hits_tok == [0, 8, 0, 8, 0, 8]
    _, hits_tok = prefixed(pool, *prefixes, router=Router.ROUND_ROBIN, des=des)
    assert hits_tok == [0] * 6


def test_a_preempted_prompt_finds_its_own_blocks(des):
    pool = Pool("p", SECOND, kv_blocks=12, block_tok=4, prefix_blocks=UNLIMITED, prefix_block_tok=4)
    rows = [(0, 5, 20)] * 6
    outcome = outcome_of(pool, *rows, columns={"prefix_hashes": [(number,) for number in range(6)]}, des=des)
    row = pool_row(outcome)
    assert row["prefix_hit_tok"] == 4 * row["preemptions"] > 0
    assert row["prefill_tok"] == 6 * 5 + row["recomputed_tok"]


@pytest.mark.shared
def test_an_unlimited_cache_hits_what_the_published_trace_shares(shared_data):
    """Published: 35.7 % of input tokens are in an earlier prefix block."""
    workload = workload_read(shared_data / "traces" / "mooncake_conversation.csv.gz")
    fast = table(8192, 256, fixed_s=2.0**-20)
    pool = Pool("p", fast, prefix_blocks=2**40, prefix_block_tok=512)
    outcome = simulate(Plan([pool]), workload)
    assert outcome.finished == len(workload)
    assert pool_row(outcome)["prefix_hit_ratio"] == pytest.approx(0.357, abs=0.0005)


# --- speculation ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("draft_tok", "chance"), [(1, 0.5), (3, 0.75), (4, 0.9), (2, 0.0)])
def test_a_step_of_speculation_emits_the_expected_tokens(draft_tok, chance):
    """(1 - p^(k + 1)) / (1 - p) tokens, within 4 standard errors; the last step of an answer may promise too much."""
    values = np.arange(1, draft_tok + 2)
    shares = np.append(chance ** (values[:-1] - 1) * (1 - chance), chance**draft_tok)
    expected = (1 - chance ** (draft_tok + 1)) / (1 - chance)
    assert values @ shares == pytest.approx(expected)
    spread = np.sqrt(values**2 @ shares - expected**2)
    pool = Pool("p", table(256, 16, fixed_s=1.0), draft_tok=draft_tok, acceptance_ratio=chance)
    outcome = outcome_of(pool, *[(0, 1, 20_001)] * 10)
    steps = outcome.kept["finish_s"] - outcome.kept["first_s"]
    assert counted(outcome, Count.OUTPUT_TOK) == 10 * 20_001
    standard_error = spread / np.sqrt(steps.sum())
    over_promised = draft_tok / 20_000 * expected
    assert expected - 4 * standard_error - over_promised <= 200_000 / steps.sum() <= expected + 4 * standard_error


def test_tokens_of_speculation_are_spread_evenly_over_the_steps(des):
    """Practically every drafted token is accepted: seven tokens after the first come in two steps, 4 and 3."""
    pool = Pool("p", SECOND, draft_tok=3, acceptance_ratio=1 - 1e-9)
    assert counted(outcome_of(pool, (0, 1, 8), until_s=2.5, des=des), Count.OUTPUT_TOK) == 1 + 4
    assert outcome_of(pool, (0, 1, 8), des=des).kept["finish_s"][0] == 3


def test_drafted_tokens_take_their_part_of_a_step_and_of_its_budget(des):
    """Two drafted tokens, none accepted: a decode step of three tokens, and half a second to draft."""
    pool = Pool("p", PER_TOKEN, draft_tok=2, acceptance_ratio=0.0, draft_s=0.5, max_batched_tok=4, max_seqs=1)
    outcome = outcome_of(pool, (0, 1, 3), des=des)
    assert outcome.kept["finish_s"][0] == 1.5 + 2 * (3 + 0.5 + 0.5)


# --- prompts here, decodes there --------------------------------------------------------------------------------------
def test_a_prompt_is_handed_over_and_the_link_takes_one_after_the_other(des):
    """Prompts of 4 and 2 tokens are read by 1. On the link they take 1 + 4/4 and 1 + 2/4 s; then a step for a token."""
    pools = [
        Pool("read", SECOND, role=Role.PREFILL, transfer_s=1.0, transfer_s_per_tok=0.25),
        Pool("write", SECOND, role=Role.DECODE),
    ]
    outcome = outcome_of(pools, (0, 4, 2), (0, 2, 2), des=des)
    assert outcome.kept["first_s"].tolist() == [1, 1]
    assert outcome.kept["finish_s"].tolist() == [3 + 1, 4.5 + 1]
    read, write = outcome.pool_rows()
    assert (read["transfers"], read["transfer_s"], read["finished"], write["finished"]) == (2, 3.5, 0, 2)
    assert (read["prefill_tok"], write["prefill_tok"], read["output_tok"], write["output_tok"]) == (6, 0, 2, 2)
    assert write["itl_s"]["max"] == 4.5


def test_a_reader_holds_the_blocks_of_a_prompt_until_it_has_arrived(des):
    pools = [
        Pool("read", SECOND, role=Role.PREFILL, transfer_s=3.0, kv_blocks=1),
        Pool("write", SECOND, role=Role.DECODE),
    ]
    outcome = outcome_of(pools, (0, 4, 2), (0, 4, 2), (0, 4, 1), des=des)
    assert outcome.kept["first_s"].tolist() == [1, 1 + 3 + 1, 5 + 3 + 1]


def two_stages(**writer):
    return [
        Pool("read", SECOND, replicas=2, role=Role.PREFILL, transfer_s=2.0),
        Pool("write", SECOND, role=Role.DECODE, **writer),
    ]


def test_a_cache_waits_for_room_for_all_that_its_next_step_may_write(des):
    """Five blocks of one token; prompts of two are read by 1 and there by 3, and need three blocks each."""
    outcome = outcome_of(two_stages(kv_blocks=5, block_tok=1), (0, 2, 3), (0, 2, 3), des=des)
    assert outcome.kept["finish_s"].tolist() == [5, 7]
    assert outcome.ledger.count[2, Count.PEAK_BLOCKS] == 4


def test_a_cache_on_its_way_is_lost_with_its_reader_and_read_again(des):
    """The transfer would have ended at 3. The other reader reads the prompt and the first token, and sends both."""
    outcome = outcome_of(two_stages(), (0, 1, 3), changes=[(2.0, 0, ChangeKind.FAIL)], des=des)
    assert outcome.kept["finish_s"][0] == 3 + 1 + 2 + 1
    read, write = outcome.pool_rows()
    assert (read["failed_over"], read["recomputed_tok"], read["transfers"], write["output_tok"]) == (1, 2, 2, 1)


def test_a_link_is_free_again_when_its_reader_comes_back(des):
    changes = [(1.5, 0, ChangeKind.FAIL), (1.5, 0, ChangeKind.START), (1.5, 0, ChangeKind.READY)]
    pools = [Pool("read", SECOND, role=Role.PREFILL, transfer_s=10.0), Pool("write", SECOND, role=Role.DECODE)]
    outcome = outcome_of(pools, (0, 1, 2), (2, 1, 2), changes=changes, des=des)
    assert outcome.kept["finish_s"].tolist() == [12, 3 + 10 + 1]  # the first was lost, and read again by 12


def test_a_draining_reader_stays_until_its_caches_have_arrived(des):
    outcome = outcome_of(two_stages(), (0, 1, 3), changes=[(0.5, 0, ChangeKind.DRAIN)], des=des)
    assert amount(outcome, Amount.ON_S) == [3, 5, 5]


# --- routers ----------------------------------------------------------------------------------------------------------
def test_weights_are_shares_and_evenly_spread(des):
    pools = [Pool("one", SECOND), Pool("two", SECOND, weight=2.0)]
    outcome = outcome_of(pools, *[(0, 1, 1)] * 9, router=Router.WEIGHTED, des=des)
    assert outcome.kept["replica"].tolist() == [1, 0, 1, 1, 0, 1, 1, 0, 1]


def test_who_comes_late_takes_its_share_from_then_on_and_not_all_it_missed(des):
    changes = [(0.0, 1, ChangeKind.START), (9.5, 1, ChangeKind.READY)]
    rows = [(number, 1, 1) for number in range(16)]
    pool = Pool("p", SECOND, replicas=2, up=1)
    outcome = outcome_of(pool, *rows, changes=changes, router=Router.WEIGHTED, des=des)
    assert outcome.kept["replica"].tolist() == [0] * 10 + [0, 1] * 3


@pytest.mark.parametrize(
    "router", [Router.RANDOM, Router.POWER_OF_TWO, Router.PREFIX_AFFINITY], ids=lambda router: router.name
)
def test_drawn_routes_are_even_and_depend_on_the_seed(des, router):
    """Of 2000 requests a quarter each, within four standard deviations."""
    prefixes = {"prefix_hashes": [(number,) for number in range(2000)]}
    pool, rows = Pool("p", SECOND, replicas=4), [(10 * number, 1, 1) for number in range(2000)]
    routes = [
        outcome_of(pool, *rows, columns=prefixes, router=router, seed=seed, des=des).kept["replica"] for seed in (1, 2)
    ]
    assert (routes[0] != routes[1]).any()
    if router == Router.POWER_OF_TWO:  # all are idle: the lower one of each pair
        assert np.bincount(routes[0]) / 2000 == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=4 * 0.011)
    else:
        assert np.bincount(routes[0]) / 2000 == pytest.approx([1 / 4] * 4, abs=4 * 0.01)


# --- replicas come and go ---------------------------------------------------------------------------------------------
def test_requests_of_a_failed_replica_are_read_again_elsewhere_with_what_they_had_emitted(des):
    """By 2.5 the prompt of 4 has emitted two tokens; the other replica reads 6 and emits the third, then the fourth."""
    pool = Pool("p", SECOND, replicas=2)
    outcome = outcome_of(pool, (0, 4, 4), changes=[(2.5, 0, ChangeKind.FAIL)], des=des)
    assert [outcome.kept[name][0] for name in ("first_s", "finish_s", "replica")] == [1, 4.5, 1]
    row = pool_row(outcome)
    assert (row["failed_over"], row["recomputed_tok"], row["prefill_tok"], row["output_tok"]) == (1, 6, 10, 4)
    assert (amount(outcome, Amount.LOST_S), amount(outcome, Amount.BUSY_S)) == ([0.5, 0], [2, 2])
    assert amount(outcome, Amount.ON_S) == [2.5, 4.5]
    assert outcome.latencies()["itl_s"]["max"] == 1.5  # from 2 to 3.5


def test_without_a_replica_requests_wait_for_one(des):
    changes = [(0.5, 0, ChangeKind.FAIL), (1.0, 0, ChangeKind.START), (3.0, 0, ChangeKind.READY)]
    outcome = outcome_of(Pool("p", SECOND), (0, 1, 1), (2, 1, 1), changes=changes, des=des)
    assert outcome.kept["finish_s"].tolist() == [4, 4]
    assert amount(outcome, Amount.ON_S) == [0.5 + 3]


def test_requests_for_whom_no_replica_ever_comes_leave_the_simulation_stuck(des):
    """A client that waits for its answer sends no other request."""
    outcome = outcome_of(Pool("p", SECOND), (0, 1, 9), (9, 1, 9), changes=[(0.5, 0, ChangeKind.FAIL)], des=des)
    assert (outcome.progress, outcome.arrived, outcome.finished) == (Progress.STUCK, 2, 0)
    assert outcome.ledger.fate[Fate.UNFINISHED] == 2
    closed = outcome_of(Pool("p", SECOND, up=0), *[(0, 1, 1)] * 5, load=Load(CLOSED, 2), des=des)
    assert (closed.progress, closed.arrived) == (Progress.STUCK, 2)


def test_a_draining_replica_ends_what_it_has_and_switches_off(des):
    changes = [(1.5, 0, ChangeKind.DRAIN)]
    outcome = outcome_of(Pool("p", SECOND, replicas=2), (0, 1, 4), (2, 1, 1), (9, 1, 1), changes=changes, des=des)
    assert outcome.kept["replica"].tolist() == [0, 1, 1]
    assert amount(outcome, Amount.ON_S) == [4, 10]


@pytest.mark.parametrize("kind", [ChangeKind.FAIL, ChangeKind.DRAIN], ids=lambda kind: kind.name)
def test_a_replica_that_goes_before_the_first_request_was_on_for_no_time(des, kind):
    """Time counts from the first arrival, also for replicas that left before it."""
    outcome = outcome_of(Pool("p", SECOND, replicas=2), (10, 1, 1), changes=[(4.0, 0, kind)], des=des)
    assert outcome.duration_s == 1
    assert amount(outcome, Amount.ON_S) == [0, 1]


def test_a_draining_replica_may_be_called_back(des):
    changes = [(1.5, 0, ChangeKind.DRAIN), (2.5, 0, ChangeKind.START)]
    outcome = outcome_of(Pool("p", SECOND, replicas=1), (0, 1, 4), (3, 1, 1), changes=changes, des=des)
    assert outcome.kept["finish_s"].tolist() == [4, 4]
    assert amount(outcome, Amount.ON_S) == [4]


def test_a_replica_that_is_drained_while_it_loads_is_off(des):
    changes = [(1.0, 1, ChangeKind.START), (3.0, 1, ChangeKind.DRAIN), (4.0, 1, ChangeKind.READY)]
    pool = Pool("p", SECOND, replicas=2, up=1)
    outcome = outcome_of(pool, (0, 1, 6), (5, 1, 1), (5, 1, 1), changes=changes, des=des)
    assert outcome.kept["replica"].tolist() == [0, 0, 0]
    assert amount(outcome, Amount.ON_S) == [6, 2]


def test_a_schedule_starts_the_next_replicas_and_drains_the_last_ones():
    """Of four replicas one is up; three shall be from 10 on, two from 20 on; loading takes 5."""
    start, ready, drain = ChangeKind.START, ChangeKind.READY, ChangeKind.DRAIN
    assert scaling(range(4, 8), up=1, steps=[(20, 2), (10, 3)], load_s=5.0) == [
        Change(10, 5, start), Change(10, 6, start), Change(15, 5, ready), Change(15, 6, ready), Change(20, 6, drain),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="5 of 4 replicas cannot be up"):
        scaling(range(4), up=1, steps=[(0, 5)], load_s=0.0)


def test_failures_are_drawn_with_their_returns_in_order():
    times = {"until_s": 1e6, "mtbf_s": 1e4, "repair_s": 100.0, "load_s": 10.0}
    changes = failures_draw(range(20), seed=3, **times)
    fails = [change for change in changes if change.kind == ChangeKind.FAIL]
    assert len(fails) == pytest.approx(20 * 1e6 / (1e4 + 110), abs=4 * (20 * 100) ** 0.5)
    assert [change.at_s for change in changes] == sorted(change.at_s for change in changes)
    one = [change for change in changes if change.replica == 7]
    for fail, start, ready in zip(one[::3], one[1::3], one[2::3], strict=True):
        assert [change.kind for change in (fail, start, ready)] == [ChangeKind.FAIL, ChangeKind.START, ChangeKind.READY]
        assert (start.at_s - fail.at_s, ready.at_s - start.at_s) == (pytest.approx(100), pytest.approx(10))
    assert changes == failures_draw(range(20), seed=3, **times) != failures_draw(range(20), seed=4, **times)
    assert one == failures_draw([7], seed=3, **times)
    too_many = {"mtbf_s": 1.0, "repair_s": 0.0, "load_s": 0.0}
    for wrong in ({"mtbf_s": 0.0}, {"repair_s": -1.0}, {"until_s": float("inf")}, too_many):
        with pytest.raises(ConfigError, match="failures"):
            failures_draw(range(20), seed=3, **times | wrong)


# --- power ------------------------------------------------------------------------------------------------------------
def test_idle_replicas_draw_idle_power_and_steps_draw_their_share_of_the_rest(des):
    """Two chips of 100 to 500 W. On for 10 s, of which 3 s are steps that draw half of what is above idle."""
    pool = Pool("p", table(token_s=1.0, active_ratio=0.5))
    outcome = outcome_of(pool, (0, 1, 2), (9, 1, 1), des=des)
    row = pool_row(outcome)
    assert (row["on_s"], row["busy_s"], row["busy_ratio"]) == (10, 3, 0.3)
    assert row["energy_j"] == 2 * (100 * 10 + 400 * 0.5 * 3) == 10 * row["power_w"]
    assert outcome.as_dict()["energy_j_per_tok"] == row["energy_j"] / 3


def test_attention_draws_its_share_too_and_host_work_nothing(des):
    """A prompt of 2: 2 s and 2 pairs of 0.5 s. One more token: 1 s and a context of 3 at 0.25 s. Half of that draws."""
    busy = table(token_s=1.0, pair_s=0.5, context_s=0.25, fixed_s=1.0, active_ratio=0.5)
    outcome = outcome_of(Pool("p", busy), (0, 2, 2), des=des)
    assert amount(outcome, Amount.BUSY_S) == [2 + 3 + 1.75]
    assert amount(outcome, Amount.ACTIVE_S) == [(3 + 1.75) / 2]


def test_a_replica_that_is_off_draws_nothing(des):
    pool = Pool("p", table(token_s=1.0), replicas=2, up=1)
    assert pool_row(outcome_of(pool, (0, 4, 1), des=des))["energy_j"] == 2 * 100 * 4


def test_energy_is_unknown_where_a_chip_s_power_is(des):
    activity = replace(SECOND.activity, idle_w=float("nan"), tdp_w=float("nan"))
    outcome = outcome_of(Pool("p", replace(SECOND, activity=activity)), (0, 1, 1), des=des)
    assert outcome.as_dict()["energy_j"] is None
    assert outcome.as_dict()["energy_j_per_tok"] is None


# --- what always holds ------------------------------------------------------------------------------------------------
def open_load(n=400, mean_gap_s=0.5, seed=1, **columns):
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(mean_gap_s, n))
    return requests(*zip(arrival_s, rng.integers(1, 100, n), rng.integers(1, 60, n), strict=True), **columns)


REALISTIC = table(64, 16, token_s=0.002, context_s=0.0001, pair_s=0.00001, fixed_s=0.01, active_ratio=0.6)


@pytest.mark.parametrize("first", range(9000, 9600, 200))
def test_books_balance(first):
    for seed in range(first, first + 200):
        plan, columns = random_case(seed)
        progress, ledger, kept = run(_des, plan, columns)
        count, amounts, sums_s = ledger.count, ledger.amount, ledger.latency_sum_s.sum(axis=0)
        limits = [
            (pool.kv_blocks, pool.max_seqs, pool.max_batched_tok) for pool in plan.pools for _ in range(pool.replicas)
        ]
        kv_blocks, max_seqs, max_batched_tok = np.array(limits).T
        assert ledger.arrived[0] == ledger.fate.sum()
        assert (np.bincount(kept["fate"][kept["fate"] > 0], minlength=len(Fate))[1:] == ledger.fate[1:]).all()
        assert count[:, Count.FINISHED].sum() == ledger.fate[[Fate.FINISHED, Fate.TRUNCATED]].sum()
        assert (count[:, Count.PEAK_BLOCKS] <= kv_blocks).all()
        assert (count[:, Count.PEAK_RUNNING] <= max_seqs).all()
        assert (count[:, Count.PREFILL_TOK] <= count[:, Count.STEPS] * max_batched_tok).all()
        assert (count[:, Count.HIT_TOK] <= count[:, Count.LOOKED_UP_TOK]).all()
        assert (amounts[:, Amount.BUSY_S] + amounts[:, Amount.LOST_S] <= amounts[:, Amount.ON_S] + 1e-9).all()
        assert (amounts[:, Amount.ACTIVE_S] <= amounts[:, Amount.BUSY_S] + 1e-9).all()
        done = kept["fate"] == Fate.FINISHED
        if progress == Progress.DONE and not ledger.fate[[Fate.UNFINISHED, Fate.TRUNCATED]].any():
            assert count[:, Count.OUTPUT_TOK].sum() == columns[2][done].sum(), seed
            if not count[:, [Count.PREEMPTIONS, Count.FAILED_OVER]].any():
                read_tok = columns[1][done].sum() - count[:, Count.HIT_TOK].sum()
                assert count[:, Count.PREFILL_TOK].sum() == read_tok, seed
        if progress == Progress.DONE and not plan.changes and not count[:, Count.TRANSFERS].any():
            seq_s = amounts[:, [Amount.DECODE_SEQ_S, Amount.PROMPT_SEQ_S]].sum()
            if not ledger.fate[Fate.UNFINISHED]:
                assert sums_s[Latency.E2E] == pytest.approx(sums_s[Latency.QUEUE] + seq_s), seed


def test_time_in_the_system_is_that_of_waiting_reading_and_decoding(des):
    """Little's law: what is in the system, on average over time, is the rate times the mean time in it."""
    pool = Pool("p", REALISTIC, kv_blocks=40)
    outcome = simulate(Plan([pool]), open_load(60, 0.2), keep_requests=True, kernel=des)
    assert outcome.finished == outcome.arrived == 60
    assert counted(outcome, Count.PREEMPTIONS) > 0
    in_system_s = sum(amount(outcome, Amount.DECODE_SEQ_S) + amount(outcome, Amount.PROMPT_SEQ_S))
    in_system_s += total_s(outcome, Latency.QUEUE)
    assert in_system_s == pytest.approx(outcome.exact[Latency.E2E].sum())
    little = outcome.rate(outcome.finished) * mean(outcome, "e2e_s")
    assert in_system_s / outcome.duration_s == pytest.approx(little)


def test_the_timeline_adds_up_to_the_time_in_the_system(des):
    """Everything happens at whole seconds, and so are the samples: their sum is the time that requests spent."""
    rng = np.random.default_rng(5)
    arrival_s = np.sort(rng.integers(0, 300, 40))
    pool = Pool("p", SECOND, max_seqs=2, kv_blocks=8, block_tok=4, replicas=2)
    rows = zip(arrival_s, rng.integers(1, 9, 40), rng.integers(1, 20, 40), strict=True)
    outcome = outcome_of(pool, *rows, timeline_s=1.0, des=des)
    assert outcome.ledger.times[Time.INTERVAL_S] == 1.0
    samples = outcome.ledger.timeline[:, 0]
    assert samples[:, [Sampled.RUNNING, Sampled.WAITING]].sum() == outcome.exact[Latency.E2E].sum()
    assert samples[:, Sampled.RUNNING].max() <= 4
    assert 0 < samples[:, Sampled.KV_BLOCKS].max() <= 16
    rows = [*outcome.timeline_rows()]
    assert [row["at_s"] for row in rows[:3]] == [0, 1, 2]
    assert (np.diff([row["finished"] for row in rows]) >= 0).all()


def test_a_long_timeline_doubles_its_interval(des):
    outcome = outcome_of(Pool("p", SECOND), (0, 1, 1000), timeline_s=0.25, des=des)
    times = outcome.ledger.times
    assert (times[Time.INTERVAL_S], times[Time.SAMPLES]) == (2.0, 500)  # 4000 samples, halved three times
    emitted_tok = outcome.ledger.timeline[:500, 0, Sampled.OUTPUT_TOK]
    assert emitted_tok.tolist() == list(range(0, 1000, 2))


def test_a_replica_with_work_is_never_idle(des):
    workload = open_load(200, 1.0)
    outcome = simulate(Plan([Pool("p", REALISTIC)]), workload, keep_requests=True, kernel=des)
    spans = sorted(zip(outcome.kept["arrival_s"], outcome.kept["finish_s"], strict=True))
    idle_s, end_s = 0.0, spans[0][0]
    for arrival_s, finish_s in spans:
        idle_s += max(0.0, arrival_s - end_s)
        end_s = max(end_s, finish_s)
    row = pool_row(outcome)
    assert idle_s > 0.1 * outcome.duration_s
    assert row["busy_s"] + idle_s == pytest.approx(row["on_s"])
    at_once = outcome_of(Pool("p", REALISTIC), *[(0, 50, 20)] * 50, des=des)
    assert pool_row(at_once)["busy_ratio"] == pytest.approx(1)


def test_time_has_no_scale(des):
    """With steps and gaps all twice as long, every time is: to the last bit."""
    half = {name: getattr(REALISTIC, name) / 2 for name in ("linear_s", "decode_s", "context_s_per_tok")}
    half |= {name: getattr(REALISTIC, name) / 2 for name in ("prefill_s_per_tok2", "fixed_s")}
    half["activity"] = replace(REALISTIC.activity, linear_busy_s=REALISTIC.activity.linear_busy_s / 2)
    workload = open_load(100, 0.5)
    faster = replace(workload, arrival_s=workload.arrival_s / 2)
    slow = simulate(Plan([Pool("p", REALISTIC)]), workload, keep_requests=True, kernel=des)
    fast = simulate(Plan([Pool("p", replace(REALISTIC, **half))]), faster, keep_requests=True, kernel=des)
    for name in ("first_s", "finish_s"):
        assert (slow.kept[name] == 2 * fast.kept[name]).all()


def test_goodput_counts_those_within_every_limit(des):
    """First tokens after 1, 1 and 2 s; a second token after 1 s more."""
    slos = [Limits(), Limits(ttft_s=1.0), Limits(tpot_s=0.5), Limits(ttft_s=1.5, e2e_s=1.5)]
    client = {"client_id": np.array([0, 0, 1])}
    outcome = outcome_of(Pool("p", SECOND), (0, 1, 1), (0, 1, 2), (0.5, 1, 1), slos=slos, columns=client, des=des)
    assert outcome.kept["first_s"].tolist() == [1, 1, 2]
    assert outcome.ledger.good.tolist() == [3, 2, 2, 2]
    tenants = [*outcome.client_rows()]
    assert [(row["client"], row["finished"], row["output_tok"], row["good_of_finished_ratio"]) for row in tenants] == [
        (0, 2, 3, [1, 1, 0.5, 0.5]), (1, 1, 1, [1, 0, 1, 1]),
    ]  # fmt: skip
    assert outcome.as_dict()["goodput"][1]["good_ratio"] == pytest.approx(2 / 3)


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([(1, 1, 1), (0, 1, 1)], {}, "arrivals fall"),
        ([(-1, 1, 1)], {}, "requests arrive within"),
        ([(-1, 1, 1), (2, 1, 1)], {}, "arrivals lie between 0 and"),
        ([(float("nan"), 1, 1)], {}, "requests arrive within"),
        ([(0, 1, 1), (float("nan"), 1, 1), (2, 1, 1)], {}, "arrivals fall"),
        ([(0, 1, 1), (float("inf"), 1, 1)], {}, "requests arrive within"),
        ([(0, 1, 1), (2e9, 1, 1)], {}, "requests arrive within"),
        ([(0, -1, 1)], {}, "input_tok lies between 0 and 1000000000"),
        ([(0, 1, -1)], {}, "output_tok lies between 0 and"),
        ([(0, 1, 10**9 + 1)], {}, "output_tok lies between 0 and"),
        ([(0, 1, 1)], {"client_id": np.array([-1])}, "client_id lies between 0 and"),
        ([(0, 1, 1)], {"priority": np.array([2**20 + 1])}, "priorities lie within"),
    ],
)
def test_bad_requests_are_refused(rows, columns, message):
    if "client_id" in columns:
        columns = {"client_id": np.array([*columns["client_id"], 4])}
        rows = [*rows, (0, 1, 1)]
    with pytest.raises(ConfigError, match=message):
        outcome_of(Pool("p", SECOND), *rows, columns=columns)


def test_tenants_beyond_their_number_are_refused():
    workload = requests((0, 1, 1), (1, 1, 1), client_id=np.array([0, 5]))
    with pytest.raises(ConfigError, match="client_id lies between 0 and 4"):
        simulate(Plan([Pool("p", SECOND)]), workload, clients=5)
    assert len(simulate(Plan([Pool("p", SECOND)]), workload).ledger.client_count) == 6


def test_nothing_to_do_is_refused():
    none = requests((0, 1, 1))
    none = replace(none, **{name: getattr(none, name)[:0] for name in ("arrival_s", "input_tok", "output_tok")})
    for workload in (none, iter([])):
        with pytest.raises(ConfigError, match=r"without requests|no requests"):
            simulate(Plan([Pool("p", SECOND)]), workload)


def test_pieces_must_follow_each_other_and_keep_no_requests():
    pieces = [requests((5, 1, 1)), requests((4, 1, 1))]
    with pytest.raises(ConfigError, match="arrivals lie between 5 and"):
        simulate(Plan([Pool("p", SECOND)], timeline_s=1.0), pieces)
    with pytest.raises(ConfigError, match="kept of a whole workload only"):
        simulate(Plan([Pool("p", SECOND)]), pieces, keep_requests=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": 0}, "replicas is at least 1"),
        ({"max_seqs": 17}, "beyond the 64 and 16 of its table"),
        ({"max_batched_tok": 8}, "16 sequences of 1 tokens a step are more than the 8"),
        ({"draft_tok": 4}, "16 sequences of 5 tokens a step are more than the 64"),
        ({"kv_blocks": 0}, "kv_blocks is at least 1"),
        ({"kv_blocks": 2, "state_blocks": 2.0}, "2 KV blocks do not hold one token"),
        ({"acceptance_ratio": 1.0}, "acceptance_ratio is below 1"),
        ({"acceptance_ratio": float("nan")}, "acceptance_ratio is finite"),
        ({"weight": 0.0}, "weight is positive"),
        ({"up": 2}, "2 of 1 replicas cannot be up"),
        ({"up": -1}, "-1 of 1 replicas cannot be up"),
        ({"context_most_tok": 2**31}, "contexts are simulated up to"),
        ({"transfer_s": -1.0}, "transfer_s is finite and not negative"),
        ({"table": table(fixed_s=-1.0)}, "takes less than no time"),
        ({"table": table(token_s=1.0, active_ratio=2.0)}, "is busy for longer"),
    ],
)
def test_pools_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Pool(**{"name": "p", "table": SECOND, **changes})


def test_plans_that_cannot_be_are_refused():
    both, read, write = (Pool(role.name, SECOND, role=role) for role in Role)
    for pools, changes, message in (
        ([], {}, "needs a pool that reads prompts"),
        ([write], {}, "needs a pool that reads prompts"),
        ([both, write], {}, "only come together"),
        ([read], {}, "only come together"),
        ([both, both], {}, "names of their own"),
        ([both], {"until_s": 0.0}, "are positive"),
        ([both], {"waiting_most": 0}, "are positive"),
        ([both], {"timeline_s": -1.0}, "is not negative"),
        ([both], {"seed": -1}, "a seed is a whole number"),
        ([both], {"changes": [Change(1.0, 1, ChangeKind.FAIL)]}, "name one of 1 replicas"),
        ([both], {"changes": [Change(1.0, 0, ChangeKind.FAIL), Change(0.5, 0, ChangeKind.START)]}, "in order of time"),
    ):
        with pytest.raises(ConfigError, match=message):
            Plan(pools, **changes)
    for arguments in ((LoadKind.OPEN, 1), (CLOSED, 0), (STATIC, -1), (CLOSED, 1, -1.0), (CLOSED, 1, float("inf"))):
        with pytest.raises(ConfigError, match=r"does not have|finite and not negative"):
            Load(*arguments)
    with pytest.raises(ConfigError, match="limits are positive"):
        Limits(ttft_s=0.0)


# --- overload ---------------------------------------------------------------------------------------------------------
def test_more_than_is_served_is_said(des):
    """A request takes a second and two arrive: 1000 wait when all 2000 have arrived, 500 when half of them have."""
    rows = [(number / 2, 1, 1) for number in range(2000)]
    outcome = outcome_of(Pool("p", SECOND, max_seqs=1), *rows, des=des)
    assert (outcome.progress, outcome.finished) == (Progress.DONE, 2000)
    assert outcome.overload == "the queue grew from 500 to 1000 requests while the second half arrived"
    assert outcome_of(Pool("p", SECOND, max_seqs=2), *rows, des=des).overload == ""


def test_a_queue_that_is_too_long_stops_the_simulation(des):
    rows = [(number / 2, 1, 1) for number in range(2000)]
    outcome = outcome_of(Pool("p", SECOND, max_seqs=1), *rows, waiting_most=100, des=des)
    assert outcome.progress == Progress.UNSTABLE
    assert outcome.overload == "stopped with 101 requests waiting: more arrive than are served"
    assert outcome.arrived == outcome.finished + outcome.ledger.fate[Fate.UNFINISHED] == pytest.approx(201, abs=2)


def test_requests_that_all_come_at_once_are_no_overload(des):
    """A batch that is worked off has no rate that could be too high."""
    outcome = outcome_of(Pool("p", SECOND, max_seqs=1), *[(5, 1, 1)] * 100, des=des)
    assert (outcome.overload, outcome.ledger.count[0, Count.PEAK_WAITING]) == ("", 100)


def test_seeds_and_parts_of_an_overloaded_fleet_are_overloaded():
    rows = [(0.95 * number, 1, 1) for number in range(2000)]
    one = outcome_of(Pool("p", SECOND, max_seqs=1), *rows)
    assert one.overload.startswith("the queue grew from 50 to 100 requests")
    for side_by_side in (True, False):
        merged = outcomes_merge([one] * 10, side_by_side=side_by_side)
        assert merged.overload.startswith("the queue grew from 500 to 1000 requests")
        assert outcomes_merge([one, one], side_by_side=side_by_side).overload


def test_clients_that_wait_for_each_other_are_no_overload(des):
    for load in (Load(CLOSED, 50), Load(STATIC, 100)):
        outcome = outcome_of(Pool("p", SECOND, max_seqs=1), *[(0, 1, 1)] * 100, load=load, waiting_most=10, des=des)
        assert outcome.progress == Progress.DONE
        assert (outcome.overload, outcome.ledger.count[0, Count.PEAK_WAITING]) == ("", load.clients)


def test_a_horizon_stops_the_simulation_and_counts_what_is_left(des):
    rows = [(number, 1, 2) for number in range(20)]
    outcome = outcome_of(Pool("p", SECOND, max_seqs=1), *rows, until_s=10.0, des=des)
    assert (outcome.progress, outcome.duration_s) == (Progress.HORIZON, 10)
    assert (outcome.arrived, outcome.finished, outcome.as_dict()["unfinished"]) == (11, 5, 6)
    assert counted(outcome, Count.OUTPUT_TOK) == 10


# --- bytes and parts --------------------------------------------------------------------------------------------------
def shard(number, **changes):
    pool = Pool("p", REALISTIC, replicas=2, kv_blocks=60, **changes)
    plan = Plan([pool], router=Router.RANDOM, slos=[Limits(0.5, 0.1)], seed=number)
    return simulate(plan, open_load(150, 0.3, seed=number, client_id=np.arange(150) % 3), clients=3)


def test_equal_seeds_give_equal_bytes_and_others_do_not():
    assert shard(1).to_bytes() == shard(1).to_bytes() != shard(2).to_bytes()


def test_an_outcome_survives_its_bytes():
    outcome = shard(1)
    again = Outcome.from_bytes(outcome.to_bytes())
    assert again.to_bytes() == outcome.to_bytes()
    assert json.dumps(again.as_dict(), allow_nan=False) == json.dumps(outcome.as_dict(), allow_nan=False)
    assert (again.pools, again.slos, again.progress) == (outcome.pools, outcome.slos, outcome.progress)
    with pytest.raises(ConfigError, match="were not kept"):
        again.exact  # noqa: B018


@pytest.mark.parametrize(
    "load", [Load(), Load(CLOSED, 5, think_s=0.1), Load(STATIC, 7)], ids=["open", "closed", "static"]
)
def test_pieces_of_a_workload_give_the_same_bytes_as_the_whole(load):
    workload = open_load(150, 0.3, client_id=np.arange(150) % 3, priority=np.arange(150) % 2)
    workload = replace(workload, prefix_hashes=tuple((number % 5, number % 7) for number in range(150)))
    plan = Plan(
        [Pool("p", REALISTIC, replicas=2, prefix_blocks=5, prefix_block_tok=8)], load=load, timeline_s=1.0, requests=150
    )
    whole = simulate(plan, workload, clients=3)
    for cuts in ((0, 1, 150), (0, 50, 50, 149, 150), range(151)):
        pieces = (rows_of(workload, begin, end) for begin, end in pairwise(cuts))
        assert simulate(plan, pieces, clients=3).to_bytes() == whole.to_bytes()


def rows_of(workload, begin, end):
    names = ("arrival_s", "input_tok", "output_tok", "prefix_hashes", "client_id", "priority")
    return replace(workload, **{name: getattr(workload, name)[begin:end] for name in names})


def test_pieces_need_no_timeline():
    outcome = simulate(Plan([Pool("p", SECOND)]), iter([requests((3, 1, 2)), requests((4, 1, 1))]))
    assert (outcome.finished, outcome.ledger.times[Time.INTERVAL_S]) == (2, 1)


def test_progress_is_told():
    heard = []
    pieces = (requests(*[(piece, 1, 1)] * 10) for piece in range(5))
    simulate(Plan([Pool("p", SECOND)], timeline_s=1.0), pieces, on_progress=heard.append)
    assert heard == [0, 10, 20, 30, 40]


def test_parts_side_by_side_are_one_fleet():
    parts = [shard(number) for number in range(4)]
    fleet = outcomes_merge(parts, side_by_side=True)
    for name in ("arrived", "finished"):
        assert getattr(fleet, name) == sum(getattr(part, name) for part in parts)
    assert (fleet.parts, fleet.pools[0].replicas, len(fleet.pool_of)) == (4, 8, 8)
    begin_s, end_s = (pick(part.ledger.times[time] for part in parts) for pick, time in SPAN)
    assert fleet.duration_s == end_s - begin_s
    rows = [pool_row(part) for part in parts]
    row = pool_row(fleet)
    for name in ("chips", "steps", "output_tok", "prefill_tok", "preemptions"):
        assert row[name] == sum(other[name] for other in rows), name
    for name in ("busy_s", "on_s", "energy_j"):
        assert row[name] == pytest.approx(sum(other[name] for other in rows)), name
    assert row["peak_running"] == max(other["peak_running"] for other in rows)
    assert row["ttft_s"]["samples"] == 600
    assert (fleet.ledger.histogram == sum(part.ledger.histogram for part in parts)).all()
    assert (fleet.ledger.client_count == sum(part.ledger.client_count for part in parts)).all()
    assert fleet.ledger.good.tolist() == [sum(int(part.ledger.good[0]) for part in parts)]


def test_timelines_of_parts_add_up_and_what_was_counted_stays():
    """Two answers in the first part by 2, one of five tokens in the second by 5."""
    parts = [outcome_of(Pool("p", SECOND), (0, 1, answer_tok), timeline_s=1.0) for answer_tok in (2, 5)]
    timeline = outcomes_merge(parts, side_by_side=True).ledger.timeline
    assert timeline[:5, 0, Sampled.RUNNING].tolist() == [2, 2, 1, 1, 1]
    assert timeline[:5, 0, Sampled.OUTPUT_TOK].tolist() == [0, 1 + 1, 2 + 2, 2 + 3, 2 + 4]


def test_threads_do_not_change_a_byte():
    merged = []
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as executor:
            merged.append(outcomes_merge([*executor.map(shard, range(8))], side_by_side=True).to_bytes())
    assert merged[0] == merged[1]


def test_seeds_follow_each_other():
    parts = [shard(number) for number in range(3)]
    seeds = outcomes_merge(parts, side_by_side=False)
    assert (seeds.parts, seeds.pools[0].replicas) == (3, 2)
    assert seeds.duration_s == pytest.approx(sum(part.duration_s for part in parts))
    assert seeds.rate(seeds.finished) == pytest.approx(450 / sum(part.duration_s for part in parts))
    assert mean(seeds, "e2e_s") == pytest.approx(np.mean([mean(part, "e2e_s") for part in parts]))
    samples = int(seeds.ledger.times[Time.SAMPLES])
    assert samples == parts[0].ledger.times[Time.SAMPLES] > 0
    assert (seeds.ledger.timeline[:samples] == parts[0].ledger.timeline[:samples]).all()
    assert outcomes_merge(parts[:1], side_by_side=False) is parts[0]


def test_pools_of_other_names_stand_side_by_side_and_of_one_name_must_be_alike():
    named = [outcome_of(Pool(name, SECOND), (0, 1, 2)) for name in "ab"]
    fleet = outcomes_merge(named, side_by_side=True)
    assert [(row["name"], row["output_tok"]) for row in fleet.pool_rows()] == [("a", 2), ("b", 2)]
    with pytest.raises(ConfigError, match="two pools are called p"):
        outcomes_merge([shard(1), shard(2, max_seqs=4)], side_by_side=True)
    limited = outcome_of(Pool("p", SECOND), (0, 1, 2), slos=[Limits()])
    with pytest.raises(ConfigError, match="other SLOs or other tenants"):
        outcomes_merge([named[0], limited], side_by_side=True)
