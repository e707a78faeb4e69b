"""The answer of the capacity planner, as plain values. Its JSON Schema is made by `capacity_schema`."""

from dataclasses import dataclass
from typing import Any

from scenarios.planning.draws import FutureValues
from scenarios.planning.plain import given, plain_of, schema_of


@dataclass(frozen=True, slots=True)
class ClosedValues:
    """A kind that may not be bought at a site in some periods, unless an offer names it there."""

    kind: str = given("Kind.")
    site: str = given("Site.")
    first: int = given("First period.", unit="period", default=0, least=0)
    last: int | None = given("First period in which it may be bought again; none: never.", default=None, least=0)


@dataclass(frozen=True, slots=True)
class CapacityAsk:
    """What is asked of the capacity planner beside the problem."""

    draws: int = given("Futures drawn for the bands; 0: the expected one alone.", unit="-", default=200, least=0)
    seed: int = given("Of the draws.", default=1, least=0)
    target_ratio: float = given("Headroom to stay above when hosts are added.", unit="-", default=0.0, least=0.0)
    lead_months: float | None = given(
        "From order to service of a kind that no offer names; none: not known.", unit="month", default=None, least=0.0
    )
    closed: tuple[ClosedValues, ...] = given("Kinds that may not be bought.", default=())
    futures: FutureValues = given("What futures differ in.", default=FutureValues())


@dataclass(frozen=True, slots=True)
class BandValues:
    """A figure over the futures."""

    p10: float = given("One future in ten lies below.")
    p50: float = given("Half of the futures lie below.")
    p90: float = given("One future in ten lies above.")


@dataclass(frozen=True, slots=True)
class DayBand:
    """A day over the futures; none is not within the horizon. P10 is the early end: one future in ten is earlier."""

    p10: str | None = given("Day, as 2027-03-14.", default=None)
    p50: str | None = given("Day.", default=None)
    p90: str | None = given("Day.", default=None)


@dataclass(frozen=True, slots=True)
class PositionBand:
    """A point in time over the futures, counted in periods from the start of the first; none is not within them."""

    p10: float | None = given("Position.", unit="period", default=None)
    p50: float | None = given("Position.", unit="period", default=None)
    p90: float | None = given("Position.", unit="period", default=None)


@dataclass(frozen=True, slots=True)
class TierRow:
    """What a region can serve of a tier in a period. Without a tier: of everything, in the present mix."""

    period: int = given("Position of the period.")
    region: str = given("Region.")
    tier: str = given("Tier; empty: the whole mix.")
    supply_tok_s: float = given("What can be served in the present mix, of the expected future.", unit="tok/s")
    demand_tok_s: float = given("Demand of the peak hour, of the expected future.", unit="tok/s")
    headroom_ratio: float = given("Supply over demand, less one, of the expected future.", unit="-")
    unserved_tok_s: float = given("Demand of the peak hour that goes unserved if nothing is done.", unit="tok/s")
    supply: BandValues = given("Supply over the futures.", unit="tok/s")
    demand: BandValues = given("Demand over the futures.", unit="tok/s")
    headroom: BandValues = given("Headroom over the futures.", unit="-")


@dataclass(frozen=True, slots=True)
class RunOutRow:
    """When demand first exceeds what can be served, and when hosts have to be ordered to prevent it."""

    region: str = given("Region; empty: the fleet, whose first region counts.")
    tier: str = given("Tier; empty: the whole mix.")
    expected: float | None = given("In the expected future; none: not within the periods.", unit="period")
    position: PositionBand = given("Over the futures.")
    run_out_expected_on: str | None = given("Day of `expected`; none too where periods are not named by months.")
    run_out_on: DayBand = given("Day over the futures.")
    probability_ratio: float = given("Share of the futures in which it comes within the periods.", unit="-")
    first_ratio: float = given(
        "Share of the futures in which the region runs out and no other before it; 0: the fleet.",
        unit="-",
        default=0.0,
    )
    kind: str = given("Kind of host to add; empty: none may be, or the fleet.", default="")
    lead_months: float | None = given("Of its first offer, or else that asked for.", unit="month", default=None)
    is_offered: bool = given("Whether the lead time is that of an offer.", default=False)
    order_by_on: DayBand = given(
        "Day by which it has to be ordered; before the first period: too late.", default=DayBand()
    )
    unserved_mtok: float = given(
        "Tokens unserved over the horizon if nothing is done, expected.", unit="Mtok", default=0.0
    )
    unserved: BandValues = given("The same over the futures.", unit="Mtok", default=BandValues(0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class SiteRow:
    """Hosts of a kind at a site in a period of the expected future."""

    period: int = given("Position of the period.")
    site: str = given("Site.")
    kind: str = given("Kind.")
    hosts: int = given("That stand.", unit="-")
    waiting: int = given("Delivered, but no limit lets them in.", unit="-")


@dataclass(frozen=True, slots=True)
class BindRow:
    """What stops the next host at a site in a period of the expected future."""

    period: int = given("Position of the period.")
    site: str = given("Site.")
    kind: str = given("Kind of the next host: that waits, or else is ordered most, or stands most.")
    constraint: str = given("What makes the limit bind; `chips` where limits leave room but no more hosts come.")
    object: str = given("What has the limit; empty for chips.")
    limit: str = given("Name of the limit; empty for chips.")
    free: float = given("Left of it, for good.")
    needed: float = given("Taken by one host more.")
    unit: str = given("Unit of both.")
    failure: str = given("What is lost where it is a limit after a failure; empty: nothing.", default="")


@dataclass(frozen=True, slots=True)
class HomelessRow:
    """A service with demand that no host of its region may serve, in the expected future."""

    period: int = given("Position of the period.")
    region: str = given("Region.")
    service: str = given("Service.")


@dataclass(frozen=True, slots=True)
class AfterLossRow:
    """What is left after the loss of the failure domain that hurts a tier most, in the expected future.

    The protected tier is judged by itself: all else gives way. The others come after those above them.
    """

    period: int = given("Position of the period.")
    region: str = given("Region.")
    tier: str = given("Tier; empty: the whole mix.")
    domain: str = given("Domain whose loss leaves least.")
    headroom_ratio: float = given("Of what is left, reserve included.", unit="-")
    unserved_tok_s: float = given("Demand of the peak hour that would go unserved.", unit="tok/s")


@dataclass(frozen=True, slots=True)
class AddRow:
    """Hosts to add in a period, so that the expected future stays above the headroom asked for."""

    period: int = given("Position of the period in which they have to stand.")
    site: str = given("Site.")
    kind: str = given("Kind.")
    hosts: int = given("To add.", unit="-")
    beyond_hosts: int = given("Of them beyond all offers that are open by then: supply to be asked for.", unit="-")
    cost: float = given("Price, and energy and upkeep to the end of the horizon, discounted.", unit="money")
    order_by_on: str | None = given("Day by which to order, by its lead time.", default=None)


@dataclass(frozen=True, slots=True)
class MissedRow:
    """A period in which the hosts that may be added do not reach the headroom asked for."""

    period: int = given("Position of the period.")
    region: str = given("Region.")
    headroom_ratio: float = given("Reached with everything added.", unit="-")


@dataclass(frozen=True)
class CapacityAnswer:
    """How long the fleet lasts, what stops it, and what to add. Rows of a tier without demand are left out."""

    draws: int = given("Futures behind the bands.", unit="-")
    seed: int = given("Of the draws.")
    target_ratio: float = given("Headroom asked for.", unit="-")
    rows: tuple[TierRow, ...] = given("Supply, demand and headroom.", default=())
    run_out: tuple[RunOutRow, ...] = given("Run-out and order-by days.", default=())
    hosts: tuple[SiteRow, ...] = given("Hosts.", default=())
    binding: tuple[BindRow, ...] = given("What binds.", default=())
    homeless: tuple[HomelessRow, ...] = given("Services without a host.", default=())
    after_loss: tuple[AfterLossRow, ...] = given("N+1.", default=())
    add: tuple[AddRow, ...] = given("What to add where.", default=())
    missed: tuple[MissedRow, ...] = given("Where adding hosts is not enough.", default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return dict(plain_of(self))


def capacity_schema() -> dict[str, Any]:
    """Return the JSON Schema of an answer."""
    return schema_of(CapacityAnswer, title="A capacity plan")


def ask_schema() -> dict[str, Any]:
    """Return the JSON Schema of what is asked beside the problem."""
    return schema_of(CapacityAsk, title="What is asked of the capacity planner")
