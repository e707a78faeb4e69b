"""Runs computed where a test is: inside its transaction, which no thread that holds a lease could look into."""

from scenarios.models import Run, RunStep
from scenarios.pipelines import StepContext
from scenarios.steps import STEPS, step_compute, step_fail
from scenarios.tasks import _ending, _reporter


def step_work(step_id):
    """Claim and compute one step, as a worker does; False if it was not free."""
    claim = STEPS.claim(step_id)
    if claim is None:
        return False
    with _ending(STEPS, step_id, claim, fail=step_fail):
        step_compute(step_id, claim, context_of(step_id, claim))
    return True


def context_of(step_id, claim):
    """The context of a step whose own reports renew its lease."""
    return StepContext(
        report=_reporter(STEPS, step_id, claim),
        should_stop=lambda: False,
        checkpoint_load=lambda: None,
        checkpoint_save=lambda data: None,
    )


def run_work(run_id):
    """Compute the steps of a run until none is left."""
    while step := RunStep.objects.filter(run=run_id, status=Run.Status.QUEUED).first():
        step_work(step.pk)
