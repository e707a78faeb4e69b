"""Steps of engines and what loads make of them: laws that hold whatever the parameters, and values by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from accelerator.loads import FORMULAS, OUTPUTS, serve
from accelerator.serving import INDEX, KINDS, PARAMETERS, Steps, loads_of, loads_take
from tests.accelerator.servings import deployments, thetas

BY_KIND = {
    "closed": {"scenario": "closed-loop concurrency"},
    "static": {"scenario": "static batch"},
    "burst": {"scenario": "all requests at once", "concurrency": 500},
    "full": {"scenario": "offline max load", "concurrency": ""},
    "limited": {"scenario": "MLPerf Server", "concurrency": ""},
    "decode": {"scenario": "production decode node", "concurrency": ""},
    "open": {"scenario": "open loop", "concurrency": "", "request_rate_rps": 2},
    "prefill": {"scenario": "PD-disaggregated prefill", "concurrency": ""},
    "split": {"scenario": "PD-disaggregated", "concurrency": 32, "chip_count": 4},
}
DEFINED = {
    "closed": set(OUTPUTS),
    "static": set(OUTPUTS),
    "burst": set(OUTPUTS) - {"prefill_s"},
    "full": {"tpot_s", "tok_s", "input_tok_s", "ttft_s"},
    "limited": {"tpot_s", "tok_s", "input_tok_s", "ttft_s"},
    "decode": {"tpot_s", "tok_s"},
    "open": {"tpot_s", "tok_s", "input_tok_s", "ttft_s"},
    "prefill": {"input_tok_s", "prefill_s", "ttft_s"},
    "split": set(OUTPUTS) - {"e2e_s"},
}
USERS = (1, 2, 4, 8, 16, 32, 64, 128)


def served(*rows, **parameters):
    """Return the loads and outputs of rows under the usual parameters, but for those named."""
    loads = loads_of(deployments(*rows))
    return loads, serve(loads, thetas(len(rows), **parameters))


def steps_of(loads, **parameters):
    return Steps(loads, thetas(len(loads.kind), **parameters), loads.main)


def by_users(scenario, users=USERS, **other):
    return [{"scenario": scenario, "concurrency": count} | other for count in users]


# --- what every kind says ---------------------------------------------------------------------------------------------
def test_every_kind_has_a_formula_and_a_row_here():
    assert set(FORMULAS) == set(KINDS) == set(BY_KIND)
    loads = loads_of(deployments(*BY_KIND.values()))
    assert [KINDS[kind] for kind in loads.kind] == list(BY_KIND)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_finite_and_positive_in_what_it_defines_and_silent_elsewhere(kind):
    _, outputs = served(BY_KIND[kind])
    assert {name for name, values in outputs.items() if np.isfinite(values).all()} == DEFINED[kind]
    assert all((outputs[name] > 0).all() for name in DEFINED[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (8, 20_000), (100_000, 8), (30_000, 1)], ids=str)
def test_extreme_lengths_stay_finite_and_positive(kind, shape):
    _, outputs = served(BY_KIND[kind] | {"input_len": shape[0], "output_len": shape[1]})
    for name in DEFINED[kind]:
        assert np.isfinite(outputs[name]).all()
        assert (outputs[name] > 0).all()


def test_a_row_does_not_depend_on_the_others_it_is_computed_with():
    rows = [row | {"chip": chip} for chip in ("h100-sxm", "a100-80") for row in BY_KIND.values()]
    loads, outputs = served(*rows)
    theta = thetas(len(rows)) * np.linspace(0.8, 1.2, len(rows))
    whole = serve(loads, theta)
    for which in (np.array([3]), np.arange(0, len(rows), 2), np.arange(len(rows))[::-1]):
        part = serve(loads_take(loads, which), theta[:, which])
        for name in OUTPUTS:
            assert_array_equal(part[name], whole[name][which])
    for at, row in enumerate(rows):  # read alone, and not merely taken
        alone = served(row)[1]
        for name in OUTPUTS:
            assert_allclose(alone[name][0], outputs[name][at], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("figure", ["memory_byte_s", "peak_flop_s[bf16]"])
def test_a_faster_chip_never_slows(kind, figure):
    (slow,) = deployments(BY_KIND[kind])
    value = slow.chip.memory_byte_s.value if figure == "memory_byte_s" else slow.chip.peak_flop_s["bf16"].value
    chips = [slow.chip.varied(figure, factor * value) for factor in (1, 1.25, 2, 4)]
    outputs = serve(loads_of([replace(slow, chip=chip) for chip in chips]), thetas(4))
    for name in DEFINED[kind]:
        better = np.diff(np.log(outputs[name])) * (1 if name.endswith("tok_s") else -1)
        if kind in {"limited", "decode"} and name in {"tpot_s", "ttft_s"}:
            continue  # a faster chip takes more users instead
        # a prompt hides less in a step that waits less for memory: what it adds may grow a little
        hidden = 0.02 if name in {"ttft_s", "prefill_s"} else 1e-9
        assert (better >= -hidden).all(), name


@pytest.mark.parametrize("kind", ["closed", "static", "burst", "full"])
def test_twice_the_decode_ratio_slows_tokens_at_most_twofold(kind):
    usual, slow = (served(BY_KIND[kind], decode_ratio=ratio)[1] for ratio in (1.0, 2.0))
    assert 1 < slow["tpot_s"][0] / usual["tpot_s"][0] <= 2 + 1e-9
    assert 0.5 - 1e-9 <= slow["tok_s"][0] / usual["tok_s"][0] <= 1 + 1e-9


# --- closed loops -----------------------------------------------------------------------------------------------------
def test_tpot_and_throughput_of_a_closed_loop_grow_with_users():
    _, outputs = served(*by_users("closed-loop concurrency"))
    for name in ("tpot_s", "ttft_s", "tok_s"):
        assert (np.diff(outputs[name]) > 0).all()
    per_user = outputs["tok_s"] / USERS
    assert (np.diff(per_user) < 0).all()


@pytest.mark.parametrize("lengths", [(512, 256), (4096, 128), (16, 2000)], ids=str)
def test_a_closed_loop_obeys_littles_law(lengths):
    inp, out = lengths
    rows = by_users("closed-loop concurrency", input_len=inp, output_len=out)
    _, outputs = served(*rows, seqs_most=4000.0)
    rate_s = outputs["tok_s"] / out
    in_flight = rate_s * (outputs["ttft_s"] + (out - 1) * outputs["tpot_s"])
    few = np.array(USERS) <= 16  # beyond, the KV memory of the longest may bind
    assert_allclose(in_flight[few], np.array(USERS)[few], rtol=1e-9)
    assert_allclose(outputs["input_tok_s"], rate_s * inp)
    assert_allclose(outputs["e2e_s"], outputs["ttft_s"] + (out - 1) * outputs["tpot_s"])


def test_users_beyond_what_runs_only_add_to_ttft():
    loads, outputs = served(*by_users("closed-loop concurrency", (64, 128, 256)), seqs_most=16.0)
    assert (loads.room_seqs > 64).all()
    for name in ("tpot_s", "tok_s", "prefill_s", "input_tok_s"):
        assert_allclose(outputs[name], outputs[name][0])
    cycle_s = outputs["ttft_s"] + 255 * outputs["tpot_s"]
    assert_allclose(cycle_s / cycle_s[0], [1, 2, 4])
    assert (np.diff(outputs["ttft_s"]) > 0).all()


def test_one_user_waits_for_a_request_half_a_step_the_step_itself_and_the_prompt():
    loads, outputs = served({"concurrency": 1})
    steps, one, context_tok = steps_of(loads), np.ones(1), np.array([512 + 128.0])
    decode_s = steps.decode_s(one, context_tok)
    prompt_s = steps.prompt_s(one, np.array([512.0]), 1.0, context_tok)
    assert_allclose(outputs["tpot_s"], decode_s)
    assert_allclose(outputs["ttft_s"], 2e-2 + 512 * 2e-6 + 1.5 * decode_s + prompt_s, rtol=1e-6)


def test_prompts_started_together_make_first_tokens_late():
    calm, together = (served({"concurrency": 32}, wave=wave)[1] for wave in (1e-6, 1.0))
    assert together["ttft_s"][0] > 2 * calm["ttft_s"][0]


def test_replicas_share_users_and_add_their_throughput():
    _, outputs = served({"concurrency": 16}, {"concurrency": 64, "chip_count": 4})
    assert outputs["tpot_s"][1] == pytest.approx(outputs["tpot_s"][0])
    assert outputs["tok_s"][1] == pytest.approx(4 * outputs["tok_s"][0])


def test_accepted_drafts_shorten_the_time_per_token():
    notes = "num_speculative_tokens=3 mtp"
    loads, outputs = served({}, {"notes": notes}, accepted=1.0)
    assert loads.speculative_tok.tolist() == [0, 3]
    per_step = 1 + 0.65 * 3
    assert outputs["tpot_s"][0] / per_step < outputs["tpot_s"][1] < outputs["tpot_s"][0]


# --- the others -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("users", [1, 8, 64])
def test_a_static_batch_takes_its_prefill_and_a_step_for_every_further_token(users):
    loads, outputs = served({"scenario": "static batch", "concurrency": users})
    batch = np.array([float(users)])
    steps, context_tok = steps_of(loads), np.array([512 + 128.0])
    step_s = steps.decode_s(batch, context_tok)
    prefill_s = steps.prompt_s(np.zeros(1), np.array([512.0]), batch, context_tok)
    assert_allclose(outputs["prefill_s"], prefill_s)
    assert_allclose(outputs["e2e_s"], prefill_s + 255 * step_s)
    assert_allclose(outputs["tpot_s"], step_s)
    assert_allclose(outputs["tok_s"], users * 256 / outputs["e2e_s"])


def test_a_static_batch_that_finds_no_room_is_taken_in_turns():
    loads = loads_of(deployments({"scenario": "static batch", "concurrency": 64}))
    (one,) = serve(loads, thetas(1))["e2e_s"]
    (half,) = serve(replace(loads, users=np.array([32.0])), thetas(1))["e2e_s"]
    (turns,) = serve(replace(loads, room_seqs=np.array([32.0])), thetas(1))["e2e_s"]
    assert turns == pytest.approx(2 * half)
    assert turns > one


def test_a_full_queue_gives_more_than_any_number_of_users():
    _, outputs = served(*by_users("closed-loop concurrency"), BY_KIND["full"])
    assert outputs["tok_s"][-1] > outputs["tok_s"][:-1].max()
    _, scaled = served(BY_KIND["full"], full_ratio=0.5)
    assert scaled["tok_s"][0] == pytest.approx(0.5 * outputs["tok_s"][-1])


def test_a_latency_limit_is_kept_and_a_looser_one_serves_more():
    rows = [{"scenario": f"production decode node, TPOT < {ms} ms", "concurrency": ""} for ms in (15, 25, 50)]
    loads, outputs = served(*rows, limit_ratio=0.6)
    assert_allclose(loads.limit_s, [0.015, 0.025, 0.05])
    assert (outputs["tpot_s"] <= 0.6 * loads.limit_s * (1 + 1e-4)).all()
    assert (np.diff(outputs["tok_s"]) >= 0).all()
    assert outputs["tok_s"][1] > outputs["tok_s"][0]


def test_a_burst_of_more_requests_waits_longer_and_keeps_the_chip_busier():
    _, outputs = served(*by_users("all requests at once", (8, 64, 512, 4096)))
    for name in ("ttft_s", "e2e_s"):
        assert (np.diff(outputs[name]) > 0).all()
    assert (np.diff(outputs["tok_s"][:3]) > 0).all()
    assert outputs["tok_s"][3] == pytest.approx(outputs["tok_s"][2], rel=0.1)  # both more than run at once
    assert_allclose(outputs["tok_s"] * outputs["e2e_s"], 256 * np.array([8, 64, 512, 4096]))


def test_an_open_loop_delivers_what_arrives_until_it_is_full():
    rates = (0.5, 1, 2, 4, 1000)
    _, outputs = served(*({"scenario": "open loop", "request_rate_rps": rate} for rate in rates))
    assert_allclose(outputs["tok_s"][:3], 256 * np.array(rates[:3]), rtol=0.02)
    assert outputs["tok_s"][-1] < 0.5 * 256 * rates[-1]
    assert (np.diff(outputs["tpot_s"]) > 0).all()
    assert outputs["ttft_s"][-1] > 10 * outputs["ttft_s"][0]


def test_prompts_of_others_do_not_hold_up_split_workers():
    rows = [BY_KIND["split"] | {"input_len": 8000}, {"chip_count": 4, "concurrency": 32, "input_len": 8000}]
    alone = [served(rows[0], mix=mix)[1]["tpot_s"][0] for mix in (0.1, 0.8)]
    mixed = [served(rows[1], mix=mix)[1]["tpot_s"][0] for mix in (0.1, 0.8)]
    assert alone[0] == alone[1]
    assert mixed[1] > mixed[0]


def test_prefill_workers_read_their_prompts_at_the_rate_they_say():
    loads, outputs = served(BY_KIND["prefill"] | {"input_len": 2048, "chip_count": 1, "tp": 1})
    assert loads.replicas[0] == 1
    assert_allclose(outputs["input_tok_s"] * outputs["prefill_s"], 4 * 2048)  # of one step of 8192 tokens


# --- steps ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def eight():
    return loads_of(deployments(*by_users("closed-loop concurrency")))


def test_a_step_without_chip_time_is_the_hosts(eight):
    nothing = dict.fromkeys(("memory_ratio", "compute_ratio", "experts_ratio", "collectives_ratio", "issue_s"), 0.0)
    steps = steps_of(eight, **nothing, decode_attention_ratio=0.0, host_step_s=1e-3, host_seq_s=1e-5)
    assert_allclose(steps.decode_s(np.array(USERS, dtype=float), np.full(8, 640.0)), 1e-3 + 1e-5 * np.array(USERS))


def test_the_host_issues_kernels_while_the_chip_works(eight):
    batch, context_tok = np.array(USERS, dtype=float), np.full(8, 640.0)
    free = steps_of(eight, issue_s=0.0, host_step_s=0.0, host_seq_s=0.0).decode_s(batch, context_tok)
    steps = steps_of(eight, issue_s=1e-5, host_step_s=0.0, host_seq_s=0.0)
    issue_s = 1e-5 * eight.stack.launches[eight.main]
    assert_allclose(steps.decode_s(batch, context_tok), np.hypot(free, issue_s))


def test_ranks_of_a_group_cost_the_host():
    loads = loads_of(deployments({"chip_count": 4, "tp": 4}, {}))
    assert_allclose(steps_of(loads, host_step_s=1e-3, host_rank_s=1e-4).host_s(np.zeros(2)), [1.3e-3, 1e-3])


def test_a_longer_context_takes_longer_by_the_same_for_each_token(eight):
    steps = steps_of(eight)
    times = [steps.decode_attention_s(np.full(8, 16.0), np.full(8, tok)) for tok in (1000.0, 2000.0, 3000.0)]
    assert_allclose(times[2] - times[1], times[1] - times[0])
    assert (times[1] > times[0]).all()
    assert_array_equal(steps.decode_attention_s(np.zeros(8), np.full(8, 1000.0)), 0.0)


def test_the_padded_step_of_a_compiled_model_costs_the_same_for_one_as_for_all():
    rows = [
        {"engine": "vLLM (optimum-neuron)", "notes": "server batch size 8", "concurrency": users} for users in (1, 8)
    ]
    loads = loads_of(deployments(*rows))
    assert loads.padded_seqs.tolist() == [8, 8]
    decode_s = steps_of(loads).decode_s(np.array([1.0, 8.0]), np.full(2, 640.0))
    assert decode_s[0] == decode_s[1]


def test_parameters_have_names_of_their_own_and_positive_medians():
    assert len(INDEX) == len(PARAMETERS)
    assert all(parameter.centre > 0 and parameter.spread > 0 and parameter.tau > 0 for parameter in PARAMETERS)


# --- groups with attention of their own -------------------------------------------------------------------------------
def test_a_prompt_in_one_group_costs_as_much_as_one_in_each():
    row = {"model": "deepseek-v3", "chip_count": 8, "tp": 1, "dp": 8, "ep": 8, "weight_precision": "fp8"}
    loads = loads_of(deployments(row | {"chip": "H200-SXM"}))
    assert loads.groups == [8]
    steps, tok, context_tok = steps_of(loads), np.array([1000.0]), np.array([1000.0])
    one, eight, sixteen = (steps.prompt_s(np.array([64.0]), tok, number, context_tok) for number in (1.0, 8.0, 16.0))
    assert one == eight
    assert eight < sixteen < 2.1 * eight


def test_each_group_schedules_its_own_sequences():
    row = {"model": "deepseek-v3", "chip_count": 8, "weight_precision": "fp8", "chip": "H200-SXM"}
    for layout, groups in (({"tp": 8}, 1), ({"tp": 1, "dp": 8, "ep": 8}, 8)):
        steps = steps_of(loads_of(deployments(row | layout)), host_step_s=0.0, host_rank_s=0.0, host_seq_s=1e-4)
        assert steps.host_s(np.array([64.0])) == pytest.approx(64e-4 / groups)


def test_decoding_alone_is_faster_than_with_prompts_to_read():
    row = {"concurrency": "", "model": "llama-3.1-8b"}
    _, outputs = served(row | {"scenario": "PD-disaggregated decode, TPOT<50 ms"},
                        row | {"scenario": "MLPerf Server, TPOT<50 ms"})  # fmt: skip
    assert outputs["tok_s"][0] > outputs["tok_s"][1]
    assert (outputs["tpot_s"] < 0.05).all()


def test_far_more_sequences_than_were_worked_out_cost_what_the_last_ones_do():
    loads = loads_of(deployments({"model": "qwen3-32b", "chip": "H200-SXM"}))
    steps, context_tok = steps_of(loads), np.array([1000.0])
    last, twice = (steps.decode_attention_s(np.array([count]), context_tok) for count in (4096.0, 8192.0))
    assert last < twice <= 2.0 * last
