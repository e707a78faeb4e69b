"""Small fleets for planners: one by hand, to be changed part by part, and drawn ones with every kind of rule."""

import random
from dataclasses import replace

from scenarios.planning.problem import (
    DECODE,
    PREFILL,
    WHOLE,
    DeliveryValues,
    DomainValues,
    FloorValues,
    KindValues,
    LimitValues,
    LostValues,
    OfferValues,
    PlaceValues,
    PlanProblem,
    RateValues,
    RuleValues,
    ServiceValues,
    SiteValues,
    SolverValues,
    StandingValues,
    UseValues,
    problem_check,
)

EXACT = SolverValues(gap_ratio=0.0, nodes_most=None)
GPU = KindValues("gpu", homegrown=False, power_w=10_000.0, idle_w=2_000.0, book_value=900.0, months_left=9.0)
OWN = KindValues("own", homegrown=True, power_w=6_000.0, idle_w=1_000.0, price=2_000.0, life_months=40.0)


def hand_fleet(**changes):
    """Return one site with two places, GPUs that stand and homegrown hosts that come, one service, two periods."""
    made = PlanProblem(
        periods=("2027-01", "2027-02"),
        sites=(SiteValues("north", region="r", pue_ratio=1.5, tariff_per_kwh=(0.5,), kgco2e_per_kwh=(0.4,)),),
        places=(PlaceValues("a", "north"), PlaceValues("b", "north")),
        kinds=(GPU, OWN),
        services=(
            ServiceValues("chat", "r", demand_tok_s=(800.0,), mean_ratio=0.5, input_ratio=3.0, penalty_per_mtok=9.0),
        ),
        rates=(RateValues("chat", "gpu", 100.0), RateValues("chat", "own", 80.0, port_cost=50.0)),
        standing=(StandingValues("a", "gpu", (6.0,)), StandingValues("b", "gpu", (6.0,))),
        deliveries=(DeliveryValues("north", "own", 0, 12),),
        rules=RuleValues(reserve_ratio=0.0),
        solver=EXACT,
    )
    made = replace(made, **changes)
    problem_check(made)
    return made


def drawn_fleet(seed, *, rounded=True):
    """Return a drawn fleet of two regions, three sites, three kinds and four services over four periods."""
    rng = random.Random(seed)
    kinds = (
        replace(GPU, slug="old", vendor="v1"),
        replace(GPU, slug="gpu", power_w=8_000.0, resale_ratio=0.4, vendor="v1"),
        replace(OWN, vendor="v2", upkeep_per_month=20.0),
    )
    sites = tuple(SiteValues(f"s{at}", f"r{at % 2}", tariff_per_kwh=(rng.choice((0.04, 0.07)),)) for at in range(3))
    places = tuple(PlaceValues(f"s{at}{hall}", f"s{at}") for at in range(3) for hall in "ab")
    services, rates = [], []
    for at in range(4):
        name, growth = f"m{at}", rng.choice((1.0, 1.1, 1.2))
        first = rng.randint(150, 500)
        services.append(
            ServiceValues(
                name,
                f"r{at % 2}",
                demand_tok_s=tuple(float(round(first * growth**t)) for t in range(4)),
                tier="gold" if at < 2 else "standard",
                mean_ratio=0.6,
                input_ratio=rng.choice((1.0, 4.0)),
                homegrown_ratio=0.0,
                penalty_per_mtok=rng.choice((None, 2.0, 20.0)) if at else 20.0,
            )
        )
        for kind in kinds:
            base = rng.choice((60.0, 80.0, 100.0))
            phases = [(WHOLE, base)] + [(PREFILL, 2 * base), (DECODE, 1.8 * base)] * rng.choice((0, 1))
            for phase, tok_s in phases:
                ready, cost = (rng.choice((0, 1, 2)), 100.0) if kind.homegrown else (0, 0.0)
                each = rng.choice((0.5, 1.0, 2.0, 4.0)) if rounded else 0.0
                rates.append(RateValues(name, kind.slug, tok_s, phase, each, ready=ready, port_cost=cost))
    made = PlanProblem(
        periods=tuple(f"2027-{t + 1:02d}" for t in range(4)),
        sites=sites,
        places=places,
        kinds=kinds,
        services=tuple(services),
        rates=tuple(rates),
        standing=tuple(
            StandingValues(place.slug, kind, (float(rng.randint(2, 4)),)) for place in places for kind in ("old", "gpu")
        ),
        deliveries=tuple(
            DeliveryValues(f"s{rng.randrange(3)}", "own", rng.randrange(3), rng.randint(1, 4)) for _ in range(4)
        ),
        offers=(OfferValues("own", 1, 2), OfferValues("own", 2, 2, "s0")),
        limits=tuple(
            LimitValues(
                f"feed {place.slug}",
                (rng.choice((60_000.0, 90_000.0)),),
                tuple(UseValues(place.slug, kind.slug, kind.power_w) for kind in kinds),
            )
            for place in places
        ),
        floors=(FloorValues(rng.choice((0.02, 0.1)), period=3),) * rng.choice((0, 1)),
        domains=(DomainValues("hall", (LostValues("s0a", 0.5),)),),
        rules=RuleValues(
            reserve_ratio=0.1,
            waves_most=3,
            rollback_ratio=rng.choice((0.0, 0.5)),
            hold_periods=1,
            shadow_ratio=rng.choice((0.0, 0.1)),
            shadow_periods=1,
            ramp_ratio=rng.choice((0.5, 1.0)),
            failover_penalty_per_mtok=1.0,
            discount_ratio_year=0.08,
        ),
        solver=SolverValues(gap_ratio=0.05, nodes_most=200),
    )
    problem_check(made)
    return made
