import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from fleet.admin import VersionedAdmin
from fleet.models import Region, Site
from fleet.models.versioned import Versioned
from tests.factories import fleet_rows


@pytest.fixture
def pages(db):
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="a-long-password-1"))
    return client


@pytest.fixture
def region(pages):
    return fleet_rows()["region"]


def edit_url(row):
    return reverse(f"admin:fleet_{row._meta.model_name}_change", args=[row.pk])


def version_shown(pages, row):
    return re.search(r'name="version_read" value="(\d+)"', pages.get(edit_url(row)).content.decode()).group(1)


def test_an_edit_raises_the_version_and_a_new_row_has_the_first(pages, region):
    values = {"slug": "north", "name": "North 2", "version_read": version_shown(pages, region)}
    assert pages.post(edit_url(region), values).status_code == 302
    region.refresh_from_db()
    assert (region.name, region.version) == ("North 2", 2)
    assert pages.post(reverse("admin:fleet_region_add"), {"slug": "south", "name": "South"}).status_code == 302
    assert Region.objects.get(slug="south").version == 1


def test_the_later_of_two_editors_is_told_and_overwrites_nothing(pages, region):
    read = version_shown(pages, region)
    for name in ("First", "Second"):
        answer = pages.post(edit_url(region), {"slug": "north", "name": name, "version_read": read}, follow=True)
    page = answer.content.decode()
    assert "Somebody else has edited this row" in page
    assert 'value="First"' in page
    region.refresh_from_db()
    assert (region.name, region.version) == ("First", 2)


def test_an_edit_without_a_version_is_refused(pages, region):
    pages.post(edit_url(region), {"slug": "north", "name": "Blind"})
    region.refresh_from_db()
    assert (region.name, region.version) == ("North", 1)


def test_a_value_out_of_reach_is_refused_beside_its_field(pages, region):
    site = Site.objects.get()
    values = {"slug": "dc01", "name": "x", "region": region.pk, "pue_ratio": "11", "in_service_on": "9999-12-31"}
    answer = pages.post(edit_url(site), {**values, "version_read": "1"})
    errors = answer.context["adminform"].form.errors
    assert set(errors) == {"pue_ratio", "in_service_on"}
    assert "a day from 2000-01-01 to 2100-01-01 is needed" in errors["in_service_on"][0]


def test_every_row_of_the_fleet_is_edited_that_way(pages):
    models = [model for model in apps.get_app_config("fleet").get_models() if issubclass(model, Versioned)]
    assert models
    for model in models:
        assert isinstance(admin.site.get_model_admin(model), VersionedAdmin), model
