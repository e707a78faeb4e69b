"""From what a run has read to the question of its migration plan: prices and gates of the fleet, and its parameters."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

import numpy as np

from accelerator import TokenMix
from fleet.models import Gate, HostType
from fleet.models.hosts import Currency
from scenarios.grounds import Question, Rates, problem_of
from scenarios.plan_futures import Demand, futures_of
from scenarios.plan_replay import RatedUnit, ReplayFacts, ServedFacts
from scenarios.plan_steps import PlanQuestion
from scenarios.planning.params import PARAMS, MigrationParams
from scenarios.planning.plain import plain_read
from scenarios.planning.problem import DECODE, PREFILL, WHOLE, PlanProblem, problem_check
from scenarios.plans import Problem
from scenarios.ratings import PairRate, RatingTable, phases_of, service_slo
from scenarios.replay_plan import unit_of_label, unit_of_rating
from scenarios.replay_values import CACHE_HIT_MOST

Gates = dict[tuple[str, str], list[tuple[str, str, str]]]
"""Gate, state and owner of each pair of family and chip."""


@dataclass(frozen=True, eq=False)
class PlanFacts:
    """What a plan takes from the fleet beside its snapshot: money of host types and gates of readiness."""

    prices: tuple[tuple[str, Decimal | None, str], ...]
    gates: Gates


def plan_facts() -> PlanFacts:
    """Read prices and gates as they are now."""
    prices = tuple(HostType.objects.values_list("slug", "price", "currency"))
    return PlanFacts(prices=prices, gates=_gates())


def plan_question(
    problem: Problem, table: RatingTable, facts: PlanFacts, demand: Demand, read: MigrationParams
) -> PlanQuestion:
    """Return the question of a plan.

    Parameters
    ----------
    problem : Problem
        What the run has read: fleet, months, readiness.
    table : RatingTable
        Ratings of its services on its kinds.
    demand : Demand
        Of its services.
    read : MigrationParams
        The scenario's own parameters, money in its currency.

    Raises
    ------
    ValueError
        If they name what is not there, or a month beyond the horizon.
    """
    snapshot = problem.snapshot
    asked = Question(
        months=problem.months,
        rates=_rates(problem, table, split=read.split),
        demand_tok_s=demand.tok_s,
        mean_ratio=demand.mean_ratio,
        input_ratio=np.array([mix.input_tok / mix.output_tok for mix in table.mixes]),
        allowed=problem.allowed,
        homegrown=problem.homegrown,
        in_scope=problem.in_scope,
        reserve_ratio=problem.reserve_ratio,
        hold_months=problem.dual_run_months,
        seed=problem.seed,
        params=read,
        price=_prices(facts, read),
    )
    made = _with_gates(problem_of(snapshot, asked), problem, facts.gates)
    problem_check(made)
    return PlanQuestion(
        problem=made,
        months=problem.months,
        futures=futures_of(made, problem, demand, read),
        params=read,
        draws=problem.draws,
        seed=problem.seed,
    )


# --- what is replayed -------------------------------------------------------------------------------------------------
def replay_facts(
    problem: Problem, table: RatingTable, demand: Demand, *, trace_digest: str, split: bool
) -> ReplayFacts:
    """Return what a replay needs beside the plan: mixes and promises of its services, and what was rated for them.

    Parameters
    ----------
    trace_digest : str
        Of the recorded workload that replaces the services' own; empty: there is none.
    split : bool
        Whether prompts and answers may run apart.
    """
    snapshot = problem.snapshot
    return ReplayFacts(
        calibration_digest=table.in_use.digest if table.in_use else "",
        trace_digest=trace_digest,
        services=tuple(
            ServedFacts(
                service=service.slug,
                model=service.model,
                mix=table.mixes[s],
                slo=service_slo(service),
                cache_hit_ratio=min(float(demand.cache_hit_ratio[s]), CACHE_HIT_MOST),
                units=tuple(
                    unit
                    for kind, pair in zip(snapshot.kinds, table.pairs[s], strict=True)
                    for unit in _units(kind.slug, pair, table.mixes[s], split=split)
                ),
            )
            for s, service in enumerate(snapshot.services)
            if problem.in_scope[s]
        ),
    )


def _units(kind: str, pair: PairRate, mix: TokenMix, *, split: bool) -> Iterator[RatedUnit]:
    """Yield what was rated for the whole of a service, and for its prompts and answers alone."""
    rating, whole = pair.rating, None
    if rating.refusal or rating.config is None:
        yield RatedUnit(kind, WHOLE, None, rating.refusal or "its rating names no config")
    else:
        whole = unit_of_rating(rating, pair.host_chips)
        yield RatedUnit(kind, WHOLE, whole)
    for phase, rate in zip((PREFILL, DECODE), phases_of(pair, mix), strict=True) if split else ():
        if not rate.refusal:
            yield RatedUnit(kind, phase, unit_of_label(rate.label, rating.chip, pair.host_chips))
        elif whole is not None and whole.prefill is None:  # who serves requests whole can do either phase
            yield RatedUnit(kind, phase, whole)
        else:
            yield RatedUnit(kind, phase, None, rate.refusal)


def _rates(problem: Problem, table: RatingTable, *, split: bool) -> dict[str, Rates]:
    """Return what hosts do for whole services, and where services may be split for prompts and answers alone.

    Replicas of a phase are as large as those of the whole: what reads prompts has the weights to hold as well.
    """
    replicas = table.replicas_per_host.astype(np.float64)
    rates = {WHOLE: Rates(problem.rate_low_tok_s, problem.rate_tok_s, problem.rate_high_tok_s, replicas)}
    if split:
        for phase, of_phase in ((PREFILL, table.prefill), (DECODE, table.decode)):
            rates[phase] = Rates(of_phase.rate_low_tok_s, of_phase.rate_tok_s, of_phase.rate_high_tok_s, replicas)
    return rates


def params_read(kind: str, params: Mapping[str, object]) -> MigrationParams:
    """Return the parameters of a kind of scenario as a plan takes them, money in the scenario's currency.

    What a kind takes beyond them is left out, what it does not take is left at the default of a migration.
    """
    read: Any = plain_read(PARAMS[kind], params, place="params")
    if type(read) is not MigrationParams:
        taken = set(MigrationParams.__dataclass_fields__)
        read = MigrationParams(**{one.name: getattr(read, one.name) for one in fields(read) if one.name in taken})
    return params_in_currency(read, set(params))


def params_in_currency(params: MigrationParams, named: set[str]) -> MigrationParams:
    """Return parameters whose defaults of money, which are in yuan, are in the scenario's currency."""
    if params.currency == Currency.CNY:
        return params
    money = [one.name for one in fields(params) if one.metadata["unit"].startswith("money") and one.name not in named]
    return replace(params, **{name: getattr(params, name) / params.cny_per_usd for name in money})


def _prices(facts: PlanFacts, params: MigrationParams) -> dict[str, float]:
    """Return the price of each host type that has one, in the scenario's currency."""
    in_cny: dict[str, float] = {Currency.CNY: 1.0, Currency.USD: params.cny_per_usd}
    return {
        slug: float(price) * in_cny[currency] / in_cny[params.currency]
        for slug, price, currency in facts.prices
        if price is not None
    }


def _with_gates(made: PlanProblem, problem: Problem, said: Gates) -> PlanProblem:
    """Return the problem with what each homegrown way still waits for, in words."""
    chips = {kind.slug: kind.chip for kind in problem.snapshot.kinds}
    models = {service.slug: service.model for service in problem.snapshot.services}
    homegrown = {kind.slug for kind in made.kinds if kind.homegrown}
    return replace(
        made,
        rates=tuple(
            replace(rate, gates=_gates_text(said, models[rate.service], chips[rate.kind]))
            if rate.kind in homegrown
            else rate
            for rate in made.rates
        ),
    )


def _gates() -> Gates:
    found: Gates = defaultdict(list)
    for family, chip, gate, state, owner in Gate.objects.order_by("gate").values_list(
        "family", "chip", "gate", "state", "owner"
    ):
        found[family, chip].append((gate, state, owner))
    return found


def _gates_text(gates: Gates, model: str, chip: str) -> str:
    """Return the gates of the family with the longest name that the model's begins with."""
    slug = model.replace(".", "-")
    families = sorted(
        (family for family, of_chip in gates if of_chip == chip and slug.startswith(family)), key=len, reverse=True
    )
    if not families:
        return ""
    rows = gates[families[0], chip]
    closed = [(gate, owner) for gate, state, owner in rows if state != Gate.State.PASSED]
    if not closed:
        return f"all {len(rows)} passed"
    owners = ", ".join(sorted({owner for _gate, owner in closed if owner}))
    waits = ", ".join(gate for gate, _owner in closed)
    return f"{len(rows) - len(closed)} passed; {waits} not yet" + (f" ({owners})" if owners else "")
