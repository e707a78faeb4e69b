"""From a fleet to a question of plain values: places with what they hold, what they may take, and who may serve what.

A place is a hall: its racks hang on one set of feeds and loops. A site without a hall is a place that takes nothing.
What racks share is written as limits over places, as if the hosts of a place were spread evenly over its racks; where
hosts then really go, `fleet.room` says rack by rack.
Values in, values out.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from accelerator import chip_get
from fleet.slips import slip_days
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray, PolicyFact, TreeFacts
from fleet.trees import rack_limits, rows_over
from scenarios.demand import month_label
from scenarios.planning.params import MigrationParams
from scenarios.planning.problem import (
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
)
from scenarios.plans import BoolArray

DAYS_A_MONTH = 30.4375
BOOK_OF_PRICE = 0.5  # of a standing host where nobody says: half-way through its life
ROOM, POWER, COOLING = "room", "feed_failover_power", "cooling"
NO_RACK, LIQUID = "no_rack", "liquid_cooling"
OF_A_RACK = ("rack_power", POWER, "rack_cooling", "rack_units", "rack_weight", "rack_ports")
"""What a rack has, in the order in which `_Ground._each` tells how many hosts it takes by it."""
ALIKE = 1e-6  # limits whose uses differ by less are one limit, the tightest


def tree_key(facts: TreeFacts, month: date) -> bytes:
    """Return what tells the states of a dated tree apart: the nodes and links that are there."""
    day = month.toordinal()
    ends = ((facts.first_day, facts.last_day), (facts.link_first_day, facts.link_last_day))
    return b"".join(((first <= day) & (day < last)).tobytes() for first, last in ends)


@dataclass(frozen=True, eq=False)
class Rates:
    """What one host does, per service [S] and kind [K], in output tokens per second: P10, P50, P90 [tok/s].

    `replicas` is how many replicas a host holds; 0 where it holds none, or nobody knows. [-]
    """

    low_tok_s: FloatArray
    tok_s: FloatArray
    high_tok_s: FloatArray
    replicas: FloatArray


@dataclass(frozen=True, eq=False)
class Question:
    """What a problem is built from, beside the fleet.

    Attributes
    ----------
    months : tuple of date, length T
        First days of the months.
    rates : mapping of phase to Rates
    demand_tok_s : float64[S, T]
        Output tokens of the peak hour, P50. [tok/s]
    mean_ratio, input_ratio : float64[S]
        Mean over peak demand; input tokens for one output token. [-]
    allowed : bool[S, K, T]
        Software readiness, and who may not move.
    homegrown : bool[K]
    in_scope : bool[S]
    price : mapping of kind to money
        Of a new host, where the fleet says it.
    """

    months: tuple[date, ...]
    rates: Mapping[str, Rates]
    demand_tok_s: FloatArray
    mean_ratio: FloatArray
    input_ratio: FloatArray
    allowed: BoolArray
    homegrown: BoolArray
    in_scope: BoolArray
    reserve_ratio: float
    hold_months: int
    seed: int
    params: MigrationParams
    price: Mapping[str, float]


def problem_of(snapshot: FleetSnapshot, question: Question) -> PlanProblem:
    """Return the migration problem of a fleet.

    Raises
    ------
    ValueError
        If a parameter names a month beyond the horizon, or what the fleet does not have.
    """
    ground = _Ground(snapshot, question)
    params = question.params
    ground.names_check()
    return PlanProblem(
        periods=tuple(month_label(month) for month in question.months),
        sites=tuple(ground.sites()),
        places=ground.places,
        kinds=tuple(ground.kinds()),
        services=tuple(ground.services()),
        rates=tuple(ground.rates()),
        standing=tuple(ground.standing()),
        up=tuple(ground.up()),
        deliveries=tuple(ground.deliveries()),
        offers=tuple(ground.offers()),
        limits=tuple(ground.limits()),
        floors=tuple(
            FloorValues(
                ratio=one.ratio, period=ground.period(one.month), basis=one.basis, region=one.region, tier=one.tier
            )
            for one in params.floors
        ),
        domains=tuple(ground.domains()) if params.failover else (),
        order=tuple(OrderValues(first=one.first, then=one.then) for one in params.order),
        rules=RuleValues(
            reserve_ratio=question.reserve_ratio,
            waves_most=params.waves_most,
            rollback_ratio=params.rollback_ratio if question.hold_months else 0.0,
            hold_periods=question.hold_months,
            shadow_ratio=params.shadow_ratio if params.shadow_months else 0.0,
            shadow_periods=params.shadow_months,
            ramp_ratio=params.ramp_ratio,
            split=params.split,
            failover_penalty_per_mtok=params.failover_penalty_per_mtok,
            discount_ratio_year=params.discount_ratio_year,
            objective=params.objective,
        ),
        solver=SolverValues(
            gap_ratio=params.gap_ratio, nodes_most=None, time_limit_s=params.time_limit_s, seed=question.seed
        ),
        currency=params.currency,
    )


class _Ground:
    """A fleet by place, month and kind."""

    def __init__(self, snapshot: FleetSnapshot, question: Question) -> None:
        self._snapshot, self._question, self._params = snapshot, question, question.params
        self._months = question.months
        regions = {s.region for at, s in enumerate(snapshot.services) if question.in_scope[at]}
        halls = ["/".join(key.split("/")[:2]) for key in snapshot.row_keys]
        asked = {site.slug for site in snapshot.sites if site.region in regions}
        slugs = sorted({*(hall for hall in halls if self._region(hall) in regions), *self._bare(asked, halls)})
        at_place = {slug: at for at, slug in enumerate(slugs)}
        of_row = np.array([at_place.get(hall, -1) for hall in halls], dtype=np.int64)
        self.places = tuple(PlaceValues(slug=slug, site=slug.split("/")[0]) for slug in slugs)
        self._racks_place: IntArray = of_row[snapshot.rack_row]  # -1: outside of the question
        self._known = np.array([kind.slug for kind in snapshot.kinds])
        self._standing = np.stack([self._hosts(month) for month in self._months])
        self._feeds: dict[bytes, FloatArray] = {}

    def _bare(self, sites: set[str], halls: Sequence[str]) -> set[str]:
        return sites - {hall.split("/", maxsplit=1)[0] for hall in halls}

    def _region(self, hall: str) -> str:
        site = hall.split("/", maxsplit=1)[0]
        return next(one.region for one in self._snapshot.sites if one.slug == site)

    def period(self, month: str) -> int:
        """Return the position of a month, 0 for one before the horizon."""
        labels = [month_label(one) for one in self._months]
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month) or month > labels[-1]:
            raise ValueError(f"month {month!r} does not lie in {labels[0]} to {labels[-1]}")
        return labels.index(month) if month in labels else 0

    def names_check(self) -> None:
        """Raise ValueError if a parameter names a site, a host type or a service that is not asked about."""
        params, snapshot = self._params, self._snapshot
        asked = {s.slug for at, s in enumerate(snapshot.services) if self._question.in_scope[at]}
        for what, named, known in (
            ("tariffs: site", [one.site for one in params.tariffs], {place.site for place in self.places}),
            ("prices: host type", [one.kind for one in params.prices], set(self._known.tolist())),
            ("must_leave: service", [one.service for one in params.must_leave], asked),
        ):
            unknown = [name for name in named if name not in known]
            if unknown:
                raise ValueError(f"{what} {unknown[0]!r} is not part of the question")

    # --- sites, kinds, services ---------------------------------------------------------------------------------------
    def sites(self) -> Iterator[SiteValues]:
        """Return the sites of the regions asked about, with their energy."""
        params, own = self._params, {one.site: one for one in self._params.tariffs}
        until = params.subsidy_until or "9999-12"
        here = {place.site for place in self.places}
        for site in self._snapshot.sites:
            if site.slug not in here:
                continue
            said = own.get(site.slug)
            tariff = said.tariff_per_kwh if said else params.tariff_per_kwh
            lower = said.homegrown_tariff_per_kwh if said else None
            subsidised = lower if lower is not None else tariff * params.homegrown_tariff_ratio
            carbon = said.kgco2e_per_kwh if said and said.kgco2e_per_kwh is not None else params.kgco2e_per_kwh
            yield SiteValues(
                slug=site.slug,
                region=site.region,
                pue_ratio=site.pue_ratio,
                tariff_per_kwh=(tariff,),
                homegrown_tariff_per_kwh=tuple(
                    subsidised if month_label(month) <= until else tariff for month in self._months
                ),
                kgco2e_per_kwh=(carbon,),
            )

    def kinds(self) -> Iterator[KindValues]:
        """Return the host types with their money."""
        params, said = self._params, {one.kind: one for one in self._params.prices}
        worthless = {k for _place, k, _months in self._bans({"sell"})} | self._useless()
        for at, kind in enumerate(self._snapshot.kinds):
            own = said.get(kind.slug)
            price = own.price if own else self._question.price.get(kind.slug, params.price_unknown)
            book = own.book_value if own and own.book_value is not None else BOOK_OF_PRICE * price
            is_kept = (
                bool(self._question.homegrown[at])
                or at in worthless
                or self._banned("sell", kind.slug, "", self._months)
            )
            yield KindValues(
                slug=kind.slug,
                homegrown=bool(self._question.homegrown[at]),
                power_w=kind.power_w,
                idle_w=min(kind.idle_w, kind.power_w),
                busy_w=kind.typical_w,
                price=price,
                life_months=params.life_months,
                book_value=book,
                months_left=params.months_left,
                resale_ratio=0.0 if is_kept else params.resale_ratio,
                upkeep_per_month=price * params.upkeep_ratio_year / 12,
                vendor=chip_get(kind.chip).vendor,
                chip=kind.chip,
            )

    def services(self) -> Iterator[ServiceValues]:
        """Return the services asked about."""
        params, question = self._params, self._question
        leave = {one.service: self.period(one.month) for one in params.must_leave}
        for at, service in enumerate(self._snapshot.services):
            if not question.in_scope[at]:
                continue
            yield ServiceValues(
                slug=service.slug,
                region=service.region,
                tier=service.tier,
                demand_tok_s=tuple(question.demand_tok_s[at].tolist()),
                mean_ratio=float(question.mean_ratio[at]),
                input_ratio=float(question.input_ratio[at]),
                homegrown_ratio=self._moved_ratio(service.slug),
                stays=not service.movable,
                homegrown_from=leave.get(service.slug),
                penalty_per_mtok=params.unserved_penalty_per_mtok,
            )

    def _moved_ratio(self, service: str) -> float:
        """Return the share of what serves a service now that stands on homegrown chips. [-]"""
        total = {False: 0.0, True: 0.0}
        for deployment, tok_s in self._serving_tok_s(service):
            total[bool(self._question.homegrown[self._known.tolist().index(deployment)])] += tok_s
        return total[True] / (total[True] + total[False]) if total[True] else 0.0

    def _serving_tok_s(self, service: str) -> Iterator[tuple[str, float]]:
        """Return what deployments of a service make on the first day, by kind. [tok/s]"""
        snapshot, day = self._snapshot, self._snapshot.as_of.toordinal()
        here = (snapshot.placement_first_day <= day) & (day < snapshot.placement_last_day)
        replicas = np.bincount(
            snapshot.placement_deployment[here],
            snapshot.placement_replicas[here].astype(np.float64),
            minlength=len(snapshot.deployments),
        )
        for at, deployment in enumerate(snapshot.deployments):
            if deployment.service == service and replicas[at]:
                yield deployment.kind, float(replicas[at]) * deployment.replica_tok_s

    def rates(self) -> Iterator[RateValues]:
        """Return what hosts do for the services asked about, for the whole and by phase."""
        snapshot, question = self._snapshot, self._question
        for s, service in enumerate(snapshot.services):
            if not question.in_scope[s]:
                continue
            in_use = {kind for kind, _tok_s in self._serving_tok_s(service.slug)}
            for k, kind in enumerate(snapshot.kinds):
                may = np.flatnonzero(question.allowed[s, k])
                is_homegrown = bool(question.homegrown[k])
                for phase, rates in question.rates.items():
                    if rates.tok_s[s, k] <= 0 or (not len(may) and not is_homegrown):
                        continue
                    is_ready = 0 in may.tolist()
                    is_open = is_homegrown and phase == WHOLE and kind.slug in in_use and is_ready
                    yield RateValues(
                        service=service.slug,
                        kind=kind.slug,
                        phase=phase,
                        tok_s=float(rates.tok_s[s, k]),
                        low_tok_s=float(min(rates.low_tok_s[s, k], rates.tok_s[s, k])),
                        high_tok_s=float(max(rates.high_tok_s[s, k], rates.tok_s[s, k])),
                        replicas_per_host=float(rates.replicas[s, k]),
                        ready=(int(may[0]) if len(may) else len(self._months)) if is_homegrown else 0,
                        in_use=is_open,
                        port_cost=self._params.port_cost if is_homegrown and not is_open else 0.0,
                    )

    # --- hosts --------------------------------------------------------------------------------------------------------
    def _hosts(self, month: date) -> IntArray:
        """Return the hosts that stand in each place by kind, what is to retire unnamed taken off, int64[L, K]."""
        snapshot = self._snapshot
        inside = self._racks_place >= 0
        counts = np.zeros((len(self.places), len(snapshot.kinds)), dtype=np.int64)
        np.add.at(counts, self._racks_place[inside], snapshot.rack_hosts(month)[inside])
        for row in snapshot.retirements:
            if row.retire_on <= month:
                self._take(counts, row.site, row.kind, row.quantity)
        return counts

    def _bans(self, verbs: Collection[str]) -> Iterator[tuple[int, int, BoolArray]]:
        """Yield place, kind and the months in which policy forbids one of some verbs there, bool[T]."""
        for policy, at, k in self._banned_places(verbs):
            yield at, k, self._policy_months(policy)

    def _banned_places(self, verbs: Collection[str]) -> Iterator[tuple[PolicyFact, int, int]]:
        """Yield policies that forbid one of some verbs in a month asked about, with place and kind."""
        for policy in self._snapshot.policies:
            if policy.verb not in verbs or not self._policy_months(policy).any():
                continue
            for at, place in enumerate(self.places):
                if policy.site in {"", place.site} and policy.region in {"", self._region(place.slug)}:
                    yield from (
                        (policy, at, k) for k, kind in enumerate(self._snapshot.kinds) if kind.chip == policy.chip
                    )

    def _policy_months(self, policy: PolicyFact) -> BoolArray:
        """Return in which months a policy holds, bool[T]."""
        ends_on = policy.ends_on or date.max
        return np.array([policy.starts_on <= month < ends_on for month in self._months])

    def _useless(self) -> set[int]:
        """Return the kinds that may be used nowhere asked about any more, for good: who would buy them."""
        nowhere: dict[int, set[int]] = {}
        for policy, at, k in self._banned_places({"use"}):
            if policy.ends_on is None:
                nowhere.setdefault(k, set()).add(at)
        return {k for k, places in nowhere.items() if len(places) == len(self.places)}

    def up(self) -> Iterator[UpValues]:
        """Return where hosts may not be used: they stay in their racks, and serve nothing."""
        banned: dict[tuple[int, int], BoolArray] = {}
        for at, k, months in self._bans({"use"}):
            banned[at, k] = banned.get((at, k), np.zeros(len(months), dtype=bool)) | months
        for (at, k), months in sorted(banned.items()):
            kind = self._snapshot.kinds[k].slug
            yield UpValues(self.places[at].slug, kind, tuple((1.0 - months).tolist()))

    def _take(self, counts: IntArray, site: str, kind: str, quantity: int) -> None:
        """Take hosts off the places of a site, the fullest first."""
        k = self._known.tolist().index(kind)
        places = [at for at, place in enumerate(self.places) if place.site == site]
        for at in sorted(places, key=lambda at: (-counts[at, k], at)):
            gone = min(quantity, int(counts[at, k]))
            counts[at, k] -= gone
            quantity -= gone

    def standing(self) -> Iterator[StandingValues]:
        """Return the hosts that stand if nothing is done."""
        for at, place in enumerate(self.places):
            for k, kind in enumerate(self._snapshot.kinds):
                hosts = self._standing[:, at, k]
                if hosts.any():
                    yield StandingValues(place=place.slug, kind=kind.slug, hosts=tuple(hosts.astype(float).tolist()))

    def deliveries(self) -> Iterator[DeliveryValues]:
        """Return what is ordered, at its median slip and expected fill; what comes after the horizon is left out."""
        sites = {place.site for place in self.places}
        for delivery in self._snapshot.deliveries:
            comes_on = delivery.expected_on + timedelta(days=math.ceil(slip_days(delivery, 0.0)))
            period = int(np.searchsorted([month.toordinal() for month in self._months], comes_on.toordinal()))
            if delivery.site not in sites or period >= len(self._months):
                continue
            yield DeliveryValues(
                site=delivery.site,
                kind=delivery.kind,
                period=period,
                hosts=round(delivery.quantity * delivery.fill_ratio),
                slug=delivery.slug,
                slip_p50_months=delivery.slip_p50_days / DAYS_A_MONTH,
                slip_p90_months=delivery.slip_p90_days / DAYS_A_MONTH,
                fill_ratio=delivery.fill_ratio,
                ordered=delivery.quantity,
                group=delivery.correlation_group,
            )

    def offers(self) -> Iterator[OfferValues]:
        """Return what may be bought, without what a ban on buying forbids in its month; ordered before, it comes."""
        for one in self._params.offers:
            period = self.period(one.month)
            if not self._banned("buy", one.kind, one.site, [self._months[period]]):
                yield OfferValues(kind=one.kind, period=period, hosts=one.hosts, site=one.site)

    def _banned(self, verb: str, kind: str, site: str, months: Sequence[date]) -> bool:
        """Whether a policy forbids something with a kind at a site in one of some months; without a site: at any."""
        chips = {one.slug: one.chip for one in self._snapshot.kinds}
        regions = {one.slug: one.region for one in self._snapshot.sites}
        return any(
            policy.verb == verb
            and policy.chip == chips.get(kind)
            and policy.starts_on <= month < (policy.ends_on or date.max)
            and (not site or (policy.site in {"", site} and policy.region in {"", regions.get(site)}))
            and (site or not (policy.site or policy.region))
            for policy in self._snapshot.policies
            for month in months
        )

    # --- limits -------------------------------------------------------------------------------------------------------
    def limits(self) -> Iterator[LimitValues]:
        """Return what hosts share: the room of each place, then nodes of power and cooling after any failure."""
        caps = self._caps(self._months)
        yield from self._rooms(caps)
        snapshot = self._snapshot
        yield from self._nodes(POWER, snapshot.power, snapshot.kind_apparent_va, "VA", caps)
        yield from self._nodes(COOLING, snapshot.cooling, snapshot.kind_power_w, "W", caps)

    def _caps(self, months: Sequence[date]) -> IntArray:
        """Return how many hosts of each kind the racks take that are open in one of some months, int64[L, K]. [-]

        By place, each kind alone, the racks empty.
        """
        is_open = self._open(months)
        caps = np.zeros((len(self.places), len(self._snapshot.kinds)), dtype=np.int64)
        for k in range(len(self._snapshot.kinds)):
            each = self._each(k, is_open, months).min(axis=0)
            np.add.at(caps[:, k], self._racks_place[is_open], each)
        return caps

    def _open(self, months: Sequence[date]) -> BoolArray:
        opened = np.logical_or.reduce([self._snapshot.rack_open(month) for month in months])
        return np.asarray(opened & (self._racks_place >= 0), dtype=bool)

    def _each(self, kind: int, is_open: BoolArray, months: Sequence[date]) -> IntArray:
        """Return how many hosts of a kind open racks take by each thing that a rack has, int64[C, racks]. [-]"""
        snapshot, fact = self._snapshot, self._snapshot.kinds[kind]
        needs = (fact.power_w, fact.apparent_va, fact.power_w, fact.height_u, fact.weight_kg, fact.ports)
        has = (
            snapshot.rack_power_limit_w,
            self._feeds_va(months),
            snapshot.rack_cooling_limit_w,
            snapshot.rack_height_u,
            snapshot.rack_weight_limit_kg,
            snapshot.rack_ports,
        )
        each = np.full((len(has), int(is_open.sum())), np.inf)
        for at, (need, most) in enumerate(zip(needs, has, strict=True)):
            if need:
                each[at] = most[is_open] / need
        found = np.floor(np.minimum(each, 1e6) + 1e-9).astype(np.int64)
        return found * snapshot.rack_is_liquid[is_open] if fact.cooling == "liquid" else found

    def _why(self, kind: int) -> list[str]:
        """Return by place what lets most of its racks take no more hosts of a kind than they do."""
        is_open = self._open(self._months)
        each, place = self._each(kind, is_open, self._months), self._racks_place[is_open]
        first = each.argmin(axis=0)
        dry = np.zeros(len(first), dtype=bool)
        if self._snapshot.kinds[kind].cooling == "liquid":
            dry = ~self._snapshot.rack_is_liquid[is_open]
        words = (*OF_A_RACK, LIQUID)
        times = np.zeros((len(self.places), len(words)), dtype=np.int64)
        np.add.at(times, (place, np.where(dry, len(OF_A_RACK), first)), 1)
        return [words[int(row.argmax())] if row.any() else NO_RACK for row in times]

    def _feeds_va(self, months: Sequence[date]) -> FloatArray:
        """Return the largest load of each rack that its own feeds bear in some month, inf without feeds. [VA]"""
        power = self._snapshot.power
        by_key = {tree_key(power, month): month for month in months}
        for key, month in by_key.items():
            if key not in self._feeds:
                self._feeds[key] = rack_limits(power.on(month, len(self._racks_place)))
        return np.asarray(np.maximum.reduce([self._feeds[key] for key in by_key]))

    def _rooms(self, caps: IntArray) -> Iterator[LimitValues]:
        """Return the room of each place: a host takes the share of it that it would take among its likes.

        Racks that open or close within the horizon are room in their months only: by the kind that loses most.
        """
        by_month = np.stack([self._caps([month]) for month in self._months])
        whole = np.broadcast_to(caps, by_month.shape)
        opened = np.divide(by_month, whole, out=np.ones(by_month.shape), where=whole > 0).min(axis=2)
        why = [self._why(k) for k in range(len(self._snapshot.kinds))]
        for at, place in enumerate(self.places):
            shares = {
                k: 1.0 / caps[at, k] if caps[at, k] else 2.0  # one that no rack takes never fits
                for k in range(len(self._snapshot.kinds))
                if caps[at, k] or not self._standing[:, at, k].any()
            }
            stands = sum(share * self._standing[:, at, k] for k, share in shares.items())
            yield LimitValues(
                slug=f"room {place.slug}",
                limit=tuple(np.maximum(opened[:, at], np.broadcast_to(stands, len(self._months))).tolist()),
                uses=tuple(self._use(place.slug, k, share, why[k][at]) for k, share in shares.items()),
                constraint=ROOM,
                object=place.slug,
                unit="-",
            )

    def _use(self, place: str, kind: int, amount: float, why: str = "") -> UseValues:
        return UseValues(place=place, kind=self._snapshot.kinds[kind].slug, amount=float(amount), constraint=why)

    def _nodes(
        self, constraint: str, facts: TreeFacts, per_kind: FloatArray, unit: str, caps: IntArray
    ) -> Iterator[LimitValues]:
        """Return the limits of nodes that full racks would break, under the failure that loads each most.

        A tree that changes within the horizon has its limits in its own months.
        """
        if not len(facts.slugs):
            return
        keys = [tree_key(facts, month) for month in self._months]
        for key in dict.fromkeys(keys):
            holds = np.array([one == key for one in keys])
            yield from self._nodes_while(holds, constraint, facts, per_kind, unit, caps)

    def _nodes_while(
        self, holds: BoolArray, constraint: str, facts: TreeFacts, per_kind: FloatArray, unit: str, caps: IntArray
    ) -> Iterator[LimitValues]:
        """Return the limits of a tree in the months in which it holds, bool[T]; in others they bind nothing."""
        snapshot, first = self._snapshot, self._months[int(np.argmax(holds))]
        tree = facts.on(first, len(snapshot.rack_slugs))
        since = "" if holds[0] else f" from {month_label(first)}"
        most = (self._standing.max(axis=0) + caps) * per_kind
        full = np.where(self._racks_place >= 0, snapshot.rack_power_limit_w, 0.0)
        none = np.zeros(len(full))
        rows = rows_over(tree, full, none)
        width = np.bincount(
            self._racks_place[self._racks_place >= 0],
            full[self._racks_place >= 0],
            minlength=len(self.places),
        )
        known: dict[bytes, tuple[float, int, FloatArray]] = {}
        for at in range(len(rows.node)):
            ours = rows.row == at
            racks, share = rows.rack[ours], rows.share[ours]
            inside = self._racks_place[racks] >= 0
            racks, share = racks[inside], share[inside]
            spread = np.bincount(self._racks_place[racks], share * full[racks], minlength=len(self.places))
            spread = np.divide(spread, width, out=np.zeros(len(self.places)), where=width > 0)
            top = float(spread.max(initial=0.0))
            if not top:
                continue
            form = np.round(spread / top, 6)
            limit = float(rows.limit[at]) / top
            if form.tobytes() not in known or limit < known[form.tobytes()][0] - ALIKE:
                known[form.tobytes()] = (limit, at, form)
        for limit, at, form in known.values():
            node, failure = facts.slugs[rows.node[at]], int(rows.failure[at])
            load = np.einsum("tlk,l,k->t", self._standing, form, per_kind)
            after = f" after losing {facts.slugs[failure]}" if failure >= 0 else ""
            free = limit + float(form @ most.sum(axis=1))  # more than can stand there
            yield LimitValues(
                slug=f"{constraint} {node}{after}{since}",
                limit=tuple(np.where(holds, np.maximum(limit, load), np.maximum(free, load)).tolist()),
                uses=tuple(
                    self._use(place.slug, k, form[p] * per_kind[k])
                    for p, place in enumerate(self.places)
                    for k in range(len(snapshot.kinds))
                    if form[p] > 0 and (caps[p, k] or self._standing[:, p, k].any())
                ),
                constraint=constraint,
                object=node,
                unit=unit,
                failure=facts.slugs[failure] if failure >= 0 else "",
            )

    def domains(self) -> Iterator[DomainValues]:
        """Return the failure domains: each place with racks of a region that has more than one."""
        with_racks = [self.places[at] for at in sorted(set(self._racks_place[self._racks_place >= 0].tolist()))]
        regions = [self._region(place.slug) for place in with_racks]
        for place, region in zip(with_racks, regions, strict=True):
            if regions.count(region) > 1:
                yield DomainValues(slug=place.slug, lost=(LostValues(place=place.slug),))
