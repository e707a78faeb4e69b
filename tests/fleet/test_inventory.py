from django.apps import apps
from django.db.models import ForeignKey

from fleet.inventory import BY_KIND, INVENTORY, key_paths, key_text
from fleet.models import Row
from fleet.models.versioned import Versioned
from tests.factories import fleet_rows


def test_every_versioned_row_of_the_fleet_is_in_it():
    versioned = {model for model in apps.get_app_config("fleet").get_models() if issubclass(model, Versioned)}
    assert {entry.model for entry in INVENTORY.values()} == versioned


def test_an_entry_comes_after_those_that_it_refers_to():
    seen = []
    for entry in INVENTORY.values():
        for field in entry.fields:
            if isinstance(field, ForeignKey):
                assert BY_KIND[field.related_model._meta.model_name].name in seen, (entry.name, field.name)
        seen.append(entry.name)


def test_every_key_is_unique_in_the_database():
    for entry in INVENTORY.values():
        unique = [entry.model._meta.get_field(entry.key[0]).unique] if len(entry.key) == 1 else []
        unique += [set(rule.fields) == set(entry.key) for rule in entry.model._meta.total_unique_constraints]
        assert any(unique), entry.name


def test_a_key_is_written_with_slashes(db):
    fleet_rows()
    assert key_text(Row.objects.get()) == "dc01/h1/a"
    assert key_paths(Row) == ("hall__site__slug", "hall__slug", "slug")
