"""From a fleet and what a planner says of an outage or an event to an incident of plain values.

What hosts a node takes is counted host by host, month by month, under the trees as they are then. Pure values.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np

from accelerator import chip_get
from fleet.domains import reach, replicas_serving
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray
from scenarios.demand import month_add, month_label
from scenarios.planning.draining import DrainPlan, drain_plan
from scenarios.planning.holding import Held
from scenarios.planning.incident import (
    ClosedValues,
    DemandValues,
    ExposedValues,
    HitValues,
    Incident,
    PlacedValues,
    StopValues,
)
from scenarios.planning.params import (
    BAN,
    CAPACITY,
    CLIENT,
    FIRMWARE,
    NEW_MODEL,
    PURCHASES,
    SUPPLIER_STOP,
    SUPPORT,
    USE,
    EventParams,
    OutageParams,
)
from scenarios.planning.plain import ProblemError
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import PlanProblem, Series
from scenarios.plans import BoolArray

NEW_SUFFIX = "+new"  # no slug of a service has a plus: whatever else there is, it is not called so
SUPPLY_TREES = {"power", "cooling", "network"}
SCOPE_WORDS = {PURCHASES: "may not be bought any more", SUPPORT: "is no longer supported", USE: "may not be used"}


@dataclass(frozen=True)
class EventFacts:
    """What an event needs of the fleet beside its snapshot.

    Attributes
    ----------
    suppliers : mapping of delivery to supplier of its order
    client_ratio : mapping of service to share of its biggest client [-]
    below : tuple of str
        Hosts with a card below the firmware set that is named, or whose firmware nobody knows.
    unrecorded : tuple of str
        Hosts of the chip without a card on record.
    """

    suppliers: Mapping[str, str] = field(default_factory=dict)
    client_ratio: Mapping[str, float] = field(default_factory=dict)
    below: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventQuestion:
    """What the steps of an outage or an event read.

    Attributes
    ----------
    problem : PlanProblem
        With what the incident brings and without what it takes.
    incident : Incident
    below : tuple of (place, kind, hosts)
        Of a firmware baseline: hosts to be brought up to it. [-]
    upgrades_per_month : int
        Hosts that can be brought up to it in a month. [1/month]
    notes : tuple of str
        What a reader should know of how the incident was read.
    region_names : mapping
        Names of regions by slug.
    foreseen : bool
        Whether the new plan knows of the incident from the first month on.
    """

    problem: PlanProblem
    incident: Incident
    below: tuple[tuple[str, str, int], ...] = ()
    upgrades_per_month: int = 1
    notes: tuple[str, ...] = ()
    region_names: Mapping[str, str] = field(default_factory=dict)
    foreseen: bool = False

    def held(self, plan: MigrationAnswer) -> Held | None:
        """Return the plan before as far as a new one has to keep it: until what nobody foresaw."""
        is_held = plan.is_plan and not self.foreseen and self.incident.first > 0
        return Held(plan, self.incident.first) if is_held else None

    def drain(self) -> DrainPlan | None:
        """Return who is drained when, where an incident is a baseline; else None."""
        if not self.below:
            return None
        below = {(place, kind): hosts for place, kind, hosts in self.below}
        return drain_plan(self.problem, below, most_per_period=self.upgrades_per_month)


@dataclass(frozen=True, eq=False)
class Ground:
    """A fleet as an incident finds it: its hosts by place of the problem."""

    snapshot: FleetSnapshot
    problem: PlanProblem
    months: tuple[date, ...]

    @cached_property
    def rack_place(self) -> IntArray:
        """Return the position of each rack's place, -1: outside of the question, int64[R]."""
        at = {place.slug: position for position, place in enumerate(self.problem.located)}
        halls = [at.get("/".join(key.split("/")[:2]), -1) for key in self.snapshot.row_keys]
        found: IntArray = np.array(halls, dtype=np.int64)[self.snapshot.rack_row]
        return found

    def counts(self, hosts: BoolArray) -> IntArray:
        """Return some hosts by place and kind, int64[P, K]."""
        snapshot, places = self.snapshot, self.rack_place[self.snapshot.host_rack]
        found = np.zeros((len(self.problem.located), len(snapshot.kinds)), dtype=np.int64)
        np.add.at(found, (places[hosts & (places >= 0)], snapshot.host_kind[hosts & (places >= 0)]), 1)
        return found

    def shares(self, hosts: BoolArray, racks: BoolArray, day: date) -> FloatArray:
        """Return the share of the hosts of each place and kind that are among some, float64[P, K]. [-]

        Where none of a kind stands on the day: the share of the place's open racks among some, by their power.
        """
        here = self.snapshot.hosts_here(day)
        total, part = self.counts(here), self.counts(here & hosts)
        width = np.where(self.snapshot.rack_open(day), self.snapshot.rack_power_limit_w, 0.0)
        inside, places = self.rack_place >= 0, len(self.problem.located)
        whole = np.bincount(self.rack_place[inside], width[inside], minlength=places)
        dark = np.bincount(self.rack_place[inside], (width * racks)[inside], minlength=places)
        room = np.divide(dark, whole, out=np.zeros(places), where=whole > 0)
        return np.divide(part, total, out=np.repeat(room[:, None], total.shape[1], axis=1), where=total > 0)

    def placed(self, hosts: FloatArray, day: date) -> Iterator[PlacedValues]:
        """Yield what replicas make on a day, and what of it stands on hosts that are hit, by service.

        `hosts`, float64[H]: 1 where a host goes, or the share of such hosts that do. A replica over several hosts goes
        with any of them. [-]
        """
        snapshot = self.snapshot
        serving = snapshot.hosts_serving(day)
        before = replicas_serving(snapshot, day, serving)
        rates = np.array([one.replica_tok_s for one in snapshot.deployments], dtype=np.float64)
        exposed = np.zeros(len(snapshot.deployments))
        for share in np.unique(hosts[hosts > 0]).tolist():
            lost = before - replicas_serving(snapshot, day, serving & (hosts != share))
            exposed += share * lost * rates
        asked = {service.slug for service in self.problem.services}
        for slug in sorted(asked & {one.service for one in snapshot.deployments}):
            ours = np.array([one.service == slug for one in snapshot.deployments])
            tok_s = float((before * rates)[ours].sum())
            if tok_s > 0:
                yield PlacedValues(slug, tok_s, min(tok_s, float(exposed[ours].sum())))


# --- outages ----------------------------------------------------------------------------------------------------------
def outage_read(ground: Ground, params: OutageParams) -> EventQuestion:
    """Return the question of an outage.

    Raises
    ------
    ProblemError
        If the node is not there, or the outage lies beyond the months asked about.
    """
    months, problem = ground.months, ground.problem
    start, end = outage_days(params, months)
    ends = [*months[1:], month_add(months[-1], 1)]
    lasting = [
        max(0, (min(end or after, after) - max(start, month)).days) / (after - month).days
        for month, after in zip(months, ends, strict=True)
    ]
    held = [at for at, ratio in enumerate(lasting) if ratio > 0]
    if not params.node:
        raise ProblemError([("params.node", "the name of what is lost is needed")])
    ratios = np.zeros((len(problem.located), len(ground.snapshot.kinds), len(months)))
    first = np.zeros(len(ground.snapshot.host_slugs), dtype=bool)
    spared = False
    try:
        for at in held:
            day = max(months[at], start)
            reached = reach(ground.snapshot, day, tree=params.tree, node=params.node)
            ratios[:, :, at] = ground.shares(reached.hosts, reached.racks, day)
            first = first if at > held[0] else reached.hosts & ground.snapshot.hosts_here(day)
            spared |= params.tree in SUPPLY_TREES and bool(
                (reached.racks_below & ~reached.racks & (ground.rack_place >= 0)).any()
            )
    except ValueError as error:
        raise ProblemError([("params.node", str(error))]) from None
    node = f"{params.tree} {params.node}"
    words = f"{node[:1].upper()}{node[1:]} is lost on {start}"
    words += f" and repaired after {params.repair_days} d" if params.repair_days else " and not repaired"
    incident = Incident(
        words=words,
        first=held[0],
        until=held[-1] + 1 if end is not None and end <= ends[-1] else None,
        begin_ratio=(start - months[held[0]]).days / (ends[held[0]] - months[held[0]]).days,
        lasting=tuple(lasting),
        hits=tuple(_hits(ground, ratios)),
        exposed=tuple(_exposed(ground, ratios[:, :, held[0]])),
        placed=tuple(ground.placed(first.astype(np.float64), max(months[held[0]], start))),
    )
    notes = []
    if not incident.hits:
        why = "what hangs on it also hangs on something else" if spared else "no host of theirs stands there"
        notes.append(f"It takes no host of the regions asked about: {why}.")
    return EventQuestion(problem, incident, notes=tuple(notes))


def outage_days(params: OutageParams, months: Sequence[date]) -> tuple[date, date | None]:
    """Return the first day of an outage and the first one after it, None: it is not repaired."""
    last = month_add(months[-1], 1) - timedelta(days=1)
    try:
        start = date.fromisoformat(params.day) if params.day else months[0]
    except ValueError:
        raise ProblemError([("params.day", f"{params.day!r} is no day, as 2027-03-14")]) from None
    if not months[0] <= start <= last:
        raise ProblemError([("params.day", f"{start} does not lie in {months[0]} to {last}")])
    return start, None if params.repair_days is None else start + timedelta(days=params.repair_days)


def _hits(ground: Ground, ratios: FloatArray) -> Iterator[HitValues]:
    for place, kind in np.argwhere(ratios.max(axis=2) > 0).tolist():
        slugs = ground.problem.located[place].slug, ground.snapshot.kinds[kind].slug
        yield HitValues(*slugs, ratio=tuple(ratios[place, kind].tolist()))


def _exposed(ground: Ground, shares: FloatArray) -> Iterator[ExposedValues]:
    for place, kind in np.argwhere(shares > 0).tolist():
        slugs = ground.problem.located[place].slug, ground.snapshot.kinds[kind].slug
        yield ExposedValues(*slugs, ratio=float(shares[place, kind]))


# --- events -----------------------------------------------------------------------------------------------------------
def event_read(ground: Ground, params: EventParams, facts: EventFacts) -> EventQuestion:
    """Return the question of an event.

    Raises
    ------
    ProblemError
        If it names what is not there, or a month beyond those asked about.
    """
    if not params.event:
        raise ProblemError([("params.event", "what happens is needed")])
    if not names_of(params.subject):
        raise ProblemError([("params.subject", "what it happens to is needed")])
    odd = list(params_odd(params))
    if odd:
        raise ProblemError(odd)
    read = {
        BAN: _ban,
        CAPACITY: _capacity,
        SUPPLIER_STOP: _stop,
        FIRMWARE: _firmware,
        CLIENT: _client,
        NEW_MODEL: _new_model,
    }[params.event]
    first = period_of(params.month, ground.months)
    until = None if params.months is None else first + params.months
    return read(
        _Asked(ground, params, facts, first, until if until is not None and until <= len(ground.months) else None)
    )


def params_odd(params: EventParams) -> Iterator[tuple[str, str]]:
    """Yield, with their places, parameters that what happens does not take: to pass over them would mislead."""
    if params.event == FIRMWARE and params.months is not None:
        yield "params.months", "a firmware baseline holds for good; leave it out"
    if params.region and params.event not in {BAN, CAPACITY}:
        yield "params.region", "only a ban and a capacity are limited to a region; leave it out"
    if params.event == NEW_MODEL and params.request_s == 0:
        yield "params.request_s", "it must be above 0"


def period_of(month: str, months: Sequence[date], place: str = "params.month") -> int:
    """Return the position of a month, 0 for none."""
    labels = [month_label(one) for one in months]
    if not month:
        return 0
    if month not in labels:
        raise ProblemError([(place, f"{month!r} does not lie in {labels[0]} to {labels[-1]}")])
    return labels.index(month)


@dataclass(frozen=True, eq=False)
class _Asked:
    """An event as it was asked: its first period, and the first one free of it; None: none is."""

    ground: Ground
    params: EventParams
    facts: EventFacts
    first: int
    until: int | None

    @property
    def names(self) -> list[str]:
        return names_of(self.params.subject)

    @property
    def when(self) -> str:
        months = self.ground.problem.periods
        if self.until is None:
            return f"from {months[self.first]} on"
        if self.until == self.first + 1:
            return f"in {months[self.first]}"
        return f"from {months[self.first]} until {months[self.until - 1]}"

    @property
    def where(self) -> str:
        return f" in {self.params.region}" if self.params.region else ""

    def held(self, value: float) -> Series:
        """Return a series that is a value while the event holds, and 0 otherwise."""
        count = len(self.ground.months)
        until = count if self.until is None else self.until
        return tuple(value if self.first <= at < until else 0.0 for at in range(count))

    def kinds(self) -> list[int]:
        """Return the positions of the host types that are named, by chip, type or vendor."""
        kinds, names = self.ground.snapshot.kinds, {name.lower() for name in self.names}
        found = [at for at, kind in enumerate(kinds) if set(kind_names(kind.slug, kind.chip)) & names]
        known = {name for kind in kinds for name in kind_names(kind.slug, kind.chip)}
        unknown = [name for name in self.names if name.lower() not in known]
        if unknown:
            there = ", ".join(sorted({kind.chip for kind in kinds}))
            raise ProblemError([("params.subject", f"no host type, chip or vendor {unknown[0]!r}; chips are: {there}")])
        return found

    def places(self) -> list[int]:
        """Return the positions of the places that the event holds in."""
        problem, region = self.ground.problem, self.params.region
        regions = {site.slug: site.region for site in problem.sites}
        if region and region not in regions.values():
            raise ProblemError([("params.region", f"no region {region!r} is asked about")])
        return [at for at, place in enumerate(problem.located) if region in {"", regions[place.site]}]

    def over(self, kinds: Collection[int], ratio: float) -> FloatArray:
        """Return a share of some kinds in the places that the event holds in, float64[P, K]."""
        found = np.zeros((len(self.ground.problem.located), len(self.ground.snapshot.kinds)))
        found[np.ix_(self.places(), sorted(kinds))] = ratio
        return found

    def incident(self, words: str, kinds: Collection[int], *, hit_ratio: float = 0.0) -> Incident:
        """Return an incident about some kinds, of whose hosts a share cannot serve."""
        ground = self.ground
        exposed = self.over(kinds, 1.0)
        day = ground.months[self.first]
        ratios = self.over(kinds, hit_ratio)[:, :, None] * np.array(self.held(1.0))
        place = ground.rack_place[ground.snapshot.host_rack]
        on_it = np.where(place >= 0, exposed[place, ground.snapshot.host_kind], 0.0)
        return Incident(
            words=f"{words} {self.when}",
            first=self.first,
            until=self.until,
            lasting=self.held(1.0),
            hits=tuple(_hits(ground, ratios)),
            exposed=tuple(_exposed(ground, exposed)),
            placed=tuple(ground.placed(on_it, day)) if kinds else (),
        )

    def stops(self, kinds: Collection[int], left_ratio: float = 0.0) -> tuple[StopValues, ...]:
        """Return what keeps hosts of some kinds from coming."""
        sites: tuple[str, ...] = ()
        if self.params.region:
            problem = self.ground.problem
            sites = tuple(site.slug for site in problem.sites if site.region == self.params.region)
        return tuple(
            StopValues(self.ground.snapshot.kinds[at].slug, self.first, self.until, left_ratio, sites)
            for at in sorted(kinds)
        )


def names_of(subject: str) -> list[str]:
    """Return names with commas between them, one by one, each once."""
    return list(dict.fromkeys(name.strip() for name in subject.split(",") if name.strip()))


def kind_names(slug: str, chip: str) -> tuple[str, ...]:
    """Return what a host type may be called by: its slug, its chip, the vendor of the chip."""
    return slug.lower(), chip.lower(), *vendor_names(chip)


def vendor_names(chip: str) -> tuple[str, str]:
    """Return what the vendor of a chip may be called by: as the catalog has it, and without what is in brackets."""
    vendor = chip_get(chip).vendor.lower()
    return vendor, vendor.split(" (", 1)[0]


def _ban(asked: _Asked) -> EventQuestion:
    params, kinds = asked.params, asked.kinds()
    is_use = params.scope == USE
    words = f"{params.subject} {SCOPE_WORDS[params.scope]}{asked.where}"
    incident = asked.incident(words, kinds, hit_ratio=1 - params.left_ratio if is_use else 0.0)
    incident = replace(incident, stops=asked.stops(kinds))
    slugs = tuple(asked.ground.snapshot.kinds[at].slug for at in kinds)
    if params.scope == SUPPORT:
        closed = tuple(ClosedValues(kind, asked.first, params.region, asked.until) for kind in slugs)
        incident = replace(incident, closed=closed)
    is_everywhere = len(asked.places()) == len(asked.ground.problem.located)
    if is_use and is_everywhere and params.months is None and not params.left_ratio:
        incident = replace(incident, worthless=slugs)
    return EventQuestion(asked.ground.problem, incident)


def _capacity(asked: _Asked) -> EventQuestion:
    words = f"{asked.params.left_ratio:.0%} of the capacity of {asked.params.subject} is left{asked.where}"
    incident = asked.incident(words, asked.kinds(), hit_ratio=1 - asked.params.left_ratio)
    return EventQuestion(asked.ground.problem, incident)


def _stop(asked: _Asked) -> EventQuestion:
    """Deliveries of a supplier stop: of orders placed with it by name, and of all hosts whose chip it makes."""
    ground, names = asked.ground, {name.lower() for name in asked.names}
    snapshot = ground.snapshot
    made = [at for at, kind in enumerate(snapshot.kinds) if names & set(vendor_names(kind.chip))]
    named = [
        one
        for one in ground.problem.deliveries
        if asked.facts.suppliers.get(one.slug, "").lower() in names and one.slug
    ]
    known = {name for kind in snapshot.kinds for name in vendor_names(kind.chip)}
    unknown = names - known - {name.lower() for name in asked.facts.suppliers.values()}
    if unknown:
        there = ", ".join(sorted(known))
        raise ProblemError([("params.subject", f"no supplier or vendor {min(unknown)!r}; there are: {there}")])
    left = asked.params.left_ratio
    words = f"{asked.params.subject} delivers {'nothing' if not left else f'{left:.0%}'}"
    incident = asked.incident(words, made)
    stops = asked.stops(made, left)
    by_kind: dict[str, list[str]] = {}
    for one in named:
        if one.kind not in {stop.kind for stop in stops}:
            by_kind.setdefault(one.kind, []).append(one.slug)
    stops += tuple(
        StopValues(kind, asked.first, asked.until, left, (), tuple(slugs)) for kind, slugs in sorted(by_kind.items())
    )
    return EventQuestion(ground.problem, replace(incident, stops=stops))


def _firmware(asked: _Asked) -> EventQuestion:
    """Hosts with a card below the baseline fall out, and come back as they are upgraded, the fullest place first."""
    ground, params = asked.ground, asked.params
    if not params.firmware:
        raise ProblemError([("params.firmware", "the least firmware set allowed is needed")])
    snapshot, below = ground.snapshot, set(asked.facts.below)
    hit = np.array([slug in below for slug in snapshot.host_slugs], dtype=bool)
    kinds = asked.kinds()
    hit &= np.isin(snapshot.host_kind, kinds)
    left = ground.counts(hit & snapshot.hosts_here(ground.months[asked.first]))
    total = int(left.sum())
    here = ground.counts(snapshot.hosts_here(ground.months[asked.first]))
    shares = np.divide(left, here, out=np.zeros(here.shape), where=here > 0)
    ratios = np.zeros((*left.shape, len(ground.months)))
    remaining = left.copy()
    for at in range(asked.first, len(ground.months)):
        stands = ground.counts(snapshot.hosts_here(ground.months[at]))
        ratios[:, :, at] = np.minimum(np.divide(remaining, stands, out=np.zeros(stands.shape), where=stands > 0), 1.0)
        _upgrade(remaining, params.upgrades_per_month)
    touched = np.flatnonzero(ratios.max(axis=(0, 1)) > 0)
    until = int(touched[-1]) + 1 if len(touched) and touched[-1] + 1 < len(ground.months) else None
    on_it = hit.astype(np.float64)
    incident = Incident(
        words=f"Hosts of {params.subject} below firmware {params.firmware} may not serve {asked.when}: "
        f"{total} fall out, {params.upgrades_per_month} a month are brought up to it",
        first=asked.first,
        until=until if total else asked.first + 1,
        lasting=asked.held(1.0),
        hits=tuple(_hits(ground, ratios)),
        exposed=tuple(_exposed(ground, shares)),
        placed=tuple(ground.placed(on_it, ground.months[asked.first])),
    )
    silent = set(asked.facts.unrecorded)
    unknown = ground.counts(np.array([slug in silent for slug in snapshot.host_slugs], dtype=bool)).sum()
    notes = []
    if unknown:
        notes.append(
            f"{unknown} hosts of the chip have no card on record: nobody knows their firmware, and they are taken to "
            "serve on."
        )
    first = ground.counts(hit & snapshot.hosts_here(ground.months[0]))
    to_do = tuple(
        (ground.problem.located[place].slug, snapshot.kinds[kind].slug, int(first[place, kind]))
        for place, kind in np.argwhere(first > 0).tolist()
    )
    return EventQuestion(ground.problem, incident, to_do, params.upgrades_per_month, tuple(notes))


def _upgrade(left: IntArray, hosts: int) -> None:
    """Take so many hosts off what is left, from the places with most first."""
    while hosts > 0 and left.any():
        at = np.unravel_index(int(left.argmax()), left.shape)
        done = min(hosts, int(left[at]))
        left[at] -= done
        hosts -= done


def _client(asked: _Asked) -> EventQuestion:
    params, services = asked.params, {one.slug: one for one in asked.ground.problem.services}
    names = asked.names
    unknown = [name for name in names if name not in services]
    if unknown:
        there = ", ".join(sorted(services))
        raise ProblemError([("params.subject", f"no service {unknown[0]!r} is asked about; there are: {there}")])
    changed, words = [], []
    for name in names:
        share = params.client_ratio if params.client_ratio is not None else asked.facts.client_ratio.get(name)
        if share is None:
            text = f"no history of {name} says how much its biggest client asks for: name its share"
            raise ProblemError([("params.client_ratio", text)])
        factor = [1 + share * (params.client_demand_ratio - 1) * held for held in asked.held(1.0)]
        demand = asked.ground.problem.at(services[name].demand_tok_s)
        changed.append(DemandValues(name, tuple(one * more for one, more in zip(demand, factor, strict=True))))
        words.append(f"the biggest client of {name}, {share:.0%} of its requests,")
    text = f"{' and '.join(words)} asks for {params.client_demand_ratio:g} times as much"
    incident = asked.incident(text[:1].upper() + text[1:], [])
    return EventQuestion(asked.ground.problem, replace(incident, demand=tuple(changed)))


def _new_model(asked: _Asked) -> EventQuestion:
    """A new service comes: the problem has it already, `snapshot_with_new` has put it there."""
    problem = asked.ground.problem
    slug = new_slug(asked.params.subject)
    service = next((one for one in problem.services if one.slug == slug), None)
    if service is None:
        raise ProblemError([("params.subject", f"no service {_like(asked.params)!r} is asked about")])
    if len(problem.services) == 1:
        text = "no other service asked about demands anything: there is nothing to hold a new one against"
        raise ProblemError([("params.subject", text)])
    demand = tuple(one * held for one, held in zip(problem.at(service.demand_tok_s), asked.held(1.0), strict=True))
    model = next(one.model for one in asked.ground.snapshot.services if one.slug == slug)
    incident = asked.incident(f"A service like {_like(asked.params)} comes with model {model}", [])
    incident = replace(incident, demand=(DemandValues(slug, demand),), new_services=(slug,))
    can = Counter(rate.kind for rate in problem.rates if rate.service == slug)
    notes = () if can else (f"No host type serves {model} within the promise: all of its demand goes unserved.",)
    return EventQuestion(problem, incident, notes=notes)


def new_slug(subject: str) -> str:
    """Return the slug of the service that a new model brings."""
    return f"{next(iter(names_of(subject)), '')}{NEW_SUFFIX}"


def _like(params: EventParams) -> str:
    """Return the service that a new one is like."""
    return next(iter(names_of(params.subject)), "")


def snapshot_with_new(snapshot: FleetSnapshot, params: EventParams, months: Sequence[date]) -> FleetSnapshot:
    """Return a fleet with the service of a new model: like another one in all but its model and its demand.

    Raises
    ------
    ProblemError
        If there is no service that it is to be like, or nothing would be asked of it. Which other services there are
        is not told: an account may not see them.
    """
    like = next((one for one in snapshot.services if one.slug == _like(params)), None)
    if like is None:
        raise ProblemError([("params.subject", f"there is no service {_like(params)!r}")])
    if not (like.demand_request_s if params.request_s is None else params.request_s):
        text = f"{like.slug} has no demand of its own: name requests above 0"
        raise ProblemError([("params.request_s", text)])
    slug = new_slug(params.subject)
    first = months[period_of(params.month, months)]
    made = replace(
        like,
        slug=slug,
        name=f"{like.name}, new model",
        model=params.model or like.model,
        demand_request_s=like.demand_request_s if params.request_s is None else params.request_s,
        demand_on=first,
    )
    return replace(snapshot, services=tuple(sorted((*snapshot.services, made), key=lambda one: one.slug)))
