import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from accelerator.__main__ import main
from accelerator.points import deployment_of, points_parse
from accelerator.serving import PARAMETERS
from accelerator.serving_calibration import BASES, METRICS, PointRows, calibration_dict, calibration_fit

HEADER = "point_id,predicted,p10,p90,basis,reason"
ROW = {
    "point_id": "p1", "chip": "H100-SXM", "chip_count": "1", "tp": "1", "model": "Llama-3.1-8B", "engine": "vLLM",
    "scenario": "closed-loop concurrency", "metric": "tpot_ms", "input_len": "1000", "output_len": "100",
    "concurrency": "8", "engine_version": "0.11.0", "source": "lab:runs.csv",
}  # fmt: skip
STATIC = {"scenario": "static batch", "model": "Qwen3-8B", "engine": "SGLang"}


def table(*rows):
    """Return a table of rows, each ROW with changes."""
    rows = [{**ROW, **row} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row), "", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def made_up():
    """Yield 24 rows: two chips, two models and engines, closed loops and static batches."""
    for chip in ("H100-SXM", "A100-SXM-80G"):
        for users in ("1", "8", "64"):
            for metric in ("tpot_ms", "ttft_ms", "output_tok_s"):
                yield {"chip": chip, "concurrency": users, "metric": metric}
        for metric in ("prefill_batch_ms", "decode_step_ms", "output_tok_s"):
            yield {"chip": chip, "metric": metric, **STATIC}


def model_values(points):
    """Return what the model says of points with every parameter at its centre."""
    rows = PointRows.of([deployment_of(point) for point in points])
    theta = np.log([[parameter.centre] * len(points) for parameter in PARAMETERS])
    return np.exp(rows.log_values(theta))


@pytest.fixture(scope="module")
def calibration_text():
    points = points_parse(table(*made_up()), "made-up.csv")
    values = [replace(point, value=float(value)) for point, value in zip(points, model_values(points), strict=True)]
    rows = PointRows.of([deployment_of(point) for point in values])
    return json.dumps(calibration_dict(calibration_fit(rows, fitted_on="2026-11-25", steps=4)))


@pytest.fixture
def calibration(calibration_text, tmp_path):
    path = tmp_path / "serving.json"
    path.write_text(calibration_text)
    return str(path)


@pytest.fixture
def points(tmp_path):
    """A function that writes a table of rows and returns its path."""

    def write(*rows):
        path = tmp_path / "points.csv"
        path.write_text(table(*rows))
        return str(path)

    return write


def predict(capsys, path, calibration, *arguments):
    assert main(["predict", path, "--calibration", calibration, *arguments]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert not captured.err
    assert captured.out.splitlines()[0] == HEADER
    return list(csv.DictReader(io.StringIO(captured.out)))


def calibrate(capsys, path, out, calibration):
    assert main(["calibrate", "--points", path, "--out", str(out), "--calibration", calibration]) == 0
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out.splitlines()


def refused(capsys, *arguments):
    """Return the one sentence with which a command ends with 2."""
    assert main([*arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1
    return captured.err


# --- predict: the table ----------------------------------------------------------------------------------------------
def test_every_row_is_answered_in_order(capsys, points, calibration):
    rows = [{**row, "point_id": f"row-{i}"} for i, row in enumerate(made_up())]
    answers = predict(capsys, points(*rows), calibration)
    assert [answer["point_id"] for answer in answers] == [row["point_id"] for row in rows]
    for answer in answers:
        assert 0 < float(answer["p10"]) <= float(answer["predicted"]) <= float(answer["p90"])
        assert answer["basis"] in BASES
        assert not answer["reason"]


def test_a_prediction_needs_no_measured_value(capsys, points, calibration):
    without = predict(capsys, points({}), calibration)
    assert without == predict(capsys, points({"value": "1"}), calibration)
    assert without == predict(capsys, points({"value": ""}), calibration)


def test_a_model_that_fits_predicts_what_was_measured(capsys, points, calibration):
    answers = predict(capsys, points(*made_up()), calibration)
    exact = model_values(points_parse(table(*made_up()), "made-up.csv"))
    assert [float(answer["predicted"]) for answer in answers] == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_predicted(capsys, points, calibration, metric):
    (answer,) = predict(capsys, points({"metric": metric, "scenario": "static batch"}), calibration)
    assert bool(answer["predicted"]) != bool(answer["reason"])
    assert answer["predicted"] or "says nothing under the load" in answer["reason"]


def test_metrics_of_one_run_agree(capsys, points, calibration):
    names = ("output_tok_s", "output_tok_s_per_chip", "total_tok_s", "req_s", "tpot_ms", "tok_s_per_user")
    rows = [{"metric": name, "chip_count": "2", "tp": "2"} for name in names]
    answers = predict(capsys, points(*rows), calibration)
    value = dict(zip(names, (float(answer["predicted"]) for answer in answers), strict=True))
    assert value["output_tok_s_per_chip"] == pytest.approx(value["output_tok_s"] / 2, rel=1e-4)
    assert value["total_tok_s"] == pytest.approx(value["output_tok_s"] * 11, rel=1e-4)
    assert value["req_s"] == pytest.approx(value["output_tok_s"] / 100, rel=1e-4)
    assert value["tok_s_per_user"] == pytest.approx(1e3 / value["tpot_ms"], rel=1e-4)


def test_a_basis_says_whether_pair_or_chip_were_measured(capsys, points, calibration):
    rows = ({}, {"model": "Llama-3.1-70B", "chip_count": "4", "tp": "4"}, {"chip": "H20-96G"})
    answers = predict(capsys, points(*rows), calibration)
    assert [answer["basis"] for answer in answers] == ["calibrated-pair", "calibrated-chip", "data-sheet"]


def test_what_was_never_measured_has_a_wider_band(capsys, points, calibration):
    known, unknown = predict(capsys, points({}, {"chip": "H20-96G"}), calibration)
    widths = [float(answer["p90"]) / float(answer["p10"]) for answer in (known, unknown)]
    assert widths[1] > widths[0]


def test_a_row_is_predicted_alike_alone_and_among_others(capsys, points, calibration):
    alone = predict(capsys, points({"chip": "910B", "point_id": "x"}), calibration)
    among = predict(capsys, points({}, {"chip": "910B", "point_id": "x"}, {"chip": "Abacus-1"}), calibration)
    assert among[1] == alone[0]


def test_more_users_wait_longer_and_get_more_together(capsys, points, calibration):
    rows = [{"metric": name, "concurrency": users} for name in ("tpot_ms", "output_tok_s") for users in ("1", "16")]
    values = [float(answer["predicted"]) for answer in predict(capsys, points(*rows), calibration)]
    assert values[0] < values[1]
    assert values[2] < values[3] < 16 * values[2]


def test_a_power_cap_slows_prompts_more_than_tokens(capsys, points, calibration):
    rows = [
        {"metric": metric, "power_cap_frac": cap, "input_len": "4096", **STATIC}
        for metric in ("prefill_batch_ms", "decode_step_ms")
        for cap in ("", "0.7")
    ]
    values = [float(answer["predicted"]) for answer in predict(capsys, points(*rows), calibration)]
    assert values[1] / values[0] == pytest.approx(1.30, abs=0.1)
    assert values[3] / values[2] == pytest.approx(1, abs=0.03)


def test_a_share_of_the_tdp_stays_below_its_cap(capsys, points, calibration):
    row = {"metric": "peak_power_frac_tdp", **STATIC}
    whole, capped = predict(capsys, points(row, {**row, "power_cap_frac": "0.5"}), calibration)
    assert 0.1 < float(whole["predicted"]) <= 1.5
    assert float(capped["predicted"]) <= 0.5
    assert whole["basis"] == capped["basis"] == "data-sheet"


# --- predict: reasons ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chip": "Abacus-1"}, 'unknown chip "Abacus-1"'),
        ({"model": "Parrot-9B"}, 'unknown model "Parrot-9B"'),
        ({"model": "ResNet-50 (not an LLM)"}, "only language models are predicted"),
        ({"metric": "smiles_s"}, 'metric "smiles_s" is not modelled'),
        ({"scenario": "on Tuesdays"}, 'scenario "on Tuesdays" is not known'),
        ({"scenario": "open loop"}, "an open loop needs request_rate_rps"),
        ({"scenario": "PD-disaggregated prefill"}, 'metric "tpot_ms" says nothing under the load'),
        ({"weight_precision": "int3"}, 'weight_precision "int3" is not known'),
        ({"output_len": "1"}, 'metric "tpot_ms" says nothing of answers of one token'),
        ({"power_cap_frac": "70"}, "power_cap_frac 70 is no share of TDP"),
        ({"model": "DeepSeek-R1"}, "deepseek-r1 in fp8 does not fit: 627 GiB of weights"),
        ({"model": "DeepSeek-R1", "metric": "avg_power_frac_tdp"}, "deepseek-r1 in fp8 does not fit"),
        ({"input_len": "10000000"}, "1.22e+03 GiB for one sequence, 79.6 GiB in 1 x h100-sxm"),
        ({"chip": "Hanguang-800"}, "no published peak"),
        ({"chip": "Hanguang-800", "weight_precision": "int8"}, "hanguang-800 has no memory"),
    ],
)
def test_what_is_not_predicted_has_a_reason(capsys, points, calibration, change, reason):
    answers = predict(capsys, points({}, {"point_id": "odd", **change}, {}), calibration)
    assert reason in answers[1].pop("reason")
    assert answers[1] == {"point_id": "odd", "predicted": "", "p10": "", "p90": "", "basis": ""}
    assert answers[0] == answers[2]
    assert answers[0]["predicted"]


@pytest.mark.parametrize(("chips", "refused"), [("1", True), ("2", False), ("", False)])
def test_weights_that_no_stated_memory_holds_are_refused(capsys, points, calibration, chips, refused):
    row = {"model": "Llama-3.1-70B", "chip_count": chips, "tp": chips}  # 141 GB in bf16
    (answer,) = predict(capsys, points(row), calibration)
    assert ("does not fit" in answer["reason"]) == refused
    assert bool(answer["predicted"]) != refused


def test_a_share_of_a_wider_deployment_holds_a_share_of_its_weights(capsys, points, calibration):
    row = {"model": "DeepSeek-R1", "chip": "A100-SXM-80G", "chip_count": "8", "tp": "", "ep": "64", "metric": "tpot_ms"}
    (answer,) = predict(capsys, points({**row, "weight_precision": "bf16"}), calibration)
    assert answer["predicted"]


def test_a_long_reason_is_cut(capsys, points, calibration):
    (answer,) = predict(capsys, points({"model": "Qqqq"}), calibration)
    assert answer["reason"].startswith('unknown model "Qqqq"; known are ')
    assert len(answer["reason"]) == 300


# --- predict: own chips ----------------------------------------------------------------------------------------------
@pytest.fixture
def own_chips(tmp_path):
    """A function that writes a file of own chips: rows of item, quantity, value and unit."""

    def write(*rows):
        lines = [",".join((*row[:3], "", "", row[3], "hand-made", "estimate", "2026-11-25")) for row in rows]
        path = tmp_path / "chips.csv"
        path.write_text("\n".join(["item,quantity,value,low,high,unit,source,confidence,read_on", *lines]) + "\n")
        return str(path)

    return write


TWIN = ("abacus-1", "derived_from", "h100-sxm", "text")


def test_an_own_chip_runs_as_the_chip_it_is_derived_from(capsys, points, calibration, own_chips):
    rows = ({}, {"chip": "Abacus-1"}, STATIC, {"chip": "Abacus-1", **STATIC})
    answers = predict(capsys, points(*rows), calibration, "--chips", own_chips(TWIN))
    assert [answer["basis"] for answer in answers] == ["calibrated-pair", "calibrated-chip"] * 2
    assert answers[1]["predicted"] == answers[0]["predicted"]
    assert answers[3]["predicted"] == answers[2]["predicted"]


def test_an_own_chip_has_its_own_figures(capsys, points, calibration, own_chips):
    slower = ("abacus-1", "memory_bandwidth", "1000", "GB/s")
    known, own = predict(capsys, points({}, {"chip": "Abacus-1"}), calibration, "--chips", own_chips(TWIN, slower))
    assert float(own["predicted"]) > float(known["predicted"])


def test_an_own_chip_of_its_own_kind_is_predicted_from_its_data_sheet(capsys, points, calibration, own_chips):
    figures = (
        ("abacus-1", "homegrown", "1", "text"),
        ("abacus-1", "peak_bf16", "400", "TFLOP/s"),
        ("abacus-1", "memory", "80", "GiB"),
        ("abacus-1", "memory_bandwidth", "2000", "GB/s"),
    )
    chips = own_chips(*figures)
    (own,) = predict(capsys, points({"chip": "Abacus-1"}), calibration, "--chips", chips)
    assert own["basis"] == "data-sheet"


def test_a_chip_derived_from_one_that_nobody_measured_is_predicted_from_its_data_sheet(
    capsys, points, calibration, own_chips
):
    chips = own_chips(("abacus-1", "derived_from", "h20-141", "text"))
    (own,) = predict(capsys, points({"chip": "Abacus-1"}), calibration, "--chips", chips)
    assert own["basis"] == "data-sheet"


def test_points_of_an_own_chip_move_it_from_where_its_base_stands(capsys, points, calibration, own_chips, tmp_path):
    chips, out, row = own_chips(TWIN), tmp_path / "own.json", {"chip": "Abacus-1"}
    (before,) = predict(capsys, points(row), calibration, "--chips", chips)
    own = points({**row, "value": before["predicted"]})
    assert main(["calibrate", "--points", own, "--out", str(out), "--calibration", calibration, "--chips", chips]) == 0
    capsys.readouterr()
    (after,) = predict(capsys, points(row), str(out), "--chips", chips)
    assert float(after["predicted"]) == pytest.approx(float(before["predicted"]), rel=0.005)
    assert after["basis"] == "calibrated-pair"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "points.csv:1: has no column chip"),
        (table({"concurrency": "many"}), 'points.csv:2: column concurrency: "many" is not a number'),
        (table({}, {"tp": "x", "pp": "y"}), 'points.csv:3: column tp: "x" is not a number; column pp: "y" is not'),
        ("", "points.csv:1: has no column chip"),
    ],
)
def test_a_table_that_cannot_be_read_ends_with_2(capsys, calibration, tmp_path, text, reason):
    path = tmp_path / "points.csv"
    path.write_text(text)
    assert reason in refused(capsys, "predict", str(path), "--calibration", calibration)


def test_a_table_without_rows_has_a_header(capsys, calibration, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(table({}).splitlines()[0] + "\n")
    assert predict(capsys, str(path), calibration) == []


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"parameters": []}', "null", "[" * 100_000])
def test_what_is_no_calibration_is_refused_by_name(capsys, points, tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    assert "other.json" in refused(capsys, "predict", points({}), "--calibration", str(path))


def test_a_calibration_of_another_model_asks_for_a_new_fit(capsys, points, calibration_text, tmp_path):
    values = json.loads(calibration_text)
    values["parameters"].pop()
    path = tmp_path / "other.json"
    path.write_text(json.dumps(values))
    assert "fit again" in refused(capsys, "predict", points({}), "--calibration", str(path))


# --- calibrate -------------------------------------------------------------------------------------------------------
def value_of(answers, at=0):
    return float(answers[at]["predicted"])


def test_one_own_point_brings_its_prediction_closer(capsys, points, calibration, tmp_path):
    before = value_of(predict(capsys, points({}), calibration))
    measured = 1.5 * before
    out = tmp_path / "own.json"
    lines = calibrate(capsys, points({"value": f"{measured}"}), out, calibration)
    after = value_of(predict(capsys, points({}), str(out)))
    assert before < after
    assert abs(after / measured - 1) < 0.5 * abs(before / measured - 1)
    assert lines[-1] == f"1 rows used, 0 not; written to {out}"
    (chip,) = (line.split() for line in lines if line.startswith("h100-sxm"))
    assert chip[1] == "1"
    assert float(chip[2].rstrip("%")) / 100 == pytest.approx(1 - before / measured, abs=0.001)
    assert float(chip[3].rstrip("%")) / 100 == pytest.approx(1 - after / measured, abs=0.002)


def test_a_point_that_agrees_changes_little(capsys, points, calibration, tmp_path):
    before = value_of(predict(capsys, points({}), calibration))
    out = tmp_path / "own.json"
    calibrate(capsys, points({"value": f"{before}"}), out, calibration)
    assert value_of(predict(capsys, points({}), str(out))) == pytest.approx(before, rel=0.01)


def test_an_own_chip_becomes_a_measured_one(capsys, points, calibration, tmp_path):
    row = {"chip": "H20-96G"}
    (before,) = predict(capsys, points(row), calibration)
    out = tmp_path / "own.json"
    calibrate(capsys, points({**row, "value": f"{1.3 * float(before['predicted'])}"}), out, calibration)
    same, other = predict(capsys, points(row, {**row, "model": "Qwen3-8B"}), str(out))
    assert [before["basis"], same["basis"], other["basis"]] == ["data-sheet", "calibrated-pair", "calibrated-chip"]
    assert float(same["predicted"]) > float(before["predicted"])


def test_a_point_that_agrees_narrows_the_band(capsys, points, calibration, tmp_path):
    row = {"chip": "H20-96G"}
    (before,) = predict(capsys, points(row), calibration)
    out = tmp_path / "own.json"
    calibrate(capsys, points({**row, "value": before["predicted"]}), out, calibration)
    (after,) = predict(capsys, points(row), str(out))
    assert float(after["p90"]) / float(after["p10"]) < float(before["p90"]) / float(before["p10"])


def test_calibrating_twice_builds_on_the_first(capsys, points, calibration, tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    measured = 1.4 * value_of(predict(capsys, points({}), calibration))
    row = {"value": f"{measured}"}
    calibrate(capsys, points(row), first, calibration)
    calibrate(capsys, points(row), second, str(first))
    once, twice = (value_of(predict(capsys, points({}), str(path))) for path in (first, second))
    assert abs(twice / measured - 1) < abs(once / measured - 1)
    assert json.loads(second.read_text())["rows"] == 26


def test_a_level_without_members_is_no_obstacle(capsys, points, calibration_text, tmp_path):
    values = json.loads(calibration_text)
    (level,) = (level for level in values["levels"] if level["level"] == "engine_version")
    level["members"] = []
    path, out = tmp_path / "bare.json", tmp_path / "own.json"
    path.write_text(json.dumps(values))
    lines = calibrate(capsys, points({"value": "9", "engine_version": ""}), out, str(path))
    assert lines[-1].startswith("1 rows used, 0 not; ")


def test_the_calibration_to_start_from_is_left_alone(capsys, points, calibration, calibration_text, tmp_path):
    calibrate(capsys, points({"value": "10"}), tmp_path / "own.json", calibration)
    assert (tmp_path / "serving.json").read_text() == calibration_text


def test_rows_that_are_not_used_are_listed_by_line(capsys, points, calibration, tmp_path):
    rows = (
        {"value": "9"},
        {"point_id": "bird", "value": "9", "model": "Parrot-9B"},
        {"point_id": "bead", "value": "9", "chip": "Abacus-1"},
        {"point_id": "grin", "value": "9", "metric": "smiles_s"},
        {"point_id": "none", "value": ""},
        {"point_id": "zero", "value": "0"},
        {"point_id": "twin", "value": "9", "duplicate_metric": "1"},
        {"point_id": "odd", "value": "9", "trust": "C", "notes": "trust C: contradicts itself"},
        {"value": "9", "trust": "B"},
    )
    lines = calibrate(capsys, points(*rows), tmp_path / "own.json", calibration)
    told = [line.split(": ", 2) for line in lines if line.startswith("line ")]
    assert [(line, name) for line, name, _ in told] == [
        ("line 3", "bird"), ("line 4", "bead"), ("line 5", "grin"), ("line 6", "none"), ("line 7", "zero"),
        ("line 8", "twin"), ("line 9", "odd"),
    ]  # fmt: skip
    reasons = [reason for *_, reason in told]
    assert all(reason.startswith("not used: ") for reason in reasons)
    assert 'unknown model "Parrot-9B"' in reasons[0]
    assert 'unknown chip "Abacus-1"' in reasons[1]
    assert 'metric "smiles_s" is not modelled' in reasons[2]
    assert reasons[3] == reasons[4] == "not used: no measured value"
    assert "same fact" in reasons[5]
    assert reasons[6] == "not used: trust C: contradicts itself"
    assert lines[-1].startswith("2 rows used, 7 not; ")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (({"value": "9", "model": "Parrot-9B"}, {"value": ""}), 'no row can be used; the first: unknown model "Parrot'),
        (({"value": ""},), "no row can be used; the first: no measured value"),
    ],
)
def test_a_table_of_unusable_rows_ends_with_2_and_writes_nothing(capsys, points, calibration, tmp_path, rows, reason):
    out = tmp_path / "own.json"
    arguments = ("calibrate", "--points", points(*rows), "--out", str(out), "--calibration", calibration)
    assert reason in refused(capsys, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"chip": "Hanguang-800", "weight_precision": "int8"},
        {"scenario": "PD-disaggregated prefill"},
        {"output_len": "1"},
        {"model": "DeepSeek-R1"},
    ],
    ids=["chip-without-figures", "metric-that-says-nothing", "one-token", "weights-beyond-memory"],
)
def test_a_row_that_predict_refuses_is_rejected_by_calibrate(capsys, points, calibration, tmp_path, change):
    rows = ({"value": "9"}, {"point_id": "odd", "value": "9", **change})
    lines = calibrate(capsys, points(*rows), tmp_path / "own.json", calibration)
    assert lines[0].startswith("line 3: odd: not used: ")
    assert lines[-1].startswith("1 rows used, 1 not; ")


def test_a_file_that_cannot_be_written_ends_with_2(capsys, points, calibration, tmp_path):
    out = tmp_path / "no-folder" / "own.json"
    arguments = ("calibrate", "--points", points({"value": "9"}), "--out", str(out), "--calibration", calibration)
    assert "own.json" in refused(capsys, *arguments)


# --- anchors ----------------------------------------------------------------------------------------------------------
def test_points_worth_measuring_are_ranked_without_values(capsys, points, calibration):
    rows = [{"point_id": f"a{users}", "chip": "910B", "concurrency": str(users), "value": ""} for users in (1, 8, 64)]
    rows += [{"point_id": "odd", "metric": "smiles"}]
    assert main(["anchors", "--points", points(*rows), "--number", "2", "--calibration", calibration]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "rank,point_id,chip,model,engine,metric,left_ratio"
    assert first.startswith("1,a")
    assert second.startswith("2,a")
    assert first.split(",")[1] != second.split(",")[1]
    assert 0 < float(second.split(",")[-1]) <= float(first.split(",")[-1]) < 1


def test_points_worth_measuring_are_refused_by_name_where_there_are_none(capsys, points, calibration):
    error = refused(capsys, "anchors", "--points", points({"metric": "smiles"}), "--calibration", calibration)
    assert "no row can be modelled" in error
    error = refused(capsys, "anchors", "--points", points({}), "--number", "0", "--calibration", calibration)
    assert "--number is at least 1" in error
