"""Random small questions for the migration planner, with every feature of a problem, feasible and not."""

import random
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from scenarios.planning.problem import (
    DECODE,
    NPV,
    OUTPUT,
    PREFILL,
    SHARE_FIRST,
    TOKENS,
    WHOLE,
    DeliveryValues,
    DomainValues,
    FloorValues,
    KindValues,
    LimitValues,
    LostValues,
    OfferValues,
    OrderValues,
    PlaceValues,
    PlanProblem,
    RateValues,
    RuleValues,
    ServiceValues,
    SiteValues,
    SolverValues,
    StandingValues,
    UpValues,
    UseValues,
    problem_check,
)
from tests.scenarios.planning.oracle import combinations

EXACT = SolverValues(gap_ratio=0.0, nodes_most=None)


def random_problem(
    seed: int,
    *,
    objective: str | None = None,
    periods: int | None = None,
    rich: float = 1.0,
    combinations_most: int = 300_000,
) -> PlanProblem:
    """Return the problem of a seed: the same one always.

    Parameters
    ----------
    objective : str
        `npv` or `share_first`; by default three in four are `npv`.
    periods : int
        By default 1 to 4.
    rich : float
        How often features are there, over the usual. [-]
    combinations_most : int
        Of whole decisions. A problem with more is drawn anew.
    """
    rng = random.Random(seed)
    while True:
        made = _Drawn(rng, objective, periods, rich).problem()
        problem_check(made)
        if combinations(made) <= combinations_most:
            return made


NAMED = frozenset({"slug", "site", "place", "kind", "service", "region", "first", "then", "object"})


def renamed(value: Any, name: Callable[[str], str]) -> Any:
    """Return a problem, or rows of one, with other names; the empty name stays."""
    if isinstance(value, tuple):
        return tuple(renamed(one, name) for one in value)
    if not is_dataclass(value):
        return value
    changes = {}
    for field in fields(value):
        one = getattr(value, field.name)
        if isinstance(one, str):
            changes[field.name] = name(one) if one and field.name in NAMED else one
        else:
            changes[field.name] = renamed(one, name)
    return replace(value, **changes)


def side_by_side(problems: Sequence[PlanProblem]) -> PlanProblem:
    """Return problems of the same periods and rules as one: what it costs is the sum of what they cost.

    A floor of all regions would hold for all of them together: it must name its region.
    """
    apart = [renamed(problem, lambda slug, at=at: f"{slug}-of-{at}") for at, problem in enumerate(problems)]
    if any(not floor.region for problem in apart for floor in problem.floors):
        raise ValueError("a floor of all regions is not that of one problem")
    tables = ("sites", "kinds", "services", "rates", "standing", "up", "deliveries", "offers", "limits", "floors")
    tables += ("domains", "order")
    rows = {table: tuple(row for problem in apart for row in getattr(problem, table)) for table in tables}
    places = tuple(place for problem in apart for place in problem.located)
    return replace(apart[0], places=places, **rows)


class _Drawn:
    """One problem, drawn part by part; what comes later looks at what is there."""

    def __init__(self, rng: random.Random, objective: str | None, periods: int | None, rich: float) -> None:
        self.rng, self.rich = rng, rich
        self.count = periods or rng.choice((1, 2, 3, 3, 4, 4))
        self.objective = objective or rng.choice((NPV, NPV, NPV, SHARE_FIRST))

    def may(self, ratio: float) -> bool:
        return self.rng.random() < ratio * self.rich

    def pick(self, *values: float) -> float:
        return self.rng.choice(values)

    def problem(self) -> PlanProblem:
        self.sites = self._sites()
        self.places = self._places()
        self.kinds = self._kinds()
        self.standing = self._standing()
        names = [f"service-{at}" for at in range(self.rng.choice((1, 2, 2, 3)))]
        regions = sorted({site.region for site in self.sites})
        self.region_of = {name: self.rng.choice(regions) for name in names}
        self.stay = {name for name in names if self.may(0.08)}
        self.rates = self._rates(names)
        self.services = self._services(names)
        return PlanProblem(
            periods=tuple(f"2027-{at + 1:02d}" for at in range(self.count)),
            sites=self.sites,
            places=self.places,
            kinds=self.kinds,
            services=self.services,
            rates=self.rates,
            standing=self.standing,
            up=self._up(),
            deliveries=self._deliveries(),
            offers=self._offers(),
            limits=self._limits(),
            floors=self._floors(),
            domains=self._domains(),
            order=self._order(names),
            rules=self._rules(),
            solver=EXACT,
        )

    @property
    def located(self) -> list[tuple[str, str]]:
        """Places with their sites."""
        return [(one.slug, one.site) for one in self.places] or [(one.slug, one.slug) for one in self.sites]

    def _sites(self) -> tuple[SiteValues, ...]:
        count = self.rng.choice((1, 1, 2, 2, 3))
        regions = self.rng.choice((1, 2))
        return tuple(
            SiteValues(
                slug=f"site-{at}",
                region=f"region-{at % regions}",
                pue_ratio=self.pick(1.0, 1.2, 1.4),
                tariff_per_kwh=self._tariff(),
                homegrown_tariff_per_kwh=self._subsidy() if self.may(0.5) else None,
            )
            for at in range(count)
        )

    def _tariff(self) -> tuple[float, ...]:
        if self.may(0.5):
            return (self.pick(0.5, 0.6, 0.8),)
        return tuple(self.pick(0.4, 0.6, 0.8) for _ in range(self.count))

    def _subsidy(self) -> tuple[float, ...]:
        """Cheap until the subsidy ends."""
        end = self.rng.randint(1, self.count)
        return tuple(0.3 if t < end else 0.8 for t in range(self.count))

    def _places(self) -> tuple[PlaceValues, ...]:
        if len(self.sites) > 2 or not self.may(0.35):
            return ()
        return tuple(
            PlaceValues(f"{site.slug}-{part}", site.slug)
            for site in self.sites
            for part in ("a", "b")[: self.rng.choice((1, 2))]
        )

    def _kinds(self) -> tuple[KindValues, ...]:
        plan = self.rng.choice(((1, 1), (2, 1), (1, 2)))
        made = []
        for at, homegrown in enumerate([False] * plan[0] + [True] * plan[1]):
            power = self.pick(4000.0, 6000.0) if homegrown else self.pick(5000.0, 8000.0, 10000.0)
            made.append(
                KindValues(
                    slug=f"{'own' if homegrown else 'gpu'}-{at}",
                    homegrown=homegrown,
                    power_w=power,
                    idle_w=self.pick(0.0, 1000.0, 2000.0),
                    busy_w=self.pick(3000.0, 4500.0) if self.may(0.5) else None,
                    price=self.pick(1000.0, 2000.0, 5000.0),
                    life_months=self.pick(6.0, 24.0, 48.0),
                    book_value=self.pick(0.0, 800.0, 2500.0),
                    months_left=self.pick(3.0, 12.0, 36.0),
                    resale_ratio=self.pick(0.0, 0.3, 0.9),
                    upkeep_per_month=self.pick(0.0, 20.0, 150.0),
                )
            )
        return tuple(made)

    def _standing(self) -> tuple[StandingValues, ...]:
        made = []
        for place, _ in self.located:
            for kind in self.kinds:
                if not self.may(0.3) if kind.homegrown else self.rng.random() < 0.15:
                    continue
                hosts = [self.rng.randint(0, 1) if kind.homegrown else self.rng.randint(1, 3)] * self.count
                if self.may(0.3):
                    turn = self.rng.randrange(self.count)  # some come, or retire
                    step = self.rng.choice((1, 1, -1))
                    hosts = [max(0, number + step * (t >= turn)) for t, number in enumerate(hosts)]
                series = (hosts[0],) if len(set(hosts)) == 1 and self.may(0.5) else tuple(hosts)
                made.append(StandingValues(place, kind.slug, tuple(float(one) for one in series)))
        return tuple(made)

    def _rates(self, names: Sequence[str]) -> tuple[RateValues, ...]:
        made = []
        for name in names:
            parts = self.may(0.3)
            for kind in self.kinds:
                if self.rng.random() < (0.1 if kind.homegrown else 0.03):
                    continue
                base = self.pick(60.0, 80.0, 100.0)
                phases = [(WHOLE, base)]
                if parts:
                    apart = [(PREFILL, base * self.pick(1.5, 2.5, 4.0)), (DECODE, base * self.pick(1.5, 2.0, 3.0))]
                    phases = self.rng.choice(([*phases, *apart], apart, [*phases, apart[0]], [*phases, apart[1]]))
                for phase, tok_s in phases:
                    made.append(self._rate(name, kind, phase, tok_s))
        return tuple(made)

    def _rate(self, name: str, kind: KindValues, phase: str, tok_s: float) -> RateValues:
        if not kind.homegrown:
            return RateValues(name, kind.slug, tok_s, phase, ready=0)
        return RateValues(
            service=name,
            kind=kind.slug,
            tok_s=tok_s,
            phase=phase,
            replicas_per_host=self.pick(0.0, 0.5, 1.0, 2.0),
            ready=self.rng.choice((0, 0, 0, 0, 1, 1, self.count)),
            in_use=self.may(0.15),
            port_cost=self.pick(0.0, 100.0, 700.0),
        )

    def _services(self, names: Sequence[str]) -> tuple[ServiceValues, ...]:
        made = []
        for name in names:
            room = self._room_tok_s(name)
            peers = sum(region == self.region_of[name] for region in self.region_of.values())
            first = room / peers * self.rng.uniform(0.25, 0.9)
            growth = self.pick(0.8, 1.0, 1.0, 1.1, 1.25)
            demand = [round(first * growth**t) for t in range(self.count)]
            if self.count > 2 and self.may(0.06):
                demand[self.rng.randrange(self.count)] = 0  # a month without traffic
            leaves = name not in self.stay and self.may(0.1)
            made.append(
                ServiceValues(
                    slug=name,
                    region=self.region_of[name],
                    demand_tok_s=tuple(float(one) for one in demand),
                    tier=self.rng.choice(("gold", "standard")),
                    mean_ratio=self.pick(0.5, 0.8, 1.0),
                    input_ratio=self.pick(0.0, 3.0, 10.0),
                    homegrown_ratio=self.pick(0.2, 0.5) if self.may(0.25) else 0.0,
                    stays=name in self.stay,
                    homegrown_from=self.rng.randrange(self.count) if leaves else None,
                    penalty_per_mtok=self.pick(0.2, 2.0, 20.0) if self.may(0.6) else None,
                )
            )
        return tuple(made)

    def _room_tok_s(self, name: str) -> float:
        """About what the hosts that stand in a service's region do for it. [tok/s]"""
        total = 0.0
        region = {site.slug: site.region for site in self.sites}
        home = dict(self.located)
        for row in self.standing:
            if region[home[row.place]] == self.region_of[name]:
                best = max(
                    (one.tok_s for one in self.rates if (one.service, one.kind) == (name, row.kind)), default=0.0
                )
                total += row.hosts[0] * min(best, 100.0)
        return total or 50.0

    def _deliveries(self) -> tuple[DeliveryValues, ...]:
        own = [kind.slug for kind in self.kinds if kind.homegrown]
        return tuple(
            DeliveryValues(
                site=self.rng.choice(self.sites).slug,
                kind=self.rng.choice(own),
                period=self.rng.randrange(self.count),
                hosts=self.rng.randint(1, 2),
                price=self.pick(0.0, 900.0),
            )
            for _ in range(self.rng.choice((0, 1, 1, 2, 2)))
        )

    def _offers(self) -> tuple[OfferValues, ...]:
        made = []
        for _ in range(self.rng.choice((0, 1, 1, 2, 2, 3))):
            kind = self.rng.choice([one for one in self.kinds if one.homegrown or self.may(0.5)] or self.kinds)
            site = self.rng.choice(self.sites).slug if self.may(0.5) else ""
            made.append(OfferValues(kind.slug, self.rng.randrange(self.count), self.rng.randint(1, 2), site))
        return tuple(made)

    def _limits(self) -> tuple[LimitValues, ...]:
        made = []
        for at in range(self.rng.choice((0, 0, 1, 1, 2))):
            places = self.rng.sample(self.located, self.rng.randint(1, len(self.located)))
            uses = tuple(
                UseValues(place, kind.slug, kind.power_w * self.pick(0.5, 1.0) if at == 0 else self.pick(4.0, 6.0))
                for place, _ in places
                for kind in self.kinds
            )
            stand = sum(
                use.amount * row.hosts[0]
                for use in uses
                for row in self.standing
                if (use.place, use.kind) == (row.place, row.kind)
            )
            most = [round(stand * self.pick(0.8, 1.0, 1.3, 1.6) + 1) for _ in range(self.count)]
            series = tuple(float(one) for one in (most if self.may(0.3) else most[:1]))
            made.append(
                LimitValues(f"limit-{at}", series, uses, ("power", "space")[at], f"object-{at}", ("W", "U")[at])
            )
        return tuple(made)

    def _up(self) -> tuple[UpValues, ...]:
        """Places where not all hosts can serve; from a stream of its own, so that all else stays as it was."""
        rng = random.Random(f"up {self.rng.getstate()[1][:3]}")
        pairs = [(place, kind.slug) for place, _ in self.located for kind in self.kinds]
        return tuple(
            UpValues(*pair, tuple(rng.choice((1.0, 0.75, 0.5, 0.0)) for _ in range(self.count)))
            for pair in pairs
            if self.rich and rng.random() < 0.1
        )

    def _floors(self) -> tuple[FloorValues, ...]:
        return tuple(
            FloorValues(
                ratio=self.pick(0.1, 0.15, 0.25, 0.4),
                period=max(self.rng.randrange(self.count), self.rng.randrange(self.count)),
                basis=self.rng.choice((TOKENS, OUTPUT)),
                region=self.rng.choice(sorted(set(self.region_of.values()))) if self.may(0.3) else "",
                tier=self.rng.choice([one.tier for one in self.services]) if self.may(0.2) else "",
            )
            for _ in range(self.rng.choice((0, 0, 0, 0, 1, 1, 2)))
        )

    def _domains(self) -> tuple[DomainValues, ...]:
        made = []
        for at in range(self.rng.choice((0, 0, 0, 1, 1, 2)) if self.rich else 0):
            places = self.rng.sample(self.located, self.rng.randint(1, max(1, len(self.located) - 1)))
            lost = tuple(LostValues(place, self.pick(0.25, 0.5, 0.5, 1.0)) for place, _ in places)
            made.append(DomainValues(f"domain-{at}", lost))
        return tuple(made)

    def _order(self, names: Sequence[str]) -> tuple[OrderValues, ...]:
        if len(names) < 2 or not self.may(0.3):
            return ()
        return (OrderValues(*self.rng.sample(names, 2)),)

    def _rules(self) -> RuleValues:
        return RuleValues(
            reserve_ratio=self.pick(0.0, 0.1, 0.2),
            waves_most=self.rng.choice((0, 1, 1, 2)) if self.may(0.4) else None,
            rollback_ratio=self.pick(0.3, 0.6, 1.0) if self.may(0.4) else 0.0,
            hold_periods=self.rng.choice((0, 1, 1, 2)),
            shadow_ratio=self.pick(0.2, 0.5) if self.may(0.3) else 0.0,
            shadow_periods=self.rng.choice((0, 1, 1, 2)),
            ramp_ratio=self.pick(0.3, 0.5, 0.8) if self.may(0.35) else 1.0,
            split=self.rng.random() < 0.85,
            failover_penalty_per_mtok=self.pick(0.05, 0.5, 5.0) if self.may(0.5) else None,
            discount_ratio_year=self.pick(0.0, 0.08, 0.2),
            period_months=self.pick(1.0, 3.0),
            objective=self.objective,
        )
