"""NetBox into the fleet: over its API and out of its files; nothing lost without a word, nothing half-written."""

import json
import re
from datetime import date
from itertools import count

import pytest
from django.core.management import CommandError, call_command

from fleet.files import FileError
from fleet.models import ChangeSet, Hall, Host, HostType, PowerLink, PowerNode, Rack, Region, Row, Site
from fleet.netbox import NetBoxClient, NetBoxError, Options, netbox_import, options_read
from fleet.netbox.slugs import Wish, slugs_give
from tests.fleet.kinds import CHIP, every_kind
from tests.fleet.netbox_server import LISTS, TOKEN, choice, for_ever, nested, netbox_data, netbox_serving

pytestmark = pytest.mark.django_db

ON = date(2027, 1, 31)
PPU = {"chip": CHIP, "chips": 16, "power_w": 8600, "idle_w": 1600}
OPTIONS = Options(device_types={"ppu-16x": PPU})


@pytest.fixture
def data():
    return netbox_data()


@pytest.fixture
def server(data):
    with netbox_serving(data, page_most=2) as server:
        yield server


def client(server, **options):
    pauses = []
    found = NetBoxClient(server.url, server.token, sleep=pauses.append, **options)
    return found, pauses


def read(server, **options):
    return netbox_import(client(server)[0], **{"on": ON, "options": OPTIONS, **options})


def told(report):
    return [str(fault) for fault in report.imported.errors]


def folder_of(data, path, *, bare=()):
    """Write the lists as a folder of JSON: answers of the API, or bare arrays."""
    path.mkdir(exist_ok=True)
    for kind, some in data.lists.items():
        whole = some if kind in bare else {"count": len(some), "next": None, "previous": None, "results": some}
        (path / f"{kind}.json").write_text(json.dumps(whole, indent=1))
    return path


def one_of(data, kind, name):
    return next(one for one in data.lists[kind] if one["display"] == name)


# --- over the API -----------------------------------------------------------------------------------------------------
def test_a_netbox_becomes_a_fleet_page_by_page(server):
    report = read(server)
    assert told(report) == []
    assert report.imported.written
    pages = {kind: [query for name, query in server.asked if name == kind] for kind in LISTS}
    assert {kind: len(queries) > 1 for kind, queries in pages.items()} == dict.fromkeys(LISTS, True)
    assert all(
        query["limit"] in {"2", "500"} and query["ordering"] == "id" for some in pages.values() for query in some
    )
    assert pages["devices"][0]["exclude"] == "config_context"
    assert list(Region.objects.values_list("slug", "name")) == [("north", "North"), ("south", "South")]
    assert list(Site.objects.values_list("slug", "name", "region__slug", "pue_ratio")) == [
        ("ams01", "AMS01", "north", 1.2),
        ("fra01", "FRA01", "south", 1.2),
    ]
    assert list(Hall.objects.values_list("site__slug", "slug", "name")) == [
        ("ams01", "h1", "Hall 1"),
        ("fra01", "h1", "Hall 1"),
    ]
    assert Row.objects.count() == 4
    rack = Rack.objects.get(slug="ams01-a1")
    assert (rack.row.slug, rack.height_u, rack.weight_limit_kg) == ("row-a", 48, 1000)
    assert rack.power_limit_w == pytest.approx(3**0.5 * 415 * 63 * 0.8, abs=0.1)
    kind = HostType.objects.get(slug="h20-8x")
    assert (kind.name, kind.chip, kind.chips, kind.height_u, kind.full_depth) == ("H20-8X", "h20-96", 8, 6, True)
    assert (kind.power_w, kind.nameplate_w, kind.idle_w, kind.ports, kind.weight_kg) == (5600, 7000, 1500, 1, 130)
    assert kind.source == f"NetBox, {server.url}"
    assert HostType.objects.get(slug="ppu-16x").power_w == 8600
    hosts = Host.objects.filter(rack=rack).order_by("position_u")
    assert [(host.slug, host.position_u, host.face, host.host_type.slug) for host in hosts] == [
        ("ams01-h20-a1-0", 1, "front", "h20-8x"),
        ("ams01-h20-a1-1", 7, "front", "h20-8x"),
        ("ams01-ppu-a1-2", 13, "front", "ppu-16x"),
    ]
    assert Host.objects.count() == 12
    feed = PowerNode.objects.get(slug="ams01-a1-feed-a")
    assert (feed.kind, feed.rack, feed.voltage_v, feed.current_a, feed.phases) == ("feed", rack, 415, 63, 3)
    assert feed.usable_va == pytest.approx(36227, abs=1)
    panel = PowerNode.objects.get(slug="ams01-pdu-a")
    assert (panel.kind, panel.name, panel.rack) == ("pdu", "PDU A", None)
    assert panel.usable_va == pytest.approx(2 * feed.usable_va, abs=1)
    assert list(PowerLink.objects.filter(node=feed).values_list("source__slug", "standby")) == [("ams01-pdu-a", False)]
    assert PowerLink.objects.count() == 8


def test_what_is_not_carried_is_counted_by_list_and_field(server):
    report = read(server)
    assert dict(report.not_carried) == {
        "regions.parent": 2,
        "sites.facility": 2,
        "sites.time_zone": 2,
        "sites.custom_fields.owner": 2,
        "device-types.manufacturer": 3,
        "device-types.part_number": 3,
        "racks.tenant": 4,
        "racks.width": 4,
        "devices.role": 16,
        "devices.serial": 16,
        "devices.primary_ip4": 16,
        "devices.custom_fields.lease": 16,
        "power-feeds.cable": 8,
        "power-feeds.type=redundant": 4,
    }
    assert dict(report.omitted_counts) == {"sites": 1, "device-types": 1, "devices": 4}
    assert dict(report.read) == {kind: len(some) for kind, some in server.data.lists.items()}
    by_kind = {gone.kind: gone for gone in report.omitted}
    assert by_kind["sites"].place == f"{server.url}api/dcim/sites/103/"
    assert by_kind["sites"].reason == 'has no region, and the map names none for such sites: "region"'
    assert by_kind["device-types"].reason == "is no host: neither the custom field chip nor the map names a chip"
    assert by_kind["devices"].reason == "its device type SWITCH-64 is left out"
    assert report.assumed["racks.power_limit_w: what its feeds give with the largest lost"] == 4
    renamed = {(new.kind, new.name, new.slug) for new in report.renames}
    assert ("racks", "A1", "fra01-a1") in renamed
    assert report.renames_total == 4 + 4 + 8 + 12
    assert json.loads(json.dumps(report.as_dict()))["not_carried"]["devices.primary_ip4"] == 16


def test_a_second_run_changes_nothing(server):
    first = read(server)
    sets = ChangeSet.objects.count()
    assert set(ChangeSet.objects.values_list("request_id", flat=True)) == {first.imported.request_id}
    second = read(server, on=date(2027, 3, 1))
    assert told(second) == []
    assert {(one.created, one.updated, one.refused) for one in second.imported.counts.values()} == {(0, 0, 0)}
    assert sum(one.unchanged for one in second.imported.counts.values()) == sum(
        one.created for one in first.imported.counts.values()
    )
    assert not second.imported.written
    assert ChangeSet.objects.count() == sets


def test_what_netbox_does_not_say_stays_as_it_was_edited_here(server):
    read(server)
    Rack.objects.filter(slug="ams01-a1").update(power_limit_w=20_000, position=7, in_service_on=date(2025, 1, 1))
    Host.objects.filter(slug="ams01-h20-a1-0").update(position_u=30)
    report = read(server)
    assert [(one.key, one.before, one.after) for one in report.imported.changes] == [
        ("ams01-h20-a1-0", {"position_u": 30}, {"position_u": 1})
    ]
    rack = Rack.objects.get(slug="ams01-a1")
    assert (rack.power_limit_w, rack.position, rack.in_service_on) == (20_000, 7, date(2025, 1, 1))


def test_a_dry_run_writes_nothing_and_tells_all(server):
    report = read(server, dry_run=True)
    assert report.imported.counts["hosts"].created == 12
    assert not Host.objects.exists()
    assert not ChangeSet.objects.exists()


def test_one_site_alone_and_then_all_give_the_same_slugs(server):
    report = read(server, site="fra01")
    assert told(report) == []
    assert list(Site.objects.values_list("slug", flat=True)) == ["fra01"]
    assert set(Rack.objects.values_list("slug", flat=True)) == {"a1", "b1"}
    assert all(query["site"] == "fra01" for kind, query in server.asked if kind == "racks")
    report = read(server)
    assert told(report) == []
    assert report.imported.counts["racks"].unchanged == 2
    assert set(Rack.objects.values_list("slug", flat=True)) == {"a1", "b1", "ams01-a1", "ams01-b1"}
    assert {one.updated for one in report.imported.counts.values()} == {0}


def test_a_site_that_is_not_there_is_told(server):
    with pytest.raises(NetBoxError, match='there is no site "muc01"'):
        read(server, site="muc01")


@pytest.mark.parametrize("token", [TOKEN, "nbt_abcdef.0123456789abcdef"])
def test_a_token_of_either_kind_is_sent_as_netbox_wants_it(data, token):
    with netbox_serving(data, token=token) as server:
        assert told(read(server)) == []
        assert set(server.seen) == {f"{'Bearer' if token.startswith('nbt_') else 'Token'} {token}"}


def test_a_refused_token_is_told_with_address_and_status(server):
    with pytest.raises(NetBoxError) as caught:
        netbox_import(NetBoxClient(server.url, "wrong"), on=ON)
    assert str(caught.value).startswith(f"{server.url}api/dcim/regions/?")
    assert str(caught.value).endswith(": 403: Invalid token")
    assert len(server.asked) == 1


def test_busy_answers_are_asked_again_as_late_as_they_say(server):
    busy = [(429, {"Retry_After": "7"}, {}), (503, {}, b"<html>"), (502, {"Retry_After": "1000"}, {}), (504, {}, {})]
    server.script["racks"] = iter(busy)
    found, pauses = client(server)
    assert told(netbox_import(found, on=ON, options=OPTIONS)) == []
    assert pauses == [7, 2, 120, 8]


def test_a_moment_to_wait_for_is_understood(server):
    server.script["racks"] = iter([(429, {"Retry_After": "Thu, 01 Jan 2026 00:00:00 GMT"}, {})])
    found, pauses = client(server)
    netbox_import(found, on=ON, options=OPTIONS)
    assert pauses == [0]


def test_a_moment_that_is_none_is_not_waited_for(server):
    late = {"Retry_After": "Wed, 99 Oct 99999999999 07:28:00 GMT"}
    server.script["racks"] = iter([(429, late, {})])
    found, pauses = client(server)
    netbox_import(found, on=ON, options=OPTIONS)
    assert pauses == [1]


def test_a_server_that_goes_away_midway_leaves_nothing_behind(server):
    server.script["devices"] = iter([None, *[(503, {}, {"detail": "down"})] * 10])
    found, pauses = client(server)
    with pytest.raises(NetBoxError, match=r"api/dcim/devices/\?.*offset=2.*: 503: down"):
        netbox_import(found, on=ON, options=OPTIONS)
    assert pauses == [1, 2, 4, 8, 16]
    assert not Region.objects.exists()
    assert not ChangeSet.objects.exists()


def test_nobody_there_is_told(data):
    with netbox_serving(data) as server:
        found, pauses = client(server)
    with pytest.raises(NetBoxError, match=r"no answer: .*refused"):
        netbox_import(found, on=ON)
    assert len(pauses) == 5


@pytest.mark.parametrize(
    "elsewhere",
    [
        *("https://evil.example/api/dcim/racks/", "http://127.0.0.1:1/api/dcim/racks/", "ftp://x/"),
        *("http://127.0.0.1:999999/", "http://[::1/"),
    ],
)
def test_a_next_page_elsewhere_is_refused(server, elsewhere):
    server.script["racks"] = for_ever(elsewhere)
    with pytest.raises(NetBoxError, match=f"its next page is elsewhere: {re.escape(elsewhere)}"):
        read(server)
    assert not Site.objects.exists()


@pytest.mark.parametrize("sign", ["\u00e9", " ", "\n"])
def test_a_next_page_that_is_no_address_is_refused(server, sign):
    server.script["racks"] = for_ever(f"{server.url}api/dcim/racks/?offset={sign}")
    with pytest.raises(NetBoxError, match="its next page is elsewhere"):
        read(server)


@pytest.mark.parametrize("rows", [0, 1], ids=["empty", "full"])
def test_pages_without_end_are_refused(server, rows):
    one = server.absolute(server.data.lists["racks"][0])
    pages = (
        {"count": 4, "next": f"{server.url}api/dcim/racks/?offset={at}", "results": [one] * rows} for at in count()
    )
    server.script["racks"] = ((200, {}, page) for page in pages)
    reason = "4 objects promised and 5 read" if rows else "the page is empty, and yet there is a next one"
    with pytest.raises(NetBoxError, match=reason):
        read(server)
    assert len([kind for kind, _ in server.asked if kind == "racks"]) == (5 if rows else 1)


def test_pages_in_a_circle_are_refused(server):
    server.script["racks"] = for_ever(f"{server.url}api/dcim/racks/?limit=2&offset=2")
    with pytest.raises(NetBoxError, match="its next page is elsewhere"):
        read(server)


def test_a_redirect_to_another_host_is_refused_and_the_token_stays_here(server, data):
    with netbox_serving(data) as other:
        server.script["racks"] = iter([(302, {"Location": f"{other.url}api/dcim/racks/"}, {})])
        with pytest.raises(NetBoxError, match=f"redirects to another host: {other.url}"):
            read(server)
        assert other.seen == []


@pytest.mark.parametrize("target", ["http://127.0.0.1:999999/", "http://[::1/"])
def test_a_redirect_to_no_address_is_refused(server, target):
    server.script["racks"] = iter([(302, {"Location": target}, {})])
    with pytest.raises(NetBoxError, match=r"api/dcim/racks/.*(redirects to another host|leads to what is no address)"):
        read(server)


def test_half_an_answer_about_an_error_is_told_by_its_status(server):
    server.script["racks"] = iter([(500, {"Transfer_Encoding": "chunked"}, b"no length\r\n")])
    with pytest.raises(NetBoxError, match=r"api/dcim/racks/.*: 500: Internal Server Error"):
        read(server)


def test_what_a_server_says_does_nothing_to_a_terminal(server):
    server.script["racks"] = iter([(500, {}, {"detail": "\x1b[2J\u202eno"})])
    with pytest.raises(NetBoxError) as caught:
        read(server)
    assert str(caught.value).endswith(": 500: \\x1b[2J\\u202eno")


def test_a_list_that_changes_while_it_is_read_is_refused(server):
    server.script["racks"] = iter([(200, {}, {"count": 5, "next": None, "results": []})])
    with pytest.raises(NetBoxError, match="5 objects promised and 0 read: the list has changed; run again"):
        read(server)


def test_a_status_that_helps_nobody_to_ask_again_is_told_at_once(server):
    for status, body, reason in ((401, {"detail": "Expired"}, "401: Expired"), (500, b"<html>", "500: ")):
        server.script["sites"] = iter([(status, {}, body)])
        found, pauses = client(server)
        with pytest.raises(NetBoxError, match=reason):
            netbox_import(found, on=ON)
        assert pauses == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", {"results": []}, {"count": 1, "next": None, "results": [1]}])
def test_an_answer_of_something_else_is_refused(server, body):
    server.script["sites"] = iter([(200, {}, body)])
    with pytest.raises(NetBoxError, match=r"api/dcim/sites/.*the answer is no"):
        read(server)


def test_an_answer_that_is_too_long_is_refused(server):
    found, _ = client(server, answer_byte=100)
    with pytest.raises(NetBoxError, match="an answer of more than 100 bytes"):
        netbox_import(found, on=ON)


@pytest.mark.parametrize(
    ("url", "token", "reason"),
    [
        ("http://netbox.example/", TOKEN, "the token would be sent in clear: use https"),
        ("https://[::1/", TOKEN, "the address cannot be read"),
        ("https://netbox.example:999999/", TOKEN, "the address cannot be read"),
        ("https://netbox.example/\u00e9/", TOKEN, "an address as https"),
        ("ftp://netbox.example/", TOKEN, "an address as https"),
        ("https://li:secret@netbox.example/", TOKEN, "an address as https"),
        ("https://netbox.example/", "", "the token is empty"),
        ("https://netbox.example/", "a\nb", "the token is empty, or holds what no token does"),
    ],
)
def test_an_address_or_token_that_cannot_be_used_is_refused(url, token, reason):
    with pytest.raises(NetBoxError, match=reason):
        NetBoxClient(url, token)


# --- what is wrong is told with its place -----------------------------------------------------------------------------
def test_hosts_that_overlap_are_told_by_their_devices_and_nothing_is_written(server):
    low, high = (one_of(server.data, "devices", name) for name in ("h20-a1-0", "h20-a1-1"))
    high["position"] = 4.0
    report = read(server)
    addresses = [server.absolute(one)["url"] for one in (low, high)]
    assert told(report) == [
        f"{address}:position: hosts ams01-h20-a1-0 and ams01-h20-a1-1 both fill units 4 to 6 of their rack"
        for address in addresses
    ]
    assert {fault.entry for fault in report.imported.errors} == {"devices"}
    assert not Region.objects.exists()
    assert not ChangeSet.objects.exists()


def test_a_figure_that_cannot_be_is_told_where_it_is(server):
    one_of(server.data, "racks", "B1")["u_height"] = "tall"
    one_of(server.data, "devices", "h20-a1-0")["rack"] = {"id": 999, "name": "Z9"}
    report = read(server)
    assert [line.split("/api/dcim/")[1] for line in told(report)] == [
        'racks/302/:u_height: "tall" is not a number',
        'devices/701/:rack: there is no "Z9" among the racks that were read',
    ]
    one_of(server.data, "racks", "B1")["u_height"] = 48
    one_of(server.data, "power-feeds", "Feed A")["amperage"] = 0
    one_of(server.data, "devices", "h20-a1-0")["rack"] = nested(server.data.lists["racks"][0])
    (line,) = told(read(server))
    assert line.endswith("/power-feeds/901/:amperage: 0: a feed gives something")
    assert not Region.objects.exists()


@pytest.mark.parametrize(
    ("kind", "field", "said"),
    [
        ("racks", "site", {"value": {"id": [1]}}),
        ("devices", "rack", {"value": {"id": [1]}}),
        ("power-port-templates", "device_type", {"value": {"id": [1]}}),
        ("sites", "slug", {"value": [1]}),
        ("sites", "slug", [1]),
        ("sites", "slug", {"id": 1}),
        ("racks", "cf_power_limit_w", [1]),
    ],
)
def test_what_is_no_single_value_is_told_where_it_is(server, kind, field, said):
    one = server.data.lists[kind][0]
    if field.startswith("cf_"):
        one["custom_fields"] = {field.removeprefix("cf_"): said}
    one[field] = said
    report = read(server)
    assert f"{server.absolute(one)['url']}:{field}: a single value is expected" in told(report)
    assert not Region.objects.exists()


def test_names_that_are_the_same_to_the_end_are_told_by_both_places(server):
    first, second = (one_of(server.data, "devices", name) for name in ("h20-a1-0", "h20-a1-1"))
    second["name"] = first["name"]
    (line,) = told(read(server))
    places = [server.absolute(one)["url"] for one in (first, second)]
    assert line == f'{places[1]}:slug: "ams01-a1-h20-a1-0" comes twice: first in {places[0]}'


# --- places -----------------------------------------------------------------------------------------------------------
def rack_rows():
    return {rack.slug: f"{rack.row.hall.site.slug}/{rack.row.hall.slug}/{rack.row.slug}" for rack in Rack.objects.all()}


def test_a_rack_stands_in_a_location_below_a_hall_in_its_group_or_in_the_one_row(server):
    racks = {rack["id"]: rack for rack in server.data.lists["racks"]}
    hall = nested(one_of(server.data, "locations", "Hall 1"))
    racks[302] |= {"location": hall, "group": {"id": 4, "name": "Row 7", "slug": "row-7", "display": "Row 7"}}
    racks[303] |= {"location": None}
    racks[304] |= {"location": None, "group": {"id": 4, "name": "Row 7", "slug": "row-7", "display": "Row 7"}}
    report = read(server)
    assert told(report) == []
    assert rack_rows() == {
        "ams01-a1": "ams01/h1/row-a",
        "ams01-b1": "ams01/h1/row-7",
        "fra01-a1": "fra01/hall/a",
        "fra01-b1": "fra01/hall/row-7",
    }
    assert report.assumed["racks.location: the one hall of the site"] == 2
    assert report.assumed["racks.group: the one row of the hall"] == 1


def test_the_map_tells_on_which_level_halls_are(server):
    for at, site in enumerate(server.data.lists["sites"][:2]):
        block = server.data.add(
            "locations", f"Block {at}", slug="block", site=nested(site), parent=None, status=choice("active")
        )
        next(one for one in server.data.lists["locations"] if one["site"]["id"] == site["id"])["parent"] = nested(block)
    read(server, options=Options(device_types={"ppu-16x": PPU}, hall_depth=2))
    assert set(rack_rows().values()) == {f"{site}/block-h1/row-{row}" for site in ("ams01", "fra01") for row in "ab"}


def test_units_counted_from_the_top_or_from_another_number_are_those_from_the_floor(server):
    first, second = server.data.lists["racks"][:2]
    first["desc_units"] = True
    second["starting_unit"] = 3
    for device in server.data.lists["devices"][4:8]:
        device["position"] += 2
    assert told(read(server)) == []
    placed = dict(Host.objects.filter(rack__slug__startswith="ams01").values_list("slug", "position_u"))
    assert placed == {
        "ams01-h20-a1-0": 43,
        "ams01-h20-a1-1": 37,
        "ams01-ppu-a1-2": 31,
        "ams01-h20-b1-0": 1,
        "ams01-h20-b1-1": 7,
        "ams01-ppu-b1-2": 13,
    }


def test_names_without_latin_letters_get_a_slug_that_stays(server):
    one_of(server.data, "racks", "A1")["name"] = "机柜"
    read(server)
    slug = Rack.objects.exclude(slug__regex="[ab]1$").get().slug
    assert slug.startswith("rack-")
    assert read(server).imported.counts["racks"].unchanged == 4


def test_a_slug_follows_from_site_and_name_and_what_stands_keeps_its_own():
    wishes = [Wish.of("A 1", "rack", site, "h1/a", ["h1-a"]) for site in ("ams", "fra")]
    assert slugs_give(wishes, {}) == ["ams-a-1", "fra-a-1"]
    assert slugs_give(wishes, {"a-1": ("fra", "h1/a")}) == ["ams-a-1", "a-1"]
    assert slugs_give(wishes, {"a-1": ("fra", "h9/z")}) == ["ams-a-1", "a-1"]
    assert slugs_give(wishes[:1], {"a-1": ("fra", "h1/a")}) == ["ams-a-1"]
    assert slugs_give([Wish.of("ams-x", "rack", "ams")], {}) == ["ams-x"]
    (long,) = slugs_give([Wish.of("x" * 80, "rack", "ams")], {})
    assert (len(long), long[:41]) == (50, "x" * 41)


def test_a_second_thing_of_the_same_name_at_a_site_leaves_the_first_its_slug():
    twice = [Wish.of("A1", "rack", "ams", f"h1/{row}", [f"h1-{row}"]) for row in "ab"]
    assert slugs_give(twice, {}) == ["ams-h1-a-a1", "ams-h1-b-a1"]
    assert slugs_give(twice[:1], {}) == ["a1"]
    assert slugs_give(twice, {"a1": ("ams", "h1/a")}) == ["a1", "ams-h1-b-a1"]


# --- status and days --------------------------------------------------------------------------------------------------
def test_a_status_is_as_many_days_as_it_tells(server):
    devices = {one["display"]: one for one in server.data.lists["devices"][:8]}
    devices["h20-a1-0"]["status"] = choice("planned")
    devices["h20-a1-1"] |= {"status": choice("staged"), "custom_fields": {"in_service_on": "2027-06-01"}}
    devices["ppu-a1-2"]["status"] = choice("failed")
    devices["h20-b1-0"]["status"] = choice("inventory")
    devices["h20-b1-1"] |= {
        "status": choice("decommissioning"),
        "custom_fields": {"in_service_on": "2024-06-01", "out_of_service_on": "2027-09-01"},
    }
    report = read(server)
    assert told(report) == []
    found = Host.objects.filter(rack__row__hall__site__slug="ams01").order_by("slug")
    assert list(found.values_list("slug", "planned_on", "in_service_on", "out_of_service_on")) == [
        ("ams01-h20-a1-1", None, date(2027, 6, 1), None),
        ("ams01-h20-b1-1", None, date(2024, 6, 1), date(2027, 9, 1)),
        ("ams01-ppu-a1-2", None, None, None),
        ("ams01-ppu-b1-2", None, None, None),
    ]
    reasons = {gone.name: gone.reason for gone in report.omitted}
    assert reasons["h20-a1-0"] == "is planned, and no custom field in_service_on says from when on it is there"
    assert reasons["h20-b1-0"] == "is inventory"
    assert report.not_carried["devices.status=failed"] == 1
    assert report.not_carried["devices.status=decommissioning"] == 1


def test_what_is_retired_there_ends_here_on_the_day_of_the_reading(server):
    read(server)
    one_of(server.data, "devices", "h20-a1-0")["status"] = choice("inventory")
    report = read(server)
    ended = {"out_of_service_on": ON.isoformat()}
    assert [(one.key, one.after) for one in report.imported.changes] == [("ams01-h20-a1-0", ended)]
    assert not read(server, on=date(2027, 5, 1)).imported.written
    assert Host.objects.get(slug="ams01-h20-a1-0").out_of_service_on == ON


def test_a_feed_that_is_not_there_yet_gives_nothing(server):
    first, second, third = server.data.lists["power-feeds"][:3]
    first["status"] = choice("planned")
    second["status"] = choice("offline")
    third |= {"status": choice("planned"), "custom_fields": {"in_service_on": "2027-06-01"}}
    report = read(server)
    assert told(report) == []
    assert report.not_carried["power-feeds.status=offline"] == 1
    assert report.omitted_counts["power-feeds"] == 1
    gives = pytest.approx(3**0.5 * 415 * 63 * 0.8, abs=0.1)
    assert [Rack.objects.get(slug=f"ams01-{rack}").power_limit_w for rack in ("a1", "b1")] == [gives, gives]
    assert PowerNode.objects.get(in_service_on=date(2027, 6, 1)).slug == "ams01-feed-a"
    first["status"] = choice("active")
    again = read(server).imported.counts["power-nodes"]
    assert (again.created, again.updated) == (1, 0)
    assert PowerNode.objects.filter(slug="ams01-a1-feed-a").exists()


def test_what_is_in_something_left_out_is_left_out_with_it(server):
    server.data.lists["sites"][0]["status"] = choice("retired")
    report = read(server)
    assert told(report) == []
    assert list(Site.objects.values_list("slug", flat=True)) == ["fra01"]
    assert {"is retired", "its site AMS01 is left out"} <= {gone.reason for gone in report.omitted}
    assert PowerNode.objects.filter(kind="pdu").count() == 2


# --- what NetBox does not know ----------------------------------------------------------------------------------------
def test_a_rack_without_a_feed_needs_a_limit_from_elsewhere(server):
    feeds = server.data.lists["power-feeds"]
    gone = server.data.lists["racks"][0]["id"]
    server.data.lists["power-feeds"] = [feed for feed in feeds if feed["rack"]["id"] != gone]
    report = read(server, dry_run=True)
    reason = "neither a feed nor the custom field power_limit_w nor the map says what it may draw"
    assert [(one.kind, one.name) for one in report.omitted if one.reason == reason] == [("racks", "A1")]
    read(server, options=Options(device_types={"ppu-16x": PPU}, rack={"power_limit_w": 17_000}))
    assert Rack.objects.get(slug="ams01-a1").power_limit_w == 17_000


def test_a_map_is_read_from_a_file(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"region": "north", "hall_depth": 2, "device_types": {"ppu-16x": PPU}}, indent=2))
    assert options_read(path) == Options(region="north", hall_depth=2, device_types={"ppu-16x": PPU})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"device_types": {"a": {"chps": 8}}}', 'device_types.a.chps: there is no such figure; did you mean "chips"?'),
        ('{"racks": {}}', 'column racks: there is no such figure; did you mean "rack"?'),
        ('{"rack": 7}', "column rack: an object is needed"),
        ('{"device_types": {"a": {"chips": [8]}}}', "device_types.a.chips: one value is needed"),
        ('{"hall_depth": 0}', "column hall_depth: a whole number from 1 on is needed"),
        ('{"region": 7}', "column region: the slug of a region is needed"),
        ("[]", "a map is an object"),
        ('{"a": 1, "a": 2}', 'the key "a" is given twice'),
    ],
)
def test_a_map_that_says_nothing_is_refused(tmp_path, text, reason):
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        options_read(path)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(str(path))


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_takes_its_token_from_the_environment_or_a_file(server, tmp_path, monkeypatch, capsys):
    (tmp_path / "map.json").write_text(json.dumps({"device_types": {"ppu-16x": PPU}}))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("NETBOX_TOKEN", TOKEN)
    given = ("netbox_import", server.url, "--map", str(tmp_path / "map.json"))
    call_command(*given, "--token-env", "NETBOX_TOKEN", "--dry-run", "--on", "2027-01-31")
    out = capsys.readouterr().out
    assert "hosts: 12 new, 0 edited, 0 as they were" in out
    assert "not carried: devices.primary_ip4: 16" in out
    assert "nothing was written: --dry-run" in out
    call_command(*given, "--token-file", str(tmp_path / "token"), "--json", "--why", "first")
    report = json.loads(capsys.readouterr().out)
    assert (report["written"], report["counts"]["hosts"]["created"]) == (True, 12)
    assert set(ChangeSet.objects.values_list("why", flat=True)) == {"first"}
    assert TOKEN not in json.dumps(report)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("https://netbox.example/",), "name the token's variable or file"),
        (("https://netbox.example/", "--token-env", "NO_SUCH_TOKEN"), "there is no environment variable NO_SUCH_TOKEN"),
        (("https://netbox.example/", "--token-file", "/no/such"), "/no/such: No such file or directory"),
        (("/no/such",), "/no/such: there is no such file or folder"),
    ],
)
def test_a_command_that_lacks_something_says_so(arguments, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("netbox_import", *arguments)


def test_a_command_with_errors_prints_them_and_fails(server, tmp_path, capsys):
    one_of(server.data, "devices", "h20-a1-1")["position"] = 4.0
    folder = folder_of(server.data, tmp_path / "netbox")
    with pytest.raises(CommandError, match=r"2 error\(s\); nothing was written"):
        call_command("netbox_import", str(folder))
    assert f"{folder / 'devices.json'}[1]:" in capsys.readouterr().out


# --- out of files -----------------------------------------------------------------------------------------------------
def test_a_folder_of_json_gives_the_same_as_the_api(server, tmp_path):
    read(server)
    folder = folder_of(server.data, tmp_path / "netbox", bare=("sites", "racks"))
    (folder / "manufacturers.json").write_text("[]")
    (folder / "map.json").write_text("{}")
    report = netbox_import(folder, on=ON, options=OPTIONS)
    assert told(report) == []
    assert {(one.created, one.updated) for one in report.imported.counts.values()} == {(0, 0)}
    assert report.imported.counts["hosts"].unchanged == 12
    assert report.not_carried["devices.primary_ip4"] == 16


def test_device_types_of_yaml_go_with_devices_of_json(data, tmp_path):
    data.lists["devices"] = [one for one in data.lists["devices"] if one["display"].startswith("h20")]
    folder = folder_of(data, tmp_path / "netbox")
    (folder / "device-types.json").unlink()
    (folder / "library").mkdir()
    document = {"manufacturer": "Inspur", "model": "H20-8X", "slug": "h20-8x", "u_height": 6, "is_full_depth": True}
    figures = {"cf_chip": "h20-96", "cf_chips": 8, "cf_power_w": 5600, "cf_idle_w": 1500}
    (folder / "library" / "h20.yaml").write_text(json.dumps(document | figures))
    report = netbox_import(folder, on=ON)
    assert told(report) == []
    assert Host.objects.filter(host_type__slug="h20-8x").count() == 8


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sites", {"region": {"id": [1]}}),
        ("sites", {"id": {"a": 1}}),
        ("sites", {"slug": None}),
        ("sites", {"slug": ["x"], "name": 7}),
        ("sites", {"custom_fields": 7}),
        ("sites", {"custom_fields": {"pue_ratio": {"a": [1]}}}),
        ("locations", {"site": {}}),
        ("locations", {"site": [1]}),
        ("locations", {"parent": {"id": 201, "name": "Hall 1"}}),
        ("racks", {"group": {}, "location": None}),
        ("racks", {"location": 7}),
        ("racks", {"u_height": 1e300}),
        ("racks", {"status": {}}),
        ("racks", {"max_weight": 5, "weight_unit": "stone"}),
        ("device-types", {"u_height": None}),
        ("device-types", {"power-ports": 7}),
        ("device-types", {"power-ports": [{"allocated_draw": [1]}]}),
        ("device-types", {"custom_fields": {"chip": "none", "chips": "many", "power_w": -1, "idle_w": [0]}}),
        ("devices", {"position": "x"}),
        ("devices", {"position": -1e18}),
        ("devices", {"face": "top"}),
        ("devices", {"name": "a\0b"}),
        ("devices", {"device_type": None}),
        ("devices", {"rack": {"id": 1e99}}),
        ("devices", {"custom_fields": {"in_service_on": "soon"}}),
        ("power-feeds", {"voltage": None}),
        ("power-feeds", {"phase": choice("two-phase")}),
        ("power-feeds", {"max_utilization": 0}),
        ("power-feeds", {"custom_fields": {"rating_va": "x", "derate_ratio": "y"}}),
        ("power-panels", {"site": None}),
    ],
    ids=str,
)
def test_whatever_an_object_says_all_or_nothing_is_written_and_every_error_has_its_place(data, tmp_path, kind, change):
    data.lists[kind][0] |= change
    report = netbox_import(folder_of(data, tmp_path / "netbox"), on=ON, options=OPTIONS)
    assert report.imported.written == report.imported.sound == Host.objects.exists()
    assert all(fault.file.startswith(str(tmp_path)) and fault.reason for fault in report.imported.errors)


def test_an_empty_list_is_a_list(data, tmp_path):
    for kind in ("devices", "power-feeds", "power-panels"):
        data.lists[kind] = []
    report = netbox_import(folder_of(data, tmp_path / "netbox", bare=("devices",)), on=ON)
    assert told(report) == []
    assert dict(report.omitted_counts) == {"sites": 1, "racks": 4, "device-types": 2}


def test_one_site_of_a_folder(data, tmp_path):
    report = netbox_import(folder_of(data, tmp_path / "netbox"), on=ON, options=OPTIONS, site="ams01")
    assert told(report) == []
    assert list(Site.objects.values_list("slug", flat=True)) == ["ams01"]
    assert Host.objects.count() == 6
    with pytest.raises(FileError, match='there is no site "muc01"'):
        netbox_import(tmp_path / "netbox", on=ON, site="muc01")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("racks.json", '[{"id": 1}, 7]', "racks.json[2]:1: a number where an object is expected"),
        ("racks.json", '[{"id": 1, "id": 2}]', "racks.json[1]:1: a key is given twice"),
        ("racks.json", '[{"id": 1e999}]', "racks.json[1]:1: 1e999 is too large a number"),
        ("racks.csv", "name,site\nA1\n", "racks.csv:2:site: 1 cells where the header has 2"),
        ("types.yaml", "- a\n- b\n", "types.yaml:1: an object is expected"),
    ],
)
def test_a_row_that_cannot_be_read_is_told_with_its_place(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    report = netbox_import(tmp_path, on=ON)
    assert told(report) == [f"{tmp_path}/{reason}"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "holds no list of NetBox"),
        ({"cables.csv": "a\n1\n"}, "cables.csv: the name tells no list of NetBox"),
        ({"racks.csv": "name\nA\n", "racks.json": "[]"}, "racks.csv holds racks too: which one counts?"),
        ({"racks.json": '[{"id": 1}'}, "racks.json:1"),
        ({"racks.json": "{}"}, "racks.json:1"),
        ({"types.yaml": "a: &x [1]\nb: *x\n"}, "types.yaml:2: column 4: the alias *x"),
        ({"types.yaml": "a: !!python/object:os.system x\n"}, "types.yaml:1: column 4: the tag"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(tmp_path, files, reason):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(FileError) as caught:
        netbox_import(tmp_path, on=ON)
    assert reason in str(caught.value)


TABLES = {
    "netbox_regions.csv": "Name,Sites,Description,Slug\nNorth,1,,north\n",
    "netbox_sites.csv": (
        "ID,Name,Slug,Status,Facility,Region,Tenant,ASNs,Description\n1,Amsterdam,ams01,Active,DC 1,North,Cloud,,\n"
    ),
    "netbox_locations.csv": (
        "Name,Site,Parent,Facility,Status,Racks,Devices,Slug\n"
        "Hall 1,Amsterdam,,,Active,1,2,h1\nRow A,Amsterdam,Hall 1,,Active,1,2,row-a\n"
    ),
    "netbox_racks.csv": (
        "Name,Site,Location,Status,Facility ID,Role,Type,Height,Starting unit,Max Weight,Devices,Space,Power\n"
        "A1,Amsterdam,Row A,Active,F-1,GPU,,48U,1,2000 lb,2,40.5,10.0\n"
    ),
    "netbox_device types.csv": (
        "Device Type,Manufacturer,Slug,Part number,U Height,Full Depth,Weight,Instances,"
        "Chip,Chips,cf_power_w,cf_idle_w\n"
        "H20 8x,Inspur,h20-8x,P-1,6,True,130 kg,2,h20-96,8,5600,1500\nSwitch,Inspur,switch,,1,False,,1,,,,\n"
    ),
    "netbox_devices.csv": (
        "Name,Status,Tenant,Site,Location,Rack,Position,Role,Manufacturer,Type,Face,"
        "IP Address,IPv4 Address,Serial number\n"
        "gpu-1,Active,,Amsterdam,Row A,A1,1,GPU,Inspur,H20 8x,Front,10.0.0.1/24,10.0.0.1/24,S1\n"
        "gpu-2,Planned,,Amsterdam,Row A,A1,7,GPU,Inspur,H20 8x,Front,,,\n"
        "sw-1,Active,,Amsterdam,Row A,A1,48,ToR,Inspur,Switch,Rear,10.0.0.3/24,10.0.0.3/24,\n"
    ),
    "netbox_power panels.csv": "Name,Site,Location,Feeds\nPDU A,Amsterdam,Hall 1,1\n",
    "netbox_power feeds.csv": (
        "Name,Power panel,Rack,Status,Type,Supply,Voltage,Amperage,Phase,Max utilization,Cable,Available power (VA)\n"
        "Feed A,PDU A,A1,Active,Primary,AC,415,63,Three-phase,80%,,36227\n"
    ),
}
BULK = {
    "regions.csv": "name,slug\nNorth,north\n",
    "sites.csv": "name,slug,status,region,facility,tenant\nAmsterdam,ams01,active,North,DC 1,Cloud\n",
    "locations.csv": "site,parent,name,slug,status\nAmsterdam,,Hall 1,h1,active\nAmsterdam,Hall 1,Row A,row-a,active\n",
    "racks.csv": (
        "site,location,name,facility_id,status,role,width,u_height,max_weight,weight_unit\n"
        "Amsterdam,Row A,A1,F-1,active,GPU,19,48,2000,lb\n"
    ),
    "device-types.csv": (
        "manufacturer,model,slug,part_number,u_height,is_full_depth,weight,weight_unit,"
        "cf_chip,cf_chips,cf_power_w,cf_idle_w\n"
        "Inspur,H20 8x,h20-8x,P-1,6,true,130,kg,h20-96,8,5600,1500\nInspur,Switch,switch,,1,false,,,,,,\n"
    ),
    "devices.csv": (
        "name,role,manufacturer,device_type,serial,status,site,location,rack,position,face,primary_ip4\n"
        "gpu-1,GPU,Inspur,H20 8x,S1,active,Amsterdam,Row A,A1,1,front,10.0.0.1/24\n"
        "gpu-2,GPU,Inspur,H20 8x,,planned,Amsterdam,Row A,A1,7,front,\n"
        "sw-1,ToR,Inspur,Switch,,active,Amsterdam,Row A,A1,48,rear,10.0.0.3/24\n"
    ),
    "power-panels.csv": "site,location,name\nAmsterdam,Hall 1,PDU A\n",
    "power-feeds.csv": (
        "site,power_panel,location,rack,name,status,type,supply,phase,voltage,amperage,max_utilization\n"
        "Amsterdam,PDU A,Row A,A1,Feed A,active,primary,ac,three-phase,415,63,80\n"
    ),
}


@pytest.mark.parametrize("files", [TABLES, BULK], ids=["exported table", "bulk import"])
def test_csv_as_netbox_exports_a_table_or_imports_it_in_bulk(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    report = netbox_import(tmp_path, on=ON)
    assert told(report) == []
    assert rack_rows() == {"a1": "ams01/h1/row-a"}
    assert Rack.objects.get().weight_limit_kg == pytest.approx(907.185)
    kind = HostType.objects.get()
    assert (kind.slug, kind.name, kind.chip, kind.weight_kg, kind.power_w) == ("h20-8x", "H20 8x", "h20-96", 130, 5600)
    assert list(Host.objects.values_list("slug", "position_u", "face")) == [("gpu-1", 1, "front")]
    feed = PowerNode.objects.get(kind="feed")
    assert (feed.slug, feed.rated_va, feed.derate_ratio) == ("feed-a", pytest.approx(3**0.5 * 415 * 63), 0.8)
    assert dict(report.not_carried) == {
        "sites.facility": 1,
        "sites.tenant": 1,
        "racks.facility_id": 1,
        "racks.role": 1,
        "device-types.manufacturer": 2,
        "device-types.part_number": 1,
        "devices.role": 3,
        "devices.primary_ip4": 2,
        "devices.serial": 1,
        **({"racks.width": 1} if files is BULK else {}),
    }
    assert dict(report.omitted_counts) == {"device-types": 1, "devices": 2}
    again = netbox_import(tmp_path, on=ON)
    assert {(one.created, one.updated) for one in again.imported.counts.values()} == {(0, 0)}


def test_names_that_mean_two_things_are_told(tmp_path):
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "netbox_power panels.csv").write_text("Name,Site,Location\nPDU A,Amsterdam,Hall 1\nPDU A,Amsterdam,\n")
    (line,) = told(netbox_import(tmp_path, on=ON))
    panels = tmp_path / "netbox_power panels.csv"
    assert line == (
        f"{tmp_path / 'netbox_power feeds.csv'}:2:power_panel: "
        f'"PDU A" is the name of 2 power-panels: {panels}:2, {panels}:3'
    )


def test_an_import_beside_a_fleet_leaves_it_alone(server):
    every_kind()
    hosts = list(Host.objects.values_list("slug", "version"))
    report = read(server)
    assert told(report) == []
    assert list(Host.objects.filter(slug="host-1").values_list("slug", "version")) == hosts
    assert Site.objects.count() == 3
