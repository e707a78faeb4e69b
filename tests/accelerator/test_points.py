import math

import pytest

from accelerator.chips import chip_get
from accelerator.errors import AcceleratorError, TraceError, UnknownChipError, UnknownModelError
from accelerator.points import (
    SCENARIOS,
    PointError,
    deployment_of,
    deployments_of,
    engine_family,
    points_parse,
    points_read,
    scenario_kind,
)

ROW = {
    "point_id": "p1", "chip": "H100-SXM", "chip_count": "1", "model": "Llama-3.1-8B", "engine": "vLLM",
    "scenario": "closed-loop concurrency", "metric": "tpot_ms", "input_len": "1000", "output_len": "100",
    "concurrency": "8",
}  # fmt: skip


def table(*rows, without=()):
    """Return a table of rows, each ROW with changes."""
    rows = [{**ROW, **row} for row in rows]
    columns = [column for column in dict.fromkeys(name for row in rows for name in row) if column not in without]
    quoted = (",".join('"' + row.get(column, "").replace('"', '""') + '"' for column in columns) for row in rows)
    return "\n".join([",".join(columns), *quoted]) + "\n"


def parse(**changes):
    (point,) = points_parse(table(changes), "points.csv")
    return point


def deploy(**changes):
    return deployment_of(parse(**changes))


def spread(**changes):
    """Return (tp, dp, pp, ep, replicas) of a row's layout."""
    layout = deploy(**changes).layout
    config = layout.config
    return config.tp, config.dp, config.pp, config.ep, layout.replicas


# --- reading ---------------------------------------------------------------------------------------------------------
def test_what_a_row_leaves_out_is_nan_or_nought_or_empty():
    point = parse()
    assert (point.point_id, point.chip, point.chips, point.concurrency) == ("p1", "H100-SXM", 1, 8)
    assert (point.tp, point.pp, point.ep, point.dp, point.nodes) == (0, 0, 0, 0, 0)
    assert (point.source, point.notes, point.trust, point.duplicate) == ("", "", "", False)
    assert all(math.isnan(number) for number in (point.value, point.rate_s, point.power_cap_ratio))


def test_a_point_knows_its_line():
    points = points_parse(table({}, {"notes": "two\nlines"}, {}), "points.csv")
    assert [point.at for point in points] == [2, 4, 5]


def test_expert_parallelism_may_be_on_without_a_size():
    assert parse(ep="on").ep == -1


def test_signs_of_a_bound_before_a_number_are_dropped():
    assert parse(value="<=12.5").value == 12.5
    assert parse(concurrency="~64").concurrency == 64


def test_a_duplicate_is_marked_by_one():
    assert parse(duplicate_metric="1").duplicate
    assert not parse(duplicate_metric="0").duplicate


@pytest.mark.parametrize("column", ["point_id", "chip", "chip_count", "model", "engine", "scenario", "metric"])
def test_a_missing_column_is_named(column):
    with pytest.raises(TraceError, match=f"points.csv:1: has no column {column}$"):
        points_parse(table({}, without={column}), "points.csv")


def test_an_empty_file_has_no_columns():
    with pytest.raises(TraceError, match="has no column chip, chip_count"):
        points_parse("", "points.csv")


def test_a_table_of_a_header_alone_has_no_points():
    assert points_parse(table({}).splitlines()[0], "points.csv") == []


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("value", "fast", "not a number"),
        ("value", "nan", "not a number from 0 up"),
        ("value", "inf", "not a number from 0 up"),
        ("value", "-1", "not a number from 0 up"),
        ("concurrency", "8 users", "not a number"),
        ("input_len", "1,000", "not a number"),
        ("chip_count", "2.5", "not a count"),
        ("tp", "two", "not a number"),
        ("ep", "off", "not a number"),
        ("chip_count", "0", "not a count from 1"),
        ("chip_count", "100001", "not a count from 1 to 100000"),
        ("input_len", "1e9", "not a number from 0 up to 1e+08"),
        ("concurrency", "1e8", "not a number from 0 up to 1e+07"),
    ],
)
def test_a_bad_number_names_file_line_and_column(column, text, reason):
    with pytest.raises(TraceError) as caught:
        points_parse(table({}, {column: text}), "points.csv")
    assert str(caught.value).startswith(f"points.csv:3: column {column}: ")
    assert reason in str(caught.value)


def refusal(text):
    with pytest.raises(TraceError) as caught:
        points_parse(text, "points.csv")
    return str(caught.value)


def test_every_bad_number_of_a_table_is_told_with_line_and_column():
    text = table({}, {"tp": "two", "value": "fast", "concurrency": "-8"}, {}, {"chip_count": "2.5"})
    assert refusal(text) == (
        'points.csv:3: column tp: "two" is not a number; column concurrency: "-8" is not a number from 0 up to 1e+07; '
        'column value: "fast" is not a number; line 5, column chip_count: "2.5" is not a count from 1 to 100000'
    )


def test_a_table_full_of_bad_numbers_tells_the_first_and_counts_the_rest():
    told = refusal(table(*[{"value": "fast"}] * 25))
    assert told.count("is not a number") == 20
    assert told.endswith("; and 5 more")


def test_a_bad_cell_is_quoted_on_one_line_and_cut():
    told = refusal(table({"value": "a\nb" + "c" * 500}))
    assert "\n" not in told
    assert len(told) < 150


def test_more_cells_than_columns_are_refused_by_line():
    assert refusal(table({}).rstrip("\n") + ",9\n") == "points.csv:2: the row has more cells than the table has columns"


def test_a_column_that_stands_twice_is_refused():
    head, row = table({}).splitlines()
    assert refusal(f"{head},chip\n{row},H200\n") == "points.csv:1: has column chip more than once"


def test_a_quote_that_is_never_closed_is_refused_by_line():
    assert refusal(table({}) + '"abc\n') == "points.csv:3: unexpected end of data"


def test_a_header_that_no_table_has_is_refused():
    assert refusal("x" * 200_000 + "\n1\n").startswith("points.csv:1: field larger than")


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_lines_may_end_as_on_any_system(ending):
    assert points_parse(table({}, {}).replace("\n", ending), "") == points_parse(table({}, {}), "")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "points.csv"
    path.write_bytes(b"\xef\xbb\xbf" + table({}).encode())
    assert points_read(path)[0].point_id == "p1"


def test_a_nameless_index_column_is_passed_over():
    head, row = table({}).splitlines()
    assert points_parse(f",{head}\n7,{row}\n", "") == points_parse(table({}), "")


def test_counts_have_a_limit_so_that_no_row_takes_forever():
    with pytest.raises(TraceError, match="column chip_count"):
        parse(chip_count="1e9")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "points.csv"
    path.write_bytes(b"\xef\xbb\xbf" + table({}).encode())
    assert [point.point_id for point in points_read(path)] == ["p1"]


def test_a_file_that_is_not_text_or_not_there_is_refused_by_name(tmp_path):
    path = tmp_path / "points.csv"
    with pytest.raises(TraceError, match=r"points\.csv: cannot be read"):
        points_read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match=r"points\.csv: is not UTF-8"):
        points_read(path)


# --- names -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("closed-loop concurrency", "closed"),
        ("static batch decode", "static"),
        ("all requests at once", "burst"),
        ("offline max load", "full"),
        ("MLPerf Server", "limited"),
        ("open loop", "open"),
        ("PD-disaggregated", "split"),
        ("PD-disaggregated, closed-loop", "split"),
    ],
)
def test_a_scenario_says_how_load_was_applied(name, kind):
    assert scenario_kind(name) == kind


def test_the_longest_beginning_of_a_scenario_counts():
    assert scenario_kind("PD-disaggregated decode, 4K in") == "decode"
    assert scenario_kind("PD-disaggregated prefill (8K)") == "prefill"
    assert scenario_kind("offline batch of N requests") == "static"
    assert scenario_kind("offline, all of them") == "full"
    assert scenario_kind("CI regression baseline, PD-disaggregated") == "split"
    assert scenario_kind("CI regression baseline") == "closed"


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_its_own_longest_beginning(name):
    assert scenario_kind(name) == SCENARIOS[name]


@pytest.mark.parametrize("name", ["", "on Tuesdays", "loop, open"])
def test_an_unknown_scenario_is_refused(name):
    with pytest.raises(PointError, match="is not known"):
        scenario_kind(name)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("vLLM", "vllm"),
        ("vLLM-Ascend", "vllm-ascend"),
        ("vLLM (2023, research)", "vllm-2023"),
        ("vLLM (optimum-neuron)", "optimum-neuron"),
        ("SGLang", "sglang"),
        ("TensorRT-LLM", "trtllm"),
        ("My Engine 2!", "my-engine-2"),
        ("", "unknown"),
    ],
)
def test_an_engine_belongs_to_a_family(name, family):
    assert engine_family(name) == family


# --- precisions ------------------------------------------------------------------------------------------------------
def precisions(**changes):
    config = deploy(**changes).layout.config
    return config.weight_precision, config.kv_precision


def test_the_stated_precision_comes_before_the_name_and_the_name_before_the_model():
    assert precisions(model="Llama-3.1-8B")[0] == "bf16"
    assert precisions(model="Llama-3.1-8B-FP8")[0] == "fp8"
    assert precisions(model="Llama-3.1-8B-FP8", weight_precision="bf16")[0] == "bf16"
    assert precisions(model="DeepSeek-R1", chip_count="8", tp="8")[0] == "fp8"


def test_fp8_weights_are_unpacked_on_a_chip_without_fp8():
    assert precisions(chip="A100-SXM-80G", weight_precision="FP8")[0] == "int8_wo"
    assert precisions(chip="A100-SXM-80G", weight_precision="int8")[0] == "int8"


def test_fp4_weights_are_unpacked_on_a_chip_without_fp4():
    assert precisions(weight_precision="nvfp4")[0] == "int4"
    assert precisions(chip="B200", weight_precision="nvfp4")[0] == "fp4"


@pytest.mark.parametrize("text", ["awq-int4", "W4A16", "uint4"])
def test_four_bit_integers_are_one_precision(text):
    assert precisions(weight_precision=text)[0] == "int4"


def test_an_unknown_precision_is_refused():
    with pytest.raises(PointError, match='weight_precision "int3" is not known'):
        deploy(weight_precision="int3")


def test_a_chip_that_computes_in_neither_precision_is_refused():
    with pytest.raises(PointError, match="hanguang-800 has no published peak"):
        deploy(chip="Hanguang-800")


def test_a_kv_cache_is_bf16_unless_something_says_otherwise():
    assert precisions(weight_precision="fp8")[1] == "bf16"
    assert precisions(kv_precision="fp8")[1] == "fp8"
    assert precisions(kv_precision="int8")[1] == "int8"
    assert precisions(kv_precision="auto")[1] == "bf16"


def test_tensorrt_keeps_an_fp8_cache_beside_fp8_weights_when_it_is_offline():
    row = {"engine": "TensorRT-LLM", "weight_precision": "fp8"}
    assert precisions(**row, scenario="offline max load")[1] == "fp8"
    assert precisions(**row, scenario="MLPerf Server")[1] == "fp8"
    assert precisions(**row)[1] == "bf16"
    assert precisions(**row | {"engine": "vLLM"}, scenario="offline max load")[1] == "bf16"


# --- layouts ---------------------------------------------------------------------------------------------------------
def test_stated_tensor_parallelism_is_taken():
    assert spread(chip_count="4", tp="4") == (4, 1, 1, 1, 1)


def test_chips_beyond_one_group_are_replicas():
    assert spread(chip_count="8", tp="2") == (2, 1, 1, 1, 4)
    assert spread(chip_count="8", tp="2", pp="2") == (2, 1, 2, 1, 2)


def test_data_parallelism_of_a_dense_model_is_whole_replicas():
    assert spread(chip_count="4", tp="1", dp="4") == (1, 1, 1, 1, 4)


def test_data_parallelism_of_experts_is_groups_of_attention():
    assert spread(chip_count="8", tp="1", dp="8", model="Mixtral-8x7B") == (1, 8, 1, 8, 1)


def test_sglang_counts_data_parallelism_inside_tensor_parallelism():
    row = {"chip_count": "8", "tp": "8", "model": "DeepSeek-R1"}
    assert spread(**row, dp="8", engine="SGLang") == (1, 8, 1, 8, 1)
    assert spread(**row, dp="2", engine="SGLang") == (4, 2, 1, 8, 1)
    assert spread(**row, engine="SGLang") == (8, 1, 1, 1, 1)


def test_sglang_splits_a_dense_model_into_replicas():
    assert spread(chip_count="8", tp="8", dp="2", engine="SGLang", model="Llama-3.1-70B") == (4, 1, 1, 1, 2)


def test_attention_in_groups_without_a_tensor_size_spreads_experts():
    assert spread(chip_count="8", dp="8", engine="TensorRT-LLM", model="Mixtral-8x7B") == (1, 8, 1, 8, 1)


def test_expert_parallelism_spreads_whole_experts():
    assert spread(chip_count="8", tp="8", ep="on", model="Mixtral-8x7B") == (8, 1, 1, 8, 1)
    assert spread(chip_count="8", tp="8", ep="8", model="Mixtral-8x7B") == (8, 1, 1, 8, 1)
    assert spread(chip_count="8", tp="8", model="Mixtral-8x7B") == (8, 1, 1, 1, 1)


def test_a_dense_model_has_no_experts_to_spread():
    assert spread(chip_count="8", tp="8", ep="on") == (8, 1, 1, 1, 1)


def test_workers_of_prefill_and_decode_are_read_from_notes():
    notes = "P:1x(tp1,dp16,ep16,bs1) D:3x(tp16,dp1,ep16,bs20)"
    row = {"chip": "H200-SXM", "chip_count": "64", "model": "DeepSeek-R1", "scenario": "PD-disaggregated"}
    layout = deploy(**row, notes=f"hand-made; {notes}").layout
    decode, prefill = layout.config, layout.prefill
    assert (decode.tp, decode.dp, decode.ep, layout.replicas) == (16, 1, 16, 3)
    assert (prefill.tp, prefill.dp, prefill.ep, layout.prefill_replicas) == (1, 16, 16, 1)
    assert layout.chips == 64


def test_separate_workers_of_an_unknown_layout_share_the_chips_evenly():
    deployment = deploy(chip_count="8", tp="2", scenario="PD-disaggregated", concurrency="")
    layout = deployment.layout
    assert (layout.config.tp, layout.replicas, layout.prefill.tp, layout.prefill_replicas) == (2, 2, 2, 2)
    assert layout.chips == 8
    assert deployment.users == 128


def test_separate_workers_that_cannot_hold_a_model_alone_share_its_experts():
    row = {"chip": "Ascend-910C", "chip_count": "32", "tp": "1", "scenario": "PD-disaggregated", "model": "DeepSeek-R1"}
    layout = deploy(**row).layout
    for workers, config in ((layout.replicas, layout.config), (layout.prefill_replicas, layout.prefill)):
        assert (workers, config.tp, config.dp, config.ep) == (1, 1, 16, 16)
    assert layout.chips == 32


def test_where_no_chips_are_stated_the_fewest_that_hold_the_weights_are_taken():
    assert spread(chip="A100-SXM-80G", chip_count="") == (1, 1, 1, 1, 1)
    assert spread(chip="A100-SXM-80G", chip_count="", model="Llama-3.1-70B") == (4, 1, 1, 1, 1)


def test_cores_counted_instead_of_chips_are_halved_until_the_chips_suffice():
    row = {"chip": "Inferentia2", "chip_count": "12", "tp": "24", "model": "Llama-2-70B", "engine": "vLLM"}
    assert spread(**row) == (12, 1, 1, 1, 1)
    assert spread(**row | {"chip_count": "1", "tp": "2", "model": "Llama-3.1-8B"}) == (1, 1, 1, 1, 1)


def test_heads_are_padded_where_a_layout_does_not_divide_them():
    model = deploy(chip="Inferentia2", chip_count="12", tp="24", model="Llama-2-70B").model
    assert (model.heads, model.kv_heads) == (72, 12)  # 64 and 8 as trained
    assert model.heads % model.kv_heads == 0
    assert model.slug == "llama-2-70b"


def test_heads_that_divide_are_left_alone():
    whole = deploy(model="Llama-2-70B", chip_count="8", tp="8").model
    assert whole is deploy(model="Llama-2-70B", chip_count="2", tp="2").model
    assert (whole.heads, whole.kv_heads) == (64, 8)


def test_an_unstated_layout_takes_the_fewest_chips_with_room_for_a_cache():
    assert spread(chip="A100-SXM-80G", chip_count="8") == (1, 1, 1, 1, 8)
    assert spread(chip="A100-SXM-80G", chip_count="8", model="Llama-3.1-70B") == (4, 1, 1, 1, 2)
    assert spread(chip="A100-SXM-80G", chip_count="4", model="Llama-3.1-70B") == (4, 1, 1, 1, 1)


def test_a_model_that_fits_no_node_is_cut_into_stages():
    assert spread(chip_count="16", nodes="2", model="Llama-3.1-405B") == (8, 1, 2, 1, 1)


def test_a_share_of_a_wider_deployment_is_that_deployment():
    assert spread(chip_count="", model="DeepSeek-R1", scenario="production decode node") == (1, 32, 1, 32, 1)
    assert spread(chip_count="8", ep="64", model="DeepSeek-R1", scenario="wide-EP decode") == (1, 64, 1, 64, 1)


# --- loads -----------------------------------------------------------------------------------------------------------
def test_a_closed_loop_without_users_has_one():
    assert deploy(concurrency="").users == 1
    assert deploy(concurrency="32").users == 32


def test_a_burst_reads_its_requests_from_notes():
    row = {"scenario": "all requests at once", "concurrency": ""}
    assert deploy(**row, notes="300 requests, hand-made").users == 300
    assert deploy(**row).users == 1000


def test_an_offline_batch_is_given_to_each_replica():
    assert deploy(scenario="offline batch of N requests", chip_count="4", tp="1").users == 32


def test_an_open_loop_needs_a_rate():
    with pytest.raises(PointError, match="request_rate_rps"):
        deploy(scenario="open loop")
    assert deploy(scenario="open loop", request_rate_rps="2.5").point.rate_s == 2.5


def test_lengths_that_a_row_leaves_out_are_those_of_the_data_set():
    empty = {"input_len": "", "output_len": ""}
    lengths = [
        (found.input_tok, found.output_tok)
        for found in (
            deploy(),
            deploy(**empty),
            deploy(**empty, scenario="MLPerf Offline"),
            deploy(**empty, scenario="ShareGPT, saturated"),
            deploy(input_len="50", output_len=""),
            deploy(notes="lengths not fixed"),
        )
    ]
    assert lengths == [(1000, 100), (1024, 1024), (780, 128), (220, 200), (50, 1024), (1024, 1024)]


@pytest.mark.parametrize(
    ("input_len", "output_len", "scenario", "expected"),
    [
        ("<=2048", "<=2048", "ShareGPT, saturated", (220, 200)),
        ("<=128", "<=2048", "ShareGPT, saturated", (128, 200)),
        ("<=128", "<=64", "closed-loop concurrency", (128, 64)),
        ("<=4096", "", "closed-loop concurrency", (1024, 1024)),
    ],
)
def test_a_length_that_is_only_a_bound_is_no_mean(input_len, output_len, scenario, expected):
    found = deploy(input_len=input_len, output_len=output_len, scenario=scenario)
    assert (found.input_tok, found.output_tok) == expected


def test_a_latency_limit_is_that_of_the_scenario():
    assert deploy(scenario="wide-EP decode, TPOT < 30 ms").limit_s == pytest.approx(0.030)
    assert deploy(scenario="MLPerf Server").limit_s == pytest.approx(0.100)
    assert deploy(scenario="MLPerf Interactive").limit_s == pytest.approx(0.030)
    assert deploy(scenario="MLPerf Server", model="Qwen3-8B").limit_s == pytest.approx(0.200)
    assert deploy(scenario="wide-EP decode").limit_s == pytest.approx(0.050)


@pytest.mark.parametrize(
    ("notes", "drafted", "accepted"),
    [
        ("", 0, 0.5),
        ("no speculation", 0, 0.5),
        ("spec-decode=no", 0, 0.5),
        ("spec-decode=yes", 1, 0.5),
        ('{"num_speculative_tokens": 2, "method": "mtp"}', 2, 0.65),
        ("speculation k=4 (suffix)", 4, 0.15),
        ("--speculative-num-steps 3", 3, 0.5),
        ("EAGLE head", 3, 0.5),
        ("speculative decoding, MTP", 1, 0.65),
    ],
)
def test_speculation_is_read_from_notes(notes, drafted, accepted):
    found = deploy(notes=notes)
    assert (found.speculative_tok, found.accept_ratio) == (drafted, accepted)


def test_a_compiled_batch_pads_only_where_steps_are_compiled():
    row = {"chip": "Inferentia2", "tp": "2", "notes": "server batch size 4"}
    assert deploy(**row, engine="vLLM (optimum-neuron)").padded_seqs == 4
    assert deploy(**row, engine="vLLM").padded_seqs == 0


# --- chips -----------------------------------------------------------------------------------------------------------
def test_a_power_cap_slows_arithmetic_only():
    free, capped = chip_get("h100-sxm"), deploy(power_cap_frac="0.7").chip
    ratios = {name: capped.figures()[name].value / figure.value for name, figure in free.figures().items()}
    arithmetic = {name for name in ratios if name.startswith("peak_flop_s")}
    assert {name for name, ratio in ratios.items() if ratio != 1} == arithmetic
    assert [ratios[name] for name in sorted(arithmetic)] == pytest.approx([1 / 1.30] * len(arithmetic), rel=0.01)


@pytest.mark.parametrize("cap", ["", "0", "1"])
def test_a_chip_without_a_cap_is_the_chip_itself(cap):
    assert deploy(power_cap_frac=cap).chip is chip_get("h100-sxm")


@pytest.mark.parametrize("cap", ["70", "1.2", "0.01"])
def test_a_cap_that_is_no_share_of_the_tdp_is_refused(cap):
    with pytest.raises(PointError, match=f"power_cap_frac {cap} is no share of TDP from 0.1 to 1"):
        deploy(power_cap_frac=cap)


def test_rows_under_one_cap_share_one_chip():
    assert deploy(power_cap_frac="0.7").chip is deploy(power_cap_frac="0.7", concurrency="1").chip


def test_the_larger_grace_hopper_is_told_by_notes():
    assert deploy(chip="GH200", notes="144GB card").chip is chip_get("gh200-144")
    assert deploy(chip="GH200").chip is not chip_get("gh200-144")


# --- refusals --------------------------------------------------------------------------------------------------------
def test_what_is_no_language_model_is_refused_with_a_reason():
    with pytest.raises(PointError, match="only language models are predicted"):
        deploy(model="ResNet-50 (not an LLM)")


def test_a_head_is_not_cut_into_thousands():
    with pytest.raises(PointError, match=r"1000 chips share the 32 heads of llama-3\.1-8b"):
        deploy(chip_count="1000", tp="1000")


def test_a_limit_of_nought_is_refused():
    with pytest.raises(PointError, match="a TPOT limit of 0 ms cannot be kept"):
        deploy(scenario="wide-EP decode, TPOT < 0 ms")


def test_a_refused_row_leaves_the_others_alone():
    points = points_parse(
        table({}, {"chip": "Abacus-1"}, {"model": "Parrot-9B"}, {"scenario": "on Tuesdays"}, {}), "points.csv"
    )
    found = list(deployments_of(points))
    assert [type(each) for each in found[1:4]] == [UnknownChipError, UnknownModelError, PointError]
    assert all(isinstance(each, AcceleratorError) for each in found[1:4])
    assert [found[at].point for at in (0, 4)] == [points[0], points[4]]


def test_own_chips_and_models_stand_beside_the_built_in_ones():
    point = parse(chip="my-chip", model="my-model")
    model = deploy().model
    found = deployment_of(point, chips={"my-chip": chip_get("h100-sxm")}, models={"my-model": model})
    assert found.chip is chip_get("h100-sxm")
    assert found.model is model
