"""Figures of a plan, in long form: name, period, scope, value and unit; none with a reason where an input is missing.

docs/models/plan-figures.md lists them all. A function a figure; its docstring is the formula.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scenarios.planning.migration_program import ANSWERS, PROMPTS
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import DECODE, GOLD, PREFILL, WHOLE, PlanProblem
from scenarios.planning.program import FloatArray
from scenarios.planning.reading import RESERVE, SERVING, SHADOW, SIDES, Reading

FLEET = "fleet"
STATES = ("serving", "shadow", "reserve", "idle")
SUPPLIERS = ("vendor", "foundry", "hbm_maker")


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One figure of a plan."""

    name: str
    period: int | None  # position; None: over the horizon
    scope: str  # fleet, or a kind of thing and its name, as "region north" or "kind h20"
    value: float | None
    unit: str
    reason: str = ""  # why there is no value


@dataclass(frozen=True)
class Inputs:
    """What figures need beside the problem and the answer; what is not given leaves figures without a value.

    Attributes
    ----------
    compute_flop_s : mapping of kind to float
        Effective compute of a host. [flop/s]
    bare_cost : float, optional
        Discounted cost of the best plan without shadow and reserve. [money]
    left_ratio : mapping of kind to float
        Event: the share of each kind's hosts that is left after it. [-]
    """

    compute_flop_s: Mapping[str, float] = field(default_factory=dict)
    bare_cost: float | None = None
    left_ratio: Mapping[str, float] = field(default_factory=dict)


Rows = Iterator[MeasureRow]


def measures(problem: PlanProblem, answer: MigrationAnswer, inputs: Inputs | None = None) -> tuple[MeasureRow, ...]:
    """Return every figure of a plan.

    Raises
    ------
    ValueError
        If the answer holds no plan.
    """
    if not answer.is_plan:
        raise ValueError(f"there is no plan to measure: {answer.status}")
    reading = Reading(problem, answer)
    return tuple(row for measure in MEASURES for row in measure(reading, inputs or Inputs()))


# --- formulas that stand alone ----------------------------------------------------------------------------------------
def hhi(capacity: Mapping[str, float]) -> float | None:
    """Return the Herfindahl-Hirschman index: the sum of squared shares, 1 / n for n equal ones; None of nothing. [-]"""
    total = sum(capacity.values())
    return sum((one / total) ** 2 for one in capacity.values()) if total > 0 else None


def prefill_storm_ratio(hit_ratio: float, flipped_ratio: float = 1.0) -> float:
    """Return by how much prefill work grows when traffic flips to hosts whose prefix cache is cold. [-]

    With hit rate h, work is 1 - h of all prompts before and 1 of those flipped after, so for a share f of the traffic
    1 + f h / (1 - h), until the cache is warm again.

    Parameters
    ----------
    hit_ratio : float
        Share of prompt tokens that the cache holds, below 1. [-]
    flipped_ratio : float
        Share of the traffic that flips. [-]
    """
    if not (0 <= hit_ratio < 1 and 0 <= flipped_ratio <= 1):
        raise ValueError(f"{hit_ratio=} must be in [0, 1), {flipped_ratio=} in [0, 1]")
    return 1 + flipped_ratio * hit_ratio / (1 - hit_ratio)


# --- hosts ------------------------------------------------------------------------------------------------------------
def states(reading: Reading, _inputs: Inputs) -> Rows:
    """Hosts by state, for each kind and region: serving x, shadow v, reserve q, idle H - x - v - q. [hosts]"""
    for region in _regions(reading):
        for kind in reading.kinds:
            places = [place for place, home in reading.region_of.items() if home == region]
            hosts = sum((reading.hosts(place, kind) for place in places), reading.zeros())
            filled = sum((reading.filled(place, kind) for place in places), np.zeros((3, reading.count)))
            if not hosts.any():
                continue
            for state, values in zip(STATES, (*filled, hosts - filled.sum(axis=0)), strict=True):
                yield from _each(f"{state}_hosts", f"region {region} kind {kind}", values, "hosts")


def dual_running(reading: Reading, inputs: Inputs) -> Rows:
    """Peak of dual running: the first period with most shadow and reserve hosts, how many, and what safety costs.

    The cost of safety is the plan's discounted cost less that of the best plan without shadow and reserve. [money]
    """
    twice = sum((load[SHADOW] + load[RESERVE] for load in reading.loads.values()), reading.zeros())
    peak = int(twice.argmax())
    yield MeasureRow("dual_running_peak_hosts", peak, FLEET, float(twice[peak]), "hosts")
    cost = sum(row.discounted for row in reading.answer.money)
    if inputs.bare_cost is None:
        yield MeasureRow("safety_cost", None, FLEET, None, "money", "no plan without shadow and reserve is given")
    else:
        yield MeasureRow("safety_cost", None, FLEET, cost - inputs.bare_cost, "money")


# --- power, energy, carbon --------------------------------------------------------------------------------------------
def power(reading: Reading, _inputs: Inputs) -> Rows:
    """IT power of a place in the peak hour: sum over kinds of idle_w H + (busy_w - idle_w)(x + v). [W]"""
    for place in reading.site_of:
        yield from _each("power_w", f"place {place}", _power_w(reading, place, peak=True), "W")


def energy(reading: Reading, _inputs: Inputs) -> Rows:
    """Energy of a site with PUE, by period, and its carbon; both over the output tokens served, for the fleet.

    hours x PUE x sum over places and kinds of (idle_w H + (busy_w - idle_w) mean_ratio (x + v)) / 1000 [kWh], times
    the carbon of the site's energy [kgCO2e].
    """
    total, carbon = reading.zeros(), reading.zeros()
    for slug, site in reading.sites.items():
        places = [place for place, home in reading.site_of.items() if home == slug]
        watts = sum((_power_w(reading, place, peak=False) for place in places), reading.zeros())
        kwh = reading.problem.period_hours * site.pue_ratio * watts / 1000
        kgco2e = kwh * np.array(reading.problem.at(site.kgco2e_per_kwh))
        yield from _each("energy_kwh", f"site {slug}", kwh, "kWh")
        yield from _each("carbon_kgco2e", f"site {slug}", kgco2e, "kgCO2e")
        total, carbon = total + kwh, carbon + kgco2e
    served = _served_mtok(reading, list(reading.services))
    nothing = "nothing is served"
    yield from _over_each("kwh_per_mtok", FLEET, total, served, "kWh/Mtok", nothing)
    yield from _over_each("kgco2e_per_mtok", FLEET, carbon, served, "kgCO2e/Mtok", nothing)


def money(reading: Reading, _inputs: Inputs) -> Rows:
    """Money for a million output tokens served: energy and upkeep by period, all over the horizon. [money/Mtok]"""
    served = _served_mtok(reading, list(reading.services))
    running, all_in = reading.zeros(), 0.0
    for row in reading.answer.money:
        running[row.period] += row.energy + row.upkeep
        all_in += row.total
    yield from _over_each("running_cost_per_mtok", FLEET, running, served, "money/Mtok", "nothing is served")
    value = all_in / float(served.sum()) if served.sum() > 0 else None
    yield MeasureRow(
        "cost_per_mtok", None, FLEET, value, "money/Mtok", "" if value is not None else "nothing is served"
    )


def _power_w(reading: Reading, place: str, *, peak: bool) -> FloatArray:
    watts = reading.zeros()
    for slug, kind in reading.kinds.items():
        watts += kind.idle_w * reading.hosts(place, slug)
    for key, load in reading.loads.items():
        if key[3] == place:
            mean_ratio = 1.0 if peak else reading.services[key[0]].mean_ratio
            rise_w = reading.busy_w(key[1]) - reading.kinds[key[1]].idle_w
            watts += rise_w * mean_ratio * (load[SERVING] + load[SHADOW])
    return watts


# --- homegrown shares -------------------------------------------------------------------------------------------------
def homegrown_shares(reading: Reading, inputs: Inputs) -> Rows:
    """Share of the tokens served that homegrown hosts serve, by region and tier, of all tokens and of output tokens.

    Sum over services of mean_ratio (i P + D) over the same of (1 + i)(d - u); for output tokens i = 0. Of compute: the
    homegrown part of H x effective compute. [-]
    """
    slugs = list(reading.services)
    yield from _share(reading, "homegrown_token_ratio", FLEET, slugs, output=False)
    yield from _share(reading, "homegrown_output_ratio", FLEET, slugs, output=True)
    for region in _regions(reading):
        ours = [slug for slug in slugs if reading.services[slug].region == region]
        yield from _share(reading, "homegrown_token_ratio", f"region {region}", ours, output=False)
    for tier in sorted({one.tier for one in reading.services.values()}):
        ours = [slug for slug in slugs if reading.services[slug].tier == tier]
        yield from _share(reading, "homegrown_token_ratio", f"tier {tier}", ours, output=False)
    if missing := [kind for kind in reading.kinds if kind not in inputs.compute_flop_s]:
        reason = f"no effective compute is given of {', '.join(missing)}"
        yield MeasureRow("homegrown_compute_ratio", None, FLEET, None, "-", reason)
        return
    flop_s = {kind: inputs.compute_flop_s[kind] * _hosts(reading, kind) for kind in reading.kinds}
    ours_flop_s = sum((flop_s[slug] for slug, kind in reading.kinds.items() if kind.homegrown), reading.zeros())
    total = sum(flop_s.values(), reading.zeros())
    yield from _over_each("homegrown_compute_ratio", FLEET, ours_flop_s, total, "-", "no host stands")


def portable(reading: Reading, _inputs: Inputs) -> Rows:
    """Ceiling of the homegrown share: tokens demanded of services with a homegrown way for prompts and one for answers
    that is ready, over all tokens demanded, by period. [-]"""
    may, total = reading.zeros(), reading.zeros()
    periods = np.arange(reading.count)
    for slug, service in reading.services.items():
        ready = {
            phase: np.any(
                [
                    (periods >= reading.rates[way].ready) | reading.rates[way].in_use
                    for way in reading.ways
                    if way[0] == slug and way[2] == phase and reading.kinds[way[1]].homegrown
                ]
                or [np.zeros(reading.count, dtype=bool)],
                axis=0,
            )
            for phase in (WHOLE, PREFILL, DECODE)
        }
        tokens = service.mean_ratio * (1 + service.input_ratio) * reading.demand[slug]
        may += tokens * (ready[WHOLE] | (ready[PREFILL] & ready[DECODE]))
        total += tokens
    yield from _over_each("portable_ratio", FLEET, may, total, "-", "nothing is demanded")


def _share(reading: Reading, name: str, scope: str, slugs: list[str], *, output: bool) -> Rows:
    done, total = reading.zeros(), reading.zeros()
    for slug in slugs:
        service = reading.services[slug]
        for side, phases in SIDES:
            weight = service.mean_ratio * ((0.0 if output else service.input_ratio) if side == "prompts" else 1.0)
            done += weight * reading.tok_s(slug, phases, homegrown=True)
            total += weight * reading.tok_s(slug, phases)
    yield from _over_each(name, scope, done, total, "-", "nothing is served")


# --- suppliers and exposure -------------------------------------------------------------------------------------------
def concentration(reading: Reading, inputs: Inputs) -> Rows:
    """HHI by vendor, foundry and HBM maker of effective capacity: sum of squared shares. [-]

    Capacity of a supplier is the sum over its kinds of H x effective compute. A kind without a supplier's name leaves
    the figure without a value.
    """
    for name in SUPPLIERS:
        stands = [kind for kind in reading.kinds if _hosts(reading, kind).any()]
        unnamed = [kind for kind in stands if not getattr(reading.kinds[kind], name)]
        unknown = [kind for kind in stands if kind not in inputs.compute_flop_s]
        reason = f"no {name} is given of {', '.join(unnamed)}" if unnamed else ""
        reason = reason or (f"no effective compute is given of {', '.join(unknown)}" if unknown else "")
        if reason:
            yield MeasureRow(f"hhi_{name}", None, FLEET, None, "-", reason)
            continue
        for period in range(reading.count):
            capacity: dict[str, float] = defaultdict(float)
            for kind in stands:
                supplier = getattr(reading.kinds[kind], name)
                capacity[supplier] += inputs.compute_flop_s[kind] * float(_hosts(reading, kind)[period])
            value = hhi(capacity)
            yield MeasureRow(f"hhi_{name}", period, FLEET, value, "-", "" if value is not None else "no host stands")


def supplier_exposure(reading: Reading, _inputs: Inputs) -> Rows:
    """Share of the tokens served that stand on hosts of one vendor, foundry or HBM maker: before anything moves, what
    is lost if they must be switched off. By output tokens of answers, mean_ratio r x. [-]"""
    for name in SUPPLIERS:
        suppliers = sorted({getattr(kind, name) for kind in reading.kinds.values()} - {""})
        if not suppliers:
            yield MeasureRow(f"{name}_exposure_ratio", None, FLEET, None, "-", f"no kind has a {name}")
        for supplier in suppliers:
            kinds = [slug for slug, kind in reading.kinds.items() if getattr(kind, name) == supplier]
            yield from _on_kinds(reading, f"{name}_exposure_ratio", f"{name} {supplier}", dict.fromkeys(kinds, 1.0))


def event_exposure(reading: Reading, inputs: Inputs) -> Rows:
    """Share of the tokens served that an event takes: sum over kinds of (1 - left) times their share, before anything
    moves. What is lost after loads have moved is `losses.unserved_after`. [-]"""
    if not inputs.left_ratio:
        yield MeasureRow("event_exposure_ratio", None, FLEET, None, "-", "no event is given")
        return
    lost = {kind: 1 - left for kind, left in inputs.left_ratio.items()}
    yield from _on_kinds(reading, "event_exposure_ratio", "event", lost)


def monoculture(reading: Reading, _inputs: Inputs) -> Rows:
    """Largest share of the homegrown tokens on one kind of host: what one fault of a chip and its software can take at
    once, where every host of a kind runs one firmware. [-]"""
    kinds = [slug for slug, kind in reading.kinds.items() if kind.homegrown]
    each = np.array([_answers_mtok(reading, [kind]) for kind in kinds] or [reading.zeros()])
    yield from _over_each(
        "monoculture_ratio", FLEET, each.max(axis=0), each.sum(axis=0), "-", "nothing is served on homegrown hosts"
    )


def _on_kinds(reading: Reading, name: str, scope: str, weights: Mapping[str, float]) -> Rows:
    done = sum((weight * _answers_mtok(reading, [kind]) for kind, weight in weights.items()), reading.zeros())
    total = _answers_mtok(reading, list(reading.kinds))
    yield from _over_each(name, scope, done, total, "-", "nothing is served")


# --- supply, safety, value --------------------------------------------------------------------------------------------
def cover(reading: Reading, _inputs: Inputs) -> Rows:
    """Months of cover by kind and period: hosts delivered or to be delivered that the plan has not racked yet, over the
    hosts that it racks in a month from then on. [month]"""
    for kind in reading.kinds:
        delivered = sum((row.hosts for row in reading.problem.deliveries if row.kind == kind), 0)
        new = sum((values for pair, values in reading.new.items() if pair[1] == kind), reading.zeros())
        if not delivered and not new.any():
            continue
        bought = np.cumsum(sum((v for pair, v in reading.bought.items() if pair[1] == kind), reading.zeros()))
        for period in range(reading.count):
            months = (reading.count - period) * reading.problem.rules.period_months
            before = float(new[period - 1]) if period else 0.0
            need = (float(new[-1]) - before) / months
            stock = max(0.0, delivered + float(bought[period]) - before)
            value = stock / need if need > 0 else None
            reason = "" if value is not None else "no more hosts are needed"
            yield MeasureRow("cover_months", period, f"kind {kind}", value, "month", reason)


def rollback(reading: Reading, _inputs: Inputs) -> Rows:
    """Rollback sufficiency: the share of the gold tier's homegrown traffic that can return to GPU hosts held for it at
    once: the lesser of prompts and answers, sum of min(moved, r q) over services, over what is moved. [-]"""
    gold = [slug for slug, one in reading.services.items() if one.tier == GOLD]
    if not gold:
        yield MeasureRow("rollback_ratio", None, f"tier {GOLD}", None, "-", "no service is of that tier")
        return
    can, moved = reading.zeros(), reading.zeros()
    for slug in gold:
        shares = []
        ours = [reading.tok_s(slug, phases, homegrown=True) for phases in (PROMPTS, ANSWERS)]
        for phases, traffic in zip((PROMPTS, ANSWERS), ours, strict=True):
            held = sum(
                (reading.rates[k[:3]].tok_s * v[RESERVE] for k, v in reading.loads_of(slug, phases)), reading.zeros()
            )
            shares.append(np.divide(np.minimum(held, traffic), traffic, out=np.ones_like(held), where=traffic > 0))
        most = np.maximum(*ours)
        can += most * np.minimum(*shares)
        moved += most
    yield from _over_each("rollback_ratio", f"tier {GOLD}", can, moved, "-", "nothing has moved")


def stranded(reading: Reading, _inputs: Inputs) -> Rows:
    """Stranded value by kind: book value of the hosts that stand times the share of them that is idle. [money]

    Kept hosts have the kind's book value, written off straight; new ones their price, written off over their life from
    the period in which they stand first.
    """
    step = reading.problem.rules.period_months
    periods = np.arange(reading.count)
    for slug, kind in reading.kinds.items():
        kept = sum((values for pair, values in reading.kept.items() if pair[1] == slug), reading.zeros())
        new = sum((values for pair, values in reading.new.items() if pair[1] == slug), reading.zeros())
        hosts = kept + new
        if not hosts.any():
            continue
        book = kept * kind.book_value * np.maximum(0.0, 1 - periods * step / kind.months_left)
        for period, more in enumerate(np.diff(new, prepend=0.0)):
            age = np.maximum(periods - period, 0) * step
            book += more * kind.price * np.maximum(0.0, 1 - age / kind.life_months) * (periods >= period)
        filled = sum((reading.filled(place, slug).sum(axis=0) for place in reading.site_of), reading.zeros())
        idle = np.divide(hosts - filled, hosts, out=reading.zeros(), where=hosts > 0)
        yield from _each("stranded_value", f"kind {slug}", book * idle, "money")


# --- small parts ------------------------------------------------------------------------------------------------------
def _regions(reading: Reading) -> list[str]:
    return sorted({site.region for site in reading.sites.values()})


def _hosts(reading: Reading, kind: str) -> FloatArray:
    return sum((reading.hosts(place, kind) for place in reading.site_of), reading.zeros())


def _served_mtok(reading: Reading, slugs: Iterable[str]) -> FloatArray:
    """Return output tokens served over a period. [Mtok]"""
    total = reading.zeros()
    for slug in slugs:
        total += reading.tok_s(slug, ANSWERS) * reading.facts.penalty_price(1.0, reading.services[slug])
    return total


def _answers_mtok(reading: Reading, kinds: list[str]) -> FloatArray:
    """Return output tokens made on some kinds over a period. [Mtok]"""
    total = reading.zeros()
    for key, load in reading.loads.items():
        if key[1] in kinds and key[2] in ANSWERS:
            each = reading.facts.penalty_price(1.0, reading.services[key[0]])
            total += reading.rates[key[:3]].tok_s * load[SERVING] * each
    return total


def _each(name: str, scope: str, values: FloatArray, unit: str) -> Rows:
    yield from (MeasureRow(name, period, scope, float(value), unit) for period, value in enumerate(values))


def _over_each(name: str, scope: str, part: FloatArray, whole: FloatArray, unit: str, reason: str) -> Rows:
    """Yield a part over a whole in each period; where the whole is nothing, none and why."""
    for period, (above, below) in enumerate(zip(part, whole, strict=True)):
        if below > 0:
            yield MeasureRow(name, period, scope, float(above / below), unit)
        else:
            yield MeasureRow(name, period, scope, None, unit, reason)


Measure = Callable[[Reading, Inputs], Rows]
MEASURES: tuple[Measure, ...] = (
    states,
    dual_running,
    power,
    energy,
    money,
    homegrown_shares,
    portable,
    concentration,
    supplier_exposure,
    event_exposure,
    monoculture,
    cover,
    rollback,
    stranded,
)
