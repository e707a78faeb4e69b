"""`manage.py rate_catalog --wait`: what every chip does for every model, through workers; what is stored stays."""

import json
import time
from itertools import product
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accelerator import PROFILES, AcceleratorError, chips_load, models_load
from scenarios.calibrations import calibration_current
from scenarios.management.waiting import BAD_INPUT, RUN_FAILED, wait, worker_need
from scenarios.rating_store import (
    MIX,
    TPOT_P95_S,
    TTFT_P95_S,
    Catalog,
    CatalogState,
    RatingQuestion,
    catalog_check,
    catalog_state,
    catalog_submit,
    rating_question,
)


class Command(BaseCommand):
    """Rate the catalog. Exit codes: 0 answered, 2 bad input, 3 no broker or worker, 4 a batch failed."""

    help = "Rate chips for models by simulation, in batches that workers share; pairs that are stored are skipped."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which pairs, for which mix and limits."""
        parser.add_argument("--chip", action="append", help="only this chip; may be repeated; default: all")
        parser.add_argument("--model", action="append", help="only this model; may be repeated; default: all")
        parser.add_argument("--mix", action="append", help=f"{', '.join(PROFILES)}; may be repeated; default: {MIX}")
        parser.add_argument(
            "--ttft-p95-s", type=float, default=TTFT_P95_S, help="limit of the time to first token at P95 [s]"
        )
        parser.add_argument(
            "--tpot-p95-s", type=float, default=TPOT_P95_S, help="limit of the time per later token at P95 [s]"
        )
        parser.add_argument("--wait", action="store_true", help="wait until all are rated")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check every name first; ask for a worker only if there is something to do."""
        start_s = time.monotonic()
        try:
            questions = _questions(options)
        except AcceleratorError as error:
            raise CommandError(str(error), returncode=BAD_INPUT) from error
        missing = catalog_check(questions)
        if missing:
            worker_need()
        catalog = catalog_submit(questions, missing)
        if options["wait"]:
            wait(lambda: _look(catalog), self.stderr)
        state = catalog_state(catalog.uid)
        self._print(catalog, state, took_s=time.monotonic() - start_s, as_json=options["json"])
        if state.error:
            raise CommandError(f"catalog {catalog.uid}: {state.error}", returncode=RUN_FAILED)

    def _print(self, catalog: Catalog, state: CatalogState, *, took_s: float, as_json: bool) -> None:
        counts = state.counts
        if as_json:
            values = {
                "catalog": str(catalog.uid),
                "status": state.status,
                "pairs": catalog.pairs,
                "batches": catalog.batches,
                "stored": catalog.stored,
                "rated": counts.rated,
                "refused": counts.refused,
                "took_s": round(took_s, 3),
            }
            self.stdout.write(json.dumps(values))
            return
        done = f"{counts.rated:,} rated, {counts.refused:,} refused, {catalog.stored:,} stored already"
        self.stdout.write(
            f"{catalog.pairs:,} pairs: {done}; {catalog.batches} batch(es) {state.status}, {took_s:.1f} s"
        )


def _questions(options: dict[str, Any]) -> list[RatingQuestion]:
    """Return every pair of the chips and models for every mix; a name given twice counts once."""
    limits = {name: options[name] for name in ("ttft_p95_s", "tpot_p95_s")}
    names = product(options["mix"] or [MIX], options["model"] or models_load(), options["chip"] or chips_load())
    used = calibration_current()
    return list(
        dict.fromkeys(
            rating_question(chip=chip, model=model, mix=mix, calibration=used, **limits) for mix, model, chip in names
        )
    )


def _look(catalog: Catalog) -> tuple[bool, str]:
    state = catalog_state(catalog.uid)
    return state.has_ended, f"{state.status} {state.progress_ratio:4.0%}"
