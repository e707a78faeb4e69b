"""Possible futures of a problem: demand, rates, deliveries, readiness and failures, each at a standard normal deviate.

Every input has a deviate; 0 is its middle, -1.2816 its P10, 1.2816 its P90. Draw number n depends on the seed and on n
alone, and every input has a stream of its own: one service more leaves the deliveries of every draw as they were.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtr

from accelerator.units import Z90
from scenarios.planning.plain import ProblemError, given
from scenarios.planning.problem import PlanProblem, RateValues, Series
from scenarios.planning.program import FloatArray, IntArray

SLIP_LEAST_MONTHS = 1e-3  # a median slip below this is none
NEVER = 1_000_000  # a period beyond every horizon


@dataclass(frozen=True, slots=True)
class FanValues:
    """How the demand of a service may go; its P50 takes the place of the problem's demand."""

    service: str = given("Service.")
    p10_tok_s: Series = given("One future in ten stays below.", unit="tok/s", least=0.0)
    p50_tok_s: Series = given("Half of the futures stay below.", unit="tok/s", least=0.0)
    p90_tok_s: Series = given("One future in ten goes above.", unit="tok/s", least=0.0)


@dataclass(frozen=True, slots=True)
class ReadySlipValues:
    """How late software gets ready on a homegrown kind; what is ready in the first period stays so."""

    kind: str = given("Kind; empty: all.", default="")
    service: str = given("Service; empty: all.", default="")
    slip_p50_months: float = given("Median slip.", unit="month", default=0.0, least=0.0)
    slip_p90_months: float = given("Slip that one in ten exceeds.", unit="month", default=0.0, least=0.0)


@dataclass(frozen=True, slots=True)
class DownValues:
    """Hosts of a kind that are down in a peak hour."""

    kind: str = given("Kind; empty: all.", default="")
    ratio: float = given("Expected share of its hosts.", unit="-", default=0.0, least=0.0, most=1.0)


@dataclass(frozen=True, slots=True)
class FutureValues:
    """What futures differ in, beside the bands of rates and deliveries that are in the problem."""

    fans: tuple[FanValues, ...] = given("Demand by service; without a fan it is certain.", default=())
    ready_slips: tuple[ReadySlipValues, ...] = given("Readiness; the last that fits holds.", default=())
    down: tuple[DownValues, ...] = given("Failures; the last that fits holds.", default=())
    growth_shared_ratio: float = given(
        "Share of the variance of demand that all services have in common: one market.",
        unit="-",
        default=0.5,
        least=0.0,
        most=1.0,
    )
    group_shared_ratio: float = given(
        "Share of the variance of slips that a group has in common, and all services on a kind in their readiness.",
        unit="-",
        default=0.5,
        least=0.0,
        most=1.0,
    )
    concentration: float = given(
        "How tightly fills and failures lie about their expectation: a + b of their Beta.",
        unit="-",
        default=20.0,
        least=0.1,
    )


@dataclass(frozen=True, eq=False)
class Deviates:
    """A standard normal deviate for every input.

    Attributes
    ----------
    growth : float64[M], rate : float64[K], slip, fill : float64[D], ready : float64[W], down : float64[K, T]
        Of services, kinds, deliveries, rows of rates, kinds in periods.
    """

    growth: FloatArray
    rate: FloatArray
    slip: FloatArray
    fill: FloatArray
    ready: FloatArray
    down: FloatArray


@dataclass(frozen=True, eq=False)
class Future:
    """What one draw says.

    Attributes
    ----------
    demand_tok_s : float64[M, T]
        Demand of the peak hour. [tok/s]
    rate_tok_s : float64[W]
        Of every row of rates. [tok/s]
    arrival : int64[D]
        First period in which the hosts of each delivery may stand.
    arrival_hosts : int64[D]
        Usable hosts that come. [-]
    ready : int64[W]
        First period in which each row of rates may serve; 0 where it is in use.
    up_ratio : float64[K, T]
        Share of the hosts that are not down. [-]
    """

    demand_tok_s: FloatArray
    rate_tok_s: FloatArray
    arrival: IntArray
    arrival_hosts: IntArray
    ready: IntArray
    up_ratio: FloatArray


class Futures:
    """The futures of a problem.

    Parameters
    ----------
    problem : PlanProblem
        The question: M services, W rows of rates, K kinds, D deliveries, T periods.
    values : FutureValues
        What futures differ in besides.
    seed : int
        Seed of the draws.
    """

    def __init__(self, problem: PlanProblem, values: FutureValues, *, seed: int = 1) -> None:
        future_check(problem, values)
        self.problem, self.values, self.seed = problem, values, seed
        self._kind_at = {kind.slug: at for at, kind in enumerate(problem.kinds)}
        chips = [(kind.chip, "" if kind.chip else kind.slug) for kind in problem.kinds]
        self._fate = np.array([chips.index(chip) for chip in chips], dtype=np.int64)  # a chip disappoints in all hosts
        self._rate_kind = np.array([self._kind_at[rate.kind] for rate in problem.rates], dtype=np.int64)
        fans = {fan.service: fan for fan in values.fans}
        parts = []
        for service in problem.services:
            fan = fans.get(service.slug)
            series = (fan.p10_tok_s, fan.p50_tok_s, fan.p90_tok_s) if fan else (service.demand_tok_s,) * 3
            parts.append([problem.at(one) for one in series])
        self._fan = np.array(parts).transpose(1, 0, 2)  # [3, M, T]
        self._rate = np.array(
            [
                [rate.tok_s if end is None else end for end in (rate.low_tok_s, rate.tok_s, rate.high_tok_s)]
                for rate in problem.rates
            ]
        ).reshape(len(problem.rates), 3)
        self._ready_slip = [self._slip_of(rate) for rate in problem.rates]
        self._fill = np.array([row.fill_ratio for row in problem.deliveries])
        self._hosts_expected = np.array([row.hosts for row in problem.deliveries], dtype=np.int64)
        self._ordered = np.array([row.ordered or row.hosts / (row.fill_ratio or 1.0) for row in problem.deliveries])
        self._down = np.zeros(len(problem.kinds))
        for row in values.down:
            for slug, at in self._kind_at.items():
                if row.kind in {"", slug}:
                    self._down[at] = row.ratio
        self.middle = Deviates(
            growth=np.zeros(len(problem.services)),
            rate=np.zeros(len(problem.kinds)),
            slip=np.zeros(len(problem.deliveries)),
            fill=np.zeros(len(problem.deliveries)),
            ready=np.zeros(len(problem.rates)),
            down=np.zeros((len(problem.kinds), len(problem.periods))),
        )

    def expected(self) -> Future:
        """Return the middle of everything: the problem's own rates, deliveries and readiness, the P50 of every fan."""
        return self.at(self.middle)

    def draw(self, index: int) -> Future:
        """Return draw number `index`."""
        return self.at(self.deviates(index))

    def deviates(self, index: int) -> Deviates:
        """Return the deviates of draw number `index`, each input from its own stream."""
        problem, values = self.problem, self.values
        growth, rate, slip, fill, ready, down = (
            np.random.default_rng([self.seed, index, stream]) for stream in range(len(fields(Deviates)))
        )
        market = np.broadcast_to(growth.standard_normal(), len(problem.services))
        groups = dict.fromkeys(delivery.group for delivery in problem.deliveries if delivery.group)
        shock = dict(zip(groups, slip.standard_normal(len(groups)), strict=True))
        late = slip.standard_normal(len(problem.deliveries))
        for at, delivery in enumerate(problem.deliveries):
            if delivery.group:
                late[at] = _mixed(values.group_shared_ratio, shock[delivery.group], late[at])
        kinds = ready.standard_normal(len(problem.kinds))
        own: dict[tuple[str, str], float] = {}
        for row in problem.rates:  # phases of a service on a kind are one piece of software
            if (row.service, row.kind) not in own:
                own[row.service, row.kind] = float(ready.standard_normal())
        return Deviates(
            growth=_mixed(values.growth_shared_ratio, market, growth.standard_normal(len(problem.services))),
            rate=rate.standard_normal(len(problem.kinds))[self._fate],
            slip=late,
            fill=fill.standard_normal(len(problem.deliveries)),
            ready=np.array(
                [
                    _mixed(values.group_shared_ratio, kinds[self._kind_at[row.kind]], own[row.service, row.kind])
                    for row in problem.rates
                ]
            ),
            down=down.standard_normal((len(problem.kinds), len(problem.periods))),
        )

    def at(self, deviates: Deviates) -> Future:
        """Return the future at some deviates."""
        problem = self.problem
        arrival = [
            self._shifted(row.period, slip_months(row.slip_p50_months, row.slip_p90_months, z) - row.slip_p50_months)
            for row, z in zip(problem.deliveries, deviates.slip.tolist(), strict=True)
        ]
        ready = [
            0
            if row.in_use
            else row.ready
            if row.ready == 0
            else max(0, self._shifted(row.ready, slip_months(p50, p90, z) if p50 or p90 else 0.0))
            for row, (p50, p90), z in zip(problem.rates, self._ready_slip, deviates.ready.tolist(), strict=True)
        ]
        low, middle, high = self._fan
        z = deviates.rate[self._rate_kind]
        return Future(
            demand_tok_s=between(low, middle, high, deviates.growth[:, None]),
            rate_tok_s=between(self._rate[:, 0], self._rate[:, 1], self._rate[:, 2], z),
            arrival=np.array(arrival, dtype=np.int64),
            arrival_hosts=self._hosts(deviates.fill),
            ready=np.array(ready, dtype=np.int64),
            up_ratio=1.0 - self._beta(np.broadcast_to(self._down[:, None], deviates.down.shape), deviates.down),
        )

    def _shifted(self, period: int, months: float) -> int:
        """Return the first period that begins no earlier than so many months after the start of another."""
        return min(max(0, math.ceil(period + months / self.problem.rules.period_months - 1e-9)), NEVER)

    def _hosts(self, z: FloatArray) -> IntArray:
        """Return the usable hosts of every delivery: the order times a share about the expected one."""
        is_certain = (self._fill <= 0) | (self._fill >= 1) | (z == 0)
        drawn = np.rint(self._ordered * self._beta(self._fill, z))
        return np.where(is_certain, self._hosts_expected, drawn).astype(np.int64)

    def _beta(self, mean: FloatArray, z: FloatArray) -> FloatArray:
        """Return a share with this mean at a standard normal deviate; the mean itself at 0, and where it is 0 or 1."""
        if not mean.any():
            return np.zeros(z.shape)
        inner = np.clip(mean, 1e-9, 1 - 1e-9)
        drawn = betaincinv(inner * self.values.concentration, (1 - inner) * self.values.concentration, ndtr(z))
        return np.asarray(np.where((mean <= 0) | (mean >= 1) | (z == 0), mean, drawn), dtype=np.float64)

    def _slip_of(self, rate: RateValues) -> tuple[float, float]:
        found = (0.0, 0.0)
        for row in self.values.ready_slips:
            if row.kind in {"", rate.kind} and row.service in {"", rate.service}:
                found = row.slip_p50_months, row.slip_p90_months
        return found


def between(low: FloatArray, middle: FloatArray, high: FloatArray, z: FloatArray) -> FloatArray:
    """Return a value at a standard normal deviate: a lognormal each side of the middle, through P10 and P90.

    Where the middle or that end is 0 a lognormal has no meaning: half a normal, never below 0.
    """
    end = np.where(z > 0, high, low)
    size = np.abs(z) / Z90
    is_log = (middle > 0) & (end > 0)
    ratio = np.divide(end, middle, out=np.ones(np.broadcast_shapes(end.shape, middle.shape)), where=is_log)
    return np.where(is_log, middle * ratio**size, np.maximum(0.0, middle + size * (end - middle)))


def slip_months(p50_months: float, p90_months: float, z: float) -> float:
    """Return a slip at a standard normal deviate. [month]

    Lognormal through P50 and P90 where half are late at all; else the late half of a normal.
    """
    if p50_months >= SLIP_LEAST_MONTHS:
        spread = math.log(max(p90_months, p50_months) / p50_months)
        return p50_months * math.exp(min(z / Z90 * spread, 50.0))
    return max(0.0, z) / Z90 * p90_months


def future_check(problem: PlanProblem, values: FutureValues) -> None:
    """Raise ProblemError, naming every place at fault, if futures do not fit their problem."""
    errors = [*_fan_errors(problem, values)]
    kinds, services = {kind.slug for kind in problem.kinds}, {service.slug for service in problem.services}
    for name in ("ready_slips", "down"):
        for at, row in enumerate(getattr(values, name)):
            if row.kind and row.kind not in kinds:
                errors.append((f"futures.{name}[{at}].kind", f"unknown kind {row.kind!r}"))
            service = getattr(row, "service", "")
            if service and service not in services:
                errors.append((f"futures.{name}[{at}].service", f"unknown service {service!r}"))
    if errors:
        raise ProblemError(errors)


def _fan_errors(problem: PlanProblem, values: FutureValues) -> Iterator[tuple[str, str]]:
    known, seen = {service.slug for service in problem.services}, set()
    for at, fan in enumerate(values.fans):
        place = f"futures.fans[{at}]"
        if fan.service not in known:
            yield f"{place}.service", f"unknown service {fan.service!r}"
        if fan.service in seen:
            yield place, f"{fan.service!r} is there twice"
        seen.add(fan.service)
        is_long = True
        for name in ("p10_tok_s", "p50_tok_s", "p90_tok_s"):
            count = len(getattr(fan, name))
            if count not in {1, len(problem.periods)}:
                yield f"{place}.{name}", f"{count} numbers for {len(problem.periods)} periods"
                is_long = False
        if is_long:
            ends = zip(*(problem.at(one) for one in (fan.p10_tok_s, fan.p50_tok_s, fan.p90_tok_s)), strict=True)
            for period, (low, middle, high) in enumerate(ends):
                if not low <= middle <= high:
                    yield f"{place}.p50_tok_s[{period}]", "lies outside its band"


def _mixed(shared_ratio: float, shared: Any, own: Any) -> Any:
    """Return a standard normal deviate, so much of whose variance is shared."""
    return math.sqrt(shared_ratio) * shared + math.sqrt(1 - shared_ratio) * own
