"""What an outage or an event names must be there, as far as the account sees it; each rule names its field."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet

from accelerator import UnknownModelError, model_get
from fleet.access import rows_seen
from fleet.models import (
    CoolingNode,
    FirmwareSet,
    Hall,
    Host,
    HostType,
    NetworkNode,
    Order,
    PowerNode,
    Rack,
    Region,
    Row,
    ScaleUpDomain,
    Service,
    Site,
)
from fleet.models.versioned import DAY_FIRST, DAY_LAST
from scenarios.demand import months_list
from scenarios.event_questions import event_params
from scenarios.event_reading import kind_names, names_of, outage_days, params_odd, period_of, vendor_names
from scenarios.planning.params import (
    BAN,
    CAPACITY,
    CLIENT,
    FIRMWARE,
    NEW_MODEL,
    SUPPLIER_STOP,
    EventParams,
    OutageParams,
)
from scenarios.planning.plain import ProblemError

Account = AbstractBaseUser | AnonymousUser | None
Found = Iterator[tuple[str, str]]

NODES: Mapping[str, tuple[type[Model], tuple[str, ...]]] = {
    "power": (PowerNode, ("slug",)),
    "cooling": (CoolingNode, ("slug",)),
    "network": (NetworkNode, ("slug",)),
    "region": (Region, ("slug",)),
    "site": (Site, ("slug",)),
    "hall": (Hall, ("site__slug", "slug")),
    "row": (Row, ("hall__site__slug", "hall__slug", "slug")),
    "rack": (Rack, ("slug",)),
    "host": (Host, ("slug",)),
    "scale-up-domain": (ScaleUpDomain, ("slug",)),
}
"""What the nodes of a tree are, and what their names are made of."""


def check_event(kind: str, params: Any, starts_on: date, ends_on: date, account: Account = None) -> None:
    """An outage or an event names what there is, in months that are asked about; other kinds of question pass.

    What the account may not see is as if it were not there.
    """
    try:
        asked = event_params(kind, params)
    except ProblemError:
        return  # `checks.check_params` says what is wrong
    if asked is None or not DAY_FIRST <= starts_on <= ends_on <= DAY_LAST:
        return
    months = months_list(starts_on, ends_on)
    rule = _outage(asked, months, account) if isinstance(asked, OutageParams) else _event(asked, months, account)
    errors = [f"{place}: {text}" for place, text in rule]
    if errors:
        raise ValidationError({"params": errors})


def nodes_seen(asked: Collection[tuple[str, str]], account: Account) -> set[tuple[str, str]]:
    """Return those of some nodes and places, by tree and name, that an account sees; one query a tree."""
    found: set[tuple[str, str]] = set()
    for tree, (model, names) in NODES.items():
        nodes = {node for one, node in asked if one == tree}
        if nodes:
            last = {node.rsplit("/", 1)[-1] for node in nodes} if len(names) > 1 else nodes
            rows: QuerySet[Any] = rows_seen(model._default_manager.all(), account)
            known = rows.filter(**{f"{names[-1]}__in": sorted(last)}).values_list(*names)
            found |= {(tree, node) for node in map("/".join, known) if node in nodes}
    return found


def _outage(asked: OutageParams, months: Sequence[date], account: Account) -> Found:
    if not asked.node:
        yield "params.node", "the name of what is lost is needed"
    elif not nodes_seen([(asked.tree, asked.node)], account):
        yield "params.node", f"there is no {asked.tree} {asked.node[:80]!r}"
    yield from _told(lambda: outage_days(asked, months))


def _event(asked: EventParams, months: Sequence[date], account: Account) -> Found:
    if not asked.event:
        yield "params.event", "what happens is needed"
    names = names_of(asked.subject)
    if not names:
        yield "params.subject", "what it happens to is needed"
    yield from _told(lambda: period_of(asked.month, months))
    if asked.region and not rows_seen(Region.objects.all(), account).filter(slug=asked.region).exists():
        yield "params.region", f"there is no region {asked.region[:80]!r}"
    known = _known(asked.event, account)
    for name in names:
        if known is not None and not known(name):
            yield "params.subject", f"{WHAT[asked.event]} {name[:80]!r} is not there"
    if asked.event == FIRMWARE:
        yield from _firmware(asked)
    yield from params_odd(asked)
    if asked.event == NEW_MODEL and len(names) > 1:
        yield "params.subject", "one service is needed"
    idle = rows_seen(Service.objects.all(), account).filter(demand_request_s=0).values_list("slug", flat=True)
    if asked.event == NEW_MODEL and asked.request_s is None and set(names[:1]) & set(idle):
        yield "params.request_s", f"{names[0][:80]} has no demand of its own: name requests above 0"
    if asked.event == NEW_MODEL and asked.model:
        try:
            model_get(asked.model)
        except UnknownModelError as error:
            yield "params.model", str(error)


WHAT = {
    BAN: "chip, host type or vendor",
    CAPACITY: "chip, host type or vendor",
    FIRMWARE: "chip, host type or vendor",
    SUPPLIER_STOP: "supplier or vendor",
    CLIENT: "service",
    NEW_MODEL: "service",
}


def _known(event: str, account: Account) -> Callable[[str], bool] | None:
    """Return what says whether a subject of an event is there."""
    if event in {CLIENT, NEW_MODEL}:
        services = set(rows_seen(Service.objects.all(), account).values_list("slug", flat=True))
        return lambda name: name in services
    types = list(HostType.objects.values_list("slug", "chip"))
    if event == SUPPLIER_STOP:
        suppliers = {one.lower() for one in Order.objects.values_list("supplier", flat=True)}
        makers = suppliers | {name for _slug, chip in types for name in vendor_names(chip)}
        return lambda name: name.lower() in makers
    if event in {BAN, CAPACITY, FIRMWARE}:
        called = {name for slug, chip in types for name in kind_names(slug, chip)}
        return lambda name: name.lower() in called
    return None


def _firmware(asked: EventParams) -> Found:
    least = FirmwareSet.objects.filter(slug=asked.firmware).first()
    if least is None:
        there = ", ".join(FirmwareSet.objects.order_by("slug").values_list("slug", flat=True)[:20])
        yield "params.firmware", f"there is no firmware set {asked.firmware[:80]!r}; there are: {there or 'none'}"
        return
    types = HostType.objects.filter(chip=least.chip).values_list("slug", flat=True)
    called = {name for slug in types for name in kind_names(slug, least.chip)}
    if not called & {name.lower() for name in names_of(asked.subject)}:
        yield "params.subject", f"firmware set {least.slug} is one of {least.chip}"


def _told(rule: Callable[[], object]) -> Found:
    try:
        rule()
    except ProblemError as error:
        yield from error.errors
