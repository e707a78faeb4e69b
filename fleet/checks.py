"""Rules over several rows, looked at after a write and before it holds: rack units, slots, trees, orders, shares.

A check is one function: it takes the ids of the groups that a write has touched (racks, hosts, sites ...), reads them
set by set, and returns every fault once for each row that could have brought it about. `fleet.watches` says which edits
touch which groups, and keeps two writers apart, so that never both pass.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice, pairwise
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import orjson
from django.db import connection, models
from django.db.models import Count, F, Q, Sum
from django.db.models.expressions import RawSQL
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fleet.models import (
    Card,
    CoolingNode,
    Delivery,
    Deployment,
    Endpoint,
    FirmwareSet,
    Hall,
    Host,
    HostType,
    Lot,
    NetworkNode,
    Order,
    Placement,
    PowerLink,
    PowerNode,
    Rack,
    Row,
    ScaleUpDomain,
    Site,
)

FAULTS_MOST = 100_000
"""Pairs after which a check of pairs stops: whoever writes so many has one mistake, not a hundred thousand."""
OPEN, EVER = 0, date.max.toordinal() + 1  # ordinals that stand for "always was" and "stays"
WHOLE = 1 + 1e-9
STAY = ("in_service_on", "out_of_service_on")

Ids = Collection[int]
Ints = NDArray[np.int64]
Model = type[models.Model]


class Fault(NamedTuple):
    """A row that a rule forbids: the sentence names the other ones."""

    model: Model
    id: int
    field: str
    message: str


def among(values: Collection[Any]) -> RawSQL:
    """Return what `__in` takes for any number of ids or texts: one parameter, where a database counts them."""
    if connection.vendor == "postgresql":
        kind = "text" if any(isinstance(value, str) for value in values) else "bigint"
        return RawSQL(f"SELECT unnest(%s::{kind}[])", [list(values)])  # nosec B611  # noqa: S611 -- one of two words
    return RawSQL("SELECT value FROM json_each(%s)", [orjson.dumps(list(values)).decode()])


# --- racks ------------------------------------------------------------------------------------------------------------
def check_units_free(racks: Ids) -> list[Fault]:
    """Two hosts never fill one unit of a rack on one face on one day; a host of full depth fills both faces."""
    hosts = _Hosts.of(racks)
    hosts = hosts.where((hosts.position_u > 0) & (hosts.height_u > 0))
    ends = hosts.position_u + hosts.height_u
    faults = []
    for one, other in _meeting(hosts.rack, hosts.position_u, ends, hosts.first, hosts.last, hosts.faces_meet):
        units = f"{max(hosts.position_u[one], hosts.position_u[other])} to {min(ends[one], ends[other]) - 1}"
        message = f"hosts {hosts.slug[one]} and {hosts.slug[other]} both fill units {units} of their rack"
        message += _from_day(max(hosts.first[one], hosts.first[other]))
        for at in (one, other):
            faults += _faults(message, (Host, hosts.id[at], "position_u"), (HostType, hosts.kind[at], "height_u"))
    return faults


def check_units_in_rack(racks: Ids) -> list[Fault]:
    """No host reaches beyond the top of its rack."""
    above = Host.objects.filter(
        rack__in=among(racks),
        position_u__gt=F("rack__height_u") + 1 - F("host_type__height_u"),
        host_type__height_u__gt=0,
    )
    names = ("pk", "slug", "position_u", "host_type__height_u", "rack", "rack__slug", "rack__height_u", "host_type")
    faults = []
    for pk, slug, position_u, height_u, rack, rack_slug, rack_u, kind in above.values_list(*names):
        message = (
            f"host {slug} would fill units {position_u} to {position_u + height_u - 1}; rack {rack_slug} has {rack_u}"
        )
        faults += _faults(message, (Host, pk, "position_u"), (Rack, rack, "height_u"), (HostType, kind, "height_u"))
    return faults


def check_rack_heights(racks: Ids) -> list[Fault]:
    """On no day do the hosts at one face of a rack add up to more than its height; those without a place count too."""
    hosts = _Hosts.of(racks)
    named = {row[0]: row[1:] for row in Rack.objects.filter(pk__in=among(racks)).values_list("pk", "slug", "height_u")}
    faults = []
    for face in Host.Face.values:
        here = hosts.where(hosts.deep | (hosts.face == face))
        limits = {rack: height_u for rack, (_, height_u) in named.items()}
        for at, total, day in _over(here.rack, here.first, here.last, here.height_u, limits):
            rack = int(here.rack[at])
            slug, height_u = named[rack]
            message = f"hosts of {total} U would stand in rack {slug}, which has {height_u}{_from_day(day)}"
            rows = (Host, here.id[at], "rack"), (Rack, rack, "height_u"), (HostType, here.kind[at], "height_u")
            faults += _faults(message, *rows)
    return faults


PLACES: tuple[tuple[str, Model, str], ...] = (
    ("rack", Rack, "row"),
    ("rack__row", Row, "hall"),
    ("rack__row__hall", Hall, "site"),
    ("rack__row__hall__site", Site, ""),
)
"""Where a host stands: the path to a place, its model, and the field that says where that place is."""


def check_host_stays(racks: Ids) -> list[Fault]:
    """A host comes while its rack, row, hall and site are there, and leaves before they do.

    A host without a day is there as long as its place is.
    """
    outside = Q()
    for path, _, _ in PLACES:
        begins, ends = F(f"{path}__in_service_on"), F(f"{path}__out_of_service_on")
        outside |= Q(in_service_on__lt=begins) | Q(in_service_on__gte=ends)
        outside |= Q(out_of_service_on__lte=begins) | Q(out_of_service_on__gt=ends)
    parts = [f"{path}__{name}" for path, _, _ in PLACES for name in ("pk", "slug", *STAY)]
    hosts = Host.objects.filter(outside, rack__in=among(racks)).values_list("pk", "slug", *STAY, *parts)
    faults = []
    for host, slug, comes, leaves, *found in hosts:
        places = list(zip(PLACES, found[::4], found[1::4], found[2::4], found[3::4], strict=True))
        for (_, model, _), _, place, begins, ends in places:
            for side, bound, told in _stay_breaks(comes, leaves, begins, ends):
                message = f"host {slug} {told[0]}; its {model._meta.verbose_name} {place} {told[1]}"
                rows = [(one, pk, bound if one is model else above) for (_, one, above), pk, *_ in places]
                faults += _faults(message, (Host, host, side), *rows)
    return faults


def _stay_breaks(
    comes: date | None, leaves: date | None, begins: date | None, ends: date | None
) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield which day of a stay is outside of which day of its place, and how to say so."""
    come, leave, begin, end = (
        f"would come on {comes}",
        f"would leave on {leaves}",
        f"begins on {begins}",
        f"ends on {ends}",
    )
    if begins is not None and comes is not None and comes < begins:
        yield STAY[0], STAY[0], (come, begin)
    if begins is not None and leaves is not None and leaves <= begins:
        yield STAY[1], STAY[0], (leave, begin)
    if ends is not None and comes is not None and comes >= ends:
        yield STAY[0], STAY[1], (come, end)
    if ends is not None and leaves is not None and leaves > ends:
        yield STAY[1], STAY[1], (leave, end)


def check_rack_sites(racks: Ids) -> list[Fault]:
    """What feeds, cools and connects a rack is at the rack's site."""
    faults = []
    cooled = Rack.objects.filter(pk__in=among(racks), cooling_node__isnull=False)
    names = ("pk", "slug", "row", "row__hall", "cooling_node", "cooling_node__slug")
    for pk, slug, row, hall, node, node_slug in cooled.exclude(cooling_node__site=F("row__hall__site")).values_list(
        *names
    ):
        message = f"rack {slug} and cooling node {node_slug} are at two sites"
        rows = (Rack, pk, "cooling_node"), (CoolingNode, node, "site"), (Row, row, "hall"), (Hall, hall, "site")
        faults += _faults(message, *rows)
    nodes: Model
    for nodes in (PowerNode, NetworkNode):
        names = ("pk", "slug", "rack", "rack__slug", "rack__row", "rack__row__hall")
        there = nodes._default_manager.filter(rack__in=among(racks)).exclude(site=F("rack__row__hall__site"))
        for pk, slug, rack, rack_slug, row, hall in there.values_list(*names):
            message = f"rack {rack_slug} and {nodes._meta.verbose_name} {slug} are at two sites"
            faults += _faults(message, (nodes, pk, "rack"), *_moved(rack, row, hall))
    return faults


def check_domain_sites(domains: Ids) -> list[Fault]:
    """The hosts of a scale-up domain are at its site."""
    away = Host.objects.filter(scale_up_domain__in=among(domains)).exclude(
        scale_up_domain__site=F("rack__row__hall__site")
    )
    names = ("pk", "slug", "scale_up_domain", "scale_up_domain__slug", "rack", "rack__row", "rack__row__hall")
    faults = []
    for pk, slug, domain, domain_slug, rack, row, hall in away.values_list(*names):
        message = f"host {slug} and scale-up domain {domain_slug} are at two sites"
        rows = (Host, pk, "scale_up_domain"), (ScaleUpDomain, domain, "site")
        faults += _faults(message, *rows, *_moved(rack, row, hall))
    return faults


# --- cards ------------------------------------------------------------------------------------------------------------
def check_card_slots(hosts: Ids) -> list[Fault]:
    """A slot of a host holds one card at a time."""
    rows = list(Card.objects.filter(host__in=among(hosts)).values_list("pk", "serial", "host", "slot", *STAY))
    slot, host = _ints(row[3] for row in rows), _ints(row[2] for row in rows)
    first, last = _firsts(row[4] for row in rows), _lasts(row[5] for row in rows)
    faults = []
    for one, other in _meeting(host, slot, slot + 1, first, last):
        message = f"cards {rows[one][1]} and {rows[other][1]} are both in slot {slot[one]} of their host"
        message += _from_day(max(first[one], first[other]))
        faults += _faults(message, (Card, rows[one][0], "slot"), (Card, rows[other][0], "slot"))
    return faults


def check_card_counts(hosts: Ids) -> list[Fault]:
    """A host never holds more cards than its type has chips."""
    many = Host.objects.filter(pk__in=among(hosts)).annotate(count=Count("cards"))
    names = ("pk", "slug", "host_type", "host_type__chips")
    named = {row[0]: row[1:] for row in many.filter(count__gt=F("host_type__chips")).values_list(*names)}
    rows = list(Card.objects.filter(host__in=among(named)).values_list("pk", "host", *STAY))
    host, first, last = _ints(row[1] for row in rows), _firsts(row[2] for row in rows), _lasts(row[3] for row in rows)
    limits = {pk: chips for pk, (_, _, chips) in named.items()}
    faults = []
    for at, total, day in _over(host, first, last, np.ones(len(rows), dtype=np.int64), limits):
        pk = int(host[at])
        slug, kind, chips = named[pk]
        message = f"host {slug} would hold {total} cards{_from_day(day)}; its type has {chips} chips"
        faults += _faults(message, (Card, rows[at][0], "host"), (Host, pk, "host_type"), (HostType, kind, "chips"))
    return faults


def check_card_chips(hosts: Ids) -> list[Fault]:
    """A card's lot and firmware are of the chip that its host's type has."""
    faults = []
    cards = Card.objects.filter(host__in=among(hosts))
    kinds: tuple[tuple[str, Model], ...] = (("lot", Lot), ("firmware", FirmwareSet))
    for path, model in kinds:
        other = cards.filter(**{f"{path}__isnull": False}).exclude(**{f"{path}__chip": F("host__host_type__chip")})
        names = (path, f"{path}__slug", f"{path}__chip", "host", "host__host_type", "host__host_type__chip")
        for pk, serial, part, slug, chip, host, kind, kind_chip in other.values_list("pk", "serial", *names):
            message = f"card {serial} is in a host with {kind_chip}; its {path} {slug} is of {chip}"
            rows = (Card, pk, path), (model, part, "chip"), (Host, host, "host_type"), (HostType, kind, "chip")
            faults += _faults(message, *rows)
    return faults


# --- trees ------------------------------------------------------------------------------------------------------------
def check_link_sites(link: Model, links: Ids) -> list[Fault]:
    """A node and its source are at one site."""
    node_model: Any = link._meta.get_field("node").related_model
    away = link._default_manager.filter(pk__in=among(links)).exclude(node__site=F("source__site"))
    faults = []
    for pk, node, slug, source, source_slug in away.values_list("pk", "node", "node__slug", "source", "source__slug"):
        message = f"{slug} and its source {source_slug} are at two sites"
        faults += _faults(message, (link, pk, "source"), (node_model, node, "site"), (node_model, source, "site"))
    return faults


def check_link_cycles(link: Model, sites: Ids) -> list[Fault]:
    """On no day does a node draw on itself, through whatever sources."""
    names = ("pk", "node", "source", *STAY, "node__slug")
    rows = list(link._default_manager.filter(node__site__in=among(sites)).values_list(*names))
    if not rows:
        return []
    node, source = _ints(row[1] for row in rows), _ints(row[2] for row in rows)
    first, last = _firsts(row[3] for row in rows), _lasts(row[4] for row in rows)
    knotted = _in_cycles(node, source)
    faults: dict[int, Fault] = {}
    for day in np.unique(first[knotted]):
        standing = knotted[(first[knotted] <= day) & (day < last[knotted])]
        cycle = standing[_in_cycles(node[standing], source[standing])]
        names_in = " and ".join(sorted({rows[at][5] for at in cycle})[:8])
        for at in cycle:
            message = f"{names_in} would draw on one another in a circle{_from_day(day)}"
            faults.setdefault(rows[at][0], Fault(link, rows[at][0], "source", message))
    return list(faults.values())


def _in_cycles(node: Ints, source: Ints) -> Ints:
    """Return the positions of the links that lie on a cycle: both ends in one strongly connected part."""
    if not len(node):
        return np.zeros(0, dtype=np.int64)
    nodes, at = np.unique(np.concatenate([node, source]), return_inverse=True)
    one, other = at[: len(node)], at[len(node) :]
    graph = coo_array((np.ones(len(node)), (one, other)), shape=(len(nodes), len(nodes)))
    _, part = connected_components(graph, directed=True, connection="strong")
    return np.flatnonzero(part[one] == part[other])


def check_feed_sources(links: Ids) -> list[Fault]:
    """A feed of a rack is nobody's source."""
    below = PowerLink.objects.filter(pk__in=among(links), source__kind=PowerNode.Kind.FEED)
    faults = []
    for pk, node, source, slug in below.values_list("pk", "node__slug", "source", "source__slug"):
        message = f"{node} would draw on {slug}, which is the feed of a rack"
        faults += _faults(message, (PowerLink, pk, "source"), (PowerNode, source, "kind"))
    return faults


# --- orders and deliveries --------------------------------------------------------------------------------------------
def check_retired_types(kinds: Ids) -> list[Fault]:
    """Nothing is ordered, and nothing expected, of a host type from the day on which it is retired."""
    faults = []
    dated: tuple[tuple[Model, str], ...] = ((Order, "ordered_on"), (Delivery, "expected_on"))
    for model, day_name in dated:
        late = model._default_manager.filter(
            host_type__in=among(kinds), **{f"{day_name}__gte": F("host_type__out_of_service_on")}
        )
        names = ("pk", "slug", day_name, "host_type", "host_type__slug", "host_type__out_of_service_on")
        for pk, slug, day, kind, kind_slug, end in late.values_list(*names):
            message = f"{model._meta.verbose_name} {slug} is of {day}; host type {kind_slug} ends on {end}"
            faults += _faults(message, (model, pk, day_name), (HostType, kind, "out_of_service_on"))
    return faults


def check_order_types(orders: Ids) -> list[Fault]:
    """A delivery brings what its order is for."""
    other = Delivery.objects.filter(order__in=among(orders)).exclude(host_type=F("order__host_type"))
    names = ("pk", "slug", "host_type__slug", "order", "order__slug", "order__host_type__slug")
    faults = []
    for pk, slug, kind, order, order_slug, order_kind in other.values_list(*names):
        message = f"delivery {slug} brings {kind}; order {order_slug} is for {order_kind}"
        faults += _faults(message, (Delivery, pk, "host_type"), (Order, order, "host_type"))
    return faults


def check_order_quantities(orders: Ids) -> list[Fault]:
    """The deliveries of an order never add up to more than it."""
    over = (
        Order.objects.filter(pk__in=among(orders))
        .annotate(total=Sum("deliveries__quantity"))
        .filter(total__gt=F("quantity"))
    )
    totals = {row[0]: row[1:] for row in over.values_list("pk", "slug", "total", "quantity")}
    faults = []
    for pk, order in Delivery.objects.filter(order__in=among(totals)).values_list("pk", "order"):
        slug, total, quantity = totals[order]
        message = f"the deliveries of order {slug} would bring {total} hosts; it is for {quantity}"
        faults += _faults(message, (Delivery, pk, "quantity"), (Order, order, "quantity"))
    return faults


def check_delivery_sites(sites: Ids) -> list[Fault]:
    """A delivery goes to a site that is there on the day on which it is expected."""
    late = Delivery.objects.filter(site__in=among(sites), expected_on__gte=F("site__out_of_service_on"))
    faults = []
    names = ("pk", "slug", "expected_on", "site", "site__slug", "site__out_of_service_on")
    for pk, slug, day, site, site_slug, end in late.values_list(*names):
        message = f"delivery {slug} is expected on {day}; site {site_slug} is gone from {end}"
        faults += _faults(message, (Delivery, pk, "expected_on"), (Site, site, "out_of_service_on"))
    return faults


# --- services ---------------------------------------------------------------------------------------------------------
def check_placement_types(hosts: Ids) -> list[Fault]:
    """A deployment runs on hosts of its type."""
    other = Placement.objects.filter(host__in=among(hosts)).exclude(host__host_type=F("deployment__host_type"))
    names = ("host", "host__slug", "host__host_type__slug", "deployment", "deployment__slug")
    faults = []
    for pk, host, slug, kind, deployment, name in other.values_list("pk", *names):
        message = f"host {slug} is a {kind}, and deployment {name} is for another type"
        rows = (Placement, pk, "host"), (Host, host, "host_type"), (Deployment, deployment, "host_type")
        faults += _faults(message, *rows)
    return faults


def check_placement_sites(hosts: Ids) -> list[Fault]:
    """A deployment runs on hosts at the site of its endpoint."""
    away = Placement.objects.filter(host__in=among(hosts)).exclude(
        deployment__endpoint__site=F("host__rack__row__hall__site")
    )
    names = ("host", "host__slug", "host__rack", "host__rack__row", "host__rack__row__hall")
    served = ("deployment", "deployment__endpoint", "deployment__endpoint__slug")
    faults = []
    for pk, host, slug, rack, row, hall, deployment, endpoint, name in away.values_list("pk", *names, *served):
        message = f"host {slug} and endpoint {name} are at two sites"
        rows = (Placement, pk, "host"), (Host, host, "rack"), (Deployment, deployment, "endpoint")
        faults += _faults(message, *rows, (Endpoint, endpoint, "site"), *_moved(rack, row, hall))
    return faults


class _Part(NamedTuple):
    """Chips of a host that a placement holds for a time."""

    placement: int
    host: int
    deployment: int
    first: int
    last: int
    chips: int


def check_placement_chips(hosts: Ids) -> list[Fault]:
    """The replicas on a host never need more chips than it has.

    A replica that spans the hosts of a unit takes an equal share of each of those that are there, and never more than
    a whole host: a unit that is not complete yet, or not any more, is no fault of the hosts that it has.
    """
    names = ("pk", "slug", "host_type", "host_type__chips")
    named = {row[0]: row[1:] for row in Host.objects.filter(pk__in=among(hosts)).values_list(*names)}
    limits = {pk: chips for pk, (_, _, chips) in named.items()}
    parts = [*_whole_parts(hosts), *_unit_parts(limits)]
    host, first, last, amount = (_ints(part[at] for part in parts) for at in (1, 3, 4, 5))
    faults = []
    for at, total, day in _over(host, first, last, amount, limits):
        part = parts[at]
        slug, kind, chips = named[part.host]
        message = f"replicas on host {slug} would need {total} chips{_from_day(day)}; it has {chips}"
        rows = (Placement, part.placement, "replicas"), (Deployment, part.deployment, "replica_chips")
        faults += _faults(message, *rows, (Host, part.host, "host_type"), (HostType, kind, "chips"))
    return faults


def _whole_parts(hosts: Ids) -> Iterator[_Part]:
    names = ("pk", "host", "deployment", *STAY, "replicas", "deployment__replica_chips")
    rows = Placement.objects.filter(host__in=among(hosts), unit__isnull=True).values_list(*names)
    for pk, host, deployment, begins, ends, replicas, chips in rows:
        yield _Part(pk, host, deployment, _first(begins), _last(ends), replicas * chips)


def _unit_parts(limits: Mapping[int, int]) -> Iterator[_Part]:
    """Yield the shares of replicas that span hosts: each time that a host joins or leaves, the others change theirs."""
    here = Placement.objects.filter(host__in=among(limits), unit__isnull=False)
    names = ("pk", "host", "deployment", *STAY, "unit", "deployment__replica_chips")
    units: dict[tuple[int, int], list[tuple[Any, ...]]] = defaultdict(list)
    for row in Placement.objects.filter(deployment__in=here.values("deployment"), unit__isnull=False).values_list(
        *names
    ):
        units[row[2], row[5]].append((*row[:3], _first(row[3]), _last(row[4]), row[6]))
    for members in units.values():
        if not any(member[1] in limits for member in members):
            continue
        for begin, end in pairwise(sorted({day for member in members for day in member[3:5]})):
            there = [member for member in members if member[3] <= begin < member[4]]
            for pk, host, deployment, _, _, chips in there:
                if host in limits:
                    yield _Part(pk, host, deployment, begin, end, min(ceil(chips / len(there)), limits[host]))


def check_endpoint_shares(services: Ids) -> list[Fault]:
    """The shares of a service's endpoints never add up to more than all of its traffic."""
    names = ("pk", "service", "service__slug", *STAY, "share_ratio")
    rows = list(Endpoint.objects.filter(service__in=among(services)).values_list(*names))
    service, first, last = (
        _ints(row[1] for row in rows),
        _firsts(row[3] for row in rows),
        _lasts(row[4] for row in rows),
    )
    shares = np.array([row[5] for row in rows], dtype=np.float64)
    faults = []
    for at, _, day in _over(service, first, last, shares, dict.fromkeys(services, WHOLE)):  # some may be hidden: no sum
        message = f"the shares of the endpoints of service {rows[at][2]} would add up to more than 1{_from_day(day)}"
        faults += _faults(message, (Endpoint, rows[at][0], "share_ratio"))
    return faults


# --- what the checks stand on -----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Hosts:
    """Hosts of some racks as columns; a host without a place has position 0."""

    id: Ints
    slug: NDArray[np.object_]
    rack: Ints
    kind: Ints
    position_u: Ints
    face: NDArray[np.object_]
    first: Ints
    last: Ints
    height_u: Ints
    deep: NDArray[np.bool_]

    @classmethod
    def of(cls, racks: Ids) -> "_Hosts":
        """Read the hosts of some racks."""
        names = ("pk", "slug", "rack_id", "host_type_id", "position_u", "face", *STAY)
        rows = list(Host.objects.filter(rack__in=among(racks)).order_by().values_list(*names))
        types = {row[0]: row[1:] for row in HostType.objects.values_list("pk", "height_u", "full_depth")}
        return cls(
            id=_ints(row[0] for row in rows),
            slug=np.array([row[1] for row in rows], dtype=object),
            rack=_ints(row[2] for row in rows),
            kind=_ints(row[3] for row in rows),
            position_u=_ints(row[4] or 0 for row in rows),
            face=np.array([row[5] for row in rows], dtype=object),
            first=_firsts(row[6] for row in rows),
            last=_lasts(row[7] for row in rows),
            height_u=_ints(types[row[3]][0] for row in rows),
            deep=np.array([types[row[3]][1] for row in rows], dtype=bool),
        )

    def where(self, mask: NDArray[np.bool_]) -> "_Hosts":
        """Return those that a mask names."""
        return _Hosts(**{name: column[mask] for name, column in vars(self).items()})

    def faces_meet(self, one: Ints, other: Ints) -> NDArray[np.bool_]:
        """Whether two hosts need the same face."""
        return self.deep[one] | self.deep[other] | (self.face[one] == self.face[other]).astype(bool)


def _meeting(
    group: Ints,
    low: Ints,
    high: Ints,
    first: Ints,
    last: Ints,
    also: Callable[[Ints, Ints], NDArray[np.bool_]] | None = None,
) -> list[tuple[int, int]]:
    """Return pairs of one group whose spans [low, high) and stays [first, last) overlap, up to `FAULTS_MOST` and some.

    Sorted by group and low end, those that a span can meet follow it without a gap: each round compares every span
    with its next neighbour but k, and drops those that this one was too far for.
    """
    order = np.lexsort((low, group))
    at, k = np.arange(len(order)), 1
    pairs: list[tuple[int, int]] = []
    while len(at) and len(pairs) < FAULTS_MOST:
        at = at[at + k < len(order)]
        one, other = order[at], order[at + k]
        near = (group[one] == group[other]) & (low[other] < high[one])
        at, one, other = at[near], one[near], other[near]
        meet = (first[one] < last[other]) & (first[other] < last[one])
        if also is not None:
            meet &= also(one, other)
        pairs += zip(one[meet].tolist(), other[meet].tolist(), strict=True)
        k += 1
    return pairs


def _over(
    group: Ints, first: Ints, last: Ints, amount: NDArray[Any], limits: Mapping[int, float]
) -> Iterator[tuple[int, Any, int]]:
    """Yield what stands in a group on a day on which their sum is above its limit: position, sum, the first such day.

    On a day on which one leaves and another comes, the one has left.
    """
    if not len(group):
        return
    groups, days = np.concatenate([group, group]), np.concatenate([first, last])
    order = np.lexsort((days, groups))
    groups, days, totals = groups[order], days[order], np.cumsum(np.concatenate([amount, -amount])[order])
    settled = np.r_[(groups[1:] != groups[:-1]) | (days[1:] != days[:-1]), True]  # all that happens on a day has
    groups, days, totals = groups[settled], days[settled], totals[settled]
    known, at = np.unique(groups, return_inverse=True)
    steps: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for step in np.flatnonzero(totals > np.array([limits[int(one)] for one in known])[at]):
        steps[int(groups[step])].append((int(days[step]), totals[step].item()))
    for item in np.flatnonzero(np.isin(group, list(steps))):
        there = ((day, total) for day, total in steps[int(group[item])] if first[item] <= day < last[item])
        for day, total in islice(there, 1):
            yield int(item), total, day


def _faults(message: str, *rows: tuple[Model, Any, str]) -> list[Fault]:
    return [Fault(model, int(pk), field, message) for model, pk, field in rows]


def _moved(rack: int, row: int, hall: int) -> tuple[tuple[Model, int, str], ...]:
    return (Rack, rack, "row"), (Row, row, "hall"), (Hall, hall, "site")


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _first(day: date | None) -> int:
    return OPEN if day is None else day.toordinal()


def _last(day: date | None) -> int:
    return EVER if day is None else day.toordinal()


def _firsts(days: Iterable[date | None]) -> Ints:
    return _ints(map(_first, days))


def _lasts(days: Iterable[date | None]) -> Ints:
    return _ints(map(_last, days))


def _from_day(day: int) -> str:
    return "" if day == OPEN else f" on {date.fromordinal(int(day))}"
