from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F, Q
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.inventory import INVENTORY
from fleet.rules import rule_names, rule_test
from tests.fleet.kinds import every_kind

RULED = [
    model
    for model in apps.get_app_config("fleet").get_models()
    if any(isinstance(rule, models.CheckConstraint) for rule in model._meta.constraints)
]


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        pytest.param(Q(a=1), {"a": 1}, True, id="exact"),
        pytest.param(Q(a=1), {"a": None}, None, id="an empty value leaves it open"),
        pytest.param(~Q(a=1), {"a": None}, None, id="not of open is open"),
        pytest.param(Q(a=1) & Q(b=1), {"a": None, "b": 2}, False, id="one false decides AND"),
        pytest.param(Q(a=1) | Q(b=1), {"a": None, "b": 1}, True, id="one true decides OR"),
        pytest.param(Q(a=1) | Q(b=1), {"a": None, "b": 2}, None, id="open OR false is open"),
        pytest.param(Q(a__in=(1, 3)), {"a": 2}, False, id="in"),
        pytest.param(Q(a__range=(1, F("b"))), {"a": 2, "b": 2}, True, id="range with a field"),
        pytest.param(Q(a__isnull=False), {"a": None}, False, id="isnull is never open"),
        pytest.param(Q(a=None), {"a": None}, True, id="exact nothing"),
        pytest.param(~Q(node=F("source")), {"node_id": 3, "source_id": 3}, False, id="names of columns"),
        pytest.param(Q(a__gt=1, a__lt=3), {"a": 3}, False, id="several in one"),
    ],
)
def test_a_rule_says_what_sql_says(condition, values, holds):
    assert rule_test(condition)(values) is holds


@pytest.mark.parametrize("condition", [Q(a__startswith="x"), Q(a__b__gt=1), Q(a=F("b") + 1), Q(a=1) ^ Q(b=1)])
def test_what_it_does_not_know_is_an_error_and_no_answer(condition):
    with pytest.raises(NotImplementedError):
        rule_test(condition)


def test_the_names_that_a_rule_reads():
    condition = (Q(a__gt=1) | ~Q(b=F("c"))) & Q(d__range=(F("e"), 2))
    assert rule_names(condition) == {"a", "b", "c", "d", "e"}


def constants_of(condition, name):
    """What a rule compares a field with: values around these tell true from false."""
    for child in condition.children:
        if isinstance(child, Q):
            yield from constants_of(child, name)
        elif child[0].partition("__")[0] == name:
            parts = child[1] if isinstance(child[1], list | tuple) else [child[1]]
            yield from (part for part in parts if not isinstance(part, F | bool))


def around(field, constant):
    if isinstance(field, models.DateField):
        return [constant + timedelta(days=by) for by in (-1, 0, 1)]
    if isinstance(field, models.IntegerField):
        return [int(constant) + by for by in (-1, 0, 1)]
    if isinstance(field, models.FloatField):
        return [float(constant), constant - 1e-3, constant + 1e-3]
    if isinstance(field, models.DecimalField):
        return [Decimal(constant) + Decimal(by) for by in ("-0.01", "0", "0.01")]
    return [constant]


def values_near(field, rules):
    """Values that the column takes, at and beside what a rule compares with."""
    near = [one for rule in rules for constant in constants_of(rule, field.name) for one in around(field, constant)]
    return [one for one in near if one >= 0] if isinstance(field, models.IntegerField) else near


def values_of(field, rules):
    """Values that the column takes, most of them near what a rule compares with."""
    near = values_near(field, rules)
    if isinstance(field, models.ForeignKey):
        free = st.integers(1, 3)  # foreign keys are looked at when a transaction ends: these end before
    elif isinstance(field, models.BooleanField):
        free = st.booleans()
    elif isinstance(field, models.DateField):
        free = st.dates(date(1999, 1, 1), date(2101, 1, 1)) | st.dates(date(2027, 1, 1), date(2027, 1, 3))
    elif isinstance(field, models.IntegerField):
        free = st.integers(0, 5)
    elif isinstance(field, models.FloatField):
        free = st.floats(-2, 2) | st.floats(-1e16, 1e16)
    elif isinstance(field, models.DecimalField):
        free = st.decimals(-5, 10**6, places=2)
    elif field.choices:
        free = st.sampled_from([choice for choice, _ in field.choices])
    else:
        free = st.sampled_from(["", "a"])
    found = free | st.sampled_from(near) if near else free
    return st.none() | found if field.null else found


@pytest.fixture
def sound_rows(db):
    """Values of rows that keep every rule; the rows themselves are gone, so that none is there twice."""
    rows = every_kind()
    with connection.cursor() as cursor:
        for entry in reversed(INVENTORY.values()):
            cursor.execute(f'DELETE FROM "{entry.model._meta.db_table}"')
    return rows


def told_by_the_database(model, values):
    """Insert a row and take it back; return what the database says against it, or nothing."""
    try:
        with transaction.atomic():
            model.objects.bulk_create([model(**values)])
            transaction.set_rollback(True)
    except IntegrityError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("model", RULED, ids=lambda model: model.__name__)
def test_rules_agree_with_the_checks_of_the_database(model, sound_rows):
    checks = [rule for rule in model._meta.constraints if isinstance(rule, models.CheckConstraint)]
    fields = [
        field
        for field in model._meta.concrete_fields
        if not field.primary_key and field.name not in {"version", "created_at", "updated_at"}
    ]
    sound = {field.attname: getattr(sound_rows[model._meta.model_name], field.attname) for field in fields}
    conditions = [check.condition for check in checks]
    edits = st.fixed_dictionaries({}, optional={field.attname: values_of(field, conditions) for field in fields})
    seen = {True: 0, False: 0}

    def agree(edit):
        values = {**sound, **edit}
        broken = {check.name for check in checks if rule_test(check.condition)(values) is False}
        told = told_by_the_database(model, values)
        assert bool(told) == bool(broken), (told, broken)
        assert not broken or any(name in told for name in broken), (told, broken)
        seen[not broken] += 1

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(edits, st.booleans())
    def agree_anywhere(edit, few):
        agree(dict(list(edit.items())[:2]) if few else edit)

    agree({})
    for field in fields:
        for value in values_near(field, conditions):
            agree({field.attname: value})
    agree_anywhere()
    assert seen[False], "nothing was refused: the rows test nothing"
    assert seen[True], f"nothing was taken on {connection.vendor}: the rows test nothing"
