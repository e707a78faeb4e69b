"""From a point of the program to the plan: rows of hosts, loads and waves, and an account that adds up to the cent."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import (
    BoughtRow,
    FailoverRow,
    HostsRow,
    LimitRow,
    LoadRow,
    MigrationAnswer,
    MoneyRow,
    OpenRow,
    ShortRow,
    SolverNote,
)
from scenarios.planning.program import FloatArray
from scenarios.planning.solver import Solved

NOTICED = 1e-9  # of a host, or of demand: what the solver's tolerance leaves over


def answer_of(program: MigrationProgram, solved: Solved, *, status: str, note: SolverNote) -> MigrationAnswer:
    """Return the plan that a point of the program says."""
    values = solved.point
    return MigrationAnswer(
        status=status,
        solver=note,
        hosts=tuple(_hosts(program, values)),
        bought=tuple(_bought(program, values)),
        loads=tuple(_loads(program, values)),
        opened=tuple(_opened(program, values)),
        failover=tuple(_failover(program, values)),
        short=tuple(_short(program, values)),
        money=money_rows(program, values),
        limits=tuple(_limits(program, solved)),
    )


def _hosts(program: MigrationProgram, values: FloatArray) -> Iterator[HostsRow]:
    columns = program.columns
    pairs = sorted({*columns.kept, *columns.new})
    for period in range(program.count):
        for place, kind in pairs:
            kept, new = (
                round(float(values[part[place, kind][period]])) if (place, kind) in part else 0
                for part in (columns.kept, columns.new)
            )
            if kept or new:
                yield HostsRow(period=period, place=place, kind=kind, kept=kept, new=new)


def _bought(program: MigrationProgram, values: FloatArray) -> Iterator[BoughtRow]:
    total: dict[tuple[str, str], FloatArray] = defaultdict(lambda: np.zeros(program.count))
    for part in (program.columns.bought_own, program.columns.bought_free):
        for pair, at in part.items():
            total[pair] = total[pair] + values[at]
    for period in range(program.count):
        for (site, kind), bought in sorted(total.items()):
            if bought[period] > NOTICED:
                yield BoughtRow(period=period, site=site, kind=kind, hosts=float(bought[period]))


def _loads(program: MigrationProgram, values: FloatArray) -> Iterator[LoadRow]:
    columns = program.columns
    for period in range(program.count):
        for way, place in columns.serving:
            loads = [
                float(values[part[way, place][period]])
                if (way, place) in part and period < len(part[way, place])
                else 0.0
                for part in (columns.serving, columns.shadow, columns.reserve)
            ]
            serving, shadow, reserve = (load if load > NOTICED else 0.0 for load in loads)
            if serving or shadow or reserve:
                service, kind, phase = program.ways[way].key
                yield LoadRow(
                    period=period,
                    service=service,
                    place=place,
                    kind=kind,
                    phase=phase,
                    serving_hosts=serving,
                    shadow_hosts=shadow,
                    reserve_hosts=reserve,
                )


def _opened(program: MigrationProgram, values: FloatArray) -> Iterator[OpenRow]:
    for period in range(program.count):
        for way, at in program.columns.opened.items():
            if program.ways[way].rate.in_use:
                continue
            if values[at[period]] > 0.5 and (period == 0 or values[at[period - 1]] < 0.5):
                service, kind, phase = program.ways[way].key
                yield OpenRow(period=period, service=service, kind=kind, phase=phase)


def _failover(program: MigrationProgram, values: FloatArray) -> Iterator[FailoverRow]:
    for (domain, way), at in program.columns.failover.items():
        service, kind, phase = program.ways[way].key
        for period in range(program.count):
            hosts = float(values[at[period]])
            if hosts > NOTICED:
                yield FailoverRow(period=period, domain=domain, service=service, kind=kind, phase=phase, hosts=hosts)


def _short(program: MigrationProgram, values: FloatArray) -> Iterator[ShortRow]:
    parts = [("", slug, at) for slug, at in program.columns.short.items()]
    parts += [(domain, slug, at) for (domain, slug), at in program.columns.failover_short.items()]
    for domain, slug, at in parts:
        demand = program.facts.demand[slug]
        for period in range(program.count):
            tok_s = float(values[at[period]])
            if tok_s > NOTICED * demand[period]:
                yield ShortRow(period=period, service=slug, tok_s=tok_s, domain=domain)


def _limits(program: MigrationProgram, solved: Solved) -> Iterator[LimitRow]:
    used = program.frozen.matrix @ solved.point
    for limit in program.problem.limits:
        most = program.problem.at(limit.limit)
        for period, row in enumerate(program.limit_rows[limit.slug]):
            yield LimitRow(
                period=period,
                slug=limit.slug,
                constraint=limit.constraint,
                used=float(used[row]),
                limit=most[period],
                unit=limit.unit,
                shadow_price=max(0.0, float(solved.duals[row])) if solved.duals is not None else 0.0,
            )


def money_rows(program: MigrationProgram, values: FloatArray) -> tuple[MoneyRow, ...]:
    """Return what each period costs by item, from the decisions themselves and not from the program's costs."""
    facts, columns, problem, count = program.facts, program.columns, program.problem, program.count
    kinds = {kind.slug: kind for kind in problem.kinds}
    services = {service.slug: service for service in problem.services}
    sites = {site.slug: site for site in problem.sites}
    site_of = {place.slug: place.site for place in problem.located}
    item: dict[str, FloatArray] = defaultdict(lambda: np.zeros(count))
    for hosts in (columns.kept, columns.new):
        for (place, slug), at in hosts.items():
            kind = kinds[slug]
            price = facts.energy_price(sites[site_of[place]], homegrown=kind.homegrown)
            item["energy"] += price * kind.idle_w * values[at]
            item["upkeep"] += kind.upkeep_per_month * problem.rules.period_months * values[at]
    for (place, slug), at in columns.kept.items():
        book, kept = facts.book(slug), values[at]
        comes = facts.arriving(place, slug)
        before = np.concatenate(([facts.standing[place, slug][0]], kept[:-1] + comes[1:]))
        comes[0] = facts.standing[place, slug][0]
        item["opening"] += book[:-1] * comes
        item["resale"] -= book[:-1] * (before - kept)
        item["remaining"][-1] -= book[-1] * kept[-1]
    for bought in (columns.bought_own, columns.bought_free):
        for (_site, slug), at in bought.items():
            item["capex"] += kinds[slug].price * values[at]
            item["remaining"][-1] -= float(kinds[slug].price * facts.remaining_ratio(slug) @ values[at])
    for loads in (columns.serving, columns.shadow):
        for (way, place), at in loads.items():
            item["energy"][: len(at)] += program.load_price(way, place)[: len(at)] * values[at]
    for way, at in columns.opened.items():
        opens = np.diff(values[at], prepend=float(program.ways[way].rate.in_use))
        item["porting"] += program.ways[way].rate.port_cost * opens
    for slug, at in columns.short.items():
        per_mtok = services[slug].penalty_per_mtok or 0.0
        item["penalty"] += facts.penalty_price(per_mtok, services[slug]) * values[at]
    for (_domain, slug), at in columns.failover_short.items():
        per_mtok = problem.rules.failover_penalty_per_mtok or 0.0
        item["penalty"] += facts.penalty_price(per_mtok, services[slug]) * values[at]
    for row in problem.deliveries:
        item["deliveries"][row.period] += row.price * row.hosts
    names = ("capex", "deliveries", "energy", "upkeep", "porting", "opening", "resale", "penalty", "remaining")
    rows = []
    for period in range(count):
        each = {name: float(item[name][period]) for name in names}
        now = sum(amount for name, amount in each.items() if name != "remaining")
        discounted = facts.discount[period] * now + facts.discount[-1] * each["remaining"]
        rows.append(MoneyRow(period=period, **each, total=now + each["remaining"], discounted=float(discounted)))
    return tuple(rows)
