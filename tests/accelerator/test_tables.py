import math

import pytest

from accelerator.errors import ConfigError
from accelerator.tables import COUNT_MOST, Table

NAMES = ("count", "amount", "text", "truth", "choice", "rows", "inner")


def table(**values):
    return Table(values, "pool[1]", NAMES)


def refused(read, *arguments, **more):
    with pytest.raises(ConfigError) as caught:
        read(*arguments, **more)
    return str(caught.value)


def test_a_value_is_read_as_what_it_is_asked_for():
    values = table(count=3, amount=2, text="x", truth=True, choice="b", rows=[{}], inner={"a": 1})
    assert values.count("count") == 3
    assert values.amount("amount") == 2.0
    assert isinstance(values.amount("amount"), float)
    assert values.text("text") == "x"
    assert values.truth("truth") is True
    assert values.choice("choice", ("a", "b")) == "b"
    assert values.tables("rows") == [{}]
    assert values.table("inner") == {"a": 1}
    assert values.has("count")


@pytest.mark.parametrize("values", [{}, {"count": None, "amount": None, "text": None, "choice": None}])
def test_what_is_left_out_is_its_default(values):
    empty = Table(values, "pool[1]", NAMES)
    assert empty.count("count", 7) == 7
    assert empty.amount("amount", math.inf) == math.inf
    assert empty.text("text", "x") == "x"
    assert empty.choice("choice", ("a", "b"), "a") == "a"
    assert empty.truth("truth") is False
    assert empty.tables("rows") == []
    assert empty.table("inner") == {}
    assert not empty.has("count")


def test_what_has_no_default_is_missing_with_its_place():
    assert refused(table().count, "count") == "pool[1].count: missing"
    assert refused(table().text, "text") == "pool[1].text: missing"


@pytest.mark.parametrize("value", [True, False, 0, -1, 1.0, 1.5, math.nan, "1", [], {}, COUNT_MOST + 1])
def test_what_is_no_count_is_refused(value):
    said = refused(table(count=value).count, "count")
    assert said == f"pool[1].count: a whole number from 1 on is expected, not {value!r}"


@pytest.mark.parametrize("value", [4, 0, 2**70])
def test_a_count_has_bounds_and_tells_them(value):
    assert table(count=0).count("count", least=0) == 0
    said = refused(table(count=value).count, "count", most=3)
    assert said == f"pool[1].count: a whole number from 1 to 3 is expected, not {value!r}"


@pytest.mark.parametrize("value", [True, -1, -0.5, math.nan, -math.inf, "1", [], {}, 10**400])
def test_what_is_no_amount_is_refused(value):
    said = refused(table(amount=value).amount, "amount")
    assert said == f"pool[1].amount: a number from 0 on is expected, not {repr(value)[:80]}"


def test_an_amount_may_be_without_limit_and_may_have_to_be_positive():
    assert table(amount=math.inf).amount("amount") == math.inf
    assert table(amount=0).amount("amount") == 0
    said = refused(table(amount=0).amount, "amount", positive=True)
    assert said == "pool[1].amount: a number above 0 is expected, not 0"


@pytest.mark.parametrize("value", [3, True, 1.5, [], {}])
def test_what_is_no_text_is_refused(value):
    assert refused(table(text=value).text, "text") == f"pool[1].text: a text is expected, not {value!r}"
    assert refused(table(choice=value).choice, "choice", ("a", "b")).startswith("pool[1].choice: a text is expected")


def test_a_choice_is_one_of_those_named():
    said = refused(table(choice="c").choice, "choice", ("a", "b"))
    assert said == "pool[1].choice: one of a, b is expected, not 'c'"


@pytest.mark.parametrize("value", [1, 0, "true", math.nan, []])
def test_truth_is_true_or_false_and_no_number(value):
    assert refused(table(truth=value).truth, "truth") == f"pool[1].truth: true or false is expected, not {value!r}"


@pytest.mark.parametrize("value", [3, "x", {}, ()])
def test_a_list_of_tables_is_a_list(value):
    said = refused(table(rows=value).tables, "rows")
    assert said == "pool[1].rows: a list of tables is expected ([[rows]])"


@pytest.mark.parametrize("value", [3, "x", [], None])
def test_what_is_no_table_is_refused_by_its_place(value):
    assert refused(Table, value, "load", NAMES) == "load: a table is expected"
    assert refused(Table, value, "", NAMES) == "the experiment: a table is expected"


def test_an_unknown_name_is_refused_with_those_that_are_known():
    assert refused(Table, {"cont": 1}, "load", ("count", "amount")) == "load.cont: unknown; known are amount, count"
    assert refused(Table, {"cont": 1}, "", ("count",)) == "cont: unknown; known are count"
