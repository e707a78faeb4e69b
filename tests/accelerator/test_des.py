"""The compiled kernel beside its plain twin, and the order in which things happen at the same instant."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from accelerator import _des, _des_py
from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.kernels import CHOICES, kernel_load
from accelerator.ledger import Count, Fate, Latency
from accelerator.simulation import Change, ChangeKind, Load, LoadKind, Plan, Pool, Progress, Role, Router
from accelerator.simulator import simulate
from accelerator.steps import DeploymentConfig, step_table_build
from tests.accelerator.simulations import differences, random_case, requests, run, table

BLOCK = 250
SECOND = table(fixed_s=1.0)
"""Every step takes a second."""


@pytest.fixture(params=CHOICES)
def des(request):
    return kernel_load(request.param, "des")


# --- both twins -------------------------------------------------------------------------------------------------------
def reached(plan, outcome):
    """Yield what a case has to do with."""
    progress, ledger, _ = outcome
    yield from (progress.name, plan.load.kind.name, plan.router.name)
    yield from (count.name for count in Count if ledger.count[:, count].any())
    yield from (fate.name for fate in Fate if ledger.fate[fate])
    yield from (change.kind.name for change in plan.changes)
    for pool in plan.pools:
        yield pool.role.name
        yield f"spread {pool.draft_tok > 0}, windowed {pool.table.window_tok > 0}"
        yield f"blocks of {pool.block_tok}"
        yield f"prefix cache of {pool.prefix_blocks}"
    if len(ledger.client_count):
        yield "tenants"


FEATURES = {
    *(name for names in (Count, Fate, Role, Router, LoadKind, ChangeKind) for name in names.__members__),
    *("DONE", "HORIZON", "UNSTABLE", "STUCK", "tenants"),
    *(f"spread {spread}, windowed {windowed}" for spread in (True, False) for windowed in (True, False)),
    *(f"blocks of {size}" for size in (1, 2, 3, 4, 7, 16, 40, 64)),
    *(f"prefix cache of {blocks}" for blocks in (0, 2, 10, 2**40)),
}


@pytest.mark.parametrize("first", range(0, 12 * BLOCK, BLOCK))
def test_the_compiled_kernel_is_its_plain_twin(first):
    """Whole numbers exactly, floats to 1e-9, request by request; and the cases reach every feature."""
    seen = Counter()
    for seed in range(first, first + BLOCK):
        plan, columns = random_case(seed)
        plain = run(_des_py, plan, columns)
        assert differences(plain, run(_des, plan, columns, pieces=1 + seed % 3)) == [], seed
        seen.update(set(reached(plan, plain)))
    assert set(seen) == FEATURES


def test_a_difference_would_be_seen():
    plan, columns = random_case(0)
    one, other = (run(_des, replace(plan, until_s=1e9), columns) for _ in range(2))
    assert differences(one, other) == []
    other[1].count[0, 0] += 1
    other[1].amount[0, 0] += 1e-6
    other[2]["first_s"][:] = 1.0
    assert differences(one, other) == ["count", "amount", "first_s"]


@pytest.mark.parametrize("first", range(5000, 5300, 100))
def test_pieces_of_a_workload_give_the_same_bytes(first):
    for seed in range(first, first + 100):
        plan, columns = random_case(seed)
        whole, parts = (run(_des, plan, columns, pieces=pieces) for pieces in (1, len(columns[0]) + 1))
        assert whole[0] == parts[0]
        for name, values in whole[1].columns().items():
            assert values.tobytes() == getattr(parts[1], name).tobytes(), (seed, name)


def test_few_events_at_a_time_give_the_same_bytes():
    for seed in range(100):
        plan, columns = random_case(seed)
        whole, parts = (run(_des, plan, columns, most_events=events) for events in (1_000_000, 3))
        for name, values in whole[1].columns().items():
            assert values.tobytes() == getattr(parts[1], name).tobytes(), (seed, name)


# --- real tables: no time is a round number ---------------------------------------------------------------------------
def real_pool(chip, model, config, **changes):
    return Pool("real", step_table_build(chip_get(chip), model_get(model), config), block_tok=16, **changes)


def long_requests(n, mean_gap_s):
    rng = np.random.default_rng(7)
    arrival_s, lengths = np.cumsum(rng.exponential(mean_gap_s, n)), rng.integers(1, 1000, (n, 2))
    return requests(*zip(arrival_s, lengths[:, 0], lengths[:, 1] // 4 + 1, strict=True))


CONFIG = DeploymentConfig("bf16", tp=2, max_batched_tok=512, max_seqs=128)
DENSE, WINDOWED = ("a100-80", "llama-3.1-70b", CONFIG), ("h200", "gpt-oss-120b", replace(CONFIG, max_batched_tok=256))
REAL = {
    "dense": (real_pool(*DENSE), Load()),
    "dense with little memory": (real_pool(*DENSE, kv_blocks=100, watermark_blocks=1), Load()),
    "windowed": (real_pool(*WINDOWED), Load()),
    "drafting": (real_pool(*WINDOWED, max_seqs=40, draft_tok=3, acceptance_ratio=0.7, draft_s=0.003), Load()),
    "clients that think": (real_pool(*DENSE, replicas=2), Load(LoadKind.CLOSED, 9, think_s=0.3, think_random=True)),
}


@pytest.mark.parametrize("case", REAL)
def test_twins_agree_on_the_steps_of_real_chips(case):
    pool, load = REAL[case]
    workload = long_requests(60, 0.1)
    plain, compiled = (
        simulate(Plan([pool], load=load), workload, keep_requests=True, kernel=kernel) for kernel in (_des_py, _des)
    )
    assert plain.finished == 60
    assert plain.pools == compiled.pools
    assert differences(*((o.progress, o.ledger, o.kept) for o in (plain, compiled))) == []
    assert (plain.ledger.count[:, Count.PREEMPTIONS].sum() > 0) == (case == "dense with little memory")


def test_exact_quantiles_lie_within_a_bin_of_the_histogram_s():
    levels = np.array([0.01, 0.25, 0.5, 0.9, 0.99, 1.0])
    outcome = simulate(Plan([REAL["dense"][0]]), long_requests(2000, 0.5), keep_requests=True)
    for kind, latencies_s in outcome.exact.items():
        exact_s = np.quantile(latencies_s, levels, method="inverted_cdf")
        assert outcome.latency_s(kind, levels) == pytest.approx(exact_s, rel=1 / 128)
        row = outcome.latencies()[f"{kind.name.lower()}_s"]
        assert (row["samples"], row["max"]) == (len(latencies_s), latencies_s.max())
        assert row["mean"] == pytest.approx(latencies_s.mean())
    assert {Latency.TTFT, Latency.E2E} < outcome.exact.keys()


# --- at the same instant ----------------------------------------------------------------------------------------------
def outcome_of(des, pools, *rows, changes=(), columns=None, **plan):
    changes = [Change(*change) for change in changes]
    workload = requests(*rows, **columns or {})
    return simulate(Plan(pools, changes=changes, **plan), workload, keep_requests=True, kernel=des)


def counted(outcome, what):
    return outcome.ledger.count[:, what].tolist()


def test_an_arrival_at_the_end_of_a_step_is_in_the_next_step(des):
    outcome = outcome_of(des, [Pool("p", SECOND)], (0, 1, 3), (1, 1, 1), (1.5, 1, 1))
    assert outcome.kept["first_s"].tolist() == [1, 2, 3]
    assert outcome.kept["finish_s"].tolist() == [3, 2, 3]
    assert counted(outcome, Count.STEPS) == [3]


def test_all_that_arrive_at_an_instant_share_a_step(des):
    outcome = outcome_of(des, [Pool("p", table(token_s=1.0))], (0, 1, 1), (0, 1, 1), (0, 2, 1))
    assert outcome.kept["first_s"].tolist() == [4, 4, 4]
    assert counted(outcome, Count.STEPS) == [1]


def test_a_place_and_a_block_that_become_free_serve_an_arrival_at_that_instant(des):
    for pool in (Pool("p", SECOND, max_seqs=1), Pool("p", SECOND, kv_blocks=1)):
        outcome = outcome_of(des, [pool], (0, 1, 2), (2, 1, 1), (3, 1, 1))
        assert outcome.kept["finish_s"].tolist() == [2, 3, 4]
        assert outcome.latencies()["queue_s"]["max"] == 0


def test_steps_end_before_replicas_fail(des):
    changes = [(1.0, 0, ChangeKind.FAIL)]
    outcome = outcome_of(des, [Pool("p", SECOND, replicas=2)], (0, 1, 1), changes=changes)
    assert (outcome.finished, counted(outcome, Count.FAILED_OVER)) == (1, [0, 0])
    later = outcome_of(des, [Pool("p", SECOND, replicas=2)], (0, 1, 2), changes=changes)
    assert (later.kept["first_s"][0], later.kept["finish_s"][0], later.kept["replica"][0]) == (1, 2, 1)
    assert counted(later, Count.FAILED_OVER) == [1, 0]


def two_stages(readers=2, **changes):
    return [
        Pool("read", SECOND, replicas=readers, role=Role.PREFILL, transfer_s=2.0, **changes),
        Pool("write", SECOND, replicas=2, role=Role.DECODE),
    ]


def test_steps_end_before_transfers_do(des):
    """The link is free at 3 and brings the second cache at 5, when the first writer ends what it has."""
    outcome = outcome_of(des, two_stages(), (0, 1, 3), (1, 1, 2), router=Router.LEAST_OUTSTANDING)
    assert outcome.kept["finish_s"].tolist() == [5, 6]
    assert outcome.kept["replica"].tolist() == [2, 2]


def test_transfers_end_before_replicas_fail(des):
    """The prompt is read by 1 and handed over by 3: what happens then to either end is too late for the transfer."""
    sender = outcome_of(des, two_stages(), (0, 1, 2), changes=[(3.0, 0, ChangeKind.FAIL)])
    assert (sender.kept["finish_s"][0], counted(sender, Count.FAILED_OVER)) == (4, [0, 0, 0, 0])
    receiver = outcome_of(des, two_stages(), (0, 1, 2), changes=[(3.0, 2, ChangeKind.FAIL)])
    assert counted(receiver, Count.FAILED_OVER) == [0, 0, 1, 0]
    assert receiver.kept["finish_s"][0] == 3 + 1  # the second reader emits the last token
    assert counted(receiver, Count.RECOMPUTED_TOK) == [0, 2, 0, 0]


def test_transfers_end_before_replicas_come(des):
    """Nobody is there for the cache yet; a moment later somebody is."""
    pools = two_stages()
    pools[1] = replace(pools[1], up=0)
    begun = [(0.0, 2, ChangeKind.START)]
    same = outcome_of(des, pools, (0, 1, 2), changes=[*begun, (3.0, 2, ChangeKind.READY)])
    assert same.kept["finish_s"][0] == 4


def test_transfers_that_end_together_go_by_their_start(des):
    """Both replicas read a prompt by 1 and hand over by 3; the first one's goes to the first writer."""
    outcome = outcome_of(des, two_stages(), (0, 1, 2), (0, 1, 2))
    assert outcome.kept["replica"].tolist() == [2, 3]
    late = outcome_of(des, two_stages(), (0, 1, 2), (1, 1, 2), (2, 1, 2))
    assert late.kept["replica"].tolist() == [2, 3, 2]


def test_prompts_of_a_step_end_in_the_order_of_the_step(des):
    """Both prompts are read by 1; the link takes one after the other."""
    outcome = outcome_of(des, two_stages(readers=1), (0, 1, 2), (0, 1, 2))
    assert outcome.kept["finish_s"].tolist() == [4, 6]
    priority = np.array([1, 0])
    turned = outcome_of(des, two_stages(readers=1), (0, 1, 2), (0, 1, 2), columns={"priority": priority})
    assert turned.kept["finish_s"].tolist() == [6, 4]


def test_replicas_change_before_requests_arrive(des):
    pool = Pool("p", SECOND, replicas=2, up=1)
    ready = outcome_of(
        des, [pool], (2, 1, 1), (2, 1, 1), changes=[(0.0, 1, ChangeKind.START), (2.0, 1, ChangeKind.READY)]
    )
    assert ready.kept["replica"].tolist() == [0, 1]
    drained = outcome_of(des, [replace(pool, up=2)], (2, 1, 1), (2, 1, 1), changes=[(2.0, 0, ChangeKind.DRAIN)])
    assert drained.kept["replica"].tolist() == [1, 1]


def test_changes_at_an_instant_happen_as_listed(des):
    pool = Pool("p", SECOND, up=0)
    start, ready = (0.0, 0, ChangeKind.START), (0.0, 0, ChangeKind.READY)
    assert outcome_of(des, [pool], (0, 1, 1), changes=[start, ready]).finished == 1
    assert outcome_of(des, [pool], (0, 1, 1), changes=[ready, start]).finished == 0


def test_arrivals_at_an_instant_come_in_the_order_of_the_workload(des):
    outcome = outcome_of(des, [Pool("p", SECOND, replicas=3)], *[(0, 1, 1)] * 4)
    assert outcome.kept["replica"].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    "router", [Router.LEAST_OUTSTANDING, Router.POWER_OF_TWO, Router.WEIGHTED], ids=lambda router: router.name
)
def test_ties_of_routers_go_to_the_lowest_number(des, router):
    pool = Pool("p", SECOND, replicas=2)
    outcome = outcome_of(des, [pool], *[(0, 1, 1)] * 4, router=router)
    assert outcome.kept["replica"].tolist() == [0, 1, 0, 1]


def test_a_request_that_ends_at_an_instant_is_not_outstanding_for_one_that_arrives_then(des):
    """At 2 the first replica has one request left and the second none."""
    outcome = outcome_of(
        des, [Pool("p", SECOND, replicas=2)], (0, 1, 3), (0, 1, 2), (1, 1, 1), (2, 1, 1),
        router=Router.LEAST_OUTSTANDING,
    )  # fmt: skip
    assert outcome.kept["replica"].tolist() == [0, 1, 0, 1]


def test_a_prompt_handed_over_is_not_outstanding_any_more(des):
    """By 1 the first reader is rid of its first prompt, still on the link, and has one left, like the second."""
    pools = two_stages(max_seqs=1)
    outcome = outcome_of(des, pools, (0, 1, 2), (0, 1, 2), (0, 1, 2), (1, 1, 2), router=Router.LEAST_OUTSTANDING)
    assert counted(outcome, Count.ROUTED)[:2] == [2, 2]


# --- the order within a step ------------------------------------------------------------------------------------------
def test_waiting_requests_go_by_priority_then_by_number(des):
    outcome = outcome_of(
        des, [Pool("p", SECOND, max_seqs=1)], *[(0, 1, 1)] * 4, columns={"priority": np.array([2, 1, 1, -5])}
    )
    assert outcome.kept["first_s"].tolist() == [4, 2, 3, 1]


def test_the_first_that_does_not_fit_stops_those_behind_it(des):
    """Five blocks of one token: the first prompt takes two and soon a third, the second waits for four."""
    pool = Pool("p", SECOND, kv_blocks=5, block_tok=1)
    outcome = outcome_of(des, [pool], (0, 2, 2), (0, 4, 1), (0, 1, 1))
    assert outcome.kept["first_s"].tolist() == [1, 3, 3]


def test_the_last_in_order_is_preempted(des):
    """Four blocks of two tokens: every prompt of one token takes one.

    At 2 each has emitted two tokens, and the step that writes the third needs a second block for each of them: three
    are due and one is free. The last request gives up its block, so two are free for the two others, which end at 4.
    Then it reads its prompt and the two tokens it had, which emits the third, and writes the fourth by 6.
    """
    pool = Pool("p", SECOND, kv_blocks=4, block_tok=2)
    outcome = outcome_of(des, [pool], (0, 1, 4), (0, 1, 4), (0, 1, 4), (1.5, 1, 1))
    assert outcome.kept["preemptions"].tolist() == [0, 0, 1, 0]
    assert outcome.kept["finish_s"].tolist() == [4, 4, 6, 5]
    assert counted(outcome, Count.RECOMPUTED_TOK) == [3]
    assert counted(outcome, Count.OUTPUT_TOK) == [4 + 4 + 4 + 1]


def test_nobody_is_admitted_in_a_step_in_which_somebody_was_preempted(des):
    """Eight blocks of one token, all in use at 2. The second request gives up six of them and the first takes one.

    Five are free and the third request needs one, and goes first; yet it is read from 3 on.
    """
    pool, priority = Pool("p", SECOND, kv_blocks=8, block_tok=1), np.array([0, 0, -1])
    outcome = outcome_of(des, [pool], (0, 1, 4), (0, 5, 3), (1.5, 1, 1), columns={"priority": priority})
    assert outcome.kept["preemptions"].tolist() == [0, 1, 0]
    assert outcome.kept["first_s"].tolist() == [1, 1, 4]


def test_a_run_of_steps_ends_where_it_is_told_to(des):
    """A horizon in the middle of a run of 100 steps: 49 whole steps, and half of one that is not counted."""
    outcome = outcome_of(des, [Pool("p", SECOND)], (0, 1, 100), until_s=49.5)
    assert outcome.progress == Progress.HORIZON
    assert (counted(outcome, Count.STEPS), counted(outcome, Count.OUTPUT_TOK)) == ([49], [49])
    assert outcome.duration_s == 49.5
