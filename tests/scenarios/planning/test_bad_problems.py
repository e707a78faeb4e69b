"""Bad problems: each is answered with the place at fault, or with no plan and the reason, never with a traceback."""

import copy
import json
import math

import pytest

from scenarios.planning.migration import plan_migration
from scenarios.planning.plain import ProblemError
from scenarios.planning.plan import INFEASIBLE
from scenarios.planning.problem import problem_read
from tests.scenarios.planning.verifier import verify

GOOD = {
    "periods": ["2027-01", "2027-02"],
    "sites": [{"slug": "north", "region": "cn", "tariff_per_kwh": [0.6, 0.6]}],
    "places": [{"slug": "hall", "site": "north"}],
    "kinds": [
        {"slug": "gpu", "homegrown": False, "power_w": 6000, "price": 9.5},
        {"slug": "own", "homegrown": True, "power_w": 5000, "idle_w": 100},
    ],
    "services": [{"slug": "chat", "region": "cn", "demand_tok_s": [100, 120], "tier": "gold"}],
    "rates": [
        {"service": "chat", "kind": "gpu", "tok_s": 100, "low_tok_s": 90, "high_tok_s": 110},
        {"service": "chat", "kind": "own", "tok_s": 60, "ready": 1},
    ],
    "standing": [{"place": "hall", "kind": "gpu", "hosts": 3}],
    "deliveries": [{"site": "north", "kind": "own", "period": 1, "hosts": 2}],
    "offers": [{"kind": "own", "period": 1, "hosts": 2, "site": ""}],
    "limits": [{"slug": "feed", "limit": 40000, "uses": [{"place": "hall", "kind": "gpu", "amount": 6000}]}],
    "floors": [{"ratio": 0.5, "period": 1}],
    "domains": [{"slug": "panel", "lost": [{"place": "hall", "ratio": 0.5}]}],
    "order": [],
    "rules": {"reserve_ratio": 0.1},
    "solver": {"gap_ratio": 0.0},
}


def changed(path, value):
    """The good problem with one value set; a path is keys and positions with dots."""
    data = copy.deepcopy(GOOD)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at = data
    for part in way:
        at = at[part]
    at[last] = value
    return data


def place_of(path):
    return "problem" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def complaints(data):
    with pytest.raises(ProblemError) as caught:
        problem_read(data)
    return dict(caught.value.errors)


def test_the_good_problem_has_a_plan():
    problem = problem_read(GOOD)
    answer = plan_migration(problem)
    assert answer.is_plan
    assert verify(problem, answer) == []


NUMBERS = [
    "sites.0.pue_ratio",
    "kinds.0.price",
    "kinds.1.idle_w",
    "kinds.0.life_months",
    "services.0.input_ratio",
    "services.0.penalty_per_mtok",
    "rates.0.tok_s",
    "rates.1.ready",
    "rates.1.port_cost",
    "deliveries.0.hosts",
    "offers.0.period",
    "limits.0.uses.0.amount",
    "floors.0.ratio",
    "domains.0.lost.0.ratio",
    "rules.reserve_ratio",
    "rules.waves_most",
    "rules.hold_periods",
    "rules.discount_ratio_year",
    "rules.period_months",
    "solver.gap_ratio",
    "solver.nodes_most",
    "solver.seed",
]


BEYOND_DOUBLES = pytest.param(10**400, id="1 with 400 zeros")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, "12", True, [], {}, BEYOND_DOUBLES])
@pytest.mark.parametrize("path", NUMBERS)
def test_what_is_no_number_that_can_be_is_named(path, value):
    assert list(complaints(changed(path, value))) == [place_of(path)]


SERIES = ["sites.0.tariff_per_kwh", "services.0.demand_tok_s", "standing.0.hosts", "limits.0.limit"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, "12", None, True, [1], {}, BEYOND_DOUBLES])
@pytest.mark.parametrize("path", SERIES)
def test_a_bad_number_in_a_series_is_named_by_its_position(path, value):
    assert list(complaints(changed(path, [1, value]))) == [f"{place_of(path)}[1]"]


@pytest.mark.parametrize("value", [[], [1, 2, 3]], ids=str)
@pytest.mark.parametrize("path", SERIES)
def test_a_series_of_another_length_is_named(path, value):
    assert complaints(changed(path, value)) == {place_of(path): f"{len(value)} numbers for 2 periods"}


@pytest.mark.parametrize("value", ["12", None, {}, True], ids=str)
@pytest.mark.parametrize("path", SERIES)
def test_what_is_no_series_is_named(path, value):
    assert list(complaints(changed(path, value))) == [place_of(path)]


@pytest.mark.parametrize(
    "path",
    [
        "places.0.site",
        "rates.0.service",
        "rates.0.kind",
        "standing.0.place",
        "standing.0.kind",
        "deliveries.0.site",
        "deliveries.0.kind",
        "offers.0.kind",
        "offers.0.site",
        "limits.0.uses.0.place",
        "limits.0.uses.0.kind",
        "domains.0.lost.0.place",
    ],
)
def test_an_unknown_name_is_named(path):
    said = complaints(changed(path, "nowhere"))
    assert "nowhere" in said[place_of(path)]


@pytest.mark.parametrize("path", ["floors.0.region", "floors.0.tier"])
def test_a_floor_of_nothing_is_named(path):
    assert "nowhere" in complaints(changed(path, "nowhere"))[place_of(path)]


def test_an_order_of_unknown_services_is_named():
    said = complaints(changed("order", [{"first": "chat", "then": "nowhere"}]))
    assert said == {"problem.order[0].then": "unknown then 'nowhere'"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("rates.0.phase", "both"),
        ("floors.0.basis", "money"),
        ("rules.objective", "best"),
        ("kinds.0.homegrown", "yes"),
        ("services.0.stays", 1),
        ("rules.split", None),
        ("sites.0.slug", 7),
        ("periods.0", 202701),
        ("floors.0.ratio", 1.01),
        ("domains.0.lost.0.ratio", 2),
        ("rules.reserve_ratio", 1),
        ("rules.period_months", 0),
        ("deliveries.0.hosts", 1.5),
        ("kinds.0.resale_ratio", 1.5),
        ("solver.threads", 0),
        ("solver.time_limit_s", 0),
    ],
)
def test_a_value_that_may_not_be_is_named(path, value):
    assert list(complaints(changed(path, value))) == [place_of(path)]


@pytest.mark.parametrize(
    "path",
    ["periods", "sites", "kinds", "services", "rates", "sites.0.slug", "kinds.0.homegrown", "rates.1.tok_s"],
)
def test_what_is_missing_is_named(path):
    data = copy.deepcopy(GOOD)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at = data
    for part in way:
        at = at[part]
    del at[last]
    assert complaints(data)[place_of(path)] == "is missing"


@pytest.mark.parametrize("path", ["powre", "sites.0.powre", "rules.powre", "limits.0.uses.0.powre"])
def test_what_is_unknown_is_named(path):
    assert complaints(changed(path, 1))[place_of(path)].startswith("unknown")


@pytest.mark.parametrize("data", [None, [], "problem", 3, [GOOD]], ids=type)
def test_what_is_no_object_is_said_so(data):
    assert complaints(data) == {"problem": "an object is needed"}


@pytest.mark.parametrize("path", ["sites", "rates", "rates.0", "rules", "limits.0.uses", "domains.0.lost.0"])
def test_a_text_where_rows_are_is_named(path):
    assert list(complaints(changed(path, "text"))) == [place_of(path)]


@pytest.mark.parametrize("path", ["periods", "sites", "kinds", "services"])
def test_nothing_at_all_is_named(path):
    assert complaints(changed(path, []))[place_of(path)] == "at least one is needed"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("periods", "problem.periods[2]"),
        ("sites", "problem.sites[1]"),
        ("places", "problem.places[1]"),
        ("kinds", "problem.kinds[2]"),
        ("services", "problem.services[1]"),
        ("rates", "problem.rates[2]"),
        ("standing", "problem.standing[1]"),
        ("limits", "problem.limits[1]"),
        ("domains", "problem.domains[1]"),
    ],
)
def test_what_is_there_twice_is_named(path, place):
    rows = GOOD[path]
    assert "twice" in complaints(changed(path, [*rows, rows[0]]))[place]


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("rates.0.ready", 2, "problem.rates[0].ready"),  # a GPU
        ("deliveries.0.period", 2, "problem.deliveries[0].period"),
        ("offers.0.period", 2, "problem.offers[0].period"),
        ("floors.0.period", 2, "problem.floors[0].period"),
        ("standing.0.hosts", 2.5, "problem.standing[0].hosts"),
        ("rates.0.tok_s", 111, "problem.rates[0].tok_s"),
        ("kinds.1.idle_w", 5001, "problem.kinds[1].idle_w"),
    ],
)
def test_what_contradicts_itself_is_named(path, value, place):
    assert list(complaints(changed(path, value))) == [place]


def test_a_service_that_stays_and_leaves_is_named():
    service = {**GOOD["services"][0], "stays": True, "homegrown_from": 1}
    assert list(complaints(changed("services.0", service))) == ["problem.services[0].homegrown_from"]


def test_every_place_at_fault_is_named_at_once():
    data = changed("kinds.0.price", -1)
    data["rates"][0]["tok_s"] = math.nan
    data["floors"][0]["basis"] = "money"
    assert list(complaints(data)) == ["problem.kinds[0].price", "problem.rates[0].tok_s", "problem.floors[0].basis"]


def test_json_with_numbers_beyond_doubles_is_named():
    data = json.loads(json.dumps(GOOD).replace("9.5", "1e999"))
    assert list(complaints(data)) == ["problem.kinds[0].price"]


# --- questions without an answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"standing": [], "deliveries": [], "offers": []}, id="a horizon without supply"),
        pytest.param({"rates": []}, id="a service without a chip"),
        pytest.param({"rates": [{"service": "chat", "kind": "own", "tok_s": 60, "ready": 9}]}, id="never ready"),
        pytest.param({"rates": [{"service": "chat", "kind": "gpu", "tok_s": 0}]}, id="a chip that does nothing"),
        pytest.param({"rates": [{"service": "chat", "kind": "gpu", "tok_s": 100, "phase": "prefill"}]}, id="no decode"),
        pytest.param({"floors": [{"ratio": 0.9}, {"ratio": 0.1, "period": 1}]}, id="a floor before anything is ready"),
        pytest.param(
            {"floors": [{"ratio": 1.0, "period": 1}], "services": [{**GOOD["services"][0], "stays": True}]},
            id="a floor against a service that stays",
        ),
        pytest.param({"services": [{**GOOD["services"][0], "homegrown_from": 0}]}, id="it leaves before it may"),
        pytest.param({"limits": [{**GOOD["limits"][0], "limit": 0}]}, id="no power"),
        pytest.param({"domains": [{"slug": "panel", "lost": [{"place": "hall"}]}]}, id="nothing survives"),
        pytest.param({"rules": {"waves_most": 0}}, id="a floor without waves"),
    ],
)
def test_what_has_no_plan_is_infeasible_with_its_conflict(changes):
    problem = problem_read({**copy.deepcopy(GOOD), **copy.deepcopy(changes)})
    answer = plan_migration(problem)
    assert answer.status == INFEASIBLE
    assert verify(problem, answer) == []
    assert answer.conflict
    assert all(row.requirement and row.subject and row.sentence for row in answer.conflict)


@pytest.mark.parametrize("solver", [{"seed": 10**12}, {"nodes_most": 10**12}, {"time_limit_s": 1e12}], ids=str)
def test_settings_of_the_solver_that_may_be_do_not_break_it(solver):
    problem = problem_read({**GOOD, "solver": {"gap_ratio": 0.0, **solver}})
    assert plan_migration(problem).is_plan


def test_demand_of_nothing_is_served_by_nothing():
    problem = problem_read({**GOOD, "services": [{**GOOD["services"][0], "demand_tok_s": 0}]})
    answer = plan_migration(problem)
    assert verify(problem, answer) == []
    assert answer.is_plan
    assert not [row for row in answer.loads if row.serving_hosts > 1e-6]
