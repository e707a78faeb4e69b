"""How fast capacity queries are answered about a seeded fleet of a million cards, on SQLite.

A day that was never asked about, the fleet's snapshot included; then other places and types of that day, each question
new; then the same questions again. Questions are drawn over sites, regions and the whole fleet (7 : 2 : 1). No broker
runs here, so no answer comes from the cache: what is measured is what a process keeps.
"""

import argparse
import logging
import random
import time
from collections import defaultdict
from datetime import date

import numpy as np
from database import tables_make
from measure import figure_print, machine_print

from fleet.rawrows import tables_settle
from fleet.seeds import fleet_seed
from fleet.selectors import snapshot_cached
from fleet.snapshot import FleetSnapshot
from scenarios.queries import CapacityQuestion, capacity_query

CARDS, SEED, START = 1_000_000, 1, date(2026, 11, 1)
FIRST, DAYS = date(2026, 11, 10), (date(2026, 11, 15), date(2027, 5, 10))
QUESTIONS = 150
PLACES = {"site": 7, "region": 2, "everywhere": 1}


def asked(fleet: FleetSnapshot, day: date, draw: random.Random) -> tuple[str, CapacityQuestion]:
    """Return a kind of place, and a question about one such place."""
    place = draw.choices(list(PLACES), list(PLACES.values()))[0]
    scope = {"site": [site.slug for site in fleet.sites], "region": [region.slug for region in fleet.regions]}
    where = {place: draw.choice(scope[place])} if place in scope else {}
    kind, service = draw.choice(fleet.kinds).slug, draw.choice(fleet.services).slug
    return place, CapacityQuestion(as_of=day, kind=kind, service=service, **where)


def taken_ms(question: CapacityQuestion) -> tuple[float, float]:
    """Return the time that an answer takes on the clock, and of the CPU. [ms]"""
    begun_s, cpu_s = time.monotonic(), time.process_time()
    capacity_query(question)
    return (time.monotonic() - begun_s) * 1e3, (time.process_time() - cpu_s) * 1e3


def spread_print(what: str, times: list[tuple[float, float]]) -> None:
    """Print the middle and the 95th percentile, on the clock and of the CPU."""
    for quantile in (0.5, 0.95):
        wall_ms, cpu_ms = (float(np.quantile([pair[at] for pair in times], quantile)) for at in (0, 1))
        figure_print(f"{what}, P{quantile * 100:.0f} of {len(times)}", wall_ms, "ms")
        figure_print(f"{what}, P{quantile * 100:.0f}, CPU", cpu_ms, "CPU-ms")


def bench_day(day: date, draw: random.Random) -> None:
    """Ask about a day: the first question, new ones, and all of them again."""
    begun_s, cpu_s = time.monotonic(), time.process_time()
    fleet = snapshot_cached(day)
    snapshot_s = time.monotonic() - begun_s
    capacity_query(CapacityQuestion(as_of=day, kind=fleet.kinds[0].slug, site=fleet.sites[0].slug))
    figure_print(f"{day}: a day never asked before, at a site", time.monotonic() - begun_s, "s")
    figure_print(f"{day}: the same, CPU", time.process_time() - cpu_s, "CPU-s")
    figure_print(f"{day}: of it the snapshot", snapshot_s, "s")
    questions = [asked(fleet, day, draw) for _ in range(QUESTIONS)]
    new: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for place, question in questions:
        new[place].append(taken_ms(question))
    spread_print(f"{day}: other places and types", [pair for times in new.values() for pair in times])
    for place in PLACES:
        spread_print(f"{day}: of them {place}", new[place])
    spread_print(f"{day}: the same questions again", [taken_ms(question) for _, question in questions])


def main() -> None:
    """Print the figures of two days: soon after the start, and half a year of deliveries later."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=CARDS)
    options = parser.parse_args()
    machine_print()
    logging.disable(logging.ERROR)  # which says at every question that there is no cache
    tables_make()
    fleet_seed(options.cards, SEED, START)
    tables_settle()
    fleet = snapshot_cached(FIRST)
    cpu_s = time.process_time()
    capacity_query(CapacityQuestion(as_of=FIRST, kind=fleet.kinds[0].slug, site=fleet.sites[0].slug))
    figure_print("first question of a process: every pair rated by formula", time.process_time() - cpu_s, "CPU-s")
    for day in DAYS:
        bench_day(day, random.Random(SEED))


if __name__ == "__main__":
    main()
