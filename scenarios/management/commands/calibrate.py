"""`manage.py calibrate --points FILE.csv`: the operator's own measurements move the serving calibration."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accelerator import AcceleratorError
from scenarios.calibrations import (
    NOTE_MOST,
    PUBLISHED,
    CalibrationChangedError,
    Draft,
    PointsRefusedError,
    Rejection,
    calibration_draft,
    calibration_in_use,
    calibration_keep,
    calibration_rollback,
    calibration_use,
    table_read,
    version_named,
)
from scenarios.management.waiting import BAD_INPUT
from scenarios.models import CalibrationVersion


class Command(BaseCommand):
    """Calibrate. Exit codes: 0 done, 2 bad input: nothing was stored."""

    help = "Move the serving calibration by own serving points, list its versions, or take another one into use."

    def add_arguments(self, parser: CommandParser) -> None:
        """One of five things to do."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--points", type=Path, help="table of own serving points, the columns of the published one; one row helps"
        )
        what.add_argument("--again", action="store_true", help="make it anew from the published fit and stored points")
        what.add_argument("--list", action="store_true", help="list the versions and what is in use")
        what.add_argument("--rollback", action="store_true", help="go back to what was in use before this version")
        what.add_argument("--use", metavar="ID", help=f"take a version into use, or `{PUBLISHED}`")
        parser.add_argument("--note", default="", help="what the points are, kept with the version")
        parser.add_argument("--dry-run", action="store_true", help="show what would come of it and store nothing")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do one thing, or say why not."""
        try:
            if options["list"]:
                self._list(as_json=options["json"])
            elif options["rollback"]:
                calibration_rollback(owner=None)
                self._print_in_use(as_json=options["json"])
            elif options["use"] is not None:
                calibration_use(version_named(options["use"]), owner=None)
                self._print_in_use(as_json=options["json"])
            else:
                self._update(options)
        except PointsRefusedError as error:
            reasons = "".join(f"\n{one}" for one in error.rejected)
            raise CommandError(f"{error}{reasons}", returncode=BAD_INPUT) from error
        except (AcceleratorError, CalibrationChangedError, ValueError) as error:
            raise CommandError(str(error), returncode=BAD_INPUT) from error

    def _update(self, options: dict[str, Any]) -> None:
        if len(options["note"]) > NOTE_MOST:
            raise ValueError(f"--note: at most {NOTE_MOST} characters")
        rows = table_read(options["points"]) if options["points"] else []
        if options["points"] and not rows:
            raise ValueError(f"{options['points']}: has no rows")
        draft = calibration_draft(rows, note=options["note"])
        version = None if options["dry_run"] else calibration_keep(draft, owner=None)
        if options["json"]:
            self.stdout.write(json.dumps(_answer(draft, version), sort_keys=True))
            return
        for one in draft.rejected:
            self.stdout.write(f"rejected: {one}")
        self.stdout.write(f"{draft.points_added} own point(s) taken, {len(draft.own)} in all; median error by chip:")
        self.stdout.write(f"  {'chip':20} {'points':>6} {'before':>8} {'after':>8} {'held out':>9}")
        for chip, figures in [*draft.errors["chips"].items(), ("all", draft.errors["all"])]:
            before, after, held = (_percent(figures[f"{name}_error_ratio"]) for name in ("before", "after", "held_out"))
            self.stdout.write(f"  {chip:20} {figures['points']:6} {before:>8} {after:>8} {held:>9}")
        if version is None:
            self.stdout.write("nothing was stored: --dry-run")
        else:
            self._print_in_use(as_json=False)

    def _list(self, *, as_json: bool) -> None:
        versions = CalibrationVersion.objects.defer("payload", "table").select_related("owner")
        if as_json:
            rows = [_version_dict(version) for version in versions]
            in_use = calibration_in_use()
            self.stdout.write(json.dumps({"versions": rows, "in_use": in_use.as_dict()}, sort_keys=True))
            return
        for version in versions:
            figures = version.errors["all"]
            self.stdout.write(
                f"{'*' if version.is_active else ' '} {version.pk:4} {version.fitted_on} {version.digest[:12]} "
                f"{version.points:5} point(s), {_percent(figures['before_error_ratio'])} before, "
                f"{_percent(figures['after_error_ratio'])} after; {version.owner or 'command line'}"
                f"{f': {version.note}' if version.note else ''}"
            )
        self._print_in_use(as_json=False)

    def _print_in_use(self, *, as_json: bool) -> None:
        in_use = calibration_in_use()
        facts = in_use.as_dict()
        if as_json:
            self.stdout.write(json.dumps(facts, sort_keys=True))
            return
        self.stdout.write(
            f"in use: {facts['version']}, digest {facts['digest'][:12]}, fitted on {facts['fitted_on']}, "
            f"{facts['rows']:,} rows"
        )
        if in_use.problem:
            self.stdout.write(in_use.problem)


def _answer(draft: Draft, version: CalibrationVersion | None) -> dict[str, Any]:
    return {
        "version": version.pk if version else None,
        "digest": draft.calibration.digest,
        "points": len(draft.own),
        "points_added": draft.points_added,
        "errors": draft.errors,
        "rejected": [_rejection_dict(one) for one in draft.rejected],
    }


def _rejection_dict(one: Rejection) -> dict[str, Any]:
    return {"line": one.line, "column": one.column, "reason": one.reason}


def _version_dict(version: CalibrationVersion) -> dict[str, Any]:
    return {
        "version": version.pk,
        "parent": version.parent_id,
        "digest": version.digest,
        "fitted_on": version.fitted_on.isoformat(),
        "points": version.points,
        "points_added": version.points_added,
        "errors": version.errors,
        "note": version.note,
        "owner": version.owner.get_username() if version.owner else None,
        "is_active": version.is_active,
    }


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"
