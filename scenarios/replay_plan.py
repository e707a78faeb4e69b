"""From a migration plan to what is replayed: the peak hour of each service in each period that is asked about."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from accelerator import DeploymentConfig, Rating, Slo, TokenMix
from scenarios.planning.plan import LoadRow, MigrationAnswer
from scenarios.planning.problem import PlanProblem
from scenarios.replay_values import ConfigValues, LoadValues, ReplayQuestion, UnitValues

LABEL = re.compile(r"(?P<precision>\w+?)(?P<sizes>( (tp|dp|pp|ep)\d+)+)")


@dataclass(frozen=True, slots=True)
class Served:
    """What a plan does not say of a service: its model, mix and promise, and what was rated for each kind and phase."""

    model: str
    mix: TokenMix
    slo: Slo
    units: Mapping[tuple[str, str], UnitValues]


def periods_with_waves(answer: MigrationAnswer) -> tuple[int, ...]:
    """Return the periods in which something opens, in order."""
    return tuple(sorted({row.period for row in answer.opened}))


def replay_questions(
    problem: PlanProblem,
    answer: MigrationAnswer,
    served: Mapping[str, Served],
    *,
    periods: Sequence[int],
    seed: int,
    samples: int = 8,
    reserve_ratio: float = 0.0,
    cache_hit_ratio: float = 0.0,
    cache_warm_s: float = 600.0,
) -> tuple[ReplayQuestion, ...]:
    """Return the peak hour of each service in some periods of a plan, by period, then in the problem's order.

    Parameters
    ----------
    served : mapping of service to Served
        A service that is left out is not replayed.
    reserve_ratio, cache_hit_ratio, cache_warm_s, samples
        See ReplayQuestion.

    Raises
    ------
    ValueError
        If nobody says what was rated for a kind that serves.
    """
    rates = {(rate.service, rate.kind, rate.phase): rate.tok_s for rate in problem.rates}
    sites = {place.slug: place.site for place in problem.located}
    opened = {(row.period, row.service, row.kind, row.phase) for row in answer.opened}

    def loads(period: int, service: str) -> Iterator[LoadValues]:
        for row in answer.loads:
            if row.period != period or row.service != service or row.serving_hosts <= 0:
                continue
            unit = served[service].units.get((row.kind, row.phase))
            if unit is None:
                raise ValueError(f"nobody says which replicas of {row.kind} serve {service} ({row.phase})")
            yield LoadValues(
                place=row.place,
                site=sites[row.place],
                kind=row.kind,
                phase=row.phase,
                hosts=row.serving_hosts,
                tok_s=rates[service, row.kind, row.phase],
                unit=unit,
                replicas=_serving(row),
                flips=(period, service, row.kind, row.phase) in opened,
            )

    return tuple(
        ReplayQuestion(
            period=problem.periods[period],
            service=service.slug,
            region=service.region,
            tier=service.tier,
            model=served[service.slug].model,
            mix=served[service.slug].mix,
            ttft_s=served[service.slug].slo.ttft_s,
            tpot_s=served[service.slug].slo.tpot_s,
            percentile=served[service.slug].slo.percentile,
            demand_tok_s=problem.at(service.demand_tok_s)[period],
            loads=tuple(loads(period, service.slug)),
            seed=seed,
            samples=samples,
            reserve_ratio=reserve_ratio,
            cache_hit_ratio=cache_hit_ratio,
            cache_warm_s=cache_warm_s,
        )
        for period in periods
        for service in problem.services
        if service.slug in served
    )


def _serving(row: LoadRow) -> float | None:
    """Return the share of a load's whole replicas that its traffic has, beside copies and what is held. [-]"""
    if row.replicas is None:
        return None
    return row.replicas * row.serving_hosts / (row.serving_hosts + row.shadow_hosts + row.reserve_hosts)


def unit_of_rating(rating: Rating, host_chips: int) -> UnitValues:
    """Return what a rating was found for; one by the closed formula leaves the limits of a step open.

    Raises
    ------
    ValueError
        If the rating is a refusal.
    """
    if rating.config is None or rating.refusal:
        raise ValueError(f"{rating.chip} does not serve {rating.model}: {rating.refusal}")
    return UnitValues(
        chip=rating.chip,
        host_chips=host_chips,
        config=_config_values(rating.config, is_open=not rating.simulated),
        replicas=rating.replicas,
        prefill=_config_values(rating.prefill_config, is_open=False) if rating.prefill_config else None,
        prefill_replicas=rating.prefill_replicas,
    )


def unit_of_label(label: str, chip: str, host_chips: int) -> UnitValues:
    """Return one replica of a config by its label, as ``fp8 tp4`` or ``int8 dp8 ep8``; limits of a step are open.

    Raises
    ------
    ValueError
        If it is no such label.
    """
    found = LABEL.fullmatch(label)
    if not found:
        raise ValueError(f"{label!r} is no config: as fp8 tp4, or int8 dp8 ep8")
    sizes = {name: int(size) for name, size in re.findall(r"([a-z]+)(\d+)", found["sizes"])}
    tp, pp, ep, dp = (sizes.get(name, 1) for name in ("tp", "pp", "ep", "dp"))
    return UnitValues(chip, host_chips, ConfigValues(found["precision"], tp=tp, pp=pp, ep=ep, dp=dp))


def _config_values(config: DeploymentConfig, *, is_open: bool) -> ConfigValues:
    return ConfigValues(
        weight_precision=config.weight_precision,
        kv_precision=config.kv_precision,
        tp=config.tp,
        pp=config.pp,
        ep=config.ep,
        dp=config.dp,
        max_batched_tok=0 if is_open else config.max_batched_tok,
        max_seqs=0 if is_open else config.max_seqs,
        engine=config.engine,
        expert_skew=config.expert_skew,
    )
