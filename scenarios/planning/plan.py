"""The answer of the migration planner, as plain values. Every figure can be checked against the problem alone.

Its JSON Schema is docs/schemas/migration-plan.json. Rows that would be zero are left out.
"""

from dataclasses import dataclass
from typing import Any

from scenarios.planning.plain import given, plain_of, schema_of

OPTIMAL, FEASIBLE, INFEASIBLE, NO_PLAN = "optimal", "feasible", "infeasible", "no_plan"
STATUSES = (OPTIMAL, FEASIBLE, INFEASIBLE, NO_PLAN)


@dataclass(frozen=True, slots=True)
class HostsRow:
    """Hosts of a kind in a place in a period."""

    period: int = given("Position of the period.")
    place: str = given("Place.")
    kind: str = given("Kind.")
    kept: int = given("Of those that stood or were dated to come, still there.", unit="-")
    new: int = given("Of deliveries and purchases, there by now.", unit="-")


@dataclass(frozen=True, slots=True)
class BoughtRow:
    """Hosts bought in a period, for a site."""

    period: int = given("Position of the period in which they stand first.")
    site: str = given("Site.")
    kind: str = given("Kind.")
    hosts: float = given("Bought.", unit="-")


@dataclass(frozen=True, slots=True)
class LoadRow:
    """Hosts that a service fills in a place and a period, in one phase."""

    period: int = given("Position of the period.")
    service: str = given("Service.")
    place: str = given("Place.")
    kind: str = given("Kind.")
    phase: str = given("Whole, prefill or decode.")
    serving_hosts: float = given("Filled by its traffic.", unit="-")
    shadow_hosts: float = given("Filled by copies of its traffic, before it opens there.", unit="-")
    reserve_hosts: float = given("Held for traffic that may have to return.", unit="-")
    replicas: int | None = given("Whole replicas that carry all three; none: not rounded.", unit="-", default=None)


@dataclass(frozen=True, slots=True)
class FailoverRow:
    """Hosts that would serve a service of the protected tier after the loss of a failure domain."""

    period: int = given("Position of the period.")
    domain: str = given("Failure domain that is lost.")
    service: str = given("Service.")
    kind: str = given("Kind.")
    phase: str = given("Whole, prefill or decode.")
    hosts: float = given("Of that kind, over the places of the region that are left.", unit="-")


@dataclass(frozen=True, slots=True)
class ShortRow:
    """Traffic that goes unserved, or in `domain` that would after its loss."""

    period: int = given("Position of the period.")
    service: str = given("Service.")
    tok_s: float = given("In the peak hour.", unit="tok/s")
    domain: str = given("Failure domain; empty: nothing is lost.", default="")


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A homegrown kind that opens for a service: a wave."""

    period: int = given("Position of the first period in which it serves.")
    service: str = given("Service.")
    kind: str = given("Kind.")
    phase: str = given("Whole, prefill or decode.")


@dataclass(frozen=True, slots=True)
class MoneyRow:
    """What a period costs; income is negative. Rows of all periods add up to the cent."""

    period: int = given("Position of the period.")
    capex: float = given("New hosts bought.", unit="money")
    deliveries: float = given("Still paid for what was ordered before; the same in every plan.", unit="money")
    energy: float = given("Energy of serving, shadow and idling, with PUE.", unit="money")
    upkeep: float = given("Space and maintenance.", unit="money")
    porting: float = given("Opening kinds for services.", unit="money")
    opening: float = given("What hosts would bring that stand at first, or that were dated to come.", unit="money")
    resale: float = given("Brought by hosts that went; negative.", unit="money")
    penalty: float = given("Tokens that go unserved, or would not survive a failure.", unit="money")
    remaining: float = given("Value of hosts at the end, in the last period; negative.", unit="money")
    total: float = given("Sum.", unit="money")
    discounted: float = given("Sum in money of the first period.", unit="money")


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit in a period: what is taken, what there is, and what one unit more would save over the horizon."""

    period: int = given("Position of the period.")
    slug: str = given("Name of the limit.")
    constraint: str = given("Kind of limit.")
    used: float = given("Taken.")
    limit: float = given("Most.")
    unit: str = given("Unit of both.")
    shadow_price: float = given("Saved by one unit more, in money of the first period.", unit="money", default=0.0)


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """One of a smallest set of requirements that cannot all be kept."""

    requirement: str = given("Kind of requirement, as floor or demand.")
    subject: str = given("What it is about.")
    sentence: str = given("In words.")


@dataclass(frozen=True, slots=True)
class SolverNote:
    """How the plan was found. What the clock cut short is never reused."""

    name: str = given("Solver and version.")
    status: str = given("In the solver's words.")
    objective: float | None = given("Of the plan, in the sense of `sense`.", unit="money")
    bound: float | None = given("No plan is better than this.", unit="money")
    gap_ratio: float | None = given("Between the two, over the objective's size.", unit="-")
    sense: str = given("What is counted.")
    nodes: int = given("Of the search.", unit="-", default=0)
    columns: int = given("Variables of the program.", unit="-", default=0)
    rows: int = given("Constraints of the program.", unit="-", default=0)
    integers: int = given("Variables that are whole.", unit="-", default=0)
    stopped_by_clock: bool = given("Whether the time limit ended it.", default=False)


@dataclass(frozen=True)
class MigrationAnswer:
    """A plan: hosts, loads, waves, money, what is short, and how good it is; or why there is none."""

    status: str = given("Optimal within the gap, feasible, infeasible, or none was found.", choices=STATUSES)
    solver: SolverNote = given("How it was found.")
    hosts: tuple[HostsRow, ...] = given("Hosts.", default=())
    bought: tuple[BoughtRow, ...] = given("Purchases.", default=())
    loads: tuple[LoadRow, ...] = given("Loads.", default=())
    opened: tuple[OpenRow, ...] = given("Waves.", default=())
    failover: tuple[FailoverRow, ...] = given("Who serves the protected tier after each loss.", default=())
    short: tuple[ShortRow, ...] = given("Traffic that goes unserved.", default=())
    money: tuple[MoneyRow, ...] = given("Costs by period.", default=())
    limits: tuple[LimitRow, ...] = given("Limits.", default=())
    conflict: tuple[ConflictRow, ...] = given("Smallest set of requirements that conflict.", default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return dict(plain_of(self))

    @property
    def is_plan(self) -> bool:
        """Whether there is a plan."""
        return self.status in {OPTIMAL, FEASIBLE}


def answer_schema() -> dict[str, Any]:
    """Return the JSON Schema of an answer."""
    return schema_of(MigrationAnswer, title="A migration plan")
