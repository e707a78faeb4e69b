"""Why there is no plan: the smallest set of requirements that conflict, against an enumeration of all sets."""

from itertools import combinations

from scenarios.planning import conflicts
from scenarios.planning.conflicts import broken_least, conflict_find
from scenarios.planning.migration import plan_migration
from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.problem import problem_read
from scenarios.planning.solver import Solved


def question(**more):
    return problem_read(
        {
            "periods": ["2027-01", "2027-02", "2027-03"],
            "sites": [{"slug": "dc01", "region": "north"}],
            "kinds": [{"slug": "gpu", "homegrown": False}, {"slug": "own", "homegrown": True}],
            "services": [
                {"slug": "chat", "region": "north", "demand_tok_s": 100.0},
                {"slug": "code", "region": "north", "demand_tok_s": 50.0, "stays": True},
            ],
            "rates": [
                {"service": "chat", "kind": "gpu", "tok_s": 10.0},
                {"service": "chat", "kind": "own", "tok_s": 10.0, "ready": 1},
                {"service": "code", "kind": "gpu", "tok_s": 10.0},
            ],
            "standing": [{"place": "dc01", "kind": "gpu", "hosts": 20}],
            "rules": {"reserve_ratio": 0.0},
            **more,
        }
    )


def kinds_of(problem):
    answer = plan_migration(problem)
    assert answer.status == "infeasible"
    return {(row.requirement, row.subject) for row in answer.conflict}


def test_a_floor_without_supply_conflicts_with_the_supply():
    found = kinds_of(question(floors=[{"ratio": 0.5, "period": 2}]))
    assert found == {("floor", "0: 50% from 2027-03")}  # nothing homegrown comes at all: the floor alone cannot be kept


def test_a_floor_beyond_what_is_delivered_conflicts_with_the_supply_of_that_kind():
    problem = question(
        floors=[{"ratio": 0.6, "period": 2}], deliveries=[{"site": "dc01", "kind": "own", "period": 1, "hosts": 5}]
    )
    assert kinds_of(problem) == {("floor", "0: 60% from 2027-03"), ("supply", "own")}


def test_a_floor_before_the_software_is_ready_conflicts_with_readiness():
    problem = question(
        floors=[{"ratio": 0.5, "period": 0}], deliveries=[{"site": "dc01", "kind": "own", "period": 0, "hosts": 20}]
    )
    assert kinds_of(problem) == {("floor", "0: 50% from 2027-01"), ("ready", "chat own whole")}


def test_a_service_that_must_leave_without_a_chip_conflicts_with_its_demand():
    problem = question(
        services=[{"slug": "chat", "region": "north", "demand_tok_s": 100.0, "homegrown_from": 1}],
        rates=[{"service": "chat", "kind": "gpu", "tok_s": 10.0}],
    )
    assert kinds_of(problem) == {("left", "chat"), ("demand", "chat")}


def test_a_breaker_too_small_for_what_demand_needs_conflicts_with_demand():
    problem = question(
        limits=[{"slug": "pdu", "limit": 9.0, "uses": [{"place": "dc01", "kind": "gpu", "amount": 1.0}]}]
    )
    found = kinds_of(problem)
    assert ("limit", "pdu") in found
    assert ("demand", "chat") in found


def test_the_set_found_is_a_smallest_one():
    problem = question(
        floors=[{"ratio": 0.6, "period": 2}, {"ratio": 0.3, "period": 1}],
        deliveries=[{"site": "dc01", "kind": "own", "period": 1, "hosts": 5}],
        rules={"reserve_ratio": 0.0, "waves_most": 0},
    )
    program = MigrationProgram(problem)
    found = conflict_find(program)
    free = range(len(program.frozen.requirements))
    for size in range(len(found)):
        for chosen in combinations(free, size):
            assert broken_least(program.frozen, problem, frozenset(chosen), relaxed=False) is not None


def test_a_search_that_the_clock_ends_names_no_conflict_and_says_so(monkeypatch):
    def late(*_program, **_options):
        return Solved(None, 0.0, 0.0, is_proven=False, is_infeasible=False, by_clock=True, nodes=0, status="Time limit")

    monkeypatch.setattr(conflicts, "solve", late)
    answer = plan_migration(question(floors=[{"ratio": 0.5, "period": 2}]))
    assert (answer.status, answer.conflict, answer.solver.stopped_by_clock) == ("infeasible", (), True)
