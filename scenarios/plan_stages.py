"""A migration plan as stages of a run: plans made beside each other, the front, the replay, and how sure it all is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerator import Workload
from accelerator.serving_calibration import ServingCalibration
from fleet.packing import value_pack, value_unpack
from fleet.snapshot import FleetSnapshot
from scenarios.pipelines import Kept, Payload, Results, Stage, StepContext, Values, Worked, json_pack, json_unpack
from scenarios.plan_promises import draws_ranges, promises_result
from scenarios.plan_replay import SHARD_MOST, Asked, ReplayFacts, replay_result
from scenarios.plan_steps import (
    BARE,
    MOST,
    Hold,
    PlanFound,
    PlanQuestion,
    asked_of_replay,
    bare_asked,
    front_asked,
    front_point,
    plan_bare,
    plan_merge,
    plan_part,
    plan_parts,
)
from scenarios.planning.memory import Memory
from scenarios.planning.plain import plain_of
from scenarios.planning.promises import (
    PromiseAsk,
    PromisePart,
    SwingRow,
    promise_draws,
    promise_merge,
    promise_tornado,
)
from scenarios.planning.solver import StoppedError
from scenarios.replay import replay_shard

PLANS, FRONT, REPLAY, PROMISES = "plans", "front", "replay", "promises"
SHARES = {PLANS: 0.5, FRONT: 0.25, REPLAY: 0.15, PROMISES: 0.1}
"""Of the work of all stages of a plan. [-]"""


@dataclass(frozen=True)
class Read:
    """What all steps of a plan read: the question and the fleet."""

    question: PlanQuestion
    snapshot: FleetSnapshot


Reader = Callable[[Results], Read]
"""Returns what the first stage of a run has left."""

Engines = Callable[[ReplayFacts], tuple[ServingCalibration | None, Workload | None]]
"""Returns the engines and the recorded requests that a replay names by their digests; they never change under them."""


Splitting = Callable[[Reader, Values, Results], list[Payload]]
Working = Callable[[Reader, Values, Payload, Results, StepContext], Worked]


def plan_stages(read: Reader, engines: Engines, *, share_ratio: float) -> tuple[Stage, ...]:
    """Return the stages of a plan, which are this share of a run's work. [-]"""

    def stage(name: str, split: Splitting, work: Working) -> Stage:
        return Stage(name, SHARES[name] * share_ratio, partial(split, read), partial(work, read))

    return (
        stage(PLANS, _plans_split, _plans_work),
        stage(FRONT, _front_split, _front_work),
        stage(REPLAY, _replay_split, partial(_replay_work, engines=engines)),
        stage(PROMISES, _promises_split, _promises_work),
    )


def plan_answer(read: Read, results: Results) -> dict[str, Any]:
    """Return what the result says of the plan."""
    replay, promises = _replay_answer(read, results), _promises_answer(read, results)
    found, front = ([_unpack(kept) for kept in results[stage]] for stage in (PLANS, FRONT))
    return plan_merge(read.question, found, front, replay=replay, promises=promises)


# --- plans ------------------------------------------------------------------------------------------------------------
def _plans_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    return [{"part": part} for part in plan_parts(read(results).question)]


def _plans_work(read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
    known = read(results)
    return _worked(lambda hold: plan_part(known.question, payload["part"], known.snapshot, hold), context)


def _front_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    question = read(results).question
    bare: list[Payload] = [{"part": BARE}] if bare_asked(question, _best(results)) else []
    found = [_unpack(kept) for kept in results[PLANS]]
    return [*bare, *({"asked_ratio": ratio} for ratio in front_asked(question, found))]


def _front_work(read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
    question = read(results).question
    if payload.get("part") == BARE:
        return _worked(lambda hold: plan_bare(question, _best(results), hold), context)
    most = _unpack(results[PLANS][plan_parts(question).index(MOST)]).most
    if most is None:
        raise ArithmeticError("the largest share was not looked for")
    return _worked(lambda hold: front_point(question, payload["asked_ratio"], most, hold), context)


def _worked(make: Callable[[Hold], PlanFound], context: StepContext) -> Worked:
    """Make a plan that can be stopped, and gone on with behind its last finished stage."""
    memory = Memory(context.checkpoint_load(), keep=context.checkpoint_save)
    try:
        found = make(Hold(context.should_stop, lambda text: context.report(0.5, text), memory))
    except StoppedError:
        context.report(0.5, "stop")  # raises why
        raise
    return Worked(value_pack(found), is_reusable=not found.by_clock)


def _best(results: Results) -> PlanFound:
    """Return the best plan: it is the first part."""
    return _unpack(results[PLANS][0])


def _unpack(kept: Kept) -> PlanFound:
    return value_unpack(PlanFound, kept.read())


# --- the replay -------------------------------------------------------------------------------------------------------
def _asked(read: Read, results: Results) -> tuple[ReplayFacts, Asked] | None:
    asked, facts = asked_of_replay(read.question, _best(results)), read.question.replay
    return None if asked is None or facts is None else (facts, asked)


def _replay_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    asked = _asked(read(results), results)
    return [{"shard": at} for at in range(-(-len(asked[1].loads) // SHARD_MOST))] if asked else []


def _replay_work(
    read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext, *, engines: Engines
) -> Worked:
    asked = _asked(read(results), results)
    if asked is None:
        raise ArithmeticError("there is no plan to replay")
    facts, at = asked[0], payload["shard"]
    calibration, workload = engines(facts)
    context.report(0.0, f"peak hours {at * SHARD_MOST + 1} and on of {len(asked[1].loads)}")
    shard = asked[1].payloads(facts.calibration_digest)[at]
    return Worked(json_pack(replay_shard(shard, calibration=calibration, workload=workload)))


def _replay_answer(read: Read, results: Results) -> dict[str, Any] | None:
    asked = _asked(read, results)
    if asked is None:
        return None
    rows = [row for kept in results[REPLAY] for row in json_unpack(kept.read())]
    return replay_result(asked[1], rows, asked[0])


# --- how sure it is ---------------------------------------------------------------------------------------------------
def _ask(question: PlanQuestion) -> PromiseAsk:
    return PromiseAsk(draws=question.draws, seed=question.seed, futures=question.futures)


def _promises_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    question, best = read(results).question, _best(results)
    if best.answer is None or not best.answer.is_plan:
        return []
    ranges = draws_ranges(best.problem or question.problem, question.draws)
    return [*({"first": first, "stop": stop} for first, stop in ranges), {"tornado": True}]


def _promises_work(read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
    question, best = read(results).question, _best(results)
    problem, ask = best.problem or question.problem, _ask(question)
    if best.answer is None:
        raise ArithmeticError("there is no plan to judge")
    if "tornado" in payload:
        return Worked(json_pack(plain_of(promise_tornado(problem, best.answer, ask, on_progress=context.report))))
    draws = range(payload["first"], payload["stop"])
    return Worked(promise_draws(problem, best.answer, ask, draws, on_progress=context.report).as_bytes())


def _promises_answer(read: Read, results: Results) -> dict[str, Any] | None:
    if not results[PROMISES]:
        return None
    question, best = read.question, _best(results)
    problem = best.problem or question.problem
    *parts, last = results[PROMISES]
    tornado = tuple(SwingRow(**row) for row in json_unpack(last.read()))
    found = promise_merge(problem, _ask(question), [PromisePart.read(p.read()) for p in parts], tornado=tornado)
    return promises_result(problem, found, has_waves=bool(best.answer and best.answer.opened))
