"""What pages tell an account that is limited to regions of what lies elsewhere; what lists refuse to read."""

import logging

import pytest
from django.urls import reverse

from fleet.access import ELSEWHERE, key_shown
from fleet.models import (
    Deployment,
    Endpoint,
    Host,
    Maintenance,
    Placement,
    Region,
    RegionLimit,
    ScaleUpDomain,
    Service,
    Site,
)
from fleet.services import row_save, rows_write
from tests.api.rows import SERVICE, region_fill
from tests.dashboard.conftest import client_of, user_make
from tests.dashboard.test_fleet_pages import DAY, text_of


@pytest.fixture
def world(roles):
    """Two regions with rows of every kind."""
    return {region: region_fill(region) for region in ("north", "south")}


@pytest.fixture
def northern(world):
    """A client of an admin who sees the north alone."""
    user = user_make("northern", "admin")
    RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug="north"))
    return client_of(user)


@pytest.fixture
def crossing(world):
    """An endpoint in the north of a service of the south, and a deployment of it on a host of the north."""
    service = Service.objects.get(slug="south-0-chat")
    endpoint = Endpoint.objects.create(slug="crossing", service=service, site=Site.objects.get(slug="north-0-dc"))
    deployment = Deployment.objects.create(
        slug="across",
        endpoint=endpoint,
        host_type=world["north"]["host-types"][0],
        config="tp8",
        replica_chips=8,
        replica_tok_s=500,
    )
    Placement.objects.create(deployment=deployment, host=Host.objects.get(slug="north-0-h"))
    return endpoint


def page_of(client, name, **asked):
    return client.get(reverse("dashboard:entry_list", args=[name]), asked)


def ids_of(client, name, **asked):
    return [pk for pk, _ in page_of(client, name, **asked).context["rows"]]


# --- related rows elsewhere -------------------------------------------------------------------------------------------
def test_a_list_names_no_related_row_elsewhere(northern, crossing):
    page = text_of(page_of(northern, "endpoints"))
    table = b"".join(northern.get(reverse("dashboard:entry_csv", args=["endpoints"])).streaming_content).decode()
    for text in (page, table):
        assert ELSEWHERE in text
        assert "north-0-chat" in text
        assert "south" not in text


@pytest.mark.parametrize("asked", [{"service": "south"}, {"service": "south-0-chat"}, {"service": "0-ch"}])
def test_a_filter_finds_no_related_row_elsewhere(northern, crossing, asked):
    assert crossing.pk not in ids_of(northern, "endpoints", **asked)
    if asked["service"] == "0-ch":
        assert len(ids_of(northern, "endpoints", **asked)) == 1


def test_an_order_tells_nothing_of_related_rows_elsewhere(northern, crossing):
    south = Region.objects.get(slug="south")
    first = Service.objects.create(slug="a-first", name="First", region=south, **SERVICE)
    other = Endpoint.objects.create(slug="other", service=first, site=crossing.site)
    for sort in ("service", "-service"):
        found = ids_of(northern, "endpoints", sort=sort)
        assert found.index(crossing.pk) < found.index(other.pk), sort  # by their ids


def test_a_key_of_rows_elsewhere_is_neither_written_nor_searched(northern, world):
    placement = Placement.objects.create(
        deployment=Deployment.objects.get(slug="south-0-p"), host=Host.objects.get(slug="north-0-h")
    )
    assert "south" not in text_of(page_of(northern, "placements"))
    assert ids_of(northern, "placements", q="south") == []
    page = northern.get(reverse("dashboard:entry_row", args=["placements", placement.pk]))
    assert page.context["title"] == f"{ELSEWHERE}/north-0-h"
    assert "south" not in text_of(page)
    assert key_shown(placement, None) == "south-0-p/north-0-h"


def test_a_row_and_its_form_name_no_related_row_elsewhere_and_an_edit_keeps_it(northern, crossing):
    page = northern.get(reverse("dashboard:entry_row", args=["endpoints", crossing.pk]))
    assert "south" not in text_of(page)
    fact = next(fact for fact in page.context["facts"] if fact.label == "Service")
    assert (fact.text, fact.url) == (ELSEWHERE, "")
    address = reverse("dashboard:entry_edit", args=["endpoints", crossing.pk])
    form = northern.get(address).context["form"]
    assert form["service"].value() == ELSEWHERE
    values = {name: "" if form[name].value() is None else form[name].value() for name in form.fields}
    assert northern.post(address, {**values, "share_ratio": "0.1"}).status_code == 302
    crossing.refresh_from_db()
    Service.objects.create(slug="talk", name="Talk", region=Region.objects.get(slug="north"), **SERVICE)
    assert (crossing.share_ratio, crossing.service.slug) == (0.1, "south-0-chat")
    assert northern.post(address, {**values, "version_read": 2, "service": "talk"}).status_code == 302
    answer = northern.post(address, {**values, "version_read": 3})
    assert answer.status_code == 400  # it names a service of its own again: the word names none
    assert "There is no service 'elsewhere'." in text_of(answer)


def test_a_host_and_a_failure_name_no_service_elsewhere(northern, world, crossing):
    domain = ScaleUpDomain.objects.get(slug="south-0-d")
    Host.objects.filter(slug="north-0-h").update(scale_up_domain=domain)
    Maintenance.objects.all().delete()
    page = northern.get(reverse("dashboard:host", args=["north-0-h"]), DAY)
    assert "across" in text_of(page)
    assert ELSEWHERE in text_of(page)
    assert "south" not in text_of(page)
    page = northern.get(reverse("dashboard:failure"), {**DAY, "tree": "host", "node": "north-0-h"})
    assert "south" not in text_of(page)
    names = {line.name: (line.tier, line.url) for line in page.context["loss"].services}
    assert names.keys() == {ELSEWHERE, "north-0-chat"}
    assert names[ELSEWHERE] == ("–", "")


# --- changes ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def both(world):
    """A write of a site of the north and of one of the south."""
    sites = [Site.objects.get(slug=f"{region}-0-dc") for region in ("north", "south")]
    for site in sites:
        site.name = f"new {site.slug}"
    return rows_write(Site, update=sites).change_set


def test_a_history_shows_the_changes_that_an_account_sees(northern, world):
    site = Site.objects.get(slug="south-0-dc")
    site.name = "Secret"
    row_save(site)
    site.region = Region.objects.get(slug="north")
    row_save(site)
    page = northern.get(reverse("dashboard:entry_row", args=["sites", site.pk]))
    assert len(page.context["changes"]) == 1


def test_a_change_set_counts_and_is_found_by_the_rows_that_an_account_sees(northern, viewer_pages, both):
    address = reverse("dashboard:changes")
    for client, rows in ((northern, 1), (viewer_pages, 2)):
        assert client.get(address).context["page"][0].rows_seen == rows
        page = text_of(
            client.get(reverse("dashboard:change_set", args=[client.get(address).context["page"][0].number]))
        )
        assert f"{rows} row{'s' if rows > 1 else ''} by" in page
        assert len(client.get(address, {"q": "south-0-dc"}).context["page"]) == rows - 1
        assert len(client.get(address, {"q": "north-0-dc", "kind": "site"}).context["page"]) == 1


# --- what is no question ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("power-nodes", {"rating_va": "nan"}, "'nan' is no finite number"),
        ("power-nodes", {"rating_va__min": "1e400"}, "'1e400' is no finite number"),
        ("hosts", {"position_u": "9" * 23}, "a number between -2147483647 and 2147483647 is needed"),
        ("host-types", {"price": "1e400"}, "is needed"),
        ("hosts", {"page": "x"}, "there is no page 'x'; there are 1"),
        ("hosts", {"page": "999"}, "there is no page '999'; there are 1"),
        ("hosts", {"day": "0001-01-01"}, "0001-01-01 is out of reach"),
        ("hosts", {"in_service_on__min": "0001-01-01"}, "0001-01-01 is out of reach"),
    ],
)
def test_a_list_says_what_it_cannot_read(pages, world, name, asked, words):
    answer = page_of(pages, name, **asked)
    assert answer.status_code == 400
    assert words in text_of(answer)
    assert list(answer.context["rows"]) == []


@pytest.mark.parametrize("name", ["changes", "scenarios", "reports", "schedules", "imports"])
@pytest.mark.parametrize("page", ["x", "999"])
def test_a_page_that_there_is_not_is_404(pages, world, name, page):
    assert pages.get(reverse(f"dashboard:{name}")).status_code == 200
    assert pages.get(reverse(f"dashboard:{name}"), {"page": page}).status_code == 404


def test_a_table_of_what_there_is_not_says_so_and_logs_no_traceback(pages, world, caplog):
    with caplog.at_level(logging.WARNING):
        answer = pages.get(reverse("dashboard:readiness_csv"), {"state": "x"})
    assert answer.status_code == 400
    assert answer.content.decode().startswith("state: ")
    assert not [record for record in caplog.records if record.exc_info]
