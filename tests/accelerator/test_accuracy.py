"""Cross-validation and its report on synthetic points: folds, widths that hold 80 %, figures and words."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from accelerator import accuracy
from accelerator.accuracy import (
    BASIS_OF,
    FOLDS,
    SCHEMES,
    Held,
    coverage_of,
    cross_validate,
    folds_deal,
    jobs_list,
    median_error,
    rerun_groups,
    seen_pairs,
    summary_of,
    widths_of,
)
from accelerator.accuracy_report import ERROR_COLUMNS, errors_table, reasons_of, report_text
from accelerator.serving_calibration import metric_class
from tests.accelerator.servings import fitted, grid, point_rows, synthetic

FIGURES = {"core", "ttft", "burst throughput", "burst ttft", "p90 core", "bias core", "ordered", "coverage",
           "p90 over p50"}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few_fits():
    """Fewer folds and steps than there are for thousands of rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "FOLDS", {"points": 3, "pairs": 3, "chips": 2})
        patch.setattr(accuracy, "HELD_STEPS", 4)
        yield


@pytest.fixture(scope="module")
def rows():
    chips = ("a100-80", "h100-sxm", "h200", "l40s")
    some = []
    for engine, users in (("vLLM", (1, 16, 64)), ("SGLang", (2, 32))):
        some += grid(chips=chips, models=("llama-3.1-8b", "qwen3-8b"), users=users, engine=engine)
    some += grid(chips=chips, metrics=("ttft_ms",), users=(1, 16))
    some += grid(chips=chips[:2], metrics=("ttft_ms", "output_tok_s"), users=(100,), scenario="all requests at once")
    return synthetic(point_rows(*some))


@pytest.fixture(scope="module")
def fit(rows):
    return fitted(rows)


@pytest.fixture(scope="module")
def held(rows, fit):
    return cross_validate(rows, fit, workers=1)


def made_up(rows, error, *, deviation=0.1, schemes=tuple(SCHEMES), repeat=1):
    """Return every row held out, so many times, with errors that are given."""
    at = np.tile(np.arange(len(rows.deployments)), repeat)
    part = Held(
        at=at,
        fold=np.arange(len(at)) % 5,
        error=np.broadcast_to(error, at.shape).astype(float),
        deviation=np.full(len(at), deviation),
        anchored=np.full(len(at), np.nan),
    )
    return dict.fromkeys(schemes, part)


# --- folds ------------------------------------------------------------------------------------------------------------
def test_reruns_of_a_point_stay_together_whatever_was_measured(rows):
    groups = rerun_groups(rows)
    assert len(set(groups)) < len(groups)
    for job in jobs_list(rows):
        if job.scheme == "points":
            assert not {groups[i] for i in job.train} & {groups[i] for i in job.test}


@pytest.mark.parametrize(("scheme", "level"), [("pairs", "pair"), ("chips", "chip")])
def test_a_pair_or_a_chip_is_held_out_as_a_whole(rows, scheme, level):
    for job in jobs_list(rows):
        if job.scheme == scheme:
            assert not {rows.groups[i][level] for i in job.train} & {rows.groups[i][level] for i in job.test}


def test_neither_chip_nor_engine_of_the_last_scheme_is_seen(rows):
    jobs = [job for job in jobs_list(rows) if job.scheme == "chips and engines"]
    assert jobs
    for job in jobs:
        for level in ("chip", "engine"):
            assert not {rows.groups[i][level] for i in job.train} & {rows.groups[i][level] for i in job.test}


def test_every_row_is_held_out_once(rows):
    for scheme in FOLDS:
        test = sorted(i for job in jobs_list(rows) if job.scheme == scheme for i in job.test)
        assert test == list(range(len(rows.deployments)))


def test_folds_are_even_and_the_same_every_time_and_in_any_order():
    groups = [f"g{i % 23}" for i in range(100)]
    fold = folds_deal(groups, 5)
    assert_array_equal(folds_deal(groups, 5), fold)
    assert_array_equal(folds_deal(groups[::-1], 5), fold[::-1])
    dealt = dict(zip(groups, fold.tolist(), strict=True))
    assert set(np.bincount(list(dealt.values())).tolist()) == {4, 5}


# --- held out ---------------------------------------------------------------------------------------------------------
def test_points_that_the_model_gave_are_found_again(held):
    assert set(held) == set(SCHEMES)
    for scheme in FOLDS:
        assert median_error(held[scheme].error) < 0.1
    assert all(np.isfinite(part.error).all() and (part.deviation > 0).all() for part in held.values())


def test_anchors_are_given_to_pairs_and_chips_alone(held):
    for scheme, part in held.items():
        assert np.isfinite(part.anchored).any() == (scheme in {"pairs", "chips"})
        assert np.isnan(part.anchored).any()


def test_cross_validation_gives_the_same_twice(rows, fit, held):
    again = cross_validate(rows, fit, workers=1, schemes=("points",))
    assert list(again) == ["points"]
    for name in ("at", "fold", "error", "deviation"):
        assert getattr(again["points"], name).tobytes() == getattr(held["points"], name).tobytes()


# --- widths -----------------------------------------------------------------------------------------------------------
def test_widths_hold_four_fifths_of_synthetic_residuals(rows):
    error = 0.3 * np.random.default_rng(5).standard_normal(20 * len(rows.deployments))
    held = made_up(rows, error, repeat=20)
    widths = widths_of(rows, held)
    assert widths[f"{BASIS_OF['pairs']}|throughput"] == pytest.approx(3, rel=0.15)  # 0.3 over a deviation of 0.1
    for scheme in FOLDS:
        coverage, ratio = coverage_of(rows, held, scheme)
        assert coverage == pytest.approx(0.8, abs=0.03)
        assert np.log(ratio) == pytest.approx(1.2816 * 0.3, rel=0.15)


def test_a_class_with_few_rows_is_widened_as_all_are(rows):
    widths = widths_of(rows, made_up(rows, np.random.default_rng(6).standard_normal(len(rows.deployments))))
    basis = BASIS_OF["points"]
    assert widths[f"{basis}|burst ttft"] == widths[f"{basis}|burst throughput"]
    assert widths[f"{basis}|tpot"] != widths[f"{basis}|burst ttft"]


def test_a_fold_left_out_does_not_count(rows):
    held = made_up(rows, 0.1)
    wild = {scheme: replace(part, error=np.where(part.fold == 2, 9.0, 0.1)) for scheme, part in held.items()}
    assert widths_of(rows, wild, skip=2) == pytest.approx(widths_of(rows, held))
    assert max(widths_of(rows, wild, skip=1).values()) > 2 * max(widths_of(rows, held).values())


def test_a_pair_in_one_fold_alone_is_no_seen_pair(rows):
    part = made_up(rows, 0.0)["points"]
    assert seen_pairs(rows, part).all()
    assert not seen_pairs(rows, replace(part, fold=np.zeros_like(part.fold))).any()


# --- figures ----------------------------------------------------------------------------------------------------------
def test_the_summary_has_all_figures_of_every_scheme(rows, held):
    summary = summary_of(rows, held)
    assert set(summary) == set(SCHEMES)
    for scheme, figures in summary.items():
        assert set(figures) >= FIGURES
        assert ("core after anchors" in figures) == (scheme in {"pairs", "chips"})
        assert 0 <= figures["coverage"] <= 1
        assert figures["p90 over p50"] > 1
    assert json.loads(json.dumps(summary)).keys() == summary.keys()


def test_perfect_predictions_are_all_ordered_right_and_inverted_ones_all_wrong(rows):
    observed = rows.observed
    assert summary_of(rows, made_up(rows, 0.0))["pairs"]["ordered"] == 1.0
    assert summary_of(rows, made_up(rows, -2 * observed))["pairs"]["ordered"] == 0.0


def test_figures_of_errors_that_are_known(rows):
    figures = summary_of(rows, made_up(rows, np.log(1.1)))["pairs"]
    assert figures["core"]["median"] == pytest.approx(0.1)
    assert figures["p90 core"] == pytest.approx(0.1)
    assert figures["bias core"] == pytest.approx(0.1)
    kinds = [metric_class(d) for d in rows.deployments]
    assert figures["ttft"]["rows"] == kinds.count("ttft") == 8
    assert figures["core"]["median of chips"] == pytest.approx(0.1)
    assert set(figures["core"]["chips"]) == {"a100-80", "h100-sxm", "h200", "l40s"}
    assert figures["burst ttft"]["chips with few rows"] == ["a100-80", "h100-sxm"]


def test_an_error_is_relative_and_without_sign():
    assert median_error(np.log([0.9, 1.1, 1.3])) == pytest.approx(0.1)
    assert np.isnan(median_error(np.zeros(0)))


# --- report -----------------------------------------------------------------------------------------------------------
def test_the_report_mentions_every_scheme_and_reason(rows, fit, held):
    whole = replace(fit, errors={"summary": summary_of(rows, held)})
    text = report_text(rows, held, whole, {"no such chip": 3, "not an LLM": 7})
    assert all(words in text for words in SCHEMES.values())
    assert text.index("- 7: not an LLM") < text.index("- 3: no such chip")
    assert all(f"| {chip} |" in text for chip in ("a100-80", "h100-sxm", "h200", "l40s"))
    assert f"{len(rows.deployments)} rows" in text
    for title in ("By chip", "By engine", "By model", "By metric", "Rows not used", "What is not known"):
        assert f"## {title}" in text
    assert " nan" not in text


def test_tables_of_the_report_are_as_wide_as_their_heads(rows, fit, held):
    whole = replace(fit, errors={"summary": summary_of(rows, held)})
    table = []
    for line in [*report_text(rows, held, whole, {}).splitlines(), ""]:
        if line.startswith("|"):
            table.append(line.count("|"))
        elif table:
            assert len(set(table)) == 1
            table = []


def test_the_table_of_errors_has_a_line_for_every_row_held_out_and_no_measured_value(rows, held):
    table = errors_table(rows, held, widths_of(rows, held))
    assert table[0] == ERROR_COLUMNS
    assert len(table) == 1 + sum(len(part.at) for part in held.values())
    assert {len(line) for line in table} == {len(ERROR_COLUMNS)}
    low, high = (np.array([float(line[ERROR_COLUMNS.index(name)]) for line in table[1:]])
                 for name in ("p10_ratio", "p90_ratio"))  # fmt: skip
    assert (low < 1).all()
    assert (high > 1).all()
    assert "value" not in table[0]


def test_small_errors_need_no_reason_and_a_deployment_off_as_a_whole_is_named(rows):
    assert set(reasons_of(rows, made_up(rows, np.log(1.2))["pairs"])) == {""}
    reasons = reasons_of(rows, made_up(rows, np.log(1.5))["pairs"])
    assert any(reason.startswith("its whole deployment is off by +50%") for reason in reasons)
    assert all(reasons)
