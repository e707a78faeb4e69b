"""How long a table of 100,000 hosts takes to come in: written with checks and log, again unchanged, and with bad rows.

On SQLite and on PostgreSQL. Seconds are those of the clock: a database works beside this process.
"""

import argparse
import csv
import resource
import tempfile
import time
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

from database import SERVERS, postgres_folder, postgres_of_our_own, postgres_started, tables_make
from django.db import connection
from measure import figure_print, machine_print

from fleet.exchange import ImportReport, entry_write, import_run
from fleet.inventory import INVENTORY
from fleet.models import ChangeSet, Hall, Host, HostType, Rack, Region, Row, Site

HOSTS, HOSTS_PER_RACK, BAD_ROWS = 100_000, 8, 500
HEIGHT_U = 6
START = date(2026, 1, 1)
ENTRY = INVENTORY["hosts"]


def places_make(racks: int) -> None:
    """Write racks for the hosts, and two types of them."""
    region = Region.objects.create(slug="bench", name="Bench")
    site = Site.objects.create(slug="bench", name="Bench", region=region)
    row = Row.objects.create(hall=Hall.objects.create(site=site, slug="h1", name="Hall 1"), slug="a")
    Rack.objects.bulk_create(
        (Rack(row=row, slug=f"rack-{at:06d}", position=at, power_limit_w=60_000) for at in range(racks)),
        batch_size=1000,
    )
    for slug, chip, chips in (("h20-8x", "h20-96", 8), ("ppu-16x", "thead-ppu-810e", 16)):
        HostType.objects.create(
            slug=slug, name=slug, chip=chip, chips=chips, height_u=HEIGHT_U, power_w=5500, idle_w=1500, source="bench"
        )


def hosts_file(path: Path, hosts: int, bad_every: int | None) -> None:
    """Write a table of hosts; one row in `bad_every` has an unknown rack, a bad day, or one that ends too soon."""
    with path.open("w", newline="") as text:
        table = csv.writer(text)
        table.writerow(["slug", "host_type", "rack", "position_u", "face", "in_service_on", "out_of_service_on"])
        for at in range(hosts):
            rack, begins = f"rack-{at // HOSTS_PER_RACK:06d}", START + timedelta(days=at % 700)
            starts, ends = begins.isoformat(), (begins + timedelta(days=1800)).isoformat()
            if bad_every and at % bad_every == 0:
                fault = at // bad_every % 3
                rack = "nowhere" if fault == 0 else rack
                starts = "yesterday" if fault == 1 else starts
                ends = START.isoformat() if fault == 2 else ends
                starts = (START + timedelta(days=9)).isoformat() if fault == 2 else starts
            kind = "ppu-16x" if at % 3 else "h20-8x"
            unit = 1 + at % HOSTS_PER_RACK * HEIGHT_U
            table.writerow([f"host-{at:07d}", kind, rack, unit, "front", starts, ends])


def measured(what: str, path: Path, hosts: int) -> ImportReport:
    """Import, and print how long it took."""
    start_s = time.monotonic()
    report = import_run(ENTRY, path)
    took_s = time.monotonic() - start_s
    figure_print(what, took_s, "s")
    figure_print(f"{what}, rows", hosts / took_s, "rows/s")
    return report


def run(hosts: int, folder: Path) -> None:
    """Measure on the database that is there."""
    name = connection.vendor
    places_make(-(-hosts // HOSTS_PER_RACK))
    bad, good, out = folder / "bad.csv", folder / "good.csv", folder / "out.csv"
    hosts_file(bad, hosts, hosts // BAD_ROWS)
    hosts_file(good, hosts, None)
    report = measured(f"{name}: {hosts:,} hosts, {BAD_ROWS} rows bad, all told, nothing written", bad, hosts)
    assert report.errors_total == BAD_ROWS, report.errors_total
    assert not Host.objects.exists()
    report = measured(f"{name}: {hosts:,} hosts written, with checks and log", good, hosts)
    assert report.written, report.errors[:3]
    assert Host.objects.count() == hosts
    figure_print(f"{name}: change sets of it", ChangeSet.objects.count(), "sets")
    report = measured(f"{name}: the same again, nothing changes", good, hosts)
    assert report.counts["hosts"].unchanged == hosts
    start_s = time.monotonic()
    entry_write(ENTRY, out, "csv")
    figure_print(f"{name}: {hosts:,} hosts out again", time.monotonic() - start_s, "s")
    figure_print("most memory of this process so far", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")


def main() -> None:
    """Print the figures of each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--postgres", metavar="URL", help="a server on which a database can be made; else one is started"
    )
    parser.add_argument("--hosts", type=int, default=HOSTS)
    options = parser.parse_args()
    machine_print()
    with tempfile.TemporaryDirectory(prefix="twin-bench-files-") as folder, ExitStack() as servers:
        tables_make()
        run(options.hosts, Path(folder))
        programs = postgres_folder()
        if not options.postgres and programs is None:
            print(f"# no PostgreSQL: none under {SERVERS}, or we may not start it")
            return
        url = options.postgres or servers.enter_context(postgres_started(programs))
        with postgres_of_our_own(url):
            run(options.hosts, Path(folder))


if __name__ == "__main__":
    main()
