"""How long the fleet lasts: supply against demand by period, region and tier, what binds, what to add.

docs/models/capacity-plan.md has the mathematics. Values in, values out: the same problem, draws and seed give the same
bytes, however the draws are shared out over workers.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scenarios.planning.additions import Added, Additions
from scenarios.planning.arrivals import Ground, Walked
from scenarios.planning.capacity_answer import (
    AfterLossRow,
    BandValues,
    BindRow,
    CapacityAnswer,
    CapacityAsk,
    DayBand,
    HomelessRow,
    PositionBand,
    RunOutRow,
    SiteRow,
    TierRow,
)
from scenarios.planning.days import position_day
from scenarios.planning.draws import Future, Futures, FutureValues
from scenarios.planning.headroom import ALL, SERVED, Region, Shares, regions_of
from scenarios.planning.problem import PlanProblem, problem_check
from scenarios.planning.program import FloatArray
from scenarios.planning.survivors import least, regions_places, survivors

CHIPS = "chips"  # what binds where limits leave room
QUANTILES = (0.1, 0.5, 0.9)

Progress = Callable[[float, str], None]
Scope = tuple[str, str]  # region, tier


@dataclass(frozen=True, eq=False)
class CapacityPart:
    """What a range of draws says; parts are merged in order.

    Attributes
    ----------
    first, last : int
        First draw, and the one after the last.
    share, demand_tok_s : float64[draws, scopes, T]
        Of demand that can be served [-]; demand of the peak hour [tok/s].
    lost_mtok : float64[draws, scopes]
        Unserved over the horizon. [Mtok]
    """

    first: int
    last: int
    share: FloatArray
    demand_tok_s: FloatArray
    lost_mtok: FloatArray

    def as_bytes(self) -> bytes:
        """Return the part as bytes, the same for the same figures."""
        kept = io.BytesIO()
        for array in (np.array([self.first, self.last], dtype=float), self.share, self.demand_tok_s, self.lost_mtok):
            np.save(kept, array, allow_pickle=False)
        return kept.getvalue()

    @classmethod
    def read(cls, data: bytes) -> "CapacityPart":
        """Return the part that was kept as bytes."""
        kept = io.BytesIO(data)
        ends, share, demand, lost = (np.load(kept, allow_pickle=False) for _ in range(4))
        return cls(int(ends[0]), int(ends[1]), share, demand, lost)


def plan_capacity(
    problem: PlanProblem,
    *,
    draws: int = 200,
    seed: int = 1,
    target_ratio: float = 0.0,
    lead_months: float | None = None,
    futures: FutureValues | None = None,
    on_progress: Progress | None = None,
) -> CapacityAnswer:
    """Return how much each region can serve of each tier, when it runs out, what binds and what to add.

    Hosts, what binds, what to add and what survives a failure are those of the expected future, in which every input
    takes its middle; bands are P10, P50 and P90 over `draws` futures, each judged by itself.

    Parameters
    ----------
    problem : PlanProblem
        The question.
    draws : int
        Futures drawn; 0: every band is the expected figure. [-]
    seed : int
        Of the draws.
    target_ratio : float
        Headroom to stay above when hosts are added. [-]
    lead_months : float, optional
        From order to service of a kind that no offer names. [month]
    futures : FutureValues, optional
        What futures differ in, beside the bands of rates and deliveries of the problem.
    on_progress : callable, optional
        Called with the share done [0, 1] and the stage; what it raises ends the plan.

    Raises
    ------
    ProblemError
        If the problem contradicts itself, or the futures do not fit it.
    """
    ask = CapacityAsk(
        draws=draws,
        seed=seed,
        target_ratio=target_ratio,
        lead_months=lead_months,
        futures=futures or FutureValues(),
    )
    part = capacity_draws(problem, ask, range(draws), on_progress=on_progress)
    return capacity_merge(problem, ask, [part])


def capacity_draws(
    problem: PlanProblem, ask: CapacityAsk, draws: range, *, on_progress: Progress | None = None
) -> CapacityPart:
    """Return what a range of draws says; any worker may do any range."""
    world = _World(problem, ask)
    scopes, count = len(world.scopes), len(problem.periods)
    share, demand = (np.empty((len(draws), scopes, count)) for _ in range(2))
    lost = np.empty((len(draws), scopes))
    for at, index in enumerate(draws):
        if on_progress:
            on_progress(at / len(draws), f"draw {index + 1} of {ask.draws}")
        future = world.futures.draw(index)
        found = world.shares(future, world.ground.walk(future))
        share[at], demand[at] = found.share, found.demand_tok_s
        lost[at] = world.mtok(found.lost_tok_s)
    return CapacityPart(draws.start, draws.stop, share, demand, lost)


def capacity_merge(
    problem: PlanProblem, ask: CapacityAsk, parts: Sequence[CapacityPart], *, on_progress: Progress | None = None
) -> CapacityAnswer:
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
    world = _World(problem, ask)
    return world.answer([part for part in ordered if part.last > part.first], on_progress)


class _World:
    """The problem with what all its futures share, and its expected future."""

    def __init__(self, problem: PlanProblem, ask: CapacityAsk) -> None:
        problem_check(problem)
        self.problem, self.ask = problem, ask
        self.futures = Futures(problem, ask.futures, seed=ask.seed)
        self.ground = Ground(problem)
        self.regions = tuple(Region(problem, slug) for slug in regions_of(problem))
        self.scopes: tuple[Scope, ...] = tuple((one.slug, tier) for one in self.regions for tier in one.tiers)
        self._places = regions_places(self.ground, [one.slug for one in self.regions])
        self.future = self.futures.expected()
        self.walked = self.ground.walk(self.future)
        usable = self.usable(self.walked)
        self.expected = _stacked([one.learn(self.future, usable[one.slug]) for one in self.regions])

    def usable(self, walked: Walked) -> dict[str, FloatArray]:
        """Return the hosts of every region that may be loaded, float64[K, T]. [-]"""
        standing = self.ground.up * (self.ground.standing + walked.new) * (1 - self.problem.rules.reserve_ratio)
        return {slug: standing[places].sum(axis=0) for slug, places in self._places.items()}

    def shares(self, future: Future, walked: Walked) -> Shares:
        """Return what can be served in all scopes."""
        usable = self.usable(walked)
        return _stacked([one.shares(future, usable[one.slug]) for one in self.regions])

    def mtok(self, tok_s: FloatArray) -> FloatArray:
        """Return the tokens of rates [..., T] over the horizon. [Mtok]"""
        return np.asarray(tok_s.sum(axis=-1) * (3600 * self.problem.period_hours / 1e6), dtype=np.float64)

    def answer(self, parts: Sequence[CapacityPart], on_progress: Progress | None) -> CapacityAnswer:
        """Return the answer: one line for each part of it."""
        share, demand = (
            np.concatenate([getattr(part, name) for part in parts]) if parts else getattr(self.expected, name)[None]
            for name in ("share", "demand_tok_s")
        )
        expected_lost = self.mtok(self.expected.lost_tok_s)
        lost = np.concatenate([part.lost_mtok for part in parts]) if parts else expected_lost[None]
        usable = self.usable(self.walked)
        additions = Additions(
            self.problem,
            self.ground,
            self.walked,
            self.future,
            usable,
            target_ratio=self.ask.target_ratio,
            lead_months=self.ask.lead_months,
            closed=self.ask.closed,
        )
        whole = {region: self.expected.share[at] for at, (region, tier) in enumerate(self.scopes) if tier == ALL}
        report = on_progress or (lambda _ratio, _stage: None)
        added = additions.find(self.regions, whole, lambda ratio: report(0.8 * ratio, "hosts to add"))
        report(0.8, "losses")
        return CapacityAnswer(
            draws=self.ask.draws,
            seed=self.ask.seed,
            target_ratio=self.ask.target_ratio,
            rows=tuple(self._rows(share, demand)),
            run_out=tuple(self._run_out(share, expected_lost, lost, additions, added)),
            hosts=tuple(self._hosts()),
            binding=tuple(self._binding()),
            homeless=tuple(self._homeless(usable)),
            after_loss=tuple(self._after_loss()),
            add=tuple(row for _region, row in added.rows),
            missed=added.missed,
        )

    def _rows(self, share: FloatArray, demand: FloatArray) -> Iterator[TierRow]:
        expected = self.expected
        bands = [np.quantile(values, QUANTILES, axis=0) for values in (share * demand, demand, share - 1)]
        for period in range(len(self.problem.periods)):
            for at, (region, tier) in enumerate(self.scopes):
                wanted, part = float(expected.demand_tok_s[at, period]), float(expected.share[at, period])
                if wanted > 0:
                    yield TierRow(
                        period=period,
                        region=region,
                        tier=tier,
                        supply_tok_s=part * wanted,
                        demand_tok_s=wanted,
                        headroom_ratio=part - 1,
                        unserved_tok_s=float(expected.unserved_tok_s[at, period]),
                        **{
                            name: BandValues(*band[:, at, period].tolist())
                            for name, band in zip(("supply", "demand", "headroom"), bands, strict=True)
                        },
                    )

    def _run_out(
        self,
        share: FloatArray,
        expected_lost: FloatArray,
        lost: FloatArray,
        additions: Additions,
        added: Added,
    ) -> Iterator[RunOutRow]:
        drawn, expected = run_out_positions(share), run_out_positions(self.expected.share)
        kinds = {one.slug: next((row.kind for slug, row in added.rows if slug == one.slug), "") for one in self.regions}
        for one in self.regions:
            kinds[one.slug] = kinds[one.slug] or additions.cheapest(one)
        for tier in dict.fromkeys(tier for _region, tier in self.scopes):
            ours = [at for at, scope in enumerate(self.scopes) if scope[1] == tier]
            yield self._run_out_row(
                "",
                tier,
                drawn[:, ours].min(axis=1),
                expected[ours].min(),
                expected_lost[ours].sum(),
                lost[:, ours].sum(axis=1),
            )
        for at, (region, tier) in enumerate(self.scopes):
            of_tier = [other for other, scope in enumerate(self.scopes) if scope[1] == tier]
            is_first = np.isfinite(drawn[:, at]) & (drawn[:, at] == drawn[:, of_tier].min(axis=1))
            yield self._run_out_row(
                region,
                tier,
                drawn[:, at],
                expected[at],
                expected_lost[at],
                lost[:, at],
                first_ratio=float(is_first.mean()),
                kind=kinds[region],
                additions=additions,
            )

    def _run_out_row(
        self,
        region: str,
        tier: str,
        drawn: FloatArray,
        expected: float,
        expected_lost: float,
        lost: FloatArray,
        *,
        first_ratio: float = 0.0,
        kind: str = "",
        additions: Additions | None = None,
    ) -> RunOutRow:
        ordered = np.sort(drawn)
        ends = [float(ordered[math.ceil(q * len(ordered)) - 1]) for q in QUANTILES]
        position = PositionBand(*(end if math.isfinite(end) else None for end in ends))
        places = (position.p10, position.p50, position.p90)
        sites = {site.slug for site in self.problem.sites if site.region == region}
        lead = additions.lead_periods(kind, sites) if additions and kind else None
        lead_months = self.ask.lead_months if additions and kind else None
        order_by = [additions.order_by(at, kind, sites) if additions and kind else None for at in places]
        return RunOutRow(
            region=region,
            tier=tier,
            expected=float(expected) if math.isfinite(expected) else None,
            position=position,
            run_out_expected_on=position_day(self.problem, float(expected) if math.isfinite(expected) else None),
            run_out_on=DayBand(*(position_day(self.problem, at) for at in places)),
            probability_ratio=float(np.isfinite(drawn).mean()),
            first_ratio=first_ratio,
            kind=kind,
            lead_months=lead_months if lead is None else lead * self.problem.rules.period_months,
            is_offered=lead is not None,
            order_by_on=DayBand(*order_by),
            unserved_mtok=float(expected_lost),
            unserved=BandValues(*np.quantile(lost, QUANTILES).tolist()),
        )

    def _hosts(self) -> Iterator[SiteRow]:
        standing = self.ground.standing + self.walked.new
        by_site = np.stack([standing[places].sum(axis=0) for places in self.ground.places_of])
        for site, kind, period in sorted(
            np.argwhere((by_site > 0) | (self.walked.waiting > 0)).tolist(), key=lambda at: (at[2], at[0], at[1])
        ):
            yield SiteRow(
                period=period,
                site=self.problem.sites[site].slug,
                kind=self.problem.kinds[kind].slug,
                hosts=int(by_site[site, kind, period]),
                waiting=int(self.walked.waiting[site, kind, period]),
            )

    def _binding(self) -> Iterator[BindRow]:
        problem = self.problem
        for period in range(len(problem.periods)):
            for at, site in enumerate(problem.sites):
                stop = self.ground.stop(self.walked, self.future, site=at, period=period)
                limit = stop.limit
                yield BindRow(
                    period=period,
                    site=site.slug,
                    kind=problem.kinds[stop.kind].slug,
                    constraint=stop.constraint if limit else CHIPS,
                    object=limit.object if limit else "",
                    limit=limit.slug if limit else "",
                    free=stop.free,
                    needed=stop.needed,
                    unit=limit.unit if limit else "",
                    failure=limit.failure if limit else "",
                )

    def _homeless(self, usable: dict[str, FloatArray]) -> Iterator[HomelessRow]:
        for region in self.regions:
            missing = region.homeless(self.future, usable[region.slug])
            for at, period in np.argwhere(missing).tolist():
                slug = self.problem.services[region.services[at]].slug
                yield HomelessRow(period=period, region=region.slug, service=slug)

    def _after_loss(self) -> Iterator[AfterLossRow]:
        standing = self.ground.up * (self.ground.standing + self.walked.new)
        for region in self.regions:
            left = survivors(self.ground, standing, self._places[region.slug])
            left = least(left)
            found = {slug: region.shares(self.future, usable) for slug, usable in left.items()}
            for at, tier in enumerate(region.tiers):
                if tier == self.problem.rules.failover_tier:
                    alone = {slug: region.alone(self.future, usable, tier) for slug, usable in left.items()}
                    yield from self._after_loss_rows(region.slug, tier, alone, 0)
                else:
                    yield from self._after_loss_rows(region.slug, tier, found, at)

    def _after_loss_rows(self, region: str, tier: str, found: dict[str, Shares], at: int) -> Iterator[AfterLossRow]:
        for period in range(len(self.problem.periods) if found else 0):
            slug = min(found, key=lambda one: float(found[one].share[at, period]))  # the first of equals
            if found[slug].demand_tok_s[at, period] > 0:
                yield AfterLossRow(
                    period=period,
                    region=region,
                    tier=tier,
                    domain=slug,
                    headroom_ratio=float(found[slug].share[at, period]) - 1,
                    unserved_tok_s=float(found[slug].unserved_tok_s[at, period]),
                )


def run_out_positions(share: FloatArray) -> FloatArray:
    """Return when shares [..., T] first fall below 1, in periods from the start of the first; inf: they never do.

    Between two periods the logarithm of demand over supply is taken to be linear, so that constant growth g of demand
    D over constant supply C gives ln(C / D) / ln(1 + g). Where nothing can be served at all it is at once.
    """
    short = share < 1 - SERVED
    first = np.where(short.any(axis=-1), short.argmax(axis=-1), -1)
    before = np.take_along_axis(share, np.maximum(first - 1, 0)[..., None], axis=-1)[..., 0]
    now = np.take_along_axis(share, np.maximum(first, 0)[..., None], axis=-1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        above = np.maximum(np.log(before), 0.0)
        passed = above / (above - np.log(now))
    inside = np.where(now > 0, first - 1 + passed, first)
    return np.where(first < 0, np.inf, np.where(first == 0, 0.0, inside))


def _stacked(found: Sequence[Shares]) -> Shares:
    names = ("share", "demand_tok_s", "unserved_tok_s", "lost_tok_s")
    return Shares(*(np.concatenate([getattr(one, name) for one in found]) for name in names))
