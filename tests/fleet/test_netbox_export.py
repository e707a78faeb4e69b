"""The fleet as NetBox's bulk import reads it, and back again."""

import csv
import json
from datetime import date

import pytest
import yaml
from django.core.management import CommandError, call_command

from fleet.demo import demo_fleet_load
from fleet.exchange import entry_rows, fleet_wipe
from fleet.inventory import INVENTORY
from fleet.models import Hall, Host, HostType, PowerLink, PowerNode, Rack, Row, Site
from fleet.netbox import netbox_export, netbox_import, options_read
from tests.fleet.kinds import CHIP, every_kind, place_rows

pytestmark = pytest.mark.django_db

ON = date(2027, 1, 31)
PLACES = ("regions", "sites", "halls", "rows", "racks", "host-types", "hosts")


@pytest.fixture
def fleet():
    """Two halls with rows of one name, A and B feeds on two PDUs, hosts front and rear, one planned and one gone."""
    rows = place_rows()
    site, hall = rows["site"], rows["hall"]
    other = Hall.objects.create(site=site, slug="h2", name="Hall 1", cooling="liquid")
    far = Row.objects.create(hall=other, slug="a", position=3)
    racks = [rows["rack"], Rack.objects.create(row=far, slug="dc01-b1", power_limit_w=30_000, weight_limit_kg=900)]
    kind = HostType.objects.create(
        slug="ppu-16x",
        name="PPU 16x",
        chip=CHIP,
        chips=16,
        height_u=6,
        power_w=8600.0,
        idle_w=1500.0,
        nameplate_w=9900.0,
        ports=2,
        weight_kg=120.5,
        price="99.50",
        source="test",
        full_depth=False,
        power_factor_ratio=0.97,
    )
    for side in "ab":
        pdu = PowerNode.objects.create(slug=f"pdu-{side}", site=site, kind="pdu", rating_va=200_000, redundancy="2N")
        ups = PowerNode.objects.create(slug=f"ups-{side}", site=site, kind="ups", rating_va=1e6)
        PowerLink.objects.create(node=pdu, source=ups)
        for rack in racks:
            feed = PowerNode.objects.create(
                slug=f"{rack.slug}-{side}",
                site=site,
                kind="feed",
                rack=rack,
                voltage_v=415,
                current_a=63,
                derate_ratio=0.8,
            )
            PowerLink.objects.create(node=feed, source=pdu)
    Host.objects.create(slug="one", host_type=kind, rack=racks[0], position_u=1)
    Host.objects.create(slug="two", host_type=kind, rack=racks[0], position_u=1, face="rear")
    Host.objects.create(slug="new", host_type=kind, rack=racks[1], position_u=7, in_service_on=date(2027, 6, 1))
    Host.objects.create(slug="old", host_type=kind, rack=racks[1], position_u=7, out_of_service_on=date(2027, 1, 1))
    assert hall.name == other.name
    return rows


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fleet_of(*names):
    return {name: list(entry_rows(INVENTORY[name])) for name in names}


def feeds_of():
    """What feeds give, to whom and from what; and what their sources give."""
    feeds = PowerNode.objects.filter(kind="feed").order_by("slug")
    links = {
        link.node_id: link.source.slug for link in PowerLink.objects.select_related("source").filter(standby=False)
    }
    panels = PowerNode.objects.filter(links_below__node__kind="feed").distinct().order_by("slug")
    return (
        [(one.slug, one.site.slug, one.rack.slug, one.rated_va, one.derate_ratio, links.get(one.pk)) for one in feeds],
        [(one.slug, one.kind, pytest.approx(one.rated_va)) for one in panels],
    )


def back(folder, **options):
    return netbox_import(folder, on=ON, options=options_read(folder / "map.json"), **options)


# --- out --------------------------------------------------------------------------------------------------------------
def test_the_files_are_those_of_the_bulk_import(fleet, tmp_path):
    report = netbox_export(tmp_path / "out", on=ON)
    out = tmp_path / "out"
    assert table(out / "regions.csv") == [{"name": "North", "slug": "north"}]
    assert table(out / "sites.csv") == [{"name": "Zhangbei", "slug": "dc01", "status": "active", "region": "North"}]
    locations = [(one["parent"], one["name"], one["slug"]) for one in table(out / "locations.csv")]
    assert locations == [
        ("", "Hall 1 (h1)", "h1"),
        ("", "Hall 1 (h2)", "h2"),
        ("Hall 1 (h1)", "h1/a", "a"),
        ("Hall 1 (h2)", "h2/a", "a"),
    ]
    assert table(out / "racks.csv")[1] == {
        "site": "Zhangbei",
        "location": "h2/a",
        "name": "dc01-b1",
        "status": "active",
        "width": "19",
        "u_height": "48",
        "max_weight": "900",
        "weight_unit": "kg",
    }
    assert [(one["name"], one["status"], one["position"], one["face"]) for one in table(out / "devices.csv")] == [
        ("new", "planned", "7", "front"),
        ("one", "active", "1", "front"),
        ("two", "active", "1", "rear"),
    ]
    assert {one["role"] for one in table(out / "devices.csv")} == {
        one["name"] for one in table(out / "device-roles.csv")
    }
    assert table(out / "power-panels.csv") == [{"site": "Zhangbei", "name": f"pdu-{side}"} for side in "ab"]
    assert table(out / "power-feeds.csv")[:2] == [
        {
            "site": "Zhangbei",
            "power_panel": f"pdu-{side}",
            "location": "h1/a",
            "rack": "dc01-a1",
            "name": f"dc01-a1-{side}",
            "status": "active",
            "type": kind,
            "supply": "ac",
            "phase": "three-phase",
            "voltage": "415",
            "amperage": "63",
            "max_utilization": "80",
        }
        for side, kind in (("a", "primary"), ("b", "redundant"))
    ]
    assert report.written["devices.csv"] == 3


def test_a_host_type_is_a_yaml_document_of_the_community_library(fleet, tmp_path):
    netbox_export(tmp_path / "out", on=ON)
    (path,) = (tmp_path / "out" / "device-types").rglob("*.yaml")
    found = yaml.safe_load(path.read_text())
    maker = table(tmp_path / "out" / "manufacturers.csv")[0]
    assert path.parent.name == maker["slug"]
    assert found.pop("comments").splitlines()[:3] == [f"chip: {CHIP}", "chips: 16", "power_w: 8600.0"]
    assert found == {
        "manufacturer": maker["name"],
        "model": "PPU 16x",
        "slug": "ppu-16x",
        "u_height": 6,
        "is_full_depth": False,
        "weight": 120.5,
        "weight_unit": "kg",
        "power-ports": [{"name": "PSU", "maximum_draw": 9900, "allocated_draw": 8600}],
        "interfaces": [{"name": "port1", "type": "other"}, {"name": "port2", "type": "other"}],
    }


def test_what_netbox_cannot_hold_is_counted(fleet, tmp_path):
    report = netbox_export(tmp_path / "out", on=ON)
    counted = {**report.not_held}
    figures = ("chip", "chips", "power_w", "idle_w", "nameplate_w", "power_factor_ratio", "price", "source")
    assert {name: counted.pop(f"host-types.{name}") for name in figures} == dict.fromkeys(figures, 1)
    assert counted == {
        "halls.cooling": 1,
        "rows.position": 1,
        "racks.power_limit_w": 2,
        "hosts.in_service_on": 1,
        "hosts: gone by 2027-01-31": 1,
        "power-nodes.rating_va": 2,
        "power-nodes.redundancy": 2,
        "power-nodes: ups": 2,
        "power-links": 2,
    }
    held = netbox_export(tmp_path / "more", on=ON, custom_fields=True)
    assert dict(held.not_held) == {"hosts: gone by 2027-01-31": 1, "power-nodes: ups": 2, "power-links": 2}


def test_every_other_kind_of_row_is_counted_too(tmp_path):
    every_kind()
    report = netbox_export(tmp_path / "out", on=ON)
    assert {name for name in INVENTORY if name not in report.not_held} == {*PLACES, "power-nodes", "power-links"}
    assert report.not_held["cards"] == 1


def test_one_site_alone(fleet, tmp_path):
    site = Site.objects.create(slug="dc02", name="Other", region=fleet["region"])
    Hall.objects.create(site=site, slug="h1", name="Hall 1")
    netbox_export(tmp_path / "out", on=ON, site="dc02")
    assert [one["slug"] for one in table(tmp_path / "out" / "sites.csv")] == ["dc02"]
    assert table(tmp_path / "out" / "devices.csv") == []


def test_what_stands_in_something_gone_goes_with_it(fleet, tmp_path):
    Host.objects.filter(slug="new").delete()
    Rack.objects.filter(slug="dc01-b1").update(out_of_service_on=ON)
    report = netbox_export(tmp_path / "out", on=ON)
    assert [one["rack"] for one in table(tmp_path / "out" / "power-feeds.csv")] == ["dc01-a1"] * 2
    assert report.not_held["power-nodes: in what is gone by 2027-01-31"] == 2


def test_a_feed_of_which_only_the_rating_is_known_gets_a_current(fleet, tmp_path):
    values = {"rating_va": 23_100, "voltage_v": None, "current_a": None, "phases": 1, "derate_ratio": 0.875}
    PowerNode.objects.filter(slug="dc01-a1-a").update(**values)
    report = netbox_export(tmp_path / "out", on=ON)
    found = table(tmp_path / "out" / "power-feeds.csv")[0]
    assert [found[name] for name in ("phase", "voltage", "amperage", "max_utilization")] == [
        *("single-phase", "230", "100", "87")
    ]
    assert report.not_held["power-nodes.current_a: in whole units"] == 1
    assert report.not_held["power-nodes.derate_ratio: in whole units"] == 1


def test_a_folder_that_holds_something_is_left_alone(fleet, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CommandError, match="is not empty"):
        call_command("netbox_export", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(CommandError, match="there is no site 'dc09'"):
        call_command("netbox_export", str(tmp_path / "out"), "--site", "dc09")


def test_the_command_tells_what_it_wrote(fleet, tmp_path, capsys):
    call_command("netbox_export", str(tmp_path / "out"), "--on", "2027-01-31")
    out = capsys.readouterr().out
    assert "devices.csv: 3\n" in out
    assert "not held by NetBox: power-nodes: ups: 2\n" in out
    call_command("netbox_export", str(tmp_path / "more"), "--json", "--site", "dc01", "--custom-fields")
    assert json.loads(capsys.readouterr().out)["written"]["racks.csv"] == 2


# --- and back ---------------------------------------------------------------------------------------------------------
def test_with_custom_fields_the_same_fleet_comes_back(fleet, tmp_path):
    Host.objects.filter(slug="old").delete()
    before, power = fleet_of(*PLACES), feeds_of()
    netbox_export(tmp_path / "out", on=ON, custom_fields=True)
    fleet_wipe()
    report = back(tmp_path / "out")
    assert report.imported.errors == []
    after = fleet_of(*PLACES)
    for hall in (*before["halls"], *after["halls"]):
        hall["name"] = hall["name"].split(" (")[0]  # of two halls with one name the slug tells which
    assert after == before
    assert feeds_of() == power
    assert {one.updated for one in back(tmp_path / "out").imported.counts.values()} == {0}


def test_without_custom_fields_the_same_places_hosts_and_feeds_come_back(fleet, tmp_path):
    Host.objects.filter(slug__in=("old", "new")).delete()
    hosts = list(Host.objects.values_list("slug", "rack__slug", "position_u", "face", "host_type__slug"))
    kinds, feeds = fleet_of("host-types"), feeds_of()[0]
    netbox_export(tmp_path / "out", on=ON)
    fleet_wipe()
    report = back(tmp_path / "out")
    assert report.imported.errors == []
    assert list(Host.objects.values_list("slug", "rack__slug", "position_u", "face", "host_type__slug")) == hosts
    assert (fleet_of("host-types"), feeds_of()[0]) == (kinds, feeds)
    rows = {(row.hall.slug, row.slug): [rack.slug for rack in row.racks.all()] for row in Row.objects.all()}
    assert rows == {("h1", "a"): ["dc01-a1"], ("h2", "a"): ["dc01-b1"]}


def test_the_demo_fleet_comes_back(tmp_path):
    demo_fleet_load(date(2027, 1, 1))
    before, power = fleet_of(*PLACES), feeds_of()
    netbox_export(tmp_path / "out", on=ON, custom_fields=True)
    fleet_wipe()
    report = back(tmp_path / "out")
    assert report.imported.errors == []
    after = fleet_of(*PLACES)
    for rack in before["racks"]:
        rack["cooling_node"] = None
    for host in before["hosts"]:
        host["scale_up_domain"] = None
    assert after == before
    assert feeds_of() == power


# --- device types alone -----------------------------------------------------------------------------------------------
LIBRARY = """---
manufacturer: Inspur
model: H20 8x
slug: inspur-h20-8x
u_height: 6
is_full_depth: true
airflow: front-to-rear
weight: 280
weight_unit: lb
console-ports:
  - name: Serial
    type: rj-45
power-ports:
  - name: PSU1
    maximum_draw: 3500
    allocated_draw: 2800
  - name: PSU2
    maximum_draw: 3500
    allocated_draw: 2800
interfaces:
  - name: eth0
    type: 400gbase-x-osfp
  - name: bmc
    type: 1000base-t
    mgmt_only: true
---
manufacturer: Acme
model: Switch
slug: acme-switch
u_height: 1
is_full_depth: false
"""


def test_device_types_are_read_from_yaml_with_a_map(tmp_path):
    path = tmp_path / "types.yaml"
    path.write_text(LIBRARY)
    given = {"device_types": {"inspur-h20-8x": {"chip": "h20-96", "chips": 8, "idle_w": 1500}}}
    (tmp_path / "map.json").write_text(json.dumps(given))
    report = netbox_import(path, on=ON, options=options_read(tmp_path / "map.json"))
    assert report.imported.errors == []
    kind = HostType.objects.get()
    assert (kind.slug, kind.name, kind.chip, kind.chips, kind.height_u) == ("inspur-h20-8x", "H20 8x", "h20-96", 8, 6)
    assert (kind.power_w, kind.nameplate_w, kind.ports, kind.weight_kg) == (5600, 7000, 1, 127.006)
    assert dict(report.not_carried) == {
        "device-types.manufacturer": 2,
        "device-types.airflow": 1,
        "device-types.console-ports": 1,
    }
    assert [(one.place, one.name) for one in report.omitted] == [(f"{path}:26", "Switch")]


def test_a_device_type_that_cannot_be_is_told_with_file_and_line(tmp_path):
    path = tmp_path / "types.yaml"
    path.write_text(LIBRARY.replace("u_height: 6", "u_height: six"))
    given = {"chip": "h20-9", "chips": 8, "idle_w": 1500}
    (tmp_path / "map.json").write_text(json.dumps({"device_types": {"inspur-h20-8x": given}}))
    options = options_read(tmp_path / "map.json")
    report = netbox_import(path, on=ON, options=options)
    assert [str(fault) for fault in report.imported.errors] == [f'{path}:1:u_height: "six" is not a number']
    path.write_text(LIBRARY)
    (fault,) = netbox_import(path, on=ON, options=options).imported.errors
    assert str(fault).startswith(f'{path}:1:chip: unknown chip "h20-9"; did you mean h20-96')
    assert not HostType.objects.exists()
