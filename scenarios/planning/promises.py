"""How sure a migration plan is: its decisions kept in many futures, what it promises judged in each.

docs/models/capacity-plan.md says what is kept and what is solved anew. Values in, values out: the same bytes however
the draws are shared out over workers.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accelerator.units import Z90
from scenarios.planning.capacity_answer import BandValues, DayBand, PositionBand
from scenarios.planning.days import position_day
from scenarios.planning.dispatch import NOTICED, Dispatch, Loads
from scenarios.planning.draws import Deviates, Future, Futures, FutureValues
from scenarios.planning.headroom import Region
from scenarios.planning.plain import given, plain_of, schema_of
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import OUTPUT, PlanProblem, problem_check
from scenarios.planning.program import BoolArray, FloatArray
from scenarios.planning.survivors import least, regions_places, survivors

FLOOR, DEMAND, TIER, FAILOVER, PEAK, EVERYTHING = "floor", "demand", "tier", "failover", "peak", "everything"
QUANTILES = (0.1, 0.5, 0.9)
FIGURES = ("homegrown_ratio", "homegrown_last_ratio", "objective", "unserved_mtok", "gpu_free", "last_move")

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class PromiseAsk:
    """What is asked about a plan."""

    draws: int = given("Futures drawn.", unit="-", default=200, least=1)
    seed: int = given("Of the draws.", default=1, least=0)
    futures: FutureValues = given("What futures differ in.", default=FutureValues())


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """How often a promise holds over the whole horizon."""

    promise: str = given("Kind of promise: floor, demand, tier, failover, peak, everything.")
    subject: str = given("Floor by its position, service, tier, domain, or position of the period.")
    region: str = given("Region; empty: all.", default="")
    probability_ratio: float = given("Share of the futures in which it holds.", unit="-", default=0.0)


@dataclass(frozen=True, slots=True)
class SwingRow:
    """What one input alone does, at its P10 and its P90, against the middle of all."""

    input: str = given("Input.")
    objective_p10: float = given("Objective less that of the middle.", unit="money")
    objective_p90: float = given("Objective less that of the middle.", unit="money")
    homegrown_p10_ratio: float = given("Homegrown share less that of the middle.", unit="-")
    homegrown_p90_ratio: float = given("Homegrown share less that of the middle.", unit="-")
    unserved_p10_mtok: float = given("Unserved tokens less those of the middle.", unit="Mtok")
    unserved_p90_mtok: float = given("Unserved tokens less those of the middle.", unit="Mtok")


@dataclass(frozen=True)
class PromiseAnswer:
    """How sure a plan is."""

    draws: int = given("Futures behind the figures.", unit="-")
    seed: int = given("Of the draws.")
    promises: tuple[PromiseRow, ...] = given("Promises.")
    homegrown_ratio: BandValues = given("Share of homegrown tokens over the horizon.", unit="-")
    homegrown_last_ratio: BandValues = given("The same in the last period.", unit="-")
    objective: BandValues = given("Cost as the plan counts it.", unit="money")
    unserved_mtok: BandValues = given("Tokens unserved over the horizon.", unit="Mtok")
    gpu_free: PositionBand = given("From when on no traffic is on GPUs.", unit="period")
    gpu_free_on: DayBand = given("Its day.")
    last_move: PositionBand = given("When the last wave opens.", unit="period")
    last_move_on: DayBand = given("Its day.")
    tornado: tuple[SwingRow, ...] = given("Inputs, the one that moves the objective most first.", default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return dict(plain_of(self))


@dataclass(frozen=True, eq=False)
class PromisePart:
    """What a range of draws says.

    Attributes
    ----------
    first, last : int
        First draw, and the one after the last.
    holds : float64[draws, promises]
        1 where a promise holds.
    figures : float64[draws, FIGURES]
        In the order of `FIGURES`.
    """

    first: int
    last: int
    holds: FloatArray
    figures: FloatArray

    def as_bytes(self) -> bytes:
        """Return the part as bytes, the same for the same figures."""
        kept = io.BytesIO()
        for array in (np.array([self.first, self.last], dtype=float), self.holds, self.figures):
            np.save(kept, array, allow_pickle=False)
        return kept.getvalue()

    @classmethod
    def read(cls, data: bytes) -> "PromisePart":
        """Return the part that was kept as bytes."""
        kept = io.BytesIO(data)
        ends, holds, figures = (np.load(kept, allow_pickle=False) for _ in range(3))
        return cls(int(ends[0]), int(ends[1]), holds, figures)


def plan_promises(
    problem: PlanProblem,
    answer: MigrationAnswer,
    *,
    draws: int = 200,
    seed: int = 1,
    futures: FutureValues | None = None,
) -> PromiseAnswer:
    """Return how sure a migration plan is; docs/models/capacity-plan.md has what is kept and what is solved anew.

    Parameters
    ----------
    problem, answer
        The question, and a plan for it.
    draws : int
        Futures drawn. [-]
    seed : int
        Of the draws.
    futures : FutureValues, optional
        What futures differ in, beside the bands of rates and deliveries of the problem.

    Raises
    ------
    ValueError
        If the answer is no plan.
    ProblemError
        If the problem contradicts itself, or the futures do not fit it.
    """
    ask = PromiseAsk(draws=draws, seed=seed, futures=futures or FutureValues())
    part = promise_draws(problem, answer, ask, range(draws))
    return promise_merge(problem, ask, [part], tornado=promise_tornado(problem, answer, ask))


def promise_draws(
    problem: PlanProblem,
    answer: MigrationAnswer,
    ask: PromiseAsk,
    draws: range,
    *,
    on_progress: Progress | None = None,
) -> PromisePart:
    """Return what a range of draws says about a plan; any worker may do any range."""
    judge = _Judge(problem, answer, ask)
    holds = np.empty((len(draws), len(promises_of(problem))))
    figures = np.empty((len(draws), len(FIGURES)))
    for at, index in enumerate(draws):
        if on_progress:
            on_progress(at / len(draws), f"draw {index + 1} of {ask.draws}")
        future = judge.futures.draw(index)
        loads = judge.dispatch.loads(future)
        holds[at], figures[at] = judge.holds(future, loads), judge.figures(future, loads)
    return PromisePart(draws.start, draws.stop, holds, figures)


def promise_tornado(
    problem: PlanProblem, answer: MigrationAnswer, ask: PromiseAsk, *, on_progress: Progress | None = None
) -> tuple[SwingRow, ...]:
    """Return what every input does alone at its P10 and P90, the one that moves the objective most first.

    Inputs that are certain are left out.
    """
    judge = _Judge(problem, answer, ask)
    middle = judge.futures.expected()
    before = judge.figures(middle, judge.dispatch.loads(middle))
    rows, inputs = [], list(judge.inputs())
    for at, (name, low, high) in enumerate(inputs):
        if on_progress:
            on_progress(at / len(inputs), f"tornado: {name}")
        ends = []
        for deviates in (low, high):
            future = judge.futures.at(deviates)
            ends.append(before if _same(future, middle) else judge.figures(future, judge.dispatch.loads(future)))
        if ends[0] is before and ends[1] is before:
            continue
        share, objective, unserved = (FIGURES.index(one) for one in ("homegrown_ratio", "objective", "unserved_mtok"))
        p10, p90 = (end[: len(FIGURES) - 2] - before[: len(FIGURES) - 2] for end in ends)  # not the dates
        rows.append(
            SwingRow(
                input=name,
                objective_p10=float(p10[objective]),
                objective_p90=float(p90[objective]),
                homegrown_p10_ratio=float(p10[share]),
                homegrown_p90_ratio=float(p90[share]),
                unserved_p10_mtok=float(p10[unserved]),
                unserved_p90_mtok=float(p90[unserved]),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-max(abs(row.objective_p10), abs(row.objective_p90)), row.input)))


def promise_merge(
    problem: PlanProblem, ask: PromiseAsk, parts: Sequence[PromisePart], *, tornado: tuple[SwingRow, ...] = ()
) -> PromiseAnswer:
    """Return the answer from parts that together are all draws, in any order.

    Raises
    ------
    ValueError
        If a draw is missing or there twice.
    """
    ordered = sorted(parts, key=lambda part: (part.first, part.last))
    ends = [0, *(part.last for part in ordered)]
    if [part.first for part in ordered] != ends[:-1] or ends[-1] != ask.draws:
        raise ValueError(f"the parts do not make {ask.draws} draws: {[(part.first, part.last) for part in ordered]}")
    holds = np.concatenate([part.holds for part in ordered])
    figures = np.concatenate([part.figures for part in ordered])
    bands = {name: BandValues(*np.quantile(figures[:, at], QUANTILES).tolist()) for at, name in enumerate(FIGURES[:4])}
    gpu_free, last_move = (_positions(figures[:, FIGURES.index(name)]) for name in FIGURES[4:])
    rows = zip(promises_of(problem), holds.mean(axis=0).tolist(), strict=True)
    return PromiseAnswer(
        draws=ask.draws,
        seed=ask.seed,
        promises=tuple(replace(row, probability_ratio=ratio) for row, ratio in rows),
        **bands,
        gpu_free=gpu_free,
        gpu_free_on=_days(problem, gpu_free),
        last_move=last_move,
        last_move_on=_days(problem, last_move),
        tornado=tornado,
    )


def promises_of(problem: PlanProblem) -> tuple[PromiseRow, ...]:
    """Return what a plan for a problem promises, in the order in which it is judged."""
    return (
        *(PromiseRow(FLOOR, str(at), floor.region) for at, floor in enumerate(problem.floors)),
        *(PromiseRow(DEMAND, service.slug, service.region) for service in problem.services),
        *(PromiseRow(TIER, tier) for tier in sorted({service.tier for service in problem.services})),
        *(PromiseRow(FAILOVER, domain.slug) for domain in problem.domains),
        *(PromiseRow(PEAK, str(period)) for period in range(len(problem.periods))),
        PromiseRow(EVERYTHING, ""),
    )


def promises_schema() -> dict[str, Any]:
    """Return the JSON Schema of an answer."""
    return schema_of(PromiseAnswer, title="How sure a migration plan is")


class _Judge:
    """One plan, judged in one future after the other."""

    def __init__(self, problem: PlanProblem, answer: MigrationAnswer, ask: PromiseAsk) -> None:
        problem_check(problem)
        if not answer.is_plan:
            raise ValueError(f"there is no plan to judge: its status is {answer.status}")
        self.problem = problem
        self.futures = Futures(problem, ask.futures, seed=ask.seed)
        self.dispatch = Dispatch(problem, answer)
        regions = dict.fromkeys(service.region for service in problem.services)
        self._regions = tuple(Region(problem, slug, alike=False) for slug in regions)
        self._places = regions_places(self.dispatch.ground, list(regions))
        self._input_ratio = np.array([service.input_ratio for service in problem.services])
        self._planned = sum(row.discounted for row in answer.money)
        plain = Futures(problem, FutureValues()).expected()  # the world that the plan was made for
        self._discount = self.dispatch.facts.discount[:-1]
        self._usual = float(self._discount @ self.dispatch.loads(plain).money)

    def holds(self, future: Future, loads: Loads) -> FloatArray:
        """Return 1 for every promise that holds, in the order of `promises_of`."""
        problem, demand = self.problem, future.demand_tok_s
        served: BoolArray = np.asarray((loads.unserved_tok_s <= NOTICED * demand).all(axis=1), dtype=bool)
        tiers = np.array([service.tier for service in problem.services])
        found = [self._floor(at, demand, loads) for at in range(len(problem.floors))]
        found += served.tolist()
        found += [bool(served[tiers == tier].all()) for tier in sorted(set(tiers.tolist()))]
        found += self._failovers(future, loads)
        found += np.asarray((loads.unserved_tok_s <= NOTICED * demand).all(axis=0), dtype=bool).tolist()
        return np.array([*found, all(found)], dtype=np.float64)

    def figures(self, future: Future, loads: Loads) -> FloatArray:
        """Return the figures, in the order of `FIGURES`."""
        problem, demand = self.problem, future.demand_tok_s
        weight = self._input_ratio[:, None]
        all_tok_s = ((1 + weight) * demand).sum(axis=0)
        ours_tok_s = (weight * loads.prompts_tok_s + loads.answers_tok_s).sum(axis=0)
        on_gpu = (loads.gpu_tok_s > NOTICED * np.maximum(demand, 1e-300)).any(axis=0)
        gpu_free = float(np.flatnonzero(on_gpu).max(initial=-1)) + 1
        moves = [float(loads.open_from[row]) for row in self.dispatch.opened]
        mean = np.array([service.mean_ratio for service in problem.services])
        lost = float((mean @ loads.unserved_tok_s).sum()) * 3600 * problem.period_hours / 1e6
        last_move = max(moves, default=0.0)
        count = len(problem.periods)
        return np.array(
            [
                _share(ours_tok_s.sum(), all_tok_s.sum()),
                _share(ours_tok_s[-1], all_tok_s[-1]),
                self._planned + float(self._discount @ loads.money) - self._usual,
                lost,
                gpu_free if gpu_free < count else math.inf,
                last_move if last_move < count else math.inf,
            ]
        )

    def inputs(self) -> Iterator[tuple[str, Deviates, Deviates]]:
        """Return every input with its deviates at P10 and P90, all others in the middle."""
        problem, middle = self.problem, self.futures.middle
        parts: list[tuple[str, str, Any]] = [("demand", "growth", slice(None))]
        parts += [(f"rates of {kind.slug}", "rate", at) for at, kind in enumerate(problem.kinds)]
        groups = np.array([delivery.group for delivery in problem.deliveries], dtype=object)
        for group in sorted(set(groups.tolist())):
            parts.append((f"slip of {group or 'deliveries of no group'}", "slip", groups == group))
        parts += [("fill of deliveries", "fill", slice(None)), ("readiness", "ready", slice(None))]
        parts += [(f"failures of {kind.slug}", "down", at) for at, kind in enumerate(problem.kinds)]
        for name, part, where in parts:
            ends = []
            for z in (-Z90, Z90):
                values = getattr(middle, part).copy()
                values[where] = z
                ends.append(replace(middle, **{part: values}))
            yield name, ends[0], ends[1]

    def _floor(self, at: int, demand: FloatArray, loads: Loads) -> bool:
        floor = self.problem.floors[at]
        inside = np.array(
            [floor.region in {"", one.region} and floor.tier in {"", one.tier} for one in self.problem.services]
        )
        weight = (np.zeros_like(self._input_ratio) if floor.basis == OUTPUT else self._input_ratio)[inside, None]
        ours = (weight * loads.prompts_tok_s[inside] + loads.answers_tok_s[inside]).sum(axis=0)
        wanted = floor.ratio * ((1 + weight) * demand[inside]).sum(axis=0)
        return bool((ours >= wanted * (1 - NOTICED))[floor.period :].all())

    def _failovers(self, future: Future, loads: Loads) -> list[bool]:
        """Return after the loss of which domains the protected tier is still served, in all periods."""
        tier = self.problem.rules.failover_tier
        fails: set[str] = set()
        really = replace(future, ready=loads.open_from)
        up = self.dispatch.ground.up * loads.hosts * future.up_ratio[None]
        for region in self._regions:
            if tier not in region.tiers:
                continue
            left = survivors(self.dispatch.ground, up, self._places[region.slug])
            worst = least(left)
            bad = {slug for slug, hosts in worst.items() if not self._survives(region, really, hosts, tier)}
            if bad:  # where the worst survive, so do all others
                bad |= {
                    slug
                    for slug, hosts in left.items()
                    if slug not in worst and not self._survives(region, really, hosts, tier)
                }
            fails |= bad
        return [domain.slug not in fails for domain in self.problem.domains]

    @staticmethod
    def _survives(region: Region, future: Future, hosts: FloatArray, tier: str) -> bool:
        return bool((region.alone(future, hosts, tier).share >= 1 - NOTICED).all())


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _same(one: Future, other: Future) -> bool:
    names = ("demand_tok_s", "rate_tok_s", "arrival", "arrival_hosts", "ready", "up_ratio")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def _positions(drawn: FloatArray) -> PositionBand:
    """Return P10, P50 and P90 of positions of which some may lie beyond the horizon: order statistics."""
    ordered = np.sort(drawn)
    ends = [float(ordered[math.ceil(q * len(ordered)) - 1]) for q in QUANTILES]
    return PositionBand(*(end if math.isfinite(end) else None for end in ends))


def _days(problem: PlanProblem, band: PositionBand) -> DayBand:
    return DayBand(*(position_day(problem, at) for at in (band.p10, band.p50, band.p90)))
