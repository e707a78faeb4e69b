import hashlib
import itertools
import random
from collections import Counter, defaultdict
from datetime import date
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Count, F, ForeignKey, Min, Q

from accelerator import chip_get
from fleet import seeds
from fleet.audit import changes_verify, row_values
from fleet.inventory import INVENTORY
from fleet.models import (
    Card,
    Change,
    Delivery,
    FirmwareSet,
    Host,
    HostType,
    Placement,
    PowerNode,
    Rack,
    Region,
    ScaleUpDomain,
    Service,
    Site,
)
from fleet.seeds import SeedRefusedError, fleet_seed
from fleet.watches import Written, faults_find

pytestmark = pytest.mark.django_db
CARDS, START = 2000, date(2026, 11, 1)
STANDS = Q(in_service_on__lte=START) & (Q(out_of_service_on__isnull=True) | Q(out_of_service_on__gt=START))


@pytest.fixture
def seeded():
    return fleet_seed(CARDS, 1, START)


def all_written():
    """Return every row of the fleet as if it had just been written."""
    return [
        Written(entry.model, frozenset(entry.model.objects.values_list("pk", flat=True)), {})
        for entry in INVENTORY.values()
    ]


def sample(model, most=12):
    """Return some rows of a model, the first and the last among them."""
    ids = list(model.objects.order_by("pk").values_list("pk", flat=True))
    some = {*ids[:1], *ids[-1:], *random.Random(1).sample(ids, min(most, len(ids)))}
    return model.objects.filter(pk__in=some).order_by("pk")


def fleet_digest():
    """Return the SHA-256 of every value of every row; ids count from the first of their table."""
    firsts = {entry.model: entry.model.objects.aggregate(first=Min("pk"))["first"] or 0 for entry in INVENTORY.values()}
    total = hashlib.sha256()
    for entry in INVENTORY.values():
        fields = [field for field in entry.model._meta.concrete_fields if not field.name.endswith("ated_at")]
        offsets = [
            firsts[entry.model]
            if field.primary_key
            else firsts[field.related_model]
            if isinstance(field, ForeignKey)
            else 0
            for field in fields
        ]
        for row in entry.model.objects.order_by("pk").values_list(*(field.attname for field in fields)):
            values = [value - first if first and value else value for value, first in zip(row, offsets, strict=True)]
            total.update(repr((entry.name, values)).encode())
    return total.hexdigest()


# --- what is made -----------------------------------------------------------------------------------------------------
def test_a_fleet_has_exactly_so_many_cards_and_every_kind_of_row(seeded):
    assert Card.objects.count() == seeded.counts["cards"] == CARDS
    assert {name: entry.model.objects.count() for name, entry in INVENTORY.items()} == dict(seeded.counts)
    assert seeded.rows == sum(seeded.counts.values())
    chips = Host.objects.filter(cards__isnull=False).annotate(held=Count("cards")).order_by("pk")
    short = [host.pk for host in chips.select_related("host_type") if host.held < host.host_type.chips]
    assert len(short) <= 1
    assert Host.objects.filter(cards__isnull=True, in_service_on__lte=START).count() == 0


def test_it_is_a_cloud_in_the_middle_of_its_way(seeded):
    by_chip = Counter(Card.objects.values_list("host__host_type__chip", flat=True))
    homegrown = sum(count for chip, count in by_chip.items() if chip_get(chip).homegrown)
    assert 0.2 < homegrown / CARDS < 0.8
    hosts, planned = Host.objects.count(), Host.objects.filter(in_service_on__gt=START).count()
    assert 0.02 < planned / hosts < 0.3
    assert Host.objects.filter(STANDS, out_of_service_on__isnull=False).exists()
    assert Rack.objects.filter(in_service_on__gt=START).exists()
    standing = Host.objects.filter(STANDS).count()
    assert Placement.objects.values("host").distinct().count() > 0.8 * standing
    assert Delivery.objects.filter(received_on__isnull=True).exists()
    domains = ScaleUpDomain.objects.annotate(hosts_in=Count("hosts"))
    assert all(domain.hosts_in for domain in domains)
    assert all(
        sum(row.host_type.chips for row in domain.hosts.select_related("host_type")) == domain.chips
        for domain in domains
    )


def test_same_numbers_same_fleet_and_another_seed_another_one():
    digests = []
    for seed in (1, 1, 2):
        with transaction.atomic():
            fleet_seed(CARDS, seed, START, prefix="same-")
            digests.append(fleet_digest())
            transaction.set_rollback(True)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("cards", [1, 7, 500, 501, 9000])
def test_a_fleet_of_any_size_is_made_without_a_fault(cards):
    fleet_seed(cards, 3, START)
    assert Card.objects.count() == cards
    assert Site.objects.count() == (1 if cards <= 500 else 2)
    assert faults_find(all_written()) == []


# --- whether it could have been entered by hand -----------------------------------------------------------------------
def test_rows_keep_their_own_rules_and_those_across_rows(seeded):
    for entry in INVENTORY.values():
        for row in sample(entry.model):
            row.full_clean()
    assert faults_find(all_written()) == []


def test_no_two_hosts_fill_one_unit_on_one_day(seeded):
    racks = defaultdict(list)
    for host in Host.objects.select_related("host_type", "rack"):
        top_u = host.position_u + host.host_type.height_u
        assert top_u - 1 <= host.rack.height_u
        racks[host.rack_id].append((host.position_u, top_u, host.in_service_on, host.out_of_service_on or date.max))
    for hosts in racks.values():
        for one, other in itertools.combinations(hosts, 2):
            apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert apart, (one, other)


def test_hosts_keep_within_what_their_rack_draws_bears_and_connects(seeded):
    for day in (START, date(2027, 7, 1), date(2028, 10, 1)):
        drawn = defaultdict(lambda: [0.0, 0, 0.0, 0])
        there = Q(in_service_on__lte=day) & (Q(out_of_service_on__isnull=True) | Q(out_of_service_on__gt=day))
        for host in Host.objects.filter(there).select_related("host_type"):
            kind = host.host_type
            one = (kind.power_w, kind.ports, kind.weight_kg, kind.height_u)
            drawn[host.rack_id] = [sum(pair) for pair in zip(drawn[host.rack_id], one, strict=True)]
        for rack in Rack.objects.filter(pk__in=drawn):
            power_w, ports, weight_kg, height_u = drawn[rack.pk]
            assert power_w <= rack.power_limit_w
            assert ports <= rack.ports == sum(rack.switches.values_list("ports", flat=True))
            assert weight_kg <= rack.weight_limit_kg
            assert height_u <= rack.height_u


def test_one_feed_and_one_pdu_bear_all_but_for_a_few(seeded):
    rack_va, row_va = Counter(), Counter()
    for host in Host.objects.filter(STANDS).select_related("host_type", "rack"):
        va = host.host_type.power_w / host.host_type.power_factor_ratio
        rack_va[host.rack_id] += va
        row_va[host.rack.row_id] += va
    feeds = PowerNode.objects.filter(kind="feed").select_related("rack")
    loaded = [feed for feed in feeds if rack_va[feed.rack_id]]
    weak = {feed.rack_id for feed in loaded if rack_va[feed.rack_id] > feed.usable_va}
    assert 0 < len(weak) <= 0.03 * len(rack_va) + 1
    rows = dict(PowerNode.objects.filter(kind="feed").values_list("links__source", "rack__row"))  # of each PDU
    pdus = [pdu for pdu in PowerNode.objects.filter(kind="pdu") if pdu.pk in rows]
    weak_pdus = [pdu for pdu in pdus if row_va[rows[pdu.pk]] > pdu.usable_va]
    assert 0 < len(weak_pdus) <= 0.03 * len(pdus) + 1


def test_racks_have_two_feeds_on_two_pdus_and_one_cooler(seeded):
    feeds = Counter(PowerNode.objects.filter(kind="feed").values_list("rack", flat=True))
    assert set(feeds) == set(Rack.objects.values_list("pk", flat=True))
    assert sum(count == 2 for count in feeds.values()) >= 0.97 * len(feeds)
    assert not PowerNode.objects.exclude(kind__in=("utility", "generator")).filter(links__isnull=True).exists()
    assert not Rack.objects.filter(cooling_node__isnull=True).exists()
    assert not Rack.objects.exclude(cooling_node__links__source__links__source__links__source__kind="plant").exists()


def test_placements_leave_room_and_shares_add_up(seeded):
    too_many = Placement.objects.filter(unit__isnull=True).filter(
        replicas__gt=F("host__host_type__chips") / F("deployment__replica_chips")
    )
    assert not too_many.exists()
    for service in Service.objects.prefetch_related("endpoints"):
        assert sum(endpoint.share_ratio for endpoint in service.endpoints.all()) in {0, 1}


# --- how it is written ------------------------------------------------------------------------------------------------
def test_the_log_of_changes_holds_every_row_as_it_is(seeded):
    found = changes_verify()
    assert found.sound
    assert found.changes == Change.objects.count() == seeded.rows
    for entry in INVENTORY.values():
        for row in sample(entry.model, most=4):
            change = Change.objects.get(kind=entry.kind, object_id=row.pk)
            regions = entry.model.objects.filter(pk=row.pk).values_list(*entry.regions)[0] if entry.regions else ()
            region = next((region for region in regions if region is not None), None)
            assert (change.action, change.before, change.region_pk) == ("create", None, region)
            assert change.label == str(row)
            assert change.after == row_values(row)


def test_rows_that_come_later_have_ids_of_their_own(seeded):
    last = Region.objects.order_by("-pk").first()
    assert Region.objects.create(slug="later", name="Later").pk > last.pk


def test_a_second_fleet_stands_beside_the_first_one(seeded):
    with pytest.raises(SeedRefusedError, match=r"region seed1-[a-z]+ is there already: take another seed"):
        fleet_seed(CARDS, 1, START)
    fleet_seed(700, 1, START, prefix="other-")
    assert Card.objects.count() == CARDS + 700
    assert FirmwareSet.objects.filter(chip="h20-96").count() == 6
    assert Card.objects.filter(serial__startswith="other-").count() == 700
    assert faults_find(all_written()) == []


def test_a_fleet_that_breaks_off_leaves_nothing(monkeypatch):
    def break_off(world):
        world.rows.flush()
        assert Card.objects.count() == CARDS
        raise ZeroDivisionError

    monkeypatch.setattr(seeds, "policy_make", break_off)
    with pytest.raises(ZeroDivisionError):
        fleet_seed(CARDS, 1, START)
    assert not any(entry.model.objects.exists() for entry in INVENTORY.values())
    assert not Change.objects.exists()


@pytest.mark.parametrize(
    ("cards", "seed", "start", "prefix", "reason"),
    [
        pytest.param(0, 1, START, "", "between 1 and 20,000,000 cards, not 0", id="no card"),
        pytest.param(10, -1, START, "", "not negative", id="negative seed"),
        pytest.param(10, 1, date(1990, 1, 1), "", "starts between 2010-01-01", id="too early"),
        pytest.param(10, 1, START, "a b", "no beginning of a slug", id="prefix with a space"),
        pytest.param(10, 1, START, "x" * 17, "longer than 16", id="long prefix"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(cards, seed, start, prefix, reason):
    with pytest.raises(SeedRefusedError, match=reason):
        fleet_seed(cards, seed, start, prefix=prefix)


def test_the_command_tells_how_far_it_is_and_what_was_made():
    out, err = StringIO(), StringIO()
    call_command("seed_fleet", cards=700, seed=5, stdout=out, stderr=err)
    assert "site seed5-n01" in err.getvalue()
    assert "700 of 700 cards" in err.getvalue()
    assert "cards                         700" in out.getvalue()
    assert "cards/s" in out.getvalue()
    assert HostType.objects.filter(slug="seed5-h20-8x").exists()
    with pytest.raises(CommandError, match="there already") as caught:
        call_command("seed_fleet", cards=700, seed=5, stdout=out, stderr=err)
    assert caught.value.returncode == 2
