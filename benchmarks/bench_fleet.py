"""How long a seeded fleet of a million cards takes to be written, and what can be asked of it, on both databases.

`--postgres URL` measures on a database of its own on that server, and on no SQLite. Without it SQLite is measured, and
PostgreSQL too where a server of our own may be started: by root, from /usr/lib/postgresql. Seconds are those of the
clock: a database works beside this process.
"""

import argparse
import gc
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from database import SERVERS, postgres_folder, postgres_of_our_own, postgres_started, tables_make
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Count
from django.test import Client
from django.urls import reverse
from measure import figure_print, machine_print

from fleet import selectors
from fleet.audit import changes_verify
from fleet.models import Hall, Host, HostType, Rack, Site
from fleet.packing import value_pack, value_unpack
from fleet.rawrows import tables_settle
from fleet.room import Room
from fleet.seeds import fleet_seed
from fleet.selectors import snapshot_take
from fleet.services import rows_write
from fleet.snapshot import FleetSnapshot
from scenarios.queries import CapacityQuestion, capacity_query

CARDS, SEED = 1_000_000, 1
START, DAY = date(2026, 11, 1), date(2026, 11, 15)
BULK = 5000


# --- what is measured: each prints its figures; what comes first writes the fleet that the others ask -----------------
def bench_seed(cards: int) -> None:
    """Write the fleet, its log of changes included."""
    begun_s = time.monotonic()
    made = fleet_seed(cards, SEED, START)
    tables_settle()
    taken_s = time.monotonic() - begun_s
    figure_print(named(f"{cards:,} cards seeded, log of changes included"), taken_s, "s")
    figure_print(named("cards"), cards / taken_s, "cards/s")
    figure_print(named(f"all {made.rows:,} rows"), made.rows / taken_s, "rows/s")
    figure_print(named("size of the database"), database_byte() / 2**20, "MiB")


def bench_audit(cards: int) -> None:  # noqa: ARG001 -- as the others
    """Verify the chain of changes that the seed has left."""
    begun_s = time.monotonic()
    found = changes_verify()
    assert found.sound, found.fault
    figure_print(named(f"{found.changes:,} changes verified"), time.monotonic() - begun_s, "s")


def bench_snapshot(cards: int) -> None:  # noqa: ARG001 -- as the others
    """Read the fleet of a day, and ask what it holds."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory counts from now on
    before_byte, begun_s = memory_most_byte(), time.monotonic()
    fleet = snapshot_take(DAY)
    figure_print(named(f"snapshot, {len(fleet.host_slugs):,} hosts"), time.monotonic() - begun_s, "s")
    figure_print(named("memory that taking it adds at most"), (memory_most_byte() - before_byte) / 2**20, "MiB")
    begun_s = time.monotonic()
    fleet.digest  # noqa: B018 -- computed when it is asked for
    figure_print(named("its digest"), time.monotonic() - begun_s, "s")
    begun_s = time.monotonic()
    packed = value_pack(fleet)
    figure_print(named("it as bytes, for the steps of a run"), time.monotonic() - begun_s, "s")
    figure_print(named("their number"), len(packed) / 1e6, "MB")
    begun_s = time.monotonic()
    value_unpack(FleetSnapshot, packed)
    figure_print(named("it from these bytes"), time.monotonic() - begun_s, "s")
    kind = max(fleet.kinds, key=lambda kind: int((fleet.host_kind == fleet.kinds.index(kind)).sum()))
    begun_s = time.monotonic()
    room = Room(fleet, DAY)
    figure_print(named("what is free in every rack"), time.monotonic() - begun_s, "s")
    largest = fleet.rack_site == np.bincount(fleet.rack_site).argmax()
    region = np.array([site.region == fleet.sites[0].region for site in fleet.sites])[fleet.rack_site]
    for scope, racks in (
        ("everywhere, first", None),
        ("everywhere", None),
        ("in a region", region),
        ("at a site", largest),
    ):
        begun_s = time.monotonic()
        fit = room.fit(kind, racks)
        figure_print(named(f"how many more {kind.slug} fit {scope} ({fit.count:,})"), time.monotonic() - begun_s, "s")


def bench_pages(cards: int) -> None:  # noqa: ARG001 -- as the others
    """Ask for a site, its largest hall and a rack: the first time, and with the site's snapshot in memory."""
    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    hall = Hall.objects.annotate(racks=Count("rows__racks")).select_related("site").order_by("-racks", "pk")[0]
    rack = Rack.objects.filter(row__hall=hall).order_by("slug")[0]
    pages = {
        "rack": reverse("dashboard:rack", args=[rack.slug]),
        f"hall of {hall.racks} racks": reverse("dashboard:hall", args=[hall.site.slug, hall.slug]),
        "site": reverse("dashboard:site", args=[hall.site.slug]),
    }
    for name, path in pages.items():
        for turn in ("first", "again"):
            if turn == "first":
                selectors.snapshots_forget()
            begun_s = time.monotonic()
            answer = client.get(path, {"day": DAY.isoformat()})
            assert answer.status_code == 200, answer.status_code
            figure_print(named(f"page of a {name}, {turn}"), (time.monotonic() - begun_s) * 1e3, "ms")


def bench_bulk(cards: int) -> None:  # noqa: ARG001 -- as the others
    """Edit hosts in bulk, checked and logged."""
    hosts = list(Host.objects.filter(out_of_service_on=None).order_by("pk")[:BULK])
    for host in hosts:
        host.planned_on = DAY
    begun_s = time.monotonic()
    rows_write(Host, update=hosts)
    figure_print(
        named(f"{len(hosts):,} hosts edited in bulk, logged"), len(hosts) / (time.monotonic() - begun_s), "rows/s"
    )


def bench_query(cards: int) -> None:  # noqa: ARG001 -- as the others
    """Ask how many more hosts fit at a site and when it runs out, without a cache of answers: no broker runs here."""
    logging.getLogger("scenarios.queries").setLevel(logging.ERROR)  # which says so at every question
    selectors.snapshots_forget()
    site = Site.objects.annotate(racks=Count("halls__rows__racks")).order_by("-racks", "pk")[0]
    kinds = list(HostType.objects.annotate(count=Count("hosts")).order_by("-count", "pk")[:2])
    for turn, kind in (("first of a day", kinds[0]), ("another type, snapshot in memory", kinds[1])):
        begun_s = time.monotonic()
        capacity_query(CapacityQuestion(as_of=DAY, kind=kind.slug, site=site.slug))
        figure_print(named(f"capacity query of a site, {turn}"), (time.monotonic() - begun_s) * 1e3, "ms")


BENCHES: tuple[Callable[[int], None], ...] = (
    bench_seed,
    bench_audit,
    bench_snapshot,
    bench_pages,
    bench_query,
    bench_bulk,
)


def run(cards: int) -> None:
    """Measure on the database that is there, which is empty."""
    for bench in BENCHES:
        bench(cards)
        figure_print(named("most memory of this process so far"), memory_most_byte() / 2**20, "MiB")


def named(what: str) -> str:
    """Return the name of a figure of the database that is there."""
    return f"{connection.vendor}: {what}"


def database_byte() -> int:
    """Return the size of the database that is there. [byte]"""
    if connection.vendor == "sqlite":
        return Path(settings.DATABASES["default"]["NAME"]).stat().st_size
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def memory_most_byte() -> int:
    """Return the most memory that this process has held; getrusage would tell of the one that started it. [byte]"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Print the figures of each database, each measured by a process of its own: memory is told apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", metavar="URL", help="a server on which a database can be made")
    parser.add_argument("--cards", type=int, default=CARDS)
    parser.add_argument("--bare", action="store_true", help="do not tell the machine")
    options = parser.parse_args()
    if not options.bare:
        machine_print()
    if options.postgres:
        with postgres_of_our_own(options.postgres):
            run(options.cards)
        return
    tables_make()
    run(options.cards)
    folder = postgres_folder()
    if folder is None:
        print(f"# no PostgreSQL: none under {SERVERS}, or we may not start it")
        return
    with postgres_started(folder) as url:
        sys.stdout.flush()  # the other process writes there, too
        again = [sys.executable, __file__, "--bare", "--cards", str(options.cards), "--postgres", url]
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
