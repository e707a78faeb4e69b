"""How fast the fleet is read out of the database: the demo, and 10,000 hosts beside it."""

from collections.abc import Iterator
from datetime import date
from typing import Any

from database import tables_make
from measure import call_cpu_s, figure_print, machine_print

from fleet.demo import demo_fleet_load
from fleet.models import Hall, Host, HostType, Rack, Region, Row, Site
from fleet.selectors import snapshot_take

START = date(2027, 1, 1)
HOSTS, HOSTS_PER_RACK = 10_000, 8


def fleet_grow(hosts: int) -> None:
    """Add one hall of racks filled with hosts."""
    site = Site.objects.create(region=Region.objects.order_by("slug")[0], slug="bench", name="Bench")
    row = Row.objects.create(hall=Hall.objects.create(site=site, slug="h1", name="Hall 1"), slug="a")
    count = hosts // HOSTS_PER_RACK
    racks = Rack.objects.bulk_create(
        (Rack(row=row, slug=f"bench-{at:06d}", position=at, power_limit_w=60_000) for at in range(count)),
        batch_size=1000,
    )
    kind = HostType.objects.order_by("slug")[0]

    def rows() -> Iterator[Any]:
        for at in range(hosts):
            yield Host(slug=f"bench-{at:07d}", host_type=kind, rack=racks[at // HOSTS_PER_RACK])

    Host.objects.bulk_create(rows(), batch_size=1000)


def main() -> None:
    """Print the CPU time of a snapshot and of its digest, and hosts per CPU second."""
    machine_print()
    tables_make()
    demo_fleet_load(START)
    for name in ("the demo", f"the demo and {HOSTS:,} hosts more"):
        if name != "the demo":
            fleet_grow(HOSTS)
        hosts = len(snapshot_take(START).host_rack)
        taken_s = call_cpu_s(lambda: snapshot_take(START))
        with_digest_s = call_cpu_s(lambda: snapshot_take(START).digest)
        figure_print(f"snapshot of {name} ({hosts:,} hosts)", taken_s * 1e3, "CPU-ms")
        figure_print(f"snapshot of {name}, hosts read", hosts / taken_s, "hosts/CPU-s")
        figure_print(f"snapshot of {name}, with its digest", with_digest_s * 1e3, "CPU-ms")


if __name__ == "__main__":
    main()
