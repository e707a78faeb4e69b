from datetime import date

import pytest
from django.urls import reverse

from fleet.inventory import INVENTORY
from fleet.models import ChangeSet, Host, HostType, PowerLink, PowerNode, Rack, Region, RegionLimit
from fleet.services import row_save, rows_write
from tests.api.rows import region_fill
from tests.dashboard.conftest import client_of, user_make

DAY = {"day": "2027-01-01"}


def text_of(answer):
    return answer.content.decode()


@pytest.fixture
def fed(fleet):
    """Rack dc01-a1 with eight hosts of 7 kW on two feeds of 415 V, 63 A, three-phase, each from a PDU of its own."""
    site, rack = fleet["site"], fleet["racks"][0]
    Host.objects.all().delete()
    kind = HostType.objects.create(
        slug="seven", name="Seven", chip="h20-96", chips=8, height_u=6, power_w=7000, idle_w=1000, source="test"
    )
    hosts = [Host(slug=f"h-{at}", host_type=kind, rack=rack, position_u=1 + 6 * at) for at in range(8)]
    rows_write(Host, create=hosts)
    for side in "ab":
        pdu = row_save(PowerNode(slug=f"pdu-{side}", site=site, kind="pdu", rating_va=80_000))
        feed = row_save(PowerNode(slug=f"feed-{side}", site=site, kind="feed", rack=rack, voltage_v=415, current_a=63))
        row_save(PowerLink(node=feed, source=pdu))
    return fleet


def test_a_rack_shows_what_its_feeds_bear_when_one_is_lost(pages, fed):
    page = text_of(pages.get(reverse("dashboard:rack", args=["dc01-a1"]), DAY))
    assert "28.0 of 36.2 kVA, 77 %" in page
    assert "56.0 kVA, 155 %, over by 19.8 kVA" in page
    assert "after losing feed-b" in page
    assert "154.6" in page


def test_a_site_names_its_fullest_row_and_what_limits_it(pages, fed):
    page = text_of(pages.get(reverse("dashboard:site", args=["dc01"]), DAY))
    assert "feed after losing another" in page
    assert "feed-b after losing feed-a" in page
    assert "154.6" in page


def test_a_hall_is_drawn_in_floor_order_by_any_metric(pages, fed):
    address = reverse("dashboard:hall", args=["dc01", "h1"])
    assert "Rows of the floor plan" in text_of(pages.get(address, DAY))
    assert "from 0 to 8 hosts, the most in dc01-a1" in text_of(pages.get(address, {**DAY, "metric": "hosts"}))
    answer = pages.get(address, {**DAY, "metric": "temper"})
    assert answer.status_code == 400


def test_the_power_tree_names_the_failure_that_is_worst(pages, fed):
    page = text_of(pages.get(reverse("dashboard:power", args=["dc01"]), DAY))
    assert "pdu-a" in page
    assert "pdu-b" in page
    assert "None that holds a host." in page


def test_a_day_moves_everything(pages, fed):
    host = Host.objects.get(slug="h-7")
    host.in_service_on = date(2027, 6, 1)
    row_save(host)
    early = text_of(pages.get(reverse("dashboard:rack", args=["dc01-a1"]), DAY))
    late = text_of(pages.get(reverse("dashboard:rack", args=["dc01-a1"]), {"day": "2027-07-01"}))
    assert "planned 2027-06-01" in early
    assert "49.0 kVA, 135 %" in early
    assert "56.0 kVA, 155 %" in late


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
    assert "2 rows" in text_of(pages.get(racks, {"row": "dc01/h1/a"}))


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
    assert "There is no host type &#x27;nobody&#x27;." in text_of(answer)


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


def test_an_account_of_one_region_sees_nothing_of_another(viewer_pages, roles):
    region_fill("north")
    rows = region_fill("south")
    user = user_make("limited", "viewer")
    RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug="north"))
    pages = client_of(user)
    site, rack = rows["sites"][0], rows["racks"][0]
    for address in (
        reverse("dashboard:site", args=[site.slug]),
        reverse("dashboard:power", args=[site.slug]),
        reverse("dashboard:hall", args=[site.slug, "h1"]),
        reverse("dashboard:rack", args=[rack.slug]),
        reverse("dashboard:entry_row", args=["racks", rack.pk]),
    ):
        assert viewer_pages.get(address).status_code == 200
        assert pages.get(address).status_code == 404
    assert "south" not in text_of(pages.get(reverse("dashboard:fleet")))
    for name in ("sites", "racks", "hosts", "cards", "deliveries"):
        assert "south" not in text_of(pages.get(reverse("dashboard:entry_list", args=[name])))
