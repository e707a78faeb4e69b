"""Fitting, on a small folder of invented chips' worth of rows made with the formulas themselves."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator import fitting
from accelerator.__main__ import main
from accelerator.calibration import calibration_parse
from accelerator.errors import AcceleratorError
from accelerator.families import FAMILIES, kernel_file_read, times_s
from accelerator.fitting import (
    Held,
    calibration_make,
    chips_held,
    families_wanted,
    family_fit,
    files_read,
    joined_rows,
    microbench_read,
    report_lines,
    shapes_held,
)
from accelerator.gemm import GEMM
from accelerator.units import Z90

CHIPS = ("h100-sxm", "a100-80", "l40s")
NOISE = 0.04


def latencies_s(family, rows):
    """Return the time of rows by the formula at the expected parameters, a little faster or slower by chip."""
    parsed = [family.row_parse(row) for row in rows]
    centres = np.array([parameter.centre for parameter in family.parameters])
    factor = np.array([0.9 + 0.1 * CHIPS.index(row["chip"]) for row in rows])
    return times_s(family, np.array([row.shape for row in parsed]), np.tile(centres[:, None], len(rows))) * factor


def rows_write(path, family, rows, seed=7):
    noise = np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(rows)))
    lines = [",".join([*rows[0], "latency_ms"])]
    for row, time_s in zip(rows, latencies_s(family, rows) * noise, strict=True):
        lines.append(",".join([*row.values(), f"{time_s * 1e3:.6g}"]))
    path.write_text("\n".join(lines) + "\n")


def gemm_rows():
    rng = np.random.default_rng(11)
    sizes = [
        (m, n, k)
        for n, k in ((512, 1024), (2048, 2048), (4096, 1024), (6144, 8192), (1536, 4096))
        for m in (1, 24, 96, 512, 2048, 8192, int(rng.integers(1, 300)), int(rng.integers(300, 9000)))
    ]
    return [
        {"chip": chip, "engine": "vllm", "dtype": "bf16", "m": str(m), "n": str(n), "k": str(k)}
        for chip in CHIPS
        for m, n, k in sizes
    ]


def collective_rows():
    return [
        {"chip": chip, "library": "NCCL", "collective": kind, "num_gpus": str(ranks), "message_bytes": str(2**power)}
        for chip in CHIPS
        for kind in ("all_reduce", "all_gather")
        for ranks in (2, 8)
        for power in range(10, 30, 4)
    ]


MICROBENCH = (
    "chip,metric,value,unit\n"
    "thead-ppu-810e,gemm_fp16,84,TFLOP/s\n"
    "thead-ppu-810e,memory_bandwidth,1900,GB/s\n"
    "thead-ppu-810e,board_power,300,W\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels")
    rows_write(path / "gemm.csv", GEMM, gemm_rows())
    rows_write(path / "links.csv", FAMILIES["collectives"], collective_rows())
    (path / "microbench.csv").write_text(MICROBENCH)
    return path


@pytest.fixture(scope="module")
def gemm_rows_read(folder):
    return kernel_file_read(folder / "gemm.csv")


def fit(folder, out, *names):
    arguments = ["fit", "--data", str(folder), "--out", str(out), "--date", "2026-05-06"]
    for name in names:
        arguments += ["--family", name]
    return main(arguments)


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("calibration") / "new"
    assert fit(folder, out, "gemm", "collectives") == 0
    return out


@pytest.mark.parametrize(("name", "rows"), [("gemm", 3 * 40 + 2), ("collectives", 3 * 2 * 2 * 5)])
def test_a_fit_is_written_with_its_day_and_its_errors(fitted, name, rows):
    values = json.loads((fitted / f"{name}.json").read_text())
    calibration = calibration_parse(FAMILIES[name], values)
    assert (values["family"], values["rows"], values["fitted_on"]) == (name, rows, "2026-05-06")
    assert set(CHIPS) <= calibration.chips
    for held_out, most in (("shapes_held_out", 0.1), ("chips_held_out", 0.3)):
        errors = calibration.errors[held_out]
        assert set(errors["by_chip"]) == set(CHIPS)
        assert 0 < errors["median_over_chips"] < most
        assert 0.7 < errors["coverage"] < 0.9


def test_rates_of_whole_chips_enter_the_fit_of_products(fitted):
    calibration = calibration_parse(GEMM, json.loads((fitted / "gemm.json").read_text()))
    assert "thead-ppu-810e" in calibration.chips
    names = [parameter.name for parameter in GEMM.parameters]
    members = GEMM.row_parse(gemm_rows()[0] | {"chip": "thead-ppu-810e"}).members
    theta = dict(zip(names, np.exp(calibration.fit.cell(members)[0]), strict=True))
    assert theta["memory_ratio"] == pytest.approx(1900 / 2350, rel=0.1)


def test_fitting_twice_writes_the_same_bytes(folder, fitted, tmp_path):
    assert fit(folder, tmp_path, "collectives") == 0
    assert (tmp_path / "collectives.json").read_bytes() == (fitted / "collectives.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["collectives.json"]


def test_the_command_says_how_far_it_was_off(folder, tmp_path, capsys):
    assert fit(folder, tmp_path, "collectives", "latent_decode") == 0
    out = capsys.readouterr().out
    assert out.startswith("collectives: 60 rows\n  shapes held out: median over chips ")
    for word in (
        "chips held out: median over chips ",
        "P10-P90 holds ",
        "h100-sxm",
        "launch_s",
        f"written to {tmp_path}",
    ):
        assert word in out
    assert f"latent_decode: no rows in {folder}\n" in out


def test_what_cannot_be_fitted_is_one_sentence_and_exit_code_2(folder, tmp_path, capsys):
    assert fit(folder, tmp_path, "gems") == 2
    assert 'there is no family "gems"; known are gemm, attention_prefill' in capsys.readouterr().err
    assert fit(tmp_path, tmp_path) == 2
    assert f"{tmp_path} has no kernel file (*.csv.gz)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_committed_fits_are_shown(capsys):
    assert main(["errors", "--family", "latent_prefill"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fitted on 20")
    assert "latent_prefill: " in out
    assert "compute_ratio" in out


# --- its parts --------------------------------------------------------------------------------------------------------
def test_parameters_are_those_the_rows_were_made_with(gemm_rows_read):
    fitted = family_fit(GEMM, gemm_rows_read.rows)
    rows = gemm_rows()
    median_s, _ = fitted.predict(lambda shape, values: times_s(GEMM, shape, values), gemm_rows_read.rows)
    assert np.median(np.abs(median_s / latencies_s(GEMM, rows) - 1)) < 0.02
    names = [parameter.name for parameter in GEMM.parameters]
    for chip, slower in (("h100-sxm", 0.9), ("l40s", 1.1)):
        members = GEMM.row_parse(rows[0] | {"chip": chip}).members
        theta = dict(zip(names, np.exp(fitted.cell(members)[0]), strict=True))
        assert theta["compute_ratio"] == pytest.approx(0.75 / slower, rel=0.1)
        assert theta["memory_ratio"] == pytest.approx(0.8 / slower, rel=0.15)


def test_whole_shape_groups_are_held_out_on_all_chips_at_once(gemm_rows_read, monkeypatch):
    rows, groups = gemm_rows_read.rows, np.array(gemm_rows_read.groups)
    kept = recorded_fits(monkeypatch)
    held = shapes_held(GEMM, rows, list(groups))
    assert len(held.z) == len(rows)
    assert len(kept) == 5
    for seen in kept:
        shapes_seen = {f"{n:g},{k:g}" for n, k in seen.shape[:, 1:3]}
        assert len(shapes_seen) == 4  # five groups in five folds
        assert len(seen) == np.isin(groups, list(shapes_seen)).sum()


def test_a_chip_left_out_is_left_out_of_everything(gemm_rows_read, folder, monkeypatch):
    always = microbench_read([folder])
    kept = recorded_fits(monkeypatch)
    chips_held(GEMM, gemm_rows_read.rows, joined_rows(always, gemm_rows_read.rows.take(np.arange(3))))
    by_left_out = [set(CHIPS) - {member.split("|")[0] for member in seen.members[-1]} for seen in kept]
    assert by_left_out == [{chip} for chip in sorted(CHIPS)]
    assert all("thead-ppu-810e|vllm|bf16" in set(seen.members[-1]) for seen in kept)


def recorded_fits(monkeypatch):
    """Return the list to which each fit adds the rows it saw."""
    kept, fit_as_ever = [], fitting.family_fit
    monkeypatch.setattr(fitting, "family_fit", lambda family, rows: (kept.append(rows), fit_as_ever(family, rows))[1])
    return kept


def test_bands_grow_until_they_hold_four_fifths_of_the_rows():
    z = np.linspace(-3, 3, 2001)
    held = Held(np.full(len(z), 0.1), z, np.array(["many"] * 1800 + ["few"] * 201, dtype=object))
    assert held.factor() * Z90 == pytest.approx(2.4, rel=1e-3)
    assert held.coverage(held.factor()) == pytest.approx(0.8, abs=1e-3)
    assert held.by_chip() == {"few": 0.1, "many": 0.1}


def test_a_summary_counts_chips_the_same_whatever_their_rows():
    held = Held(np.array([0.1, 0.1, 0.1, 0.3]), np.array([0, 0, 0, 9.0]), np.array(["a", "a", "a", "b"], dtype=object))
    assert held.summary() == {
        "median_over_chips": 0.2,
        "pooled_median": 0.1,
        "by_chip": {"a": 0.1, "b": 0.3},
        "coverage_before_factor": 0.75,
    }


def test_microbenchmarks_become_products(folder, tmp_path):
    rows = microbench_read([folder])
    assert len(rows) == 2
    assert_allclose(rows.latency_s, [2 * 8192**3 / 84e12, 2 * 2**30 / 1.9e12], rtol=1e-4)
    assert microbench_read([tmp_path / "none"]) is None


def test_files_of_a_family_are_fitted_together(folder, tmp_path):
    once = files_read([folder])
    assert set(once) == {"gemm", "collectives"}
    (tmp_path / "more.csv").write_text((folder / "links.csv").read_text())
    twice = files_read([folder, tmp_path])["collectives"]
    assert twice.count == 2 * once["collectives"].count
    assert len(twice.rows) == len(twice.groups) == len(twice.at) == 2 * len(once["collectives"].rows)
    assert twice.at[-1] == twice.count - 1


def test_one_chip_alone_is_fitted_without_a_chip_left_out(gemm_rows_read):
    alone = gemm_rows_read.rows.members[1] == "l40s"
    file = replace(
        gemm_rows_read,
        rows=gemm_rows_read.rows.take(alone),
        groups=tuple(group for group, is_l40s in zip(gemm_rows_read.groups, alone, strict=True) if is_l40s),
    )
    made = calibration_make(GEMM, file, fitted_on="2026-11-24")
    assert made.errors["chips_held_out"]["median_over_chips"] is None
    assert made.band_unseen == 1.0
    assert any("not measured" in line for line in report_lines(made))


def test_rows_without_any_latency_are_a_sentence(gemm_rows_read):
    rows = replace(gemm_rows_read.rows, latency_s=np.full(len(gemm_rows_read.rows), np.nan))
    with pytest.raises(AcceleratorError, match="no row has a latency"):
        calibration_make(GEMM, replace(gemm_rows_read, rows=rows), fitted_on="2026-11-24")


def test_families_are_all_or_those_named():
    assert families_wanted([]) == tuple(FAMILIES.values())
    assert families_wanted(["experts"]) == (FAMILIES["experts"],)
