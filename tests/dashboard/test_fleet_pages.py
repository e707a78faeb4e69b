"""Pages of the fleet: places, hosts and cards, what feeds them, what fails, what comes; and the lists behind them."""

import html
import re
from datetime import UTC, date, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fleet.inventory import INVENTORY
from fleet.models import (
    Card,
    ChangeSet,
    CoolingLink,
    CoolingNode,
    Delivery,
    Deployment,
    Endpoint,
    FirmwareBaseline,
    FirmwareSet,
    Hall,
    Host,
    HostType,
    Lot,
    Maintenance,
    NetworkLink,
    NetworkNode,
    Order,
    Placement,
    PolicyEvent,
    PowerLink,
    PowerNode,
    Rack,
    Region,
    RegionLimit,
    Retirement,
    Row,
    ScaleUpDomain,
)
from fleet.services import row_save, rows_write
from tests.api.rows import region_fill
from tests.dashboard.conftest import client_of, user_make

DAY = {"day": "2027-01-01"}
POWER = {
    # name: sources, and what it is
    "util-a": ((), {"kind": "utility", "rating_va": 200e3}),
    "util-b": ((), {"kind": "utility", "rating_va": 200e3}),
    "msb-a": (("util-a",), {"kind": "switchboard", "rating_va": 200e3, "redundancy": "2N"}),
    "msb-b": (("util-b",), {"kind": "switchboard", "rating_va": 200e3, "redundancy": "2N"}),
    "pdu-a": (("msb-a",), {"kind": "pdu", "rating_va": 100e3, "redundancy": "2N"}),
    "pdu-b": (("msb-b",), {"kind": "pdu", "rating_va": 80e3, "redundancy": "2N"}),
    "feed-a": (("pdu-a",), {"kind": "feed", "voltage_v": 415, "current_a": 63, "redundancy": "2N"}),
    "feed-b": (("pdu-b",), {"kind": "feed", "voltage_v": 415, "current_a": 63, "redundancy": "2N"}),
    "single": (("pdu-a",), {"kind": "feed", "voltage_v": 415, "current_a": 63, "redundancy": "1N"}),
}


def text_of(answer):
    return html.unescape(answer.content.decode())


def words_of(answer):
    """The text of a page without its marks, as it is read."""
    body = re.sub(r"<[^>]+>", " ", text_of(answer).split("<main", 1)[1])
    return re.sub(r"\s+", " ", body)


@pytest.fixture
def fed(fleet):
    """Rack dc01-a1 with eight hosts of 7 kW on two feeds of 415 V, 63 A, three-phase; dc01-a2 with one on one feed.

    Feed A comes from utility A by a switchboard and a PDU, feed B from utility B; one cooling unit, one switch a rack.
    Each host serves one replica of 1,000 tok/s.
    """
    site, racks = fleet["site"], fleet["racks"]
    Host.objects.all().delete()
    kind = HostType.objects.create(
        slug="seven",
        name="Seven",
        chip="h20-96",
        chips=8,
        height_u=6,
        power_w=7000,
        idle_w=1000,
        ports=9,
        source="test",
    )
    domain = ScaleUpDomain.objects.create(slug="domain-1", site=site, chips=16)
    hosts = [
        *(Host(slug=f"h-{at}", host_type=kind, rack=racks[0], position_u=1 + 6 * at) for at in range(8)),
        Host(slug="lone", host_type=kind, rack=racks[1], position_u=1, scale_up_domain=domain),
    ]
    rows_write(Host, create=hosts)
    racks_of = {"feed-a": racks[0], "feed-b": racks[0], "single": racks[1]}
    nodes = {
        name: row_save(PowerNode(slug=name, site=site, rack=racks_of.get(name), **values))
        for name, (_, values) in POWER.items()
    }
    for name, (sources, _) in POWER.items():
        for source in sources:
            row_save(PowerLink(node=nodes[name], source=nodes[source]))
    unit, loop = (
        row_save(CoolingNode(slug=f"{kind}-1", site=site, kind=kind, limit_w=70e3)) for kind in ("cdu", "loop")
    )
    row_save(CoolingLink(node=unit, source=loop))
    spine = row_save(NetworkNode(slug="spine-1", site=site, kind="spine"))
    for at, rack in enumerate(racks):
        rack.cooling_node = unit
        row_save(rack)
        row_save(
            NetworkLink(node=row_save(NetworkNode(slug=f"tor-{at}", site=site, kind="tor", rack=rack)), source=spine)
        )
    endpoint = Endpoint.objects.create(slug="chat-dc01", service=fleet["service"], site=site)
    deployment = Deployment.objects.create(
        slug="chat-dc01-seven", endpoint=endpoint, host_type=kind, config="tp8", replica_chips=8, replica_tok_s=1000
    )
    for host in hosts:
        Placement.objects.create(deployment=deployment, host=host)
    return {**fleet, "kind": kind, "nodes": nodes}


@pytest.fixture
def carded(fed):
    """Two cards of h-0 of one lot, one on the older firmware; the newer one is needed from February 2027 on."""
    host = Host.objects.get(slug="h-0")
    lot = Lot.objects.create(slug="lot-7", chip="h20-96", foundry="TSMC", hbm_maker="SK hynix", channel="direct")
    old, new = (FirmwareSet.objects.create(slug=f"fw-{rank}", chip="h20-96", rank=rank) for rank in (1, 2))
    for slot, firmware in enumerate((old, new)):
        Card.objects.create(serial=f"SN/{slot}", host=host, slot=slot, lot=lot, firmware=firmware, attestation="passed")
    FirmwareBaseline.objects.create(slug="least-2", firmware=new, starts_on=date(2027, 2, 1), region=fed["region"])
    return fed


ADDRESSES = {
    "fleet": (),
    "site": ("dc01",),
    "hall": ("dc01", "h1"),
    "row": ("dc01", "h1", "a"),
    "rack": ("dc01-a1",),
    "host": ("h-0",),
    "card": ("SN/0",),
    "power": ("dc01",),
    "cooling": ("dc01",),
    "network": ("dc01",),
    "timeline": (),
    "failure": (),
}


# --- every page -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ADDRESSES)
def test_a_page_shows_its_day_and_no_style_of_its_own(pages, carded, name):
    answer = pages.get(reverse(f"dashboard:{name}", args=ADDRESSES[name]), DAY)
    page = text_of(answer)
    assert answer.status_code == 200
    assert page.count("<h1>") == 1
    assert ' style="' not in page
    assert 'value="2027-01-01"' in page
    assert 'type="range"' in page


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("day", ["2027-02-30", "1999-12-31", "tomorrow"])
def test_a_day_that_is_none_is_400_and_today_is_shown(pages, carded, name, day):
    answer = pages.get(reverse(f"dashboard:{name}", args=ADDRESSES[name]), {"day": day})
    assert answer.status_code == 400
    assert "errorlist" in text_of(answer)


@pytest.mark.parametrize("name", [name for name, arguments in ADDRESSES.items() if arguments])
def test_what_is_not_there_is_404(pages, fed, name):
    arguments = [*ADDRESSES[name][:-1], "nothing"]
    assert pages.get(reverse(f"dashboard:{name}", args=arguments)).status_code == 404


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_link_of_a_page_leads_somewhere(pages, carded, name):
    page = text_of(pages.get(reverse(f"dashboard:{name}", args=ADDRESSES[name]), DAY))
    addresses = {found.split("#")[0] for found in re.findall(r'href="(/[^"]*)"', page)} - {""}
    assert len(addresses) > 10
    for address in sorted(one for one in addresses if not one.startswith(("/static/", "/admin/"))):
        assert pages.get(address).status_code == 200, address


@pytest.mark.parametrize("name", [name for name in ADDRESSES if name != "card"])
def test_the_cost_of_a_page_does_not_grow_with_the_fleet(pages, fed, name):
    address = reverse(f"dashboard:{name}", args=ADDRESSES[name])
    pages.get(address, DAY)
    before = queries_of(pages, address)
    hall = Hall.objects.get()
    for at in range(4):
        row = Row.objects.create(hall=hall, slug=f"more-{at}", position=at)
        for place in range(3):
            rack = Rack.objects.create(row=row, slug=f"more-{at}-{place}", position=place, power_limit_w=40_000)
            Host.objects.create(slug=f"more-{at}-{place}", host_type=fed["kind"], rack=rack)
            feed = PowerNode.objects.create(
                slug=f"f-{at}-{place}", site=fed["site"], kind="feed", rack=rack, rating_va=9e3
            )
            PowerLink.objects.create(node=feed, source=fed["nodes"]["pdu-a"])
            Host.objects.create(slug=f"again-{at}-{place}", host_type=fed["kinds"][0], rack=fed["racks"][0])
        Delivery.objects.create(
            slug=f"po-{at}", site=fed["site"], host_type=fed["kind"], quantity=1, expected_on=date(2027, 5, 1)
        )
    assert queries_of(pages, address) == before


def queries_of(pages, address):
    with CaptureQueriesContext(connection) as queries:
        assert pages.get(address, DAY).status_code == 200
    assert len(queries) <= 45
    return len(queries)


def test_an_account_of_one_region_finds_no_page_of_another(viewer_pages, roles):
    region_fill("north")
    rows = region_fill("south")
    user = user_make("limited", "viewer")
    RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug="north"))
    pages = client_of(user)
    site, rack, host, card = (rows[name][0] for name in ("sites", "racks", "hosts", "cards"))
    for name, arguments in (
        ("site", [site.slug]),
        ("power", [site.slug]),
        ("cooling", [site.slug]),
        ("network", [site.slug]),
        ("tree_csv", [site.slug, "power"]),
        ("hall", [site.slug, "h1"]),
        ("row", [site.slug, "h1", "a"]),
        ("rack", [rack.slug]),
        ("host", [host.slug]),
        ("card", [card.serial]),
        ("entry_row", ["racks", rack.pk]),
    ):
        address = reverse(f"dashboard:{name}", args=arguments)
        assert viewer_pages.get(address, DAY).status_code == 200
        assert pages.get(address, DAY).status_code == 404
    for tree, row, key in (
        ("power", "power-nodes", None),
        ("cooling", "cooling-nodes", None),
        ("network", "network-nodes", None),
        ("site", "sites", None),
        ("region", "regions", None),
        ("hall", "halls", f"{site.slug}/h1"),
        ("row", "rows", f"{site.slug}/h1/a"),
        ("rack", "racks", None),
        ("host", "hosts", None),
        ("scale-up-domain", "scale-up-domains", None),
    ):
        asked = {**DAY, "tree": tree, "node": key or rows[row][0].slug}
        assert viewer_pages.get(reverse("dashboard:failure"), asked).status_code == 200, tree
        assert pages.get(reverse("dashboard:failure"), asked).status_code == 404, tree
    assert "south" not in text_of(pages.get(reverse("dashboard:fleet"), DAY))
    for words in ("south-0-dc", "South"):  # orders and host types lie in no region
        assert words in text_of(viewer_pages.get(reverse("dashboard:timeline"), DAY))
        assert words not in text_of(pages.get(reverse("dashboard:timeline"), DAY))
    for name in ("sites", "racks", "hosts", "cards", "deliveries"):
        assert "south" not in text_of(pages.get(reverse("dashboard:entry_list", args=[name])))


def test_a_day_moves_everything(pages, fed):
    host = Host.objects.get(slug="h-7")
    host.in_service_on = date(2027, 6, 1)
    row_save(host)
    address = reverse("dashboard:rack", args=["dc01-a1"])
    early, late = words_of(pages.get(address, DAY)), words_of(pages.get(address, {"day": "2027-07-01"}))
    assert "planned 2027-06-01" in early
    assert "7 hosts, 1 to come" in early
    assert "49.0 kVA, 135 %" in early
    assert "56.0 kVA, 155 %" in late
    assert "planned 2027-06-01" not in late


def test_the_slider_reaches_a_year_back_and_three_ahead_and_keeps_what_else_is_asked(pages, fed, monkeypatch):
    class Clock:
        @staticmethod
        def now():
            return datetime(2026, 11, 26, tzinfo=UTC)

    monkeypatch.setattr("dashboard.fleet_views.timezone", Clock)
    answer = pages.get(reverse("dashboard:hall", args=["dc01", "h1"]), {"day": "2027-01-15", "metric": "weight"})
    slider = answer.context["slider"]
    assert (slider.first, slider.last, slider.most, slider.value) == ("2025-11", "2029-11", 48, 14)
    assert slider.marks == [2, 14, 26, 38]
    assert '<input type="hidden" name="metric" value="weight">' in text_of(answer)
    beyond = pages.get(reverse("dashboard:fleet"), {"day": "2040-01-01"}).context["slider"]
    assert beyond.value == 48


# --- site, hall, row --------------------------------------------------------------------------------------------------
def test_a_site_names_its_fullest_row_and_what_limits_it(pages, fed):
    other = Row.objects.create(hall=Hall.objects.get(), slug="b", position=2)
    rack = Rack.objects.create(row=other, slug="dc01-b1", power_limit_w=40_000, height_u=10)
    Host.objects.create(slug="tall", host_type=fed["kind"], rack=rack)
    answer = pages.get(reverse("dashboard:site", args=["dc01"]), DAY)
    rows = answer.context["rows"]
    assert [row.name for row in rows] == ["Row a", "Row b"]
    assert (rows[0].nearest.meter.text, rows[0].nearest.words) == ("155 %", "feed feed-b after losing feed-a")
    assert (rows[1].nearest.meter.text, rows[1].nearest.words) == ("60 %", "rack units of dc01-b1")
    page = words_of(answer)
    assert "Hall 1, row a: 155 % of feed feed-b after losing feed-a, over the limit" in page
    assert f'href="{reverse("dashboard:row", args=["dc01", "h1", "a"])}?day=2027-01-01"' in text_of(answer)
    assert f"{reverse('dashboard:failure')}?tree=power&node=feed-a&day=2027-01-01" in text_of(answer)  # what is lost
    hall = answer.context["halls"][0][0]
    assert (hall.racks, hall.hosts, hall.power.text) == (3, 10, "70 of 120 kW, 58 %")


def test_an_empty_row_that_shares_what_is_loaded_says_so(pages, fed):
    other = Row.objects.create(hall=Hall.objects.get(), slug="b", position=2)
    Rack.objects.create(
        row=other, slug="dc01-b1", power_limit_w=40_000, height_u=10, cooling_node=fed["racks"][0].cooling_node
    )
    page = words_of(pages.get(reverse("dashboard:site", args=["dc01"]), DAY))
    assert re.search("cooling unit cdu-1 shared with other rows; no host stands in this one", page)
    assert page.count("no host stands in this one") == 1


def test_a_site_says_how_many_more_fit_and_what_stops_the_next(pages, fed):
    page = text_of(pages.get(reverse("dashboard:site", args=["dc01"]), DAY))
    room = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("How many more fit") : page.index("<h2>Halls")]))
    # the first rack is over its feeds; the loop takes 70 kW, nine hosts of 7 kW stand: one more, and it is full
    assert "Seven 1 cooling above the rack loop-1 1 of 2" in room


def test_a_site_without_racks_says_so(pages, fleet):
    Host.objects.all().delete()
    Rack.objects.all().delete()
    page = words_of(pages.get(reverse("dashboard:site", args=["dc01"]), DAY))
    assert "No row has a rack in service on this day." in page


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("highest", "from 19.3 to 155 %, the most in dc01-a1; 1 over 100 %"),
        ("power", "from 17.5 to 140 %, the most in dc01-a1"),
        ("feed", "from 19.3 to 155 %, the most in dc01-a1"),
        ("units", "from 12.5 to 100 %, the most in dc01-a1; 0 over 100 %"),
        ("cooling", "2 racks; from 90 to 90 %"),
        ("ports", "2 racks, no data"),
        ("weight", "2 racks, no data"),
        ("hosts", "from 1 to 8 hosts, the most in dc01-a1"),
        ("planned", "2 racks; from 0 to 0 hosts"),
    ],
)
def test_a_hall_is_drawn_in_floor_order_by_any_metric(pages, fed, metric, words):
    answer = pages.get(reverse("dashboard:hall", args=["dc01", "h1"]), {**DAY, "metric": metric})
    page = words_of(answer)
    if metric == "highest":
        words = words.replace("19.3", "90")  # the cooling unit of both
    assert words in page
    assert "Rows of the floor plan" in page
    assert [line.rack for line in answer.context["plan"].twin] == ["dc01-a1", "dc01-a2"]


def test_a_metric_that_there_is_not_is_400_and_named(pages, fed):
    answer = pages.get(reverse("dashboard:hall", args=["dc01", "h1"]), {**DAY, "metric": "temper"})
    assert answer.status_code == 400
    assert "temper is not one of the available choices" in text_of(answer)


def test_a_row_shows_its_racks_side_by_side_with_every_limit(pages, fed):
    for position, slug in ((2, "b"), (3, "c")):
        Row.objects.create(hall=Hall.objects.get(), slug=slug, position=position)
    answer = pages.get(reverse("dashboard:row", args=["dc01", "h1", "a"]), DAY)
    first, second = answer.context["racks"]
    cells = {cell.name: (cell.text, cell.percent) for cell in first.cells}
    assert cells["Rack units"] == ("48 of 48 U", "100 %")
    assert cells["Power of the cabinet"] == ("56.0 of 40.0 kW", "140 %")
    assert cells["Feed"] == ("56.0 of 36.2 kVA", "155 %")
    assert cells["Power above the feeds"] == ("56.0 of 64.0 kVA", "88 %")
    assert cells["Cooling above the rack"] == ("63.0 of 70.0 kW", "90 %")
    assert cells["Network ports"][0] == "72 ports, no limit known"
    assert second.nearest.words == "cooling unit cdu-1"
    assert answer.context["neighbours"] == [
        ("Next", "b", f"{reverse('dashboard:row', args=['dc01', 'h1', 'b'])}?day=2027-01-01")
    ]


# --- rack, host, card -------------------------------------------------------------------------------------------------
def test_a_rack_shows_what_its_feeds_bear_when_one_is_lost(pages, fed):
    answer = pages.get(reverse("dashboard:rack", args=["dc01-a1"]), DAY)
    page = words_of(answer)
    assert page.count("28.0 of 36.2 kVA, 77 %") >= 2
    assert page.count("56.0 kVA, 155 %, over by 19.8 kVA") >= 2
    assert "after losing feed-b" in page
    assert "usable 36.2 kVA, 415 V three-phase, 63 A × 0.8, designed 2N" in page
    assert "Nearest limit: 155 % of feed feed-b after losing feed-a, over the limit" in page
    assert "1 rack, 8 hosts and 8 replicas are lost: 8 k tok/s of 9 k tok/s served here (88.9 %)" in page
    assert "tor-0" in page
    assert [node.name for node in answer.context["above"][0][1]][-2:] == ["util-a", "util-b"]


def test_a_limit_leads_to_the_failure_that_makes_it_or_to_its_node(pages, fed):
    day = "day=2027-01-01"
    urls = [
        {cell.name: cell.url for cell in pages.get(reverse("dashboard:rack", args=[slug]), DAY).context["limits"]}
        for slug in ("dc01-a1", "dc01-a2")
    ]
    assert urls[0]["Power above the feeds"] == f"{reverse('dashboard:failure')}?tree=power&node=feed-a&{day}"
    assert urls[1]["Feed"] == f"{reverse('dashboard:rack', args=['dc01-a2'])}?{day}#feeds"
    assert urls[1]["Cooling above the rack"] == f"{reverse('dashboard:cooling', args=['dc01'])}?node=cdu-1&{day}"
    assert pages.get(urls[1]["Cooling above the rack"]).status_code == 200


def test_a_rack_lists_what_is_planned_last_and_counts_a_host_without_a_position(pages, fed):
    Host.objects.filter(slug="lone").update(in_service_on=date(2027, 3, 1), position_u=40)
    for slug, values in {"low": {"position_u": 1}, "high": {"position_u": 7}, "somewhere": {}}.items():
        Host.objects.create(slug=slug, host_type=fed["kind"], rack=fed["racks"][1], **values)
    answer = pages.get(reverse("dashboard:rack", args=["dc01-a2"]), DAY)
    assert [host.slug for host, _, _ in answer.context["states"]] == ["high", "low", "somewhere", "lone"]
    height_u = fed["racks"][1].height_u
    assert f"{height_u - 4 * 6} of {height_u} U free from front to rear with 6 U left for hosts" in words_of(answer)


@pytest.mark.parametrize(
    ("name", "args", "label"),
    [
        ("rack", ("dc01-a1",), "Limits of the rack"),
        ("row", ("dc01", "h1", "a"), "Racks of row a"),
        ("lists", (), "Lists"),
        ("entry_list", ("racks",), "Racks"),
    ],
)
def test_a_table_that_is_bounded_shows_all_of_its_rows(pages, fed, name, args, label):
    page = text_of(pages.get(reverse(f"dashboard:{name}", args=args)))
    assert re.search(rf'class="table whole[^"]*"\s+role="region"\s+tabindex="0"\s+aria-label="{label}"', page)


def test_a_rack_is_drawn_with_what_comes_leaves_and_is_in_repair(pages, fed):
    Host.objects.filter(slug="h-0").update(out_of_service_on=date(2027, 9, 1))
    Host.objects.filter(slug="h-1").update(in_service_on=date(2027, 3, 1))
    host = Host.objects.get(slug="h-2")
    Maintenance.objects.create(slug="m-1", host=host, kind="repair", starts_on=date(2026, 12, 1))
    page = text_of(pages.get(reverse("dashboard:rack", args=["dc01-a1"]), DAY))
    for words in ("leaves 2027-09-01", "planned 2027-03-01", "in maintenance end not known", "Front", "Rear"):
        assert words in page
    assert f'href="{reverse("dashboard:host", args=["h-2"])}?day=2027-01-01"' in page


def test_a_rack_that_nothing_feeds_and_one_that_is_not_there_yet_say_so(pages, fed):
    rack = Rack.objects.create(
        row=fed["racks"][0].row, slug="dc01-a3", power_limit_w=1e4, in_service_on=date(2027, 5, 1)
    )
    page = words_of(pages.get(reverse("dashboard:rack", args=[rack.slug]), DAY))
    assert "It comes into service on 2027-05-01." in page
    assert "No feed is recorded for this rack." in page
    assert "nobody knows what it hangs on" in page
    rack.in_service_on, rack.out_of_service_on = None, date(2026, 12, 1)
    row_save(rack)
    page = words_of(pages.get(reverse("dashboard:rack", args=[rack.slug]), DAY))
    assert "It is not in service on this day: gone from 2026-12-01" in page
    assert "It is not in the fleet of this day." in page


def test_a_host_hangs_on_four_trees_and_says_what_each_node_takes(pages, carded):
    answer = pages.get(reverse("dashboard:host", args=["h-0"]), DAY)
    page = words_of(answer)
    assert [(place.kind, place.lost.racks, place.lost.hosts) for place in answer.context["places"]] == [
        ("site", 2, 9),
        ("hall", 2, 9),
        ("row", 2, 9),
        ("rack", 1, 8),
    ]
    chains = {
        name: [(node.name, node.level, node.lost.hosts) for node in chain] for name, chain in answer.context["chains"]
    }
    assert chains["power"] == [
        ("feed-a", 1, 0),
        ("feed-b", 1, 0),
        ("pdu-a", 2, 1),  # takes the rack on a single feed
        ("pdu-b", 2, 0),
        ("msb-a", 3, 1),
        ("msb-b", 3, 0),
        ("util-a", 4, 1),
        ("util-b", 4, 0),
    ]
    assert chains["cooling"] == [("cdu-1", 1, 9), ("loop-1", 2, 9)]
    assert chains["network"] == [("tor-0", 1, 8), ("spine-1", 2, 9)]
    assert "56.0 kVA, 155 %" in page
    assert "chat-dc01-seven" in page
    assert "1 k tok/s" in page


def test_a_host_in_a_scale_up_domain_shows_what_goes_with_it(pages, fed):
    answer = pages.get(reverse("dashboard:host", args=["lone"]), DAY)
    assert [(place.kind, place.lost.hosts, place.lost.replicas) for place in answer.context["own"]] == [
        ("scale up domain", 1, 1),
        ("host", 1, 1),
    ]


def test_a_card_below_the_baseline_in_force_says_so_from_its_first_day_on(pages, carded):
    before = words_of(pages.get(reverse("dashboard:host", args=["h-0"]), {"day": "2027-01-31"}))
    after = words_of(pages.get(reverse("dashboard:host", args=["h-0"]), {"day": "2027-02-01"}))
    assert "No firmware baseline is in force for h20-96 on this day." in before
    assert "below fw-2" not in before
    assert "at least fw-2 since 2027-02-01 in this region" in after
    assert after.count("below fw-2 since 2027-02-01") == 1
    assert "2 of 8 cards recorded" in after


def test_a_card_says_where_it_comes_from_and_whether_it_can_be_trusted(pages, carded):
    address = reverse("dashboard:card", args=["SN/0"])
    assert address == "/fleet/cards/SN/0/"
    page = words_of(pages.get(address, {"day": "2027-02-01"}))
    for words in ("lot-7", "TSMC", "SK hynix", "from the maker", "passed", "not kept", "in slot 0 of h-0"):
        assert words in page
    assert "Firmware fw-1 below fw-2 since 2027-02-01" in page
    assert "kept" in words_of(pages.get(reverse("dashboard:card", args=["SN/1"]), {"day": "2027-02-01"}))


def test_a_card_of_an_unknown_lot_says_so(pages, carded):
    Card.objects.create(serial="bare", host=Host.objects.get(slug="h-1"), slot=3)
    page = words_of(pages.get(reverse("dashboard:card", args=["bare"]), {"day": "2027-02-01"}))
    assert "not recorded; fw-2 is needed since 2027-02-01" in page
    assert page.count("not known") >= 3
    assert "never asked" in page


# --- power and failures -----------------------------------------------------------------------------------------------
def test_the_power_tree_names_the_worst_failure_and_what_is_stranded(pages, fed):
    answer = pages.get(reverse("dashboard:power", args=["dc01"]), DAY)
    rows = {row.name: row for row in answer.context["rows"]}
    assert list(rows) == ["util-a", "msb-a", "pdu-a", "util-b", "msb-b", "pdu-b"]  # feeds only where they hang
    assert rows["pdu-b"].worst_text == "56.0 kVA, 88 %"
    assert rows["pdu-b"].cause == "after losing feed-a"
    assert (rows["pdu-a"].feeds, rows["pdu-b"].feeds) == ("2 feeds", "1 feed")
    assert f"{reverse('dashboard:entry_list', args=['power-links'])}?source=pdu-a" in rows["pdu-a"].feeds_url
    assert rows["pdu-b"].stranded == "8"  # rack dc01-a1 is over its limits and takes nothing
    assert rows["pdu-b"].stranded_why == "the racks below take no more"


def test_the_power_tree_tells_racks_that_one_failure_takes_the_worst_node_first(pages, fed):
    answer = pages.get(reverse("dashboard:power", args=["dc01"]), DAY)
    assert [(row.name, row.racks, row.hosts) for row in answer.context["dark"]] == [
        ("msb-a", 1, 1),
        ("pdu-a", 1, 1),
        ("single", 1, 1),
        ("util-a", 1, 1),
    ]
    assert "dc01-a2" in words_of(answer)
    link = PowerLink.objects.get(node__slug="msb-b")
    link.source = fed["nodes"]["util-a"]
    row_save(link)
    worst = pages.get(reverse("dashboard:power", args=["dc01"]), DAY).context["dark"][0]
    assert (worst.name, worst.racks, worst.hosts) == ("util-a", 2, 9)


def test_an_empty_rack_counts_in_the_tree_as_on_the_page_of_the_failure(pages, fed):
    row_save(CoolingNode(slug="cdu-2", site=fed["site"], kind="cdu", limit_w=70e3))
    Rack.objects.create(
        row=Row.objects.get(),
        slug="dc01-a3",
        power_limit_w=40_000,
        cooling_node=CoolingNode.objects.get(slug="cdu-2"),
    )
    answer = pages.get(reverse("dashboard:cooling", args=["dc01"]), DAY)
    rows = {row.name: (row.racks, row.hosts) for row in answer.context["dark"]}
    assert rows["cdu-2"] == (1, 0)
    assert len(failure_of(pages, "cooling", "cdu-2").context["loss"].racks) == 1


def test_a_promise_that_a_failure_breaks_is_named(pages, fed):
    answer = pages.get(reverse("dashboard:power", args=["dc01"]), DAY)
    promises = answer.context["promises"]
    assert promises.designs == [("2N", 6, 4)]
    assert [(one.name, one.sentence) for one in promises.broken] == [
        ("feed-a", "155 % of usable after losing feed-b"),
        ("feed-b", "155 % of usable after losing feed-a"),
    ]
    link = PowerLink.objects.get(node__slug="msb-b")
    link.source = fed["nodes"]["util-a"]
    row_save(link)
    page = words_of(pages.get(reverse("dashboard:power", args=["dc01"]), DAY))
    assert "goes dark with 1 rack in use after losing util-a" in page
    assert "2N: kept by 0 of 6 nodes that declare it." in page


def test_a_site_without_a_power_tree_says_so(pages, fleet):
    page = words_of(pages.get(reverse("dashboard:power", args=["dc01"]), DAY))
    assert "No power node of this site is in service on this day" in page
    assert "2 racks with hosts on no recorded feed" in page
    assert "No node declares more than 1N." in page


def test_the_cooling_tree_says_loads_in_watts_and_what_one_failure_takes(pages, fed):
    answer = pages.get(reverse("dashboard:cooling", args=["dc01"]), DAY)
    rows = {row.name: row for row in answer.context["rows"]}
    assert list(rows) == ["loop-1", "cdu-1"]
    assert rows["cdu-1"].now_text == "63.0 of 70.0 kW, 90 %"
    assert (rows["cdu-1"].headroom, rows["cdu-1"].feeds) == ("7", "2 racks")
    assert "cooling_node=cdu-1" in rows["cdu-1"].feeds_url
    assert [(row.name, row.racks, row.hosts) for row in answer.context["dark"]] == [("cdu-1", 2, 9), ("loop-1", 2, 9)]
    assert [tile.value for tile in answer.context["tiles"]] == ["90 %", "0", "0 kW", "2"]
    page = words_of(answer)
    assert "leaves racks without any cooling" in page
    assert "Declared redundancy" not in page
    assert "kVA" not in page


def test_the_network_tree_says_which_racks_hang_on_a_switch_and_are_lost_with_it(pages, fed):
    second = row_save(NetworkNode(slug="spine-2", site=fed["site"], kind="spine"))
    row_save(NetworkLink(node=NetworkNode.objects.get(slug="tor-0"), source=second))
    answer = pages.get(reverse("dashboard:network", args=["dc01"]), DAY)
    rows = {row.name: (row.racks, row.racks_lost, row.feeds) for row in answer.context["rows"]}
    assert rows == {"spine-1": (2, 1, "2 rack switches"), "spine-2": (1, 0, "1 rack switch")}
    assert [(row.name, row.racks) for row in answer.context["dark"]] == [("tor-0", 1), ("spine-1", 1), ("tor-1", 1)]
    assert [tile.label for tile in answer.context["tiles"]] == ["Racks that one failure takes"]
    assert "kW, " not in words_of(answer)


@pytest.mark.parametrize("tree", ["power", "cooling", "network"])
def test_a_site_without_a_tree_says_so_and_where_it_comes_from(pages, fleet, tree):
    page = words_of(pages.get(reverse(f"dashboard:{tree}", args=["dc01"]), DAY))
    assert f"No {tree} node of this site is in service on this day; the list of {tree} nodes takes them." in page
    assert "2 racks with hosts on no recorded" in page


def test_a_large_tree_shows_its_upper_levels_and_the_rest_node_by_node(pages, fed, monkeypatch):
    monkeypatch.setattr("dashboard.tree_views.LINES_MOST", 4)
    answer = pages.get(reverse("dashboard:power", args=["dc01"]), DAY)
    rows = answer.context["rows"]
    assert [(row.name, row.more) for row in rows] == [("util-a", 0), ("msb-a", 1), ("util-b", 0), ("msb-b", 1)]
    assert "1 node below" in words_of(answer)
    below = pages.get(rows[1].more_url)
    assert below.status_code == 200
    assert [row.name for row in below.context["rows"]] == ["msb-a", "pdu-a"]
    assert "fed by util-a" in words_of(below)
    assert "The whole tree" in words_of(below)
    assert 'name="node" value="msb-a"' in text_of(below)  # a change of day keeps it
    missing = pages.get(reverse("dashboard:power", args=["dc01"]), {**DAY, "node": "feed-a"})
    assert missing.status_code == 404


def test_every_table_of_a_tree_goes_out_whole_as_csv(pages, fed, monkeypatch):
    monkeypatch.setattr("dashboard.tree_views.LINES_MOST", 1)
    monkeypatch.setattr("dashboard.tree_views.ROWS_MOST", 1)
    page = words_of(pages.get(reverse("dashboard:power", args=["dc01"]), DAY))
    assert "The worst 1 are shown." in page
    assert "The first 1 of 2 are shown." in page

    def table(name):
        answer = pages.get(reverse("dashboard:tree_csv", args=["dc01", name]), DAY)
        assert answer["Content-Disposition"] == f'attachment; filename="dc01-{name}-2027-01-01.csv"'
        return [line.split(",") for line in answer.content.decode().splitlines()]

    power = {line[0]: line for line in table("power")}
    assert set(power) == {"node", *POWER}
    assert power["node"][3:5] == ["now_va [VA]", "worst_va [VA]"]
    assert power["feed-a"][1:5] == ["feed", "pdu-a", "28000.0", "56000.0"]
    assert len(table("power-lost")) == 1 + 4
    assert [line[0] for line in table("power-promises")[1:]] == ["feed-a", "feed-b"]
    assert len(table("cooling")) == 1 + 2
    assert table("network") == [
        ["node", "kind", "sources", "racks", "racks_lost"],
        ["spine-1", "spine", "", "2", "2"],
        ["tor-0", "tor", "spine-1", "1", "1"],
        ["tor-1", "tor", "spine-1", "1", "1"],
    ]
    for name in ("gas", "power-gas", "cooling-promises"):
        assert pages.get(reverse("dashboard:tree_csv", args=["dc01", name]), DAY).status_code == 404
    late = pages.get(reverse("dashboard:tree_csv", args=["dc01", "power"]), {"day": "2027-02-30"})
    assert late.status_code == 404


@pytest.mark.parametrize(("tree", "node"), [("power", "pdu-a"), ("cooling", "cdu-1"), ("network", "tor-0")])
def test_a_failure_leads_to_the_tree_that_the_node_is_in(pages, fed, tree, node):
    assert f"{reverse(f'dashboard:{tree}', args=['dc01'])}?day=2027-01-01" in text_of(failure_of(pages, tree, node))


def failure_of(pages, tree, node, **values):
    return pages.get(reverse("dashboard:failure"), {**DAY, "tree": tree, "node": node, **values})


@pytest.mark.parametrize(
    ("tree", "node", "racks", "hosts", "replicas"),
    [
        ("power", "pdu-b", 0, 0, 0),
        ("power", "pdu-a", 1, 1, 1),
        ("power", "single", 1, 1, 1),
        ("cooling", "loop-1", 2, 9, 9),
        ("network", "tor-0", 1, 8, 8),
        ("region", "north", 2, 9, 9),
        ("site", "dc01", 2, 9, 9),
        ("hall", "dc01/h1", 2, 9, 9),
        ("row", "dc01/h1/a", 2, 9, 9),
        ("rack", "dc01-a1", 1, 8, 8),
        ("host", "h-3", 0, 1, 1),
        ("scale-up-domain", "domain-1", 0, 1, 1),
    ],
)
def test_a_failure_takes_racks_hosts_and_replicas(pages, fed, tree, node, racks, hosts, replicas):
    answer = failure_of(pages, tree, node)
    loss = answer.context["loss"]
    assert answer.status_code == 200
    assert (len(loss.racks), loss.hosts, loss.lost_replicas) == (racks, hosts, replicas)
    assert loss.replicas == 9
    assert "Nothing goes dark" in words_of(answer) if not hosts else "By service" in words_of(answer)


def test_a_failure_shows_output_by_service_and_what_the_rest_must_carry(pages, fed):
    answer = failure_of(pages, "power", "feed-a")
    assert answer.context["title"] == "feed feed-a"
    carry = {line.name: (line.before, line.after, line.state) for line in answer.context["carry"]}
    assert carry["feed-b"] == ("28.0 kVA", "56.0 of 36.2 kVA, 155 %", "over")
    assert next(iter(carry)) == "feed-b"
    assert carry["util-b"] == ("28.0 kVA", "56 of 160 kVA, 35 %", "ok")
    service = failure_of(pages, "rack", "dc01-a1").context["loss"].services[0]
    assert (service.name, service.replicas, service.lost_replicas, service.lost) == ("chat", 9, 8, "8 k tok/s")


def test_a_failure_of_what_is_not_there_is_404_and_a_bad_question_is_400(pages, fed):
    answer = failure_of(pages, "power", "nothing")
    assert answer.status_code == 404
    assert "There is no power node 'nothing'." in text_of(answer)
    assert failure_of(pages, "gas", "pdu-a").status_code == 400
    assert failure_of(pages, "power", "").status_code == 400
    assert failure_of(pages, "row", "dc01/h1").status_code == 404


def test_a_failure_of_what_comes_later_says_when(pages, fed):
    PowerNode.objects.create(slug="pdu-c", site=fed["site"], kind="pdu", rating_va=1e4, in_service_on=date(2027, 8, 1))
    page = words_of(failure_of(pages, "power", "pdu-c"))
    assert "It comes into service on 2027-08-01: on this day nothing hangs on it." in page
    PowerNode.objects.create(
        slug="pdu-d", site=fed["site"], kind="pdu", rating_va=1e4, out_of_service_on=date(2026, 8, 1)
    )
    assert "It is not in the fleet of this day" in words_of(failure_of(pages, "power", "pdu-d"))


# --- timeline ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def dated(fed):
    site, kind = fed["site"], fed["kind"]
    order = Order.objects.create(
        slug="o-1", supplier="Maker", host_type=kind, quantity=12, ordered_on=date(2026, 12, 1)
    )
    Delivery.objects.create(
        slug="d-1",
        order=order,
        site=site,
        host_type=kind,
        quantity=12,
        expected_on=date(2027, 3, 1),
        slip_p50_days=20,
        slip_p90_days=40,
        fill_ratio=0.9,
    )
    Retirement.objects.create(slug="r-1", site=site, host_type=kind, quantity=3, retire_on=date(2027, 6, 1))
    PolicyEvent.objects.create(slug="p-1", chip="h20-96", verb="buy", starts_on=date(2027, 4, 1), source="rule 7")
    firmware = FirmwareSet.objects.create(slug="fw-9", chip="h20-96", rank=9)
    FirmwareBaseline.objects.create(slug="b-1", firmware=firmware, starts_on=date(2027, 5, 1))
    Host.objects.filter(slug__in=["h-0", "h-1"]).update(in_service_on=date(2026, 12, 20))
    Host.objects.filter(slug="h-2").update(out_of_service_on=date(2027, 7, 4))
    Rack.objects.filter(slug="dc01-a2").update(in_service_on=date(2026, 11, 2))
    return fed


def lanes_of(answer):
    return {lane.title: [mark.title for mark in lane.marks] for lane in answer.context["timeline"].lanes}


def test_the_timeline_shows_what_comes_and_goes(pages, dated):
    answer = pages.get(reverse("dashboard:timeline"), DAY)
    lanes = lanes_of(answer)
    assert lanes["Orders"] == ["Orders: 12 × seven; 2026-12-01; o-1 from Maker"]
    when = "promised 2027-03-01, expected 2027-03-21 (P10 2027-03-11, P90 2027-04-10)"
    assert lanes["Deliveries"] == [f"Deliveries: 12 × seven to dc01; {when}; d-1, 90% expected usable"]
    assert "3 × seven leave dc01" in lanes["Retirements"][0]
    assert "h20-96 not to be bought" in lanes["Policy"][0]
    assert "h20-96 from fw-9" in lanes["Firmware baselines"][0]
    assert "2 × seven at dc01" in lanes["Hosts into service"][0]
    assert "1 × seven at dc01" in lanes["Hosts out of service"][0]
    assert "1 rack at dc01" in lanes["Sites and racks in"][0]
    assert "in_service_on__min=2026-12-01&in_service_on__max=2026-12-31" in text_of(answer)
    assert words_of(answer).count("2 × seven at dc01") >= 2  # drawn, and in the table twin
    drawing = answer.context["timeline"]
    assert drawing.label_px + drawing.width_px <= 1190  # what a window of 1280 leaves it


def test_the_timeline_can_be_narrowed_to_months_and_a_site(pages, dated):
    site = {**DAY, "from": "2027-06", "to": "2027-07", "site": "dc01"}
    lanes = lanes_of(pages.get(reverse("dashboard:timeline"), site))
    assert {name for name, marks in lanes.items() if marks} == {"Retirements", "Hosts out of service"}
    other = region_fill("south")["sites"][0]
    lanes = lanes_of(pages.get(reverse("dashboard:timeline"), {**DAY, "site": other.slug}))
    assert not any("dc01" in mark for marks in lanes.values() for mark in marks)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"from": "2027-13"}, "Enter a month as YYYY-MM."),
        ({"from": "2027-06", "to": "2027-05"}, "The last month comes before the first."),
        ({"from": "2020-01", "to": "2035-01"}, "At most 120 months are shown at once."),
        ({"from": "1999-01"}, "is out of reach"),
        ({"site": "nowhere"}, "nowhere is not one of the available choices"),
    ],
)
def test_a_window_that_cannot_be_read_is_400_and_says_why(pages, fed, asked, words):
    answer = pages.get(reverse("dashboard:timeline"), {**DAY, **asked})
    assert answer.status_code == 400
    assert words in text_of(answer)


@pytest.mark.parametrize("day", ["2000-01-01", "2100-01-01"])
def test_the_timeline_has_a_window_at_the_ends_of_the_calendar(pages, dated, day):
    assert pages.get(reverse("dashboard:timeline"), {"day": day}).status_code == 200


def test_hosts_of_many_groups_are_summed_over_sites(pages, dated, monkeypatch):
    monkeypatch.setattr("dashboard.happenings.GROUPS_MOST", 0)
    lanes = lanes_of(pages.get(reverse("dashboard:timeline"), DAY))
    assert "2 × seven at 1 site;" in lanes["Hosts into service"][0]


# --- lists ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", INVENTORY)
def test_every_list_shows_its_rows_sorts_searches_and_goes_out_as_csv(pages, name):
    region_fill("north")
    entry = INVENTORY[name]
    row = entry.model.objects.first()
    page = pages.get(reverse("dashboard:entry_list", args=[name]), {"sort": f"-{entry.key[0]}"})
    assert page.status_code == 200
    table = b"".join(pages.get(reverse("dashboard:entry_csv", args=[name])).streaming_content).decode()
    assert table.splitlines()[0].split(",")[: len(entry.key)] == list(entry.key)
    assert len(table.splitlines()) == 1 + entry.model.objects.count()
    assert pages.get(reverse("dashboard:entry_list", args=[name]), {"q": "no such row"}).status_code == 200
    assert pages.get(reverse("dashboard:entry_row", args=[name, row.pk])).status_code == 200


def test_an_unknown_filter_of_a_list_is_an_error_that_names_it(pages, fleet):
    answer = pages.get(reverse("dashboard:entry_list", args=["racks"]), {"colour": "red"})
    assert answer.status_code == 400
    assert "colour" in text_of(answer)
    assert "there is no such filter" in text_of(answer)
    answer = pages.get(reverse("dashboard:entry_list", args=["racks"]), {"sort": "colour"})
    assert answer.status_code == 400


def test_a_list_filters_by_the_key_of_another_row_and_by_a_range(pages, fleet):
    address = reverse("dashboard:entry_list", args=["hosts"])
    assert "3 rows" in text_of(pages.get(address, {"rack": "dc01-a1"}))
    assert "6 rows" in text_of(pages.get(address, {"host_type": "h20-8x"}))
    racks = reverse("dashboard:entry_list", args=["racks"])
    assert "2 rows" in text_of(pages.get(racks, {"power_limit_w__min": "40000"}))
    assert "0 rows" in text_of(pages.get(racks, {"power_limit_w__min": "40001"}))
    answer = pages.get(racks, {"row": "dc01/h1/a"})
    assert "2 rows" in text_of(answer)
    assert re.search(r'<td class="num">\s*40000\s*</td>', text_of(answer))
    assert "1 row." in text_of(pages.get(racks, {"slug": "dc01-a1"}))


@pytest.fixture
def operator_pages(roles):
    return client_of(user_make("operator", "operator"))


def test_an_edit_is_kept_with_who_and_why_and_can_be_undone(operator_pages, fleet):
    rack = fleet["racks"][0]
    address = reverse("dashboard:entry_edit", args=["racks", rack.pk])
    form = operator_pages.get(address).context["form"]
    values = {name: form[name].value() for name in form.fields}
    values = {name: "" if value is None else value for name, value in values.items()}
    answer = operator_pages.post(address, {**values, "height_u": 47, "why": "measured again"})
    assert answer.status_code == 302, answer.context["form"].errors
    rack.refresh_from_db()
    assert (rack.height_u, rack.version) == (47, 2)
    change_set = ChangeSet.objects.order_by("-number").first()
    assert (change_set.actor_name, change_set.why) == ("operator", "measured again")
    history = text_of(operator_pages.get(reverse("dashboard:changes")))
    assert "measured again" in history
    page = text_of(operator_pages.get(reverse("dashboard:change_set", args=[change_set.number])))
    assert "height_u" in page
    operator_pages.post(reverse("dashboard:change_undo", args=[change_set.number]), {"why": "it was right"})
    rack.refresh_from_db()
    assert rack.height_u == 48
    assert ChangeSet.objects.order_by("-number").first().undo_of == change_set


def test_a_stale_form_saves_nothing(operator_pages, fleet):
    rack = fleet["racks"][0]
    address = reverse("dashboard:entry_edit", args=["racks", rack.pk])
    form = operator_pages.get(address).context["form"]
    values = {name: "" if form[name].value() is None else form[name].value() for name in form.fields}
    rack.height_u = 45
    row_save(rack)
    operator_pages.post(address, {**values, "height_u": 47})
    rack.refresh_from_db()
    assert rack.height_u == 45


def test_a_form_says_what_is_wrong_beside_its_field(operator_pages, fleet):
    address = reverse("dashboard:entry_new", args=["hosts"])
    answer = operator_pages.post(address, {"slug": "new", "host_type": "nobody", "rack": "dc01-a1", "face": "front"})
    assert answer.status_code == 400
    assert "There is no host type 'nobody'." in text_of(answer)


def test_what_is_used_is_not_deleted_and_what_is_not_used_is(operator_pages, fleet):
    rack, host = fleet["racks"][0], Host.objects.first()
    operator_pages.post(reverse("dashboard:entry_delete", args=["racks", rack.pk]))
    assert Rack.objects.filter(pk=rack.pk).exists()
    operator_pages.post(reverse("dashboard:entry_delete", args=["hosts", host.pk]), {"why": "sold"})
    assert not Host.objects.filter(pk=host.pk).exists()


def test_a_viewer_edits_nothing(viewer_pages, fleet):
    rack = fleet["racks"][0]
    for name in ("entry_edit", "entry_delete"):
        assert viewer_pages.get(reverse(f"dashboard:{name}", args=["racks", rack.pk])).status_code == 403
    assert viewer_pages.get(reverse("dashboard:entry_new", args=["racks"])).status_code == 403
