"""Which service leaves its GPUs in which month: the greedy plan. Values in, values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from fleet.snapshot import FloatArray, IntArray
from scenarios.demand import month_label
from scenarios.futures import Future, future_draw, future_expected
from scenarios.pipelines import Progress
from scenarios.placement import LEAST_TOK_S, LightestHosts
from scenarios.plans import (
    FleetMigration,
    Left,
    MigrationPeriod,
    MigrationPlan,
    MonthBand,
    Move,
    Problem,
    RegionMigration,
)
from scenarios.run_outs import band_of, months_band
from scenarios.scopes import RegionScope, check_problem, scopes_of
from scenarios.supply import Floor, Ground

STEP_RATIO = 0.05  # traffic moves in steps of this share: a router's weights, not single requests
NEVER_RATIO = 1e-9  # a share below this is nothing


def plan_migration_greedy(problem: Problem, *, on_progress: Progress | None = None) -> MigrationPlan:
    """Return a migration off the GPUs, month by month, that frees the most GPU hosts per homegrown host first.

    Every month, in each region: deliveries go into racks; traffic that has moved and grown keeps its homegrown hosts,
    and what no longer fits goes back; then the pairs (service, homegrown kind) that free the most GPU hosts per
    homegrown host take what is free, within software readiness. Behind traffic that moves, GPU hosts stay warm for
    `problem.dual_run_months`. GPU hosts that are neither needed nor kept warm are switched off where delivered
    homegrown hosts wait for their power. All traffic starts on GPUs.

    Moves, hosts and what is left are those of the expected future, in which every input takes its middle; bands are
    P10, P50 and P90 over `problem.draws` futures, each planned by itself.

    Parameters
    ----------
    problem : Problem
        The question.
    on_progress : callable, optional
        Called with the share done [0, 1] and the stage; what it raises ends the plan.

    Returns
    -------
    MigrationPlan

    Raises
    ------
    ValueError
        If there is nothing to plan for, or no kind of host is homegrown.
    """
    return migration_merge(problem, migration_draws(problem, range(problem.draws), on_progress=on_progress))


def migration_check(problem: Problem) -> None:
    """Raise ValueError, with the reason, if there is nothing to plan for, or nothing to move to."""
    check_problem(problem)
    if not problem.homegrown.any():
        raise ValueError("nothing to move to: no host type of the fleet has a homegrown chip")


def migration_draws(problem: Problem, draws: range, *, on_progress: Progress | None = None) -> "MigrationDraws":
    """Plan some of the futures, each by itself."""
    migration_check(problem)
    report = on_progress or (lambda _ratio, _stage: None)
    ground, scopes, found = Ground(problem.snapshot, problem.months), _scopes(problem), []
    for row, index in enumerate(draws):
        report(row / len(draws), f"draw {index + 1} of {problem.draws}")
        found.append(_outcome(problem, _walk(problem, ground, scopes, future_draw(problem, index))))
    return MigrationDraws.stack(problem, len(scopes), found)


def migration_merge(problem: Problem, drawn: "MigrationDraws", *, on_progress: Progress | None = None) -> MigrationPlan:
    """Put the futures, in their order, together with the expected one."""
    migration_check(problem)
    report = on_progress or (lambda _ratio, _stage: None)
    report(0.0, "expected future")
    ground, scopes = Ground(problem.snapshot, problem.months), _scopes(problem)
    middle = _walk(problem, ground, scopes, future_expected(problem))
    report(0.9, "bands")
    return _answer(problem, middle, drawn)


def _scopes(problem: Problem) -> list[tuple[RegionScope, LightestHosts]]:
    return [(scope, LightestHosts(len(scope.services), problem.snapshot.kind_power_w)) for scope in scopes_of(problem)]


@dataclass(eq=False)
class _RegionWalk:
    """One region of one future as it is walked, and the rows it leaves behind, one a month."""

    region: int
    sites: IntArray
    services: IntArray
    lightest: LightestHosts
    share: FloatArray  # [services, K] of each service's traffic on each homegrown kind
    warm: list[FloatArray] = field(default_factory=list)  # traffic [services] that moved in the last months [tok/s]
    serving: list[FloatArray] = field(default_factory=list)  # [K] hosts
    dual: list[FloatArray] = field(default_factory=list)
    hosts: list[IntArray] = field(default_factory=list)
    waiting: list[IntArray] = field(default_factory=list)
    unserved_tok_s: list[float] = field(default_factory=list)
    homegrown_tok_s: list[float] = field(default_factory=list)
    demand_tok_s: list[float] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    returns: list[Move] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Where one service could go: positions in the region's services and in the kinds, GPU hosts freed per host."""

    service: int
    kind: int
    freed_per_host: float


def _walk(
    problem: Problem, ground: Ground, scopes: list[tuple[RegionScope, LightestHosts]], future: Future
) -> list[_RegionWalk]:
    """Walk one future through all months."""
    walks = [
        _RegionWalk(
            region=scope.region,
            sites=scope.sites,
            services=scope.services,
            lightest=lightest,
            share=np.zeros((len(scope.services), len(problem.snapshot.kinds))),
        )
        for scope, lightest in scopes
    ]
    for walk in walks:
        walk.lightest.restart()
    floor = Floor(ground, future)
    for month in range(len(problem.months)):
        floor.arrive(month)
        for walk in walks:
            _make_room(problem, future, floor, walk, month)
            _step(problem, future, floor, walk, month)
    for walk in walks:
        walk.left = _left(problem, future, floor, walk)
    return walks


def _rates(problem: Problem, future: Future, walk: _RegionWalk, month: int) -> FloatArray:
    """Return what one host serves within the rules of the month, float64[services, K]. [tok/s]"""
    return future.rate_tok_s[walk.services] * problem.allowed[walk.services, :, month]


def _usable(problem: Problem, floor: Floor, walk: _RegionWalk, month: int) -> FloatArray:
    return floor.hosts(month)[walk.sites].sum(axis=0) * (1 - problem.reserve_ratio)


def _gpu_load(
    problem: Problem, floor: Floor, walk: _RegionWalk, month: int, *, rate: FloatArray, traffic_tok_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Place traffic on the region's GPU hosts, the least power first; return load [services, K] and what is left."""
    return walk.lightest.place(
        rate_tok_s=rate * ~problem.homegrown,
        demand_tok_s=traffic_tok_s,
        hosts=_usable(problem, floor, walk, month) * ~problem.homegrown,
    )


def _make_room(problem: Problem, future: Future, floor: Floor, walk: _RegionWalk, month: int) -> None:
    """Switch off GPU hosts that nothing needs where homegrown hosts wait for their racks.

    Needed is what the remaining traffic, the traffic still kept warm and the reserve fill, this month and next: a host
    that would be missed in a month is not taken out.
    """
    waits = [int(s) for s in walk.sites if (floor.waiting[s] * problem.homegrown).any()]
    if not waits:
        return
    ahead = min(month + 1, len(problem.months) - 1)
    demand = future.demand_tok_s[walk.services, ahead]
    still_warm = walk.warm[-(problem.dual_run_months - 1) :] if problem.dual_run_months > 1 else []
    load, unserved = _gpu_load(
        problem,
        floor,
        walk,
        month,
        rate=_rates(problem, future, walk, ahead),
        traffic_tok_s=demand * np.clip(1 - walk.share.sum(axis=1), 0, 1) + sum(still_warm, np.zeros(len(demand))),
    )
    if unserved.sum() > NEVER_RATIO * max(demand.sum(), 1.0):
        return
    standing = floor.hosts(month)
    needed = np.ceil(load.sum(axis=0) / (1 - problem.reserve_ratio) - 1e-9)
    spare = np.maximum(standing[walk.sites].sum(axis=0) - needed, 0).astype(np.int64) * ~problem.homegrown
    for site in waits:
        for into in np.flatnonzero(floor.waiting[site] * problem.homegrown):
            for out in np.argsort(-problem.snapshot.kind_power_w, kind="stable"):
                while spare[out] > 0:
                    gone = floor.make_room(month, site, out=int(out), into=int(into), most=int(spare[out]))
                    if not gone:
                        break
                    spare[out] -= gone


def _step(problem: Problem, future: Future, floor: Floor, walk: _RegionWalk, month: int) -> None:
    """Keep what has moved, move what fits, and place the rest on GPUs."""
    demand = future.demand_tok_s[walk.services, month]
    rate = _rates(problem, future, walk, month)
    usable = _usable(problem, floor, walk, month)
    before = walk.share.copy()
    on_gpu, _ = _gpu_load(problem, floor, walk, month, rate=rate, traffic_tok_s=demand)
    choices = _choices(problem, walk, rate, on_gpu, usable)
    free = usable * problem.homegrown
    kept = np.zeros_like(before)
    for choice in choices:  # what has moved stays, as far as its growth finds room
        _fill(kept, free, choice, rate, demand, limit=before[choice.service, choice.kind], step=0.0)
    walk.share = kept.copy()
    for choice in choices:
        rest = 1 - walk.share[choice.service].sum()
        _fill(walk.share, free, choice, rate, demand, limit=rest, step=STEP_RATIO)

    gained = np.clip(walk.share - before, 0, None)
    walk.warm = [*walk.warm, gained.sum(axis=1) * demand][-problem.dual_run_months :] if problem.dual_run_months else []
    rest_tok_s = demand * np.clip(1 - walk.share.sum(axis=1), 0, 1)
    serving, unserved = _gpu_load(problem, floor, walk, month, rate=rate, traffic_tok_s=rest_tok_s)
    warm_tok_s = np.minimum(sum(walk.warm, np.zeros(len(demand))), demand - rest_tok_s)
    both, _ = _gpu_load(problem, floor, walk, month, rate=rate, traffic_tok_s=rest_tok_s + warm_tok_s)
    dual = np.clip(both.sum(axis=0) - serving.sum(axis=0), 0, None)
    moved_load = np.divide(walk.share * demand[:, None], rate, out=np.zeros_like(rate), where=rate > 0)

    _record_moves(problem, walk, month, before=before, demand=demand, rate=rate, on_gpu=on_gpu)
    walk.hosts.append(floor.hosts(month)[walk.sites].sum(axis=0))
    walk.waiting.append(floor.waiting[walk.sites].sum(axis=0))
    walk.serving.append(serving.sum(axis=0) + moved_load.sum(axis=0))
    walk.dual.append(dual)
    walk.unserved_tok_s.append(float(unserved.sum()))
    walk.homegrown_tok_s.append(float((walk.share.sum(axis=1) * demand).sum()))
    walk.demand_tok_s.append(float(demand.sum()))


def _fill(
    share: FloatArray,
    free: FloatArray,
    choice: _Choice,
    rate: FloatArray,
    demand: FloatArray,
    *,
    limit: float,
    step: float,
) -> None:
    """Give a service as much of a kind's free hosts as it may take, in whole steps unless it takes all."""
    if limit <= NEVER_RATIO or demand[choice.service] <= 0:
        return
    fits = free[choice.kind] * rate[choice.service, choice.kind] / demand[choice.service]
    taken = min(limit, fits)
    if step and taken < limit:
        taken = np.floor(taken / step + 1e-9) * step
    if taken <= NEVER_RATIO:
        return
    share[choice.service, choice.kind] += taken
    free[choice.kind] -= taken * demand[choice.service] / rate[choice.service, choice.kind]
    free[choice.kind] = max(free[choice.kind], 0.0)


def _choices(
    problem: Problem, walk: _RegionWalk, rate: FloatArray, on_gpu: FloatArray, usable: FloatArray
) -> list[_Choice]:
    """Return where services could go this month, the most GPU hosts freed per homegrown host first.

    What a service frees is counted on the GPU kinds that would carry it now; where none does, on the best it could use.
    """
    found = []
    for service in range(len(walk.services)):
        hosts = on_gpu[service].sum()
        gpu_rate = (
            float(on_gpu[service] @ rate[service]) / hosts
            if hosts > 0
            else float((rate[service] * ~problem.homegrown).max(initial=0.0))
        )
        for kind in np.flatnonzero(problem.homegrown & (rate[service] > 0) & (usable > 0)):
            freed = rate[service, kind] / gpu_rate if gpu_rate > 0 else np.inf
            found.append(_Choice(service, int(kind), float(freed)))
    return sorted(found, key=lambda choice: (-choice.freed_per_host, choice.service, choice.kind))


def _record_moves(
    problem: Problem,
    walk: _RegionWalk,
    month: int,
    *,
    before: FloatArray,
    demand: FloatArray,
    rate: FloatArray,
    on_gpu: FloatArray,
) -> None:
    kinds, usable = problem.snapshot.kinds, 1 - problem.reserve_ratio
    change = walk.share - before
    for service, kind in np.argwhere(np.abs(change) > 1e-6):
        share = abs(float(change[service, kind]))
        on = on_gpu[service] / on_gpu[service].sum() if on_gpu[service].sum() > 0 else np.zeros(len(kinds))
        (walk.moves if change[service, kind] > 0 else walk.returns).append(
            Move(
                month=month_label(problem.months[month]),
                region=problem.snapshot.regions[walk.region].slug,
                service=problem.snapshot.services[walk.services[service]].slug,
                from_kinds={kinds[k].slug: float(on[k]) for k in np.flatnonzero(on > 1e-6)},
                to_kind=kinds[kind].slug,
                share_ratio=share,
                tok_s=share * float(demand[service]),
                gpu_hosts_freed=share * float(on_gpu[service].sum()) / usable,
                homegrown_hosts_used=(
                    share * float(demand[service] / rate[service, kind]) / usable if rate[service, kind] else 0.0
                ),
            )
        )


def _left(problem: Problem, future: Future, floor: Floor, walk: _RegionWalk) -> list[Left]:
    """Say for every service that still has traffic on GPUs in the last month why it is there."""
    last = len(problem.months) - 1
    found = []
    for at, service in enumerate(walk.services):
        share = 1 - float(walk.share[at].sum())
        demand = float(future.demand_tok_s[service, last])
        if share > 1e-6 and demand > 0:
            found.append(
                Left(
                    service=problem.snapshot.services[service].slug,
                    share_ratio=share,
                    tok_s=share * demand,
                    reason=_why_left(problem, floor, walk, int(service)),
                )
            )
    return sorted(found, key=lambda row: -row.tok_s)


def _why_left(problem: Problem, floor: Floor, walk: _RegionWalk, service: int) -> str:
    """Return the first reason that holds: not movable, no chip that can, not ready, no rack power, no more chips."""
    snapshot, last = problem.snapshot, len(problem.months) - 1
    fact = snapshot.services[service]
    if not fact.movable:
        return f"may not move: {fact.note}" if fact.note else "may not move"
    kinds = np.flatnonzero(problem.homegrown)
    able = [k for k in kinds if problem.rate_tok_s[service, k] > 0]
    if not able:
        return "no homegrown chip of the fleet can serve it within its limits"
    ready = [k for k in able if problem.allowed[service, k, last]]
    if not ready:
        dates = [f"{chip} from {day}" for chip, day in sorted(fact.ready_on.items())]
        return "software not ready within the horizon" + (f" ({', '.join(dates)})" if dates else ": no date is set")
    waits = [site for site in walk.sites if floor.waiting[site][ready].any()]
    if waits:
        return floor.binding(last, int(waits[0])).sentence
    if not floor.hosts(last)[walk.sites][:, ready].any():
        names = ", ".join(snapshot.kinds[k].slug for k in ready)
        return f"chips: none of {names} reaches this region"
    names = ", ".join(snapshot.kinds[k].slug for k in ready)
    return f"chips: every {names} host of the region is full; no more are delivered"


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What is kept of one future: rows are the regions walked, then the fleet.

    homegrown_token_ratio : float64[W + 1, T], share of output tokens on homegrown chips. [-]
    gpu_hosts_needed : float64[W + 1, T], GPU hosts that serve or are kept warm. [-]
    gpu_free : int64[W + 1], first month from which all is served without a GPU; T stands for: not within the horizon.
    """

    homegrown_token_ratio: FloatArray
    gpu_hosts_needed: FloatArray
    gpu_free: IntArray


def _outcome(problem: Problem, walks: list[_RegionWalk]) -> _Outcome:
    demand, homegrown, unserved = (
        np.array([getattr(walk, name) for walk in walks])
        for name in ("demand_tok_s", "homegrown_tok_s", "unserved_tok_s")
    )
    needed = np.array([[_gpu_needed(problem, walk, month) for month in range(len(problem.months))] for walk in walks])
    demand, homegrown, unserved, needed = (
        np.vstack((rows, rows.sum(axis=0))) for rows in (demand, homegrown, unserved, needed)
    )
    on_gpu = (needed > 0) | (unserved > LEAST_TOK_S)
    after_last = len(problem.months) - np.argmax(on_gpu[:, ::-1], axis=1)
    return _Outcome(
        homegrown_token_ratio=np.divide(homegrown, demand, out=np.zeros_like(demand), where=demand > 0),
        gpu_hosts_needed=needed,
        gpu_free=np.where(on_gpu.any(axis=1), after_last, 0).astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class MigrationDraws:
    """The same of some futures, one after the other: float64[N, W + 1, T] twice, int64[N, W + 1]."""

    homegrown_token_ratio: FloatArray
    gpu_hosts_needed: FloatArray
    gpu_free: IntArray

    @classmethod
    def stack(cls, problem: Problem, regions: int, outcomes: list[_Outcome]) -> "MigrationDraws":
        """Return outcomes, of these many regions each, as one."""
        shape = (len(outcomes), regions + 1, len(problem.months))
        return cls(
            homegrown_token_ratio=np.array([outcome.homegrown_token_ratio for outcome in outcomes]).reshape(shape),
            gpu_hosts_needed=np.array([outcome.gpu_hosts_needed for outcome in outcomes]).reshape(shape),
            gpu_free=np.array([outcome.gpu_free for outcome in outcomes], dtype=np.int64).reshape(shape[:2]),
        )

    @classmethod
    def join(cls, parts: Sequence["MigrationDraws"]) -> "MigrationDraws":
        """Return parts, in their order, as one."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


def _answer(problem: Problem, middle: list[_RegionWalk], drawn: MigrationDraws) -> MigrationPlan:
    expected = _outcome(problem, middle)
    regions = tuple(
        RegionMigration(
            slug=problem.snapshot.regions[walk.region].slug,
            name=problem.snapshot.regions[walk.region].name,
            periods=_periods(problem, [walk], at, expected, drawn),
            left=tuple(walk.left),
            gpu_free=_gpu_free(problem, at, expected, drawn),
        )
        for at, walk in enumerate(middle)
    )
    moves = _in_order([move for walk in middle for move in walk.moves])
    fleet = len(middle)
    periods, gpu_free = (
        _periods(problem, middle, fleet, expected, drawn),
        _gpu_free(problem, fleet, expected, drawn),
    )
    first, last = (moves[0].month, moves[-1].month) if moves else (None, None)
    return MigrationPlan(
        fleet=FleetMigration(
            periods=periods,
            first_move_month=first,
            last_move_month=last,
            gpu_free=gpu_free,
            sentence=_sentence(periods, first, last, gpu_free),
        ),
        regions=regions,
        moves=moves,
        returns=_in_order([move for walk in middle for move in walk.returns]),
    )


def _in_order(moves: list[Move]) -> tuple[Move, ...]:
    return tuple(sorted(moves, key=lambda move: (move.month, move.region, -move.tok_s)))


def _sentence(periods: tuple[MigrationPeriod, ...], first: str | None, last: str | None, gpu_free: MonthBand) -> str:
    end = periods[-1]
    share = end.homegrown_token_ratio
    if first is None:
        return "Nothing can leave its GPUs within the horizon."
    head = f"Traffic leaves the GPUs from {first} to {last}"
    band = f"{share.p50:.0%} of tokens ({share.p10:.0%} to {share.p90:.0%})"
    if gpu_free.p50:
        return f"{head}; no GPU host is needed from {gpu_free.p50}. By {end.month} {band} run on homegrown chips."
    needed = end.gpu_hosts_needed
    return (
        f"{head}. By {end.month} {band} run on homegrown chips and {needed.p50:.0f} GPU hosts "
        f"({needed.p10:.0f} to {needed.p90:.0f}) are still needed."
    )


def _gpu_needed(problem: Problem, walk: _RegionWalk, month: int) -> float:
    """Return the GPU hosts that serve or are kept warm, with the reserve, in whole hosts of each kind. [-]"""
    busy = (walk.serving[month] + walk.dual[month]) * ~problem.homegrown / (1 - problem.reserve_ratio)
    return float(np.ceil(busy - 1e-6).sum())


def _periods(
    problem: Problem, walks: list[_RegionWalk], row: int, expected: _Outcome, drawn: MigrationDraws
) -> tuple[MigrationPeriod, ...]:
    found = []
    for month, day in enumerate(problem.months):
        hosts = sum(walk.hosts[month] for walk in walks)
        serving = sum(walk.serving[month] for walk in walks)
        dual = sum(walk.dual[month] for walk in walks)
        found.append(
            MigrationPeriod(
                month=month_label(day),
                hosts=_mapped(problem, hosts, whole=True),  # type: ignore[arg-type]
                serving=_mapped(problem, serving),
                dual=_mapped(problem, dual),
                idle=_mapped(problem, np.clip(hosts - serving - dual, 0, None)),
                waiting=_mapped(problem, sum(walk.waiting[month] for walk in walks), whole=True),  # type: ignore[arg-type]
                homegrown_token_ratio=band_of(
                    drawn.homegrown_token_ratio[:, row, month],
                    expected=float(expected.homegrown_token_ratio[row, month]),
                ),
                gpu_hosts_needed=band_of(
                    drawn.gpu_hosts_needed[:, row, month],
                    expected=float(expected.gpu_hosts_needed[row, month]),
                ),
                unserved_tok_s=sum(walk.unserved_tok_s[month] for walk in walks),
            )
        )
    return tuple(found)


def _mapped(problem: Problem, values: FloatArray | IntArray | int, *, whole: bool = False) -> Mapping[str, float]:
    row = np.asarray(values)
    return {
        kind.slug: int(row[at]) if whole else float(row[at])
        for at, kind in enumerate(problem.snapshot.kinds)
        if row[at] > 1e-9
    }


def _gpu_free(problem: Problem, row: int, expected: _Outcome, drawn: MigrationDraws) -> MonthBand:
    """Return the first month from which all is served and no GPU host is needed any more, as a band."""
    return months_band(problem, drawn.gpu_free[:, row], expected=int(expected.gpu_free[row]))
