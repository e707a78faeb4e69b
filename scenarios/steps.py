"""A run as its steps: opened stage after stage, claimed one by one, merged once.

The rows say how far a run is, and every change of them is one conditional UPDATE or one transaction, so that any worker
may die between any two of them: docs/models/runs.md. Who changes a run and its steps changes the run first.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from scenarios.claims import ClaimLostError, Queue
from scenarios.engine import PIPELINES
from scenarios.models import Report, Run, RunStep
from scenarios.pipelines import Kept, Pipeline, StepContext, Worked, digest_of, json_unpack
from scenarios.reports import report_build

logger = logging.getLogger(__name__)

STEPS = Queue(RunStep, task="scenarios.tasks.step_execute", attempts_max=3)

CHECKPOINT_EVERY_S = 60.0

Status = Run.Status
OPEN = (Status.QUEUED, Status.RUNNING)


# --- one stage after the other ----------------------------------------------------------------------------------------
def run_advance(run_id: int) -> None:
    """Open the next stage of a run whose steps are all done. It is opened once, whoever asks and how often."""
    run = Run.objects.defer("result").get(pk=run_id)  # before its steps: then these are of the stage it names, or later
    if run.has_ended or run.steps.exclude(status=Status.DONE).exists():
        return
    try:
        pipeline = PIPELINES[run.inputs["kind"]]
        if run.opened == len(pipeline.stages):
            return  # the last step has just ended it
        stage = pipeline.stages[run.opened]
        results = results_before(run, pipeline, stage.name)
        if run.opened == 1 and _is_answered(run, pipeline.question(results)):
            return
        payloads = stage.split(run.inputs, results)
    except (ClaimLostError, DatabaseError):
        raise  # it has ended meanwhile; or the sweep asks again, when the database is back
    except Exception as error:
        _end(run_id, Status.FAILED, error=f"stage {run.opened + 1}: internal error: {error!r}")
        raise
    with transaction.atomic():
        if _open(run_id, opened=run.opened).update(
            opened=F("opened") + 1, steps_total=F("steps_total") + len(payloads)
        ):
            steps = RunStep.objects.bulk_create(
                RunStep(
                    run=run,
                    stage_name=stage.name,
                    number=number,
                    payload=payload,
                    share_ratio=stage.share_ratio / len(payloads),
                )
                for number, payload in enumerate(payloads)
            )
            transaction.on_commit(lambda: STEPS.send_all(step.pk for step in steps))
    if not payloads:  # nobody will finish a step of it
        run_advance(run_id)


def results_before(run: Run, pipeline: Pipeline, stage_name: str) -> Mapping[str, list[Kept]]:
    """Return the results of the stages before one, in the order of their steps; they are read when they are needed."""
    names = [stage.name for stage in pipeline.stages]
    found: dict[str, list[Kept]] = {name: [] for name in names[: names.index(stage_name)]}
    done = run.steps.filter(status=Status.DONE, stage_name__in=list(found)).order_by("number")
    for pk, name, digest in done.values_list("pk", "stage_name", "result_digest"):
        found[name].append(Kept(digest, _reader(pk)))
    return found


def _reader(step_id: int) -> Callable[[], bytes]:
    def read() -> bytes:
        data = RunStep.objects.values_list("result", flat=True).get(pk=step_id)
        if data is None:  # the run has ended meanwhile
            raise ClaimLostError(step_id)
        return bytes(data)

    return read


def _is_answered(run: Run, question: str) -> bool:
    """Keep the digest of a run's question; end the run where a reusable answer to the same question is kept."""
    _open(run.pk).update(question_digest=question)
    answered = Run.objects.filter(question_digest=question, status=Status.DONE, is_reusable=True).order_by("pk").first()
    if run.recompute or answered is None:
        return False
    with transaction.atomic():
        run_finish(run.pk, result=answered.result or {}, reused_from_id=answered.reused_from_id or answered.pk)
    return True


# --- one step ---------------------------------------------------------------------------------------------------------
@contextmanager
def step_held(step_id: int, claim: uuid.UUID) -> Iterator[StepContext]:
    """Hold a step's lease while it is computed; show how far its run is, and keep its checkpoints."""
    run_id = RunStep.objects.values_list("run", flat=True).get(pk=step_id)
    checkpoint = _Checkpoint(step_id, claim)

    def beat() -> None:
        checkpoint.keep()
        progress_write(run_id)

    with STEPS.held(step_id, claim, on_beat=beat) as hold:
        yield StepContext(
            report=hold.report,
            should_stop=hold.lost.is_set,
            checkpoint_load=checkpoint.load,
            checkpoint_save=checkpoint.save,
        )


class _Checkpoint:
    """What an attempt leaves for the next one: the latest, written by the thread that holds the lease."""

    def __init__(self, step_id: int, claim: uuid.UUID) -> None:
        self.step_id, self.claim = step_id, claim
        self.latest: bytes | None = None
        self.due_s = 0.0  # the first is kept at once

    def load(self) -> bytes | None:
        data = RunStep.objects.values_list("checkpoint", flat=True).get(pk=self.step_id)
        return None if data is None else bytes(data)

    def save(self, data: bytes) -> None:
        self.latest = data

    def keep(self) -> None:
        data, now_s = self.latest, time.monotonic()
        if data is None or now_s < self.due_s:
            return
        if not STEPS.save(self.step_id, self.claim, checkpoint=data):
            raise ClaimLostError(self.step_id)
        self.due_s = now_s + CHECKPOINT_EVERY_S
        if self.latest is data:
            self.latest = None


def step_compute(step_id: int, claim: uuid.UUID, context: StepContext) -> None:
    """Compute a step that was claimed, keep its result, and open the next stage if it was the last of its own."""
    step = RunStep.objects.select_related("run").defer("run__result", "result", "checkpoint").get(pk=step_id)
    run = step.run
    Run.objects.filter(pk=run.pk, status=Status.QUEUED).update(status=Status.RUNNING, started_at=timezone.now())
    pipeline = PIPELINES[run.inputs["kind"]]
    stage = next(stage for stage in pipeline.stages if stage.name == step.stage_name)
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    worked = stage.work(run.inputs, step.payload, results_before(run, pipeline, stage.name), context)
    spent = {"took_s": time.monotonic() - begun_s, "cpu_s": time.process_time() - begun_cpu_s}
    if stage is pipeline.stages[-1]:
        answer_keep(step, claim, worked, **spent)
    else:
        step_keep(step, claim, worked, **spent)
        progress_write(run.pk)
        run_advance(run.pk)


def step_keep(step: RunStep, claim: uuid.UUID, worked: Worked, **spent: float) -> None:
    """Keep the result of a step. Raises ClaimLostError if it is not ours any more."""
    values = {"result_digest": digest_of(worked.data), "is_reusable": worked.is_reusable, "checkpoint": None}
    STEPS.finish(step.pk, claim, result=worked.data, **values, **spent)


def answer_keep(step: RunStep, claim: uuid.UUID, worked: Worked, **spent: float) -> None:
    """End the last step and its run in one transaction. Raises ClaimLostError if it is not ours any more."""
    with transaction.atomic():
        is_reusable = worked.is_reusable and not step.run.steps.filter(is_reusable=False).exists()
        run_finish(step.run_id, result=json_unpack(worked.data), is_reusable=is_reusable)
        digest = digest_of(worked.data)
        STEPS.finish(step.pk, claim, result_digest=digest, is_reusable=worked.is_reusable, **spent)


def step_fail(step_id: int, claim: uuid.UUID, *, error: str) -> None:
    """End a step that cannot be computed, and its run, with the reason."""
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).only("pk").filter(steps=step_id).first()
        if run and STEPS.fail(step_id, claim, error=error):
            _end(run.pk, Status.FAILED, error=error)


# --- how a run ends ---------------------------------------------------------------------------------------------------
def run_finish(run_id: int, *, result: Mapping[str, Any], **values: Any) -> None:
    """Store the result, and the report of a scheduled run; inside a transaction. ClaimLostError if it has ended."""
    now = timezone.now()
    if not _open(run_id).update(
        status=Status.DONE,
        progress_ratio=1,
        stage="",
        steps_done=F("steps_total"),
        finished_at=now,
        attempt=_attempts(),
        result=result,
        snapshot_digest=result["snapshot_digest"],
        engine_version=result["engine_version"],
        **values,
    ):
        raise ClaimLostError(run_id)
    _forget(run_id)
    run = Run.objects.select_related("scenario", "schedule").get(pk=run_id)
    if run.schedule_id:
        built = report_build(run)
        Report.objects.create(run=run, schedule=run.schedule, title=built.title, html=built.html, csv=built.csv)


def run_end(run_id: int) -> bool:
    """Cancel a run and its steps; False if it has ended. Workers notice within a second, wherever they are."""
    return _end(run_id, Status.CANCELLED)


def _end(run_id: int, status: str, *, error: str = "") -> bool:
    """End a run without an answer, and what is left of its steps."""
    now = timezone.now()
    with transaction.atomic():
        if not _open(run_id).update(status=status, error=error, finished_at=now, stage="", attempt=_attempts()):
            return False
        left = RunStep.objects.filter(run=run_id, status__in=OPEN)
        left.update(status=Status.CANCELLED, claim=None, finished_at=now, stage="")
        _forget(run_id)
    return True


def _attempts() -> Coalesce:
    """Say how often the step of a run was claimed that was claimed most."""
    counted = RunStep.objects.filter(run=OuterRef("pk")).order_by("-attempt").values("attempt")
    return Coalesce(Subquery(counted[:1]), 0)


def _forget(run_id: int) -> None:
    """Drop what only the steps of a run read."""
    RunStep.objects.filter(run=run_id).update(result=None, checkpoint=None)


def _open(run_id: int, **values: Any) -> QuerySet[Run]:
    return Run.objects.filter(pk=run_id, status__in=OPEN, **values)


# --- how far it is, and what was lost ---------------------------------------------------------------------------------
def progress_write(run_id: int) -> None:
    """Show how far a run is: the sum over its steps of what each is worth."""
    steps = list(
        RunStep.objects.filter(run=run_id)
        .order_by("pk")
        .values_list("stage_name", "status", "share_ratio", "progress_ratio", "stage", "attempt")
    )
    last = steps[-1][0]
    stage = [step for step in steps if step[0] == last]
    done = sum(step[1] == Status.DONE for step in stage)
    told = {
        "progress_ratio": min(1.0, sum(share_ratio * ratio for _, _, share_ratio, ratio, _, _ in steps)),
        "stage": f"{last} {done} of {len(stage)}" if len(stage) > 1 else stage[0][4] or last,
        "steps_done": sum(step[1] == Status.DONE for step in steps),
        "attempt": max(step[5] for step in steps),
    }
    if not _open(run_id).filter(**told).exists():
        _open(run_id).update(**told, heartbeat_at=timezone.now())


def runs_sweep() -> None:
    """Go on with what was lost: steps without a worker, stages that nobody opened, runs with a step that was given up.

    A run of before there were steps has none and is begun here.
    """
    STEPS.sweep()
    for step in RunStep.objects.filter(status=Status.FAILED, run__status__in=OPEN).only("run", "stage_name", "error"):
        _end(step.run_id, Status.FAILED, error=f"{step}: {step.error}")
    waiting = RunStep.objects.filter(run=OuterRef("pk")).exclude(status=Status.DONE)
    for run_id in Run.objects.filter(~Exists(waiting), status__in=OPEN).order_by("pk").values_list("pk", flat=True):
        try:
            run_advance(run_id)
        except ClaimLostError:
            logger.info("run %s has ended meanwhile", run_id)
        except DatabaseError:
            raise
        except Exception:  # the run has failed with the reason; the others go on
            logger.exception("run %s cannot go on", run_id)
