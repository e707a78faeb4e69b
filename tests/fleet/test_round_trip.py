"""A fleet that goes out in any format comes back as it was."""

import json
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from fleet.exchange import FORMATS, Scope, entry_rows, entry_write, fleet_import, fleet_wipe, fleet_write, import_run
from fleet.files import table_open
from fleet.inventory import INVENTORY
from fleet.models import ChangeSet, Host, Rack, Region, RegionLimit, Site
from fleet.selectors import snapshot_take
from tests.factories import START
from tests.fleet.kinds import DAY, every_kind

pytestmark = pytest.mark.django_db

DATES = {"planned_on": date(2026, 5, 1), "in_service_on": date(2026, 6, 1), "out_of_service_on": date(2031, 7, 1)}
FILLED = {
    "region": {"name": '=North, "the cold"'},
    "site": {"name": "张北 1", "pue_ratio": 4 / 3},
    "hall": {"name": "-1", "cooling": "liquid"},
    "row": {"position": 3},
    "rack": {
        "position": 7,
        "height_u": 52,
        "power_limit_w": 0.1 + 40_000,
        "cooling": "liquid",
        "cooling_limit_w": 1e5 / 3,
        "weight_limit_kg": 1500,
        "ports": 64,
    },
    "coolingnode": {"name": "CDU 1", "limit_w": 2e6},
    "coolinglink": {"standby": True},
    "powernode": {
        "name": "Feed A",
        "rating_va": None,
        "voltage_v": 400.0,
        "current_a": 63.5,
        "phases": 1,
        "derate_ratio": 0.7,
        "efficiency_ratio": 0.99,
        "house_va": 12.5,
        "redundancy": "2N",
    },
    "powerlink": {"standby": True},
    "networknode": {"name": "ToR 1", "ports": 48},
    "networklink": {"standby": True},
    "hosttype": {
        "typical_w": 7000.5,
        "nameplate_w": 9999.0,
        "power_factor_ratio": 0.97,
        "cooling": "liquid",
        "full_depth": False,
        "ports": 9,
        "weight_kg": 120.25,
        "price": Decimal("1234567.80"),
        "currency": "USD",
        "source": 'data sheet; "p. 3"\nsecond line',
    },
    "scaleupdomain": {"link_byte_s": 4.5e11, "switched": False},
    "host": {"position_u": 5, "face": "rear"},
    "maintenance": {"ends_on": DAY + timedelta(days=9), "note": "@fan"},
    "firmwareset": {"note": "driver 1.2"},
    "lot": {"foundry": "X", "hbm_maker": "Y", "channel": "internal", "note": "first"},
    "card": {"attestation": "passed", "attested_on": DAY},
    "service": {"tier": "gold", "percentile": 0.99, "movable": False, "note": "owner: Li"},
    "readiness": {"note": "signed"},
    "demandevent": {"reason": "=a launch"},
    "demandoverride": {"reason": "a contract; signed"},
    "gate": {
        "state": "passed",
        "expected_on": DAY,
        "decided_on": DAY,
        "evidence": "+12 %",
        "owner": "Wang",
        "signed_by": "Li",
    },
    "endpoint": {"note": "anycast"},
    "deployment": {"rating_digest": "0" * 64},
    "placement": {"unit": None},
    "order": {"cancelled_on": DAY + timedelta(days=1), "unit_price": Decimal("0.10"), "currency": "USD", "note": "n"},
    "delivery": {
        "slip_p50_days": 3.5,
        "slip_p90_days": 40.0,
        "received_on": DAY + timedelta(days=5),
        "fill_ratio": 0.9,
        "fill_p10_ratio": 0.5,
        "correlation_group": "hbm",
        "note": "air",
    },
    "retirement": {"done_on": DAY + timedelta(days=2), "note": "old"},
    "policyevent": {"ends_on": DAY + timedelta(days=400)},
    "firmwarebaseline": {"note": "needed"},
}


def rich_fleet():
    """A row of every kind with a value in every field, beside plainer ones."""
    rows = every_kind()
    for kind, row in rows.items():
        names = {field.name for field in row._meta.concrete_fields}
        for name, value in {**{name: day for name, day in DATES.items() if name in names}, **FILLED[kind]}.items():
            setattr(row, name, value)
    rows["rack"].cooling_node = rows["coolingnode"]
    rows["card"].firmware = rows["firmwareset"]
    rows["firmwarebaseline"].region = rows["region"]
    for row in rows.values():
        row.full_clean()
        row.save()
    policy = type(rows["policyevent"])
    policy.objects.create(slug="p-2", chip="h20-96", verb="use", starts_on=DAY, site=rows["site"], source="a rule")
    placement = type(rows["placement"])
    other = Host.objects.create(slug="host-2", host_type=rows["hosttype"], rack=rows["rack"], position_u=20, **DATES)
    placement.objects.create(deployment=rows["deployment"], host=other, unit=4, **DATES)
    return rows


def plain_values():
    """The whole fleet by keys: what it says, whatever ids its rows have."""
    return {entry.name: list(entry_rows(entry)) for entry in INVENTORY.values()}


def test_the_fleet_of_these_tests_uses_every_field_of_every_entry():
    rich_fleet()
    for entry in INVENTORY.values():
        rows = list(entry_rows(entry))
        for field in entry.fields:
            default = field.get_default() if field.has_default() else None
            assert any(row[field.name] not in (None, "", default) for row in rows), (entry.name, field.name)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_fleet_that_goes_out_comes_back_as_it_was(tmp_path, kind):
    rich_fleet()
    before, digest = plain_values(), snapshot_take(START).digest
    path = tmp_path / ("fleet" if kind == "csv" else f"fleet.{kind}")
    fleet_write(path, kind)
    fleet_wipe()
    assert not any(entry.model.objects.exists() for entry in INVENTORY.values())
    report = fleet_import(path)
    assert (report.errors, report.written) == ([], True)
    assert plain_values() == before
    assert snapshot_take(START).digest == digest
    again = tmp_path / f"again{path.suffix}"
    fleet_write(again, kind)
    if kind == "csv":
        assert {one.name: one.read_bytes() for one in path.iterdir()} == {
            one.name: one.read_bytes() for one in again.iterdir()
        }
    elif kind == "json":
        assert path.read_bytes() == again.read_bytes()
    else:  # a workbook says when it was made
        for entry in INVENTORY.values():
            with table_open(path, sheet=entry.name) as one, table_open(again, sheet=entry.name) as other:
                assert list(one) == list(other)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", INVENTORY)
def test_every_table_says_of_itself_what_is_there_already(tmp_path, name, kind):
    rich_fleet()
    entry = INVENTORY[name]
    entry_write(entry, tmp_path / f"{name}.{kind}", kind)
    sets = ChangeSet.objects.count()
    report = import_run(entry, tmp_path / f"{name}.{kind}")
    counts = report.counts[name]
    assert report.errors == []
    assert (counts.created, counts.updated, counts.refused) == (0, 0, 0)
    assert counts.unchanged == entry.model.objects.count() > 0
    assert ChangeSet.objects.count() == sets
    assert not report.written


def test_a_second_import_changes_nothing_and_writes_no_change_set(tmp_path):
    rich_fleet()
    fleet_write(tmp_path / "fleet.json", "json")
    fleet_wipe()
    assert fleet_import(tmp_path / "fleet.json").written
    sets, versions = ChangeSet.objects.count(), set(Host.objects.values_list("slug", "version", "updated_at"))
    report = fleet_import(tmp_path / "fleet.json")
    assert report.sound
    assert not report.written
    assert all(one.created == one.updated == 0 for one in report.counts.values())
    assert (ChangeSet.objects.count(), set(Host.objects.values_list("slug", "version", "updated_at"))) == (
        sets,
        versions,
    )


def test_a_dry_run_of_a_whole_fleet_says_what_the_run_then_does_and_writes_nothing(tmp_path):
    rich_fleet()
    fleet_write(tmp_path / "fleet.json", "json")
    fleet_wipe()
    sets = ChangeSet.objects.count()
    dry = fleet_import(tmp_path / "fleet.json", dry_run=True)
    assert not any(entry.model.objects.exists() for entry in INVENTORY.values())
    assert (ChangeSet.objects.count(), dry.written, dry.sound) == (sets, False, True)
    run = fleet_import(tmp_path / "fleet.json")
    assert (dry.counts, dry.changes) == (run.counts, run.changes)
    assert {one.name: run.counts[one.name].created for one in INVENTORY.values()} == {
        one.name: one.model.objects.count() for one in INVENTORY.values()
    }


def test_rows_go_out_in_the_order_of_python_whatever_the_database_thinks(tmp_path):
    rows = every_kind()
    for serial in ("b", "B", "a", "ä", "A-1", "a b", "Z", "_", "1"):
        rows["card"].pk, rows["card"].serial = None, serial
        rows["card"].slot += 1
        rows["card"].save(force_insert=True)
    serials = [row["serial"] for row in entry_rows(INVENTORY["cards"])]
    assert serials == sorted(serials)
    hall = rows["hall"]
    for slug in ("h1-a", "H2", "h10"):
        hall.pk, hall.slug = None, slug
        hall.save(force_insert=True)
    keys = [(row["site"], row["slug"]) for row in entry_rows(INVENTORY["halls"])]
    assert keys == sorted(keys)


def test_the_order_of_tables_in_a_file_does_not_matter(tmp_path):
    rich_fleet()
    before = plain_values()
    fleet_write(tmp_path / "fleet.json", "json")
    fleet_wipe()
    tables = json.loads((tmp_path / "fleet.json").read_text())
    (tmp_path / "turned.json").write_text(json.dumps(dict(reversed(tables.items())), indent=1))
    assert fleet_import(tmp_path / "turned.json").errors == []
    assert plain_values() == before


def test_only_what_lies_in_a_region_or_at_a_site_or_everywhere_goes_out():
    rich_fleet()
    south = Region.objects.create(slug="south", name="South")
    for at in (1, 2):
        Site.objects.create(slug=f"s{at}", name="S", region=south)
    here = {
        name: {row[key] for row in entry_rows(INVENTORY[name], scope=scope)}
        for name, key, scope in (
            ("regions", "slug", Scope(region="south")),
            ("sites", "slug", Scope(site="s1")),
            ("hosts", "slug", Scope(region="south")),
            ("lots", "slug", Scope(site="s1")),
            ("policy-events", "slug", Scope(site="s2")),
        )
    }
    assert here == {"regions": {"south"}, "sites": {"s1"}, "hosts": set(), "lots": {"lot-1"}, "policy-events": set()}
    assert [row["slug"] for row in entry_rows(INVENTORY["regions"], scope=Scope(site="s2"))] == ["south"]
    for entry in INVENTORY.values():
        at_site = list(entry_rows(entry, scope=Scope(site="dc01")))
        assert len(at_site) == entry.model.objects.count() - {"regions": 1, "sites": 2}.get(entry.name, 0), entry.name


def test_the_scope_of_a_region_makes_a_file_that_can_be_imported(tmp_path):
    rich_fleet()
    Site.objects.create(slug="s1", name="S", region=Region.objects.create(slug="south", name="South"))
    fleet_write(tmp_path / "north.json", "json", scope=Scope(region="north"))
    fleet_wipe()
    assert fleet_import(tmp_path / "north.json").errors == []
    assert list(Site.objects.values_list("slug", flat=True)) == ["dc01"]


# --- the commands -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["fleet.json", "fleet.xlsx", "folder"])
def test_export_wipe_import_from_the_command_line(tmp_path, capsys, name):
    rich_fleet()
    before = plain_values()
    call_command("fleet_export", all=True, out=tmp_path / name)
    call_command("fleet_wipe", yes=True, why="moved")
    assert not Rack.objects.exists()
    call_command("fleet_import", str(tmp_path / name), all=True, why="moved back")
    assert plain_values() == before
    assert set(ChangeSet.objects.values_list("actor_name", "why")) == {
        ("fleet_wipe", "moved"),
        ("fleet_import", "moved back"),
    }
    assert "hosts: 2 new, 0 edited, 0 as they were" in capsys.readouterr().out


def test_a_wipe_is_meant_or_it_is_nothing():
    every_kind()
    with pytest.raises(CommandError, match="--yes"):
        call_command("fleet_wipe")
    assert Host.objects.exists()


def test_a_wipe_does_not_take_the_regions_of_an_account(django_user_model):
    rows = every_kind()
    limit = RegionLimit.objects.create(user=django_user_model.objects.create_user("li"))
    limit.regions.add(rows["region"])
    with pytest.raises(CommandError, match=r"1 account\(s\) are limited to regions"):
        call_command("fleet_wipe", yes=True)
    assert Host.objects.exists()


def test_an_export_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    every_kind()
    path = tmp_path / "hosts.csv"
    path.write_text("yesterday")

    def broken(*args, **options):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fleet.exchange.exports.csv_export", broken)
    with pytest.raises(CommandError, match="No space left"):
        call_command("fleet_export", "hosts", out=path)
    assert [one.name for one in tmp_path.iterdir()] == ["hosts.csv"]
    assert path.read_text() == "yesterday"
