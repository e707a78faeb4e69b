import gzip
import json
from datetime import date, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from accelerator import DataFileError, TraceError
from accelerator.serving_calibration import PointRows
from scenarios import accuracy, calibrations
from scenarios.accuracy import ErrorFigures, chips_unknown, held_rows, rows_filter, rows_group, rows_worst, summary_rows
from scenarios.calibrations import (
    CalibrationChangedError,
    PointsRefusedError,
    calibration_current,
    calibration_draft,
    calibration_facts,
    calibration_in_use,
    calibration_keep,
    calibration_rollback,
    calibration_use,
    own_rows,
    points_take,
    table_rows,
    version_active,
)
from scenarios.engine import run_compute
from scenarios.models import CalibrationChange, CalibrationVersion, Run
from scenarios.queries import CapacityQuestion, capacity_query
from scenarios.services import run_submit
from tests.calibrations import row, table, version_make

pytestmark = pytest.mark.django_db


def rows_of(*rows):
    return table_rows(table(*rows), "own.csv")


def predicted(calibration, *rows):
    taken, rejected = points_take(rows_of(*rows))
    assert not rejected
    return calibration.predict(PointRows.of([own.deployment for own in taken])).value.tolist()


# --- an update --------------------------------------------------------------------------------------------------------
def test_one_point_moves_the_prediction_towards_what_was_measured(published):
    (before,) = predicted(published, row())
    version = version_make(row())
    (after,) = predicted(calibration_current(), row())
    assert 900 < after < before
    figures = version.errors["chips"]["h20-96"]
    assert figures["before_error_ratio"] == pytest.approx(before / 900 - 1)
    assert figures["after_error_ratio"] == pytest.approx(after / 900 - 1)
    assert figures["held_out_error_ratio"] is None  # there is no other point to predict it from
    assert (figures["points"], figures["points_added"]) == (1, 1)


def test_a_version_is_dated_and_says_what_it_stands_on(published):
    owner = User.objects.create_user("ann")
    version = version_make(row(), owner=owner, note="rack 7")
    version.refresh_from_db()
    assert version.fitted_on == timezone.now().date()
    assert version.published_digest == published.digest
    assert (version.points, version.note, version.owner, version.parent) == (1, "rack 7", owner, None)
    assert version.digest == calibration_current().digest != published.digest
    assert calibration_facts() == {
        "version": str(version.pk),
        "digest": version.digest,
        "fitted_on": timezone.now().date().isoformat(),
        "rows": published.effects.rows + 1,
    }


def test_what_is_stored_predicts_as_what_was_computed(published):
    draft = calibration_draft(rows_of(row(), row("own-2", metric="tpot_ms", value="30")))
    version = calibration_keep(draft, owner=None)
    calibrations._kept.cache_clear()
    assert calibration_current() is not draft.calibration
    assert calibration_current().digest == draft.calibration.digest == version.digest
    assert predicted(calibration_current(), row()) == predicted(draft.calibration, row())


def test_the_order_in_which_points_come_does_not_matter(published):
    rows = [row(), row("own-2", chip="l20", value="400"), row("own-3", metric="tpot_ms", value="40")]
    together = version_make(*rows)
    calibration_use(None, owner=None)
    version_make(rows[2])
    version_make(rows[0])
    last = version_make(rows[1])
    assert (last.points, last.points_added) == (3, 1)
    assert last.digest == together.digest
    assert last.table == together.table


def test_points_of_an_abandoned_line_do_not_count(published):
    version_make(row())
    calibration_use(None, owner=None)
    assert version_make(row("own-2", chip="l20", value="400")).points == 1


def test_held_out_errors_are_those_of_the_other_points(published):
    rows = [row(f"own-{at}", concurrency=str(16 * at), value=str(300 * at)) for at in (1, 2, 3)]
    figures = version_make(*rows).errors["all"]
    assert figures["after_error_ratio"] < figures["held_out_error_ratio"] < figures["before_error_ratio"]


def test_a_version_is_made_anew_from_its_points(published):
    first = version_make(row())
    draft = calibration_draft([], today=timezone.now().date() + timedelta(days=1))
    again = calibration_keep(draft, owner=None)
    assert (again.parent, again.points, again.points_added) == (first, 1, 0)
    assert again.fitted_on - first.fitted_on == timedelta(days=1)
    assert predicted(calibration_current(), row()) == pytest.approx(predicted(draft.calibration, row()))


def test_without_a_published_fit_there_is_nothing_to_update(monkeypatch):
    def missing():
        raise DataFileError("serving.json: there is none")

    monkeypatch.setattr(calibrations, "serving_calibration_load", missing)
    with pytest.raises(DataFileError, match="there is none"):
        calibration_draft(rows_of(row()))
    assert calibration_facts() is None


# --- rows that are refused --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changed", "column", "words"),
    [
        ({"value": ""}, "value", "missing or not above 0"),
        ({"value": "0"}, "value", "missing or not above 0"),
        ({"value": "fast"}, "value", '"fast" is not a number'),
        ({"value": "1e9"}, "value", "another unit"),
        ({"metric": "tpot_ms", "value": "0.03"}, "value", "another unit"),
        ({"chip": "h21"}, None, 'unknown chip "h21"'),
        ({"model": "qwen9-1b"}, None, "qwen9-1b"),
        ({"scenario": "by hand"}, None, 'scenario "by hand" is not known'),
        ({"metric": "avg_power_frac_tdp", "value": "0.6"}, "metric", "is not modelled"),
        ({"duplicate_metric": "1"}, "duplicate_metric", "duplicate"),
        ({"trust": "C"}, "trust", "plausibility"),
        ({"chip_count": "four"}, "chip_count", '"four" is not a number'),
        ({"point_id": ""}, "point_id", "is empty"),
        ({"point_id": "good"}, "point_id", "stands in line 2 too"),
        ({"notes": "x" * 2001}, "notes", "longer than"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_are_taken(published, changed, column, words):
    draft = calibration_draft(rows_of(row("good"), {**row("bad"), **changed}))
    (one,) = draft.rejected
    assert (one.line, one.column) == (3, column)
    assert words in one.reason
    assert [own.point.point_id for own in draft.own] == ["good"]
    assert not CalibrationVersion.objects.exists()  # a draft stores nothing


def test_a_point_that_is_stored_already_is_refused(published):
    version_make(row())
    draft = calibration_draft(rows_of(row(), row("own-2", value="950")))
    assert [str(one) for one in draft.rejected] == ["line 2, point_id: own-1 is stored already"]
    with pytest.raises(PointsRefusedError, match=r"none of 1 row"):
        calibration_draft(rows_of(row()))


def test_if_every_row_is_refused_nothing_is_stored(published):
    with pytest.raises(PointsRefusedError) as caught:
        calibration_draft(rows_of(row(chip="h21"), row("own-2", value="-1")))
    assert [one.line for one in caught.value.rejected] == [2, 3]
    assert not CalibrationVersion.objects.exists()


def test_too_many_points_are_refused(published, monkeypatch):
    monkeypatch.setattr(calibrations, "POINTS_MOST", 1)
    with pytest.raises(PointsRefusedError, match="2 own points are more than 1"):
        calibration_draft(rows_of(row(), row("own-2")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column chip, chip_count"),
        ("point_id,chip\n", "has no column chip_count"),
        (table(row()).replace("concurrency", "concurency"), 'unknown column "concurency"; did you mean concurrency'),
        (table(row()).replace("900", "9\x000"), "NUL"),
    ],
)
def test_what_is_no_table_of_points_is_refused_as_a_whole(text, words):
    with pytest.raises(TraceError, match=r"own\.csv") as caught:
        table_rows(text, "own.csv")
    assert words in str(caught.value)


def test_a_row_with_too_many_cells_is_refused(published):
    text = table(row(), row("own-2")).rstrip("\n") + ",more\n"
    (one,) = calibration_draft(table_rows(text, "own.csv")).rejected
    assert "more cells" in one.reason


# --- which one is in use ----------------------------------------------------------------------------------------------
def test_rolling_back_goes_from_parent_to_parent(published):
    first = version_make(row())
    second = version_make(row("own-2", value="950"))
    assert calibration_rollback(owner=None) == first
    assert calibration_current().digest == first.digest
    assert calibration_rollback(owner=None) is None
    assert calibration_current() is published
    with pytest.raises(ValueError, match="nothing to go back to"):
        calibration_rollback(owner=None)
    changes = CalibrationChange.objects.order_by("pk").values_list("version", flat=True)
    assert list(changes) == [first.pk, second.pk, first.pk, None]


def test_what_is_in_use_already_is_no_change(published):
    version = version_make(row())
    assert calibration_use(version, owner=None) is False
    assert CalibrationChange.objects.count() == 1


def test_the_database_holds_that_one_is_in_use(published):
    version_make(row())
    other = version_make(row("own-2", value="950"))
    with pytest.raises(IntegrityError), transaction.atomic():
        CalibrationVersion.objects.update(is_active=True)
    assert version_active() == other


def test_a_draft_is_refused_if_another_calibration_was_taken_into_use_meanwhile(published):
    draft = calibration_draft(rows_of(row()))
    version_make(row("own-2", value="950"))
    with pytest.raises(CalibrationChangedError):
        calibration_keep(draft, owner=None)
    assert CalibrationVersion.objects.count() == 1


def test_the_current_calibration_costs_one_query(published, django_assert_num_queries):
    with django_assert_num_queries(1):
        calibration_current()
    version_make(row())
    calibration_current()
    with django_assert_num_queries(1):
        assert calibration_facts()["version"] != "published"


@pytest.mark.parametrize(
    "payload",
    [b"\x1f", gzip.compress(b'{"parameters": [], "levels": []}', mtime=0)],
    ids=["no gzip", "no calibration"],
)
def test_a_version_of_another_model_is_replaced_by_the_published_fit_and_says_so(published, caplog, payload):
    version = version_make(row())
    CalibrationVersion.objects.update(payload=payload, digest=f"{len(payload):064}")
    in_use = calibration_in_use()
    assert in_use.calibration is published
    assert f"calibration {version.pk} cannot be used" in in_use.problem
    assert "--again" in caplog.text


def test_runs_and_capacity_answers_say_which_calibration_was_in_use(published, scenario):
    run = run_submit(scenario=scenario, owner=None)
    question = CapacityQuestion(as_of=date(2027, 1, 1), kind="h20-8x")
    before = capacity_query(question)
    assert before["serving_calibration"]["version"] == "published"
    version = version_make(row())
    result = run_compute(Run.objects.get(pk=run.pk).inputs, on_progress=lambda *_: None)
    facts = {"version": str(version.pk), "digest": version.digest}
    assert facts.items() <= result["serving_calibration"].items()
    assert facts.items() <= capacity_query(question)["serving_calibration"].items()  # not the answer kept before


# --- own points against predictions -----------------------------------------------------------------------------------
def test_own_points_are_shown_with_what_is_predicted_now(published):
    assert own_rows() == []
    version_make(row(unit="tok/s"))
    (one,) = own_rows()
    assert (one.point_id, one.chip, one.measured, one.unit) == ("own-1", "h20-96", 900.0, "tok/s")
    assert one.p10 < one.p50 < one.p90
    assert one.basis == "calibrated-pair"
    calibration_use(None, owner=None)
    assert own_rows() == []


# --- held-out rows ----------------------------------------------------------------------------------------------------
def test_held_out_rows_are_filtered_grouped_and_ranked(published):
    rows = held_rows()
    assert len(rows) == 128
    some = rows_filter(rows, scheme="pairs", wanted={"chip": ["l20", "h20-96"], "class": ["tpot"], "model": []})
    assert {one.chip for one in some} == {"l20", "h20-96"}
    assert len(some) == 8
    by_chip = rows_group(some, "chip")
    assert [(one.name, one.rows) for one in by_chip] == [("h20-96", 4), ("l20", 4)]
    worst = rows_worst(rows_filter(rows, scheme="pairs", wanted={}))
    assert len(worst) == 20
    off = [max(one.ratio, 1 / one.ratio) for one in worst]
    assert off == sorted(off, reverse=True)


def test_figures_of_a_group_are_medians_and_shares(published):
    rows = rows_filter(held_rows(), scheme="points", wanted={"chip": ["l20"]})
    figures = ErrorFigures.of("l20", rows)
    ratios = sorted(one.ratio for one in rows)
    assert figures.ratio_p50 == pytest.approx((ratios[3] + ratios[4]) / 2)
    assert figures.coverage_ratio == sum(one.is_covered for one in rows) / 8
    assert figures.band_low_ratio < 1 < figures.band_high_ratio


def test_what_is_not_known_names_chips_without_or_with_few_rows(published):
    found = {one.chip: one for one in chips_unknown(held_rows(), {"l20": 3})}
    assert (found["mi300x"].rows, found["mi300x"].basis) == (0, "modelled")
    assert "h20-96" in found  # eight rows are few
    assert "l20" not in found  # eight and three are not


def test_the_summary_has_a_row_for_each_scheme(published):
    points, *_ = summary_rows(published.errors["summary"])
    assert points["held_out"] == "new points of seen pairs"
    assert points["rows"] == 32
    assert 0 < points["core"] < points["p90_core"]
    assert points["ttft"] is None


def test_a_missing_file_is_empty_and_a_broken_one_names_its_line(tmp_path, monkeypatch):
    path = tmp_path / "errors.csv"
    monkeypatch.setattr(accuracy, "ERRORS_PATH", path)
    assert held_rows() == ()
    path.write_text("scheme,class,ratio\npoints,tpot,1\n")
    with pytest.raises(DataFileError, match=r"errors\.csv, line 2"):
        held_rows()


def test_a_ratio_that_was_rounded_to_nothing_is_the_worst_and_no_fault(published, tmp_path, monkeypatch):
    first, second, *_ = accuracy.ERRORS_PATH.read_text().splitlines()
    path = tmp_path / "errors.csv"
    path.write_text(f"{first}\n{second}\n{second.replace('0.935', '0.000')}\n")
    monkeypatch.setattr(accuracy, "ERRORS_PATH", path)
    worst, _ = rows_worst(held_rows())
    assert worst.ratio == accuracy.RATIO_LEAST
    assert not worst.is_covered


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_updates_shows_before_and_after_and_names_what_it_rejects(published, tmp_path, capsys):
    path = tmp_path / "own.csv"
    path.write_text(table(row(), row("own-2", chip="h21")))
    call_command("calibrate", "--points", str(path), "--note", "first rack")
    lines = capsys.readouterr().out.splitlines()
    version = CalibrationVersion.objects.get()
    assert lines[0].startswith('rejected: line 3: unknown chip "h21"')
    assert lines[1] == "1 own point(s) taken, 1 in all; median error by chip:"
    assert lines[3].split()[:2] == ["h20-96", "1"]
    assert lines[-1].startswith(f"in use: {version.pk}, digest {version.digest[:12]}")
    assert version.note == "first rack"


def test_a_dry_run_stores_nothing(published, tmp_path, capsys):
    path = tmp_path / "own.csv"
    path.write_text(table(row()))
    call_command("calibrate", "--points", str(path), "--dry-run")
    assert "nothing was stored" in capsys.readouterr().out
    assert not CalibrationVersion.objects.exists()


def test_the_command_lists_rolls_back_and_uses(published, tmp_path, capsys):
    first, second = version_make(row(), note="one"), version_make(row("own-2", value="950"))
    call_command("calibrate", "--list")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"* {second.pk:4} ")
    assert shown[1].endswith("command line: one")
    call_command("calibrate", "--rollback", "--json")
    assert json.loads(capsys.readouterr().out)["version"] == str(first.pk)
    call_command("calibrate", "--use", "published")
    assert capsys.readouterr().out.startswith("in use: published, digest")
    call_command("calibrate", "--use", str(second.pk))
    assert version_active() == second
    capsys.readouterr()
    call_command("calibrate", "--list", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert [one["is_active"] for one in answer["versions"]] == [True, False]
    call_command("calibrate", "--again", "--json")
    assert json.loads(capsys.readouterr().out)["points_added"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--points", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--use", "99"], 'there is no calibration "99"'),
        (["--use", "first"], 'there is no calibration "first"'),
        (["--rollback"], "nothing to go back to"),
        (["--again"], "there are no own points"),
        (["--again", "--note", "x" * 301], "at most 300"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(published, options, words):
    with pytest.raises(CommandError, match=words) as caught:
        call_command("calibrate", *options)
    assert caught.value.returncode == 2


def test_a_file_of_refused_rows_is_an_error_with_every_reason(published, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(table(row(chip="h21"), row("own-2", value="")))
    with pytest.raises(CommandError) as caught:
        call_command("calibrate", "--points", str(path))
    first, *reasons = str(caught.value).splitlines()
    assert first == "none of 2 row(s) can be used"
    assert [text.split(":")[0] for text in reasons] == ["line 2", "line 3, value"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CommandError, match="not UTF-8"):
        call_command("calibrate", "--points", str(path))
