"""What the pages of the fleet show, over REST: how many more fit, loads, what is lost with a node, what comes and goes.

Read only. Every answer is about one day, or one window, and about what the account sees.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from django.core.exceptions import ValidationError as ValuesError
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from api.auth import Right
from api.filters import KINDS, PAGE, Param, StrictPages
from api.resources import Door, etag_is_named, user_of
from api.schema import IF_NONE_MATCH
from fleet.access import rows_seen
from fleet.days import LIMIT_UNITS, FleetDay, loads_kept, node_figures
from fleet.domains import BlastRadius, BoolArray, UnknownNodeError, blast_radius, racks_of_place
from fleet.failing import failing_find, failing_sites
from fleet.fits import Fit, hosts_place
from fleet.happenings import HAPPENINGS, Happening, happenings_seen
from fleet.inventory import INVENTORY
from fleet.loads import COOLING_NODE, LIMITS
from fleet.models import HostType, Site
from fleet.models.versioned import check_day
from fleet.room import Room
from fleet.selectors import snapshot_cached
from fleet.snapshot import FleetSnapshot
from scenarios.demand import month_add
from scenarios.engine import ENGINE_VERSION

MONTHS_BEFORE, MONTHS_AFTER, MONTHS_MOST = 6, 24, 120  # of a timeline
STOPS_MOST = 20  # of a host type
HOSTS_MOST = 1_000_000  # to be placed at once

SAME = OpenApiResponse(description="Nothing has changed.")
TEXTS = {
    "at": "Day that it is about; default: today, in UTC.",
    "region": "Slug of a region.",
    "site": "Slug of a site.",
    "hall": "Key of a hall, as dc01/h1.",
    "row": "Key of a row of racks, as dc01/h1/a.",
    "rack": "Slug of a rack.",
    "host": "Slug of a host.",
    "scale_up_domain": "Slug of a scale-up domain.",
    "power_node": "Slug of a node of the power tree.",
    "cooling_node": "Slug of a node of the cooling tree.",
    "network_node": "Slug of a switch.",
    "host_type": "Slug of a host type; repeat for several, default: every one.",
    "hosts": "So many hosts of the one type are placed: `placing` names the racks.",
    "from": f"First day; default: of the month {MONTHS_BEFORE} months ago.",
    "to": f"Last day, {MONTHS_MOST} months on at most; default: the first of the month {MONTHS_AFTER} months ahead.",
}
SORTS = ("-share_ratio", "share_ratio", "slug", "-slug")
KIND_OF = {**dict.fromkeys(("at", "from", "to"), "date"), "hosts": "integer"}
PARAMS = {name: Param(name, name, KIND_OF.get(name, "text")) for name in TEXTS}
PARAMS["ordering"] = Param("ordering", "ordering", "text", choices=SORTS)
SCOPES = ("region", "site", "hall", "row", "rack")
FAILING = {
    "power_node": "power",
    "cooling_node": "cooling",
    "network_node": "network",
    "scale_up_domain": "scale-up-domain",
    **{name: name for name in (*SCOPES, "host")},
}
"""What may fail: the name of its parameter, and the tree or kind of place."""


def described(*names: str, paged: bool = False) -> list[OpenApiParameter]:
    """Return parameters as the schema shows them, with the header that all have in common."""
    found = [OpenApiParameter(name, dict(KINDS[PARAMS[name].kind].schema), description=TEXTS[name]) for name in names]
    return [*found, *(PAGE if paged else ()), IF_NONE_MATCH]


def paged_of(name: str, row: type[serializers.Serializer[Any]], **more: Any) -> Any:
    """Describe a page of rows."""
    link = serializers.URLField(allow_null=True)
    fields: dict[str, Any] = {"count": serializers.IntegerField(), "next": link, "previous": link}
    return inline_serializer(name, {**more, **fields, "results": row(many=True)})


# --- what is asked ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Scope:
    """Where: the sites, and within one the place of a kind, or all of it."""

    sites: tuple[str, ...]
    kind: str = ""
    key: str = ""

    def racks(self, snapshot: FleetSnapshot) -> BoolArray:
        """Return which racks of a site are meant, bool[R]."""
        if self.kind in {"", "region", "site"}:
            return np.ones(len(snapshot.rack_slugs), dtype=bool)
        try:
            return racks_of_place(snapshot, self.kind, self.key)
        except UnknownNodeError:  # it is there, but no rack stands in it on that day
            return np.zeros(len(snapshot.rack_slugs), dtype=bool)


class PlaceView(Door):
    """A question about one day of the fleet: its parameters are read strictly, its answer has an ETag."""

    rights = {"get": Right("read")}
    buckets = {"get": "read"}
    own: tuple[str, ...] = ()
    is_paged = False
    sorts = False

    def allowed_params(self) -> Iterable[str]:
        """Return the parameters of the question."""
        return (*self.own, *(("limit", "offset") if self.is_paged else ()), *(("ordering",) if self.sorts else ()))

    def one(self, name: str) -> Any:
        """Return a parameter that is given once at most, or None."""
        raws = self.request.query_params.getlist(name)
        if len(raws) > 1:
            raise ValidationError({name: ["Only one value is taken."]})
        return PARAMS[name].read(raws[0]) if raws else None

    def day(self, name: str, default: date) -> date:
        """Return a day within reach."""
        found: date = self.one(name) or default
        try:
            check_day(found)
        except ValuesError as error:
            raise ValidationError({name: error.messages}) from None
        return found

    @cached_property
    def at(self) -> date:
        """The day that is asked about."""
        return self.day("at", timezone.now().date())

    def order(self) -> str:
        """Return how rows are sorted."""
        return str(self.one("ordering") or SORTS[0])

    def named(self, names: Iterable[str], *, required: bool = False) -> tuple[str, str]:
        """Return the name and the value of the one parameter of some that is given; two empty texts for none."""
        names = list(names)
        given = {name: str(self.one(name)) for name in names if name in self.request.query_params}
        if len(given) > 1:
            text = f"One place is asked about, not {len(given)}: {', '.join(given)}."
            raise ValidationError({name: [text] for name in given})
        if required and not given:
            raise ValidationError({names[0]: [f"One of these is needed: {', '.join(names)}."]})
        return next(iter(given.items()), ("", ""))

    def place(self, name: str, key: str) -> Any:
        """Return the row that a parameter names, as far as the account sees it."""
        found = failing_find(FAILING[name], key, user_of(self.request))
        if found is None:
            raise ValidationError({name: [f"There is no {name.replace('_', ' ')} {key!r}."]})
        return found

    def scope(self) -> Scope:
        """Return the place that is asked about; without one, all that the account sees."""
        name, key = self.named([name for name in SCOPES if name in self.own])
        if not name:
            sites = rows_seen(Site.objects.order_by("slug"), user_of(self.request))
            return Scope(tuple(sites.values_list("slug", flat=True)))
        sites_there = failing_sites(name, self.place(name, key))
        return Scope(tuple(site.slug for site in sites_there), name, key)

    def answer(self, sites: Sequence[str], make: Callable[[str], Response]) -> Response:
        """Return the answer for some sites, unless the asker has it: `make` is given the digest of what it is from."""
        digest = self._digest(sites)
        asked = sorted((name, self.request.query_params.getlist(name)) for name in self.request.query_params)
        parts = [ENGINE_VERSION, digest, self.at.isoformat(), self.request.get_host(), self.request.path, asked]
        return self.answer_tagged(orjson.dumps(parts), lambda: make(digest))

    def answer_tagged(self, content: bytes, make: Callable[[], Response]) -> Response:
        """Return an answer with the ETag of what it is made of."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if etag_is_named(etag, self.request.headers.get("If-None-Match", "")):
            return Response(status=304, headers={"ETag": etag})
        response = make()
        response["ETag"] = etag
        return response

    def snapshot(self, site: str) -> FleetSnapshot:
        """Return a site on the day asked about, the same one for as long as the request lasts."""
        if site not in self._snapshots:
            self._snapshots[site] = snapshot_cached(self.at, site)
        return self._snapshots[site]

    @cached_property
    def _snapshots(self) -> dict[str, FleetSnapshot]:
        return {}

    def fleet_day(self, site: str) -> FleetDay:
        """Return a site on the day asked about with its loads."""
        snapshot = self.snapshot(site)
        return FleetDay(snapshot, loads_kept(snapshot), self.at)

    def _digest(self, sites: Sequence[str]) -> str:
        """Return the digest of the snapshots of some sites: of one, its own."""
        digests = [self.snapshot(site).digest for site in sites]
        return digests[0] if len(digests) == 1 else hashlib.sha256(orjson.dumps([*sites, *digests])).hexdigest()

    def page(self, rows: Sequence[Any], shown: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Return one page of rows with its place."""
        pages = StrictPages()
        page = pages.paginate_queryset(rows, self.request, self)
        data: dict[str, Any] = pages.get_paginated_response([shown(row) for row in page]).data
        return data


def finite(value: float | None) -> float | None:
    """Return a number as JSON has it: what has no end is null."""
    return None if value is None or not math.isfinite(value) else float(value)


# --- how many more fit ------------------------------------------------------------------------------------------------
class FitStopSerializer(serializers.Serializer[Any]):
    """What stops one more host of a type, in so many racks."""

    site = serializers.CharField()
    constraint = serializers.CharField()
    object = serializers.CharField(help_text="A node that racks share, or the rack or feed that comes closest.")
    failure = serializers.CharField(allow_blank=True, help_text="Node whose loss it takes; empty: none is needed.")
    racks = serializers.IntegerField(help_text="[-]")


class PlacingSerializer(serializers.Serializer[Any]):
    """Hosts that go into one rack."""

    site = serializers.CharField()
    rack = serializers.CharField()
    hosts = serializers.IntegerField(help_text="[-]")


class FitsRowSerializer(serializers.Serializer[Any]):
    """The room for hosts of one type alone."""

    host_type = serializers.CharField()
    fits = serializers.IntegerField(help_text="Hosts that fit for good, under every single failure. [-]")
    racks = serializers.IntegerField(help_text="Racks looked at, closed ones left out. [-]")
    stops = FitStopSerializer(many=True, help_text=f"The most racks first, {STOPS_MOST} at most.")
    stops_left_out = serializers.IntegerField(help_text="Stops beyond those. [-]")
    placing = PlacingSerializer(
        many=True,
        allow_null=True,
        help_text="Where `hosts` go, fewer if fewer fit. Null: not asked for.",
    )


class FitsSerializer(serializers.Serializer[Any]):
    """How many more hosts fit, type by type."""

    at = serializers.DateField()
    snapshot_digest = serializers.CharField()
    results = FitsRowSerializer(many=True)


class FitsView(PlaceView):
    """How many more hosts of a type fit, within every limit and after any single failure, and what stops the next."""

    buckets = {"get": "run"}  # it costs as much as a small run
    own = ("host_type", "hosts", *SCOPES, "at")

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "host_type", {"type": "array", "items": KINDS["text"].schema}, description=TEXTS["host_type"]
            ),
            OpenApiParameter(
                "hosts", {"type": "integer", "minimum": 1, "maximum": HOSTS_MOST}, description=TEXTS["hosts"]
            ),
            *described(*SCOPES, "at"),
        ],
        responses={200: FitsSerializer, 304: SAME},
    )
    def get(self, request: Request) -> Response:
        """Answer at once, without a run; each type is asked about alone."""
        scope, kinds = self.scope(), self._kinds()
        wanted = self._wanted(kinds)
        return self.answer(scope.sites, lambda digest: Response(self._fits(scope, kinds, wanted, digest)))

    def _kinds(self) -> list[str]:
        asked = [PARAMS["host_type"].read(raw) for raw in self.request.query_params.getlist("host_type")]
        known = list(HostType.objects.order_by("slug").values_list("slug", flat=True))
        for slug in asked:
            if slug not in known:
                raise ValidationError({"host_type": [f"There is no host type {slug!r}."]})
        return [slug for slug in known if slug in asked or not asked]

    def _wanted(self, kinds: Sequence[str]) -> int | None:
        """Return how many hosts are to be placed, or None."""
        wanted: int | None = self.one("hosts")
        if wanted is not None and not 1 <= wanted <= HOSTS_MOST:
            raise ValidationError({"hosts": [f"A number from 1 to {HOSTS_MOST} is needed."]})
        if wanted is not None and len(self.request.query_params.getlist("host_type")) != 1:
            raise ValidationError({"hosts": ["Hosts of one host_type are placed: name it."]})
        return wanted

    def _fits(self, scope: Scope, kinds: Sequence[str], wanted: int | None, digest: str) -> dict[str, Any]:
        rows: dict[str, dict[str, Any]] = {
            slug: {"host_type": slug, "fits": 0, "racks": 0, "stops": [], "placing": None if wanted is None else []}
            for slug in kinds
        }
        for site in scope.sites:
            snapshot = self.snapshot(site)
            racks, room = scope.racks(snapshot), Room(snapshot, self.at)
            for kind in snapshot.kinds:
                if kind.slug in rows and racks.any():
                    fit, row = room.fit(kind, racks), rows[kind.slug]
                    if wanted is not None:
                        row["placing"] += placing_dict(site, snapshot, fit, max(0, wanted - row["fits"]))
                    row["fits"] += fit.count
                    row["racks"] += int((racks & snapshot.rack_open(self.at)).sum())
                    row["stops"] += stops_dict(site, fit)
        for row in rows.values():
            row["stops"].sort(key=lambda stop: -stop["racks"])
            row["stops_left_out"] = max(0, len(row["stops"]) - STOPS_MOST)
            del row["stops"][STOPS_MOST:]
        return {"at": self.at, "snapshot_digest": digest, "results": list(rows.values())}


def stops_dict(site: str, fit: Fit) -> list[dict[str, Any]]:
    """Return what stops one more host at a site as JSON values."""
    names = ("constraint", "object", "failure", "racks")
    return [{"site": site, **{name: getattr(stop, name) for name in names}} for stop in fit.stops]


def placing_dict(site: str, snapshot: FleetSnapshot, fit: Fit, wanted: int) -> list[dict[str, Any]]:
    """Return into which racks of a site hosts go, as JSON values."""
    placed = hosts_place(wanted=wanted, room=fit.hosts)
    racks = np.flatnonzero(placed)
    return [{"site": site, "rack": snapshot.rack_slugs[rack], "hosts": int(placed[rack])} for rack in racks]


# --- loads of nodes ---------------------------------------------------------------------------------------------------
def node_serializer(unit: str, symbol: str) -> type[serializers.Serializer[Any]]:
    """Return how a node of a tree is described whose loads have a unit, such as `now_va`."""
    figures = {
        "now": ("Load now, with all hosts at the power to plan with.", False),
        "worst": ("Load after the worst single failure of another node.", False),
        "usable": ("What may be drawn for hours: the rating after derating; null: nobody knows.", True),
        "headroom": ("Usable less worst.", True),
        "stranded": ("Headroom that cannot be taken, at least.", False),
    }
    fields: dict[str, Any] = {
        f"{name}_{unit}": serializers.FloatField(allow_null=may_lack, help_text=f"{text} [{symbol}]")
        for name, (text, may_lack) in figures.items()
    }
    share = serializers.FloatField(allow_null=True, help_text="Worst over usable; null: no limit, or one of 0. [-]")
    why = serializers.ChoiceField(choices=["racks_below", "source"], allow_null=True, help_text="Why it is stranded.")
    words = {name: serializers.CharField() for name in ("slug", "kind", "site")}
    blank = {name: serializers.CharField(allow_blank=True) for name in ("worst_failure", "stranded_by")}
    return type(
        f"{unit.title()}NodeSerializer",
        (serializers.Serializer,),
        {**words, **fields, "share_ratio": share, **blank, "stranded_why": why, "__doc__": "Loads of a node."},
    )


class NodeLoadsView(PlaceView):
    """Loads of the nodes of a tree."""

    tree, unit = "power", "va"
    own = ("region", "site", "at")
    is_paged = sorts = True

    def loads(self) -> Response:
        """Return one page of nodes."""
        scope, order = self.scope(), self.order()
        return self.answer(scope.sites, lambda _: Response(self.page(self._rows(scope, order), lambda row: row)))

    def _rows(self, scope: Scope, order: str) -> list[dict[str, Any]]:
        rows = [self._row(site, node) for site in scope.sites for node in node_figures(self.fleet_day(site), self.tree)]
        rows.sort(key=lambda row: str(row["slug"]), reverse=order == "-slug")
        if "share" in order:
            sign = -1 if order.startswith("-") else 1
            rows.sort(key=lambda row: sign * self._share(row))
        return rows

    def _share(self, row: Mapping[str, Any]) -> float:
        """Return the share that a node is sorted by; load on a limit of nothing is more than any other."""
        if row["share_ratio"] is not None:
            return float(row["share_ratio"])
        return math.inf if row[f"usable_{self.unit}"] == 0 and row[f"worst_{self.unit}"] else -1.0

    def _row(self, site: str, node: Any) -> dict[str, Any]:
        figures = {name: getattr(node, name) for name in ("now", "worst", "usable", "headroom", "stranded")}
        return {
            "slug": node.slug,
            "kind": node.kind,
            "site": site,
            **{f"{name}_{self.unit}": value for name, value in figures.items()},
            "share_ratio": finite(node.share_ratio),
            "worst_failure": node.failure,
            "stranded_why": node.why or None,
            "stranded_by": node.why_node,
        }


SORTED = OpenApiParameter("ordering", str, enum=list(SORTS), default=SORTS[0], description="- turns it round.")


class PowerLoadsView(NodeLoadsView):
    """Loads of the nodes of the power tree, feeds included."""

    @extend_schema(
        parameters=[*described("region", "site", "at", paged=True), SORTED],
        responses={200: paged_of("PowerLoadPage", node_serializer("va", "VA")), 304: SAME},
    )
    def get(self, request: Request) -> Response:
        """Show every node: load now and after the worst single failure, what is left, and what of it is stranded."""
        return self.loads()


class CoolingLoadsView(NodeLoadsView):
    """Loads of the nodes of the cooling tree."""

    tree, unit = "cooling", "w"

    @extend_schema(
        parameters=[*described("region", "site", "at", paged=True), SORTED],
        responses={200: paged_of("CoolingLoadPage", node_serializer("w", "W")), 304: SAME},
    )
    def get(self, request: Request) -> Response:
        """Show every node: load now and after the worst single failure, what is left, and what of it is stranded."""
        return self.loads()


# --- what is lost -----------------------------------------------------------------------------------------------------
class TierLossSerializer(serializers.Serializer[Any]):
    """What one tier serves, and what of it is lost."""

    tier = serializers.CharField()
    replicas_before = serializers.IntegerField(help_text="[-]")
    replicas_lost = serializers.IntegerField(help_text="[-]")
    before_tok_s = serializers.FloatField(help_text="[tok/s]")
    lost_tok_s = serializers.FloatField(help_text="[tok/s]")


class RunsOnSerializer(serializers.Serializer[Any]):
    """What hangs on the node too, and runs on by another one."""

    racks = serializers.IntegerField(help_text="[-]")
    hosts = serializers.IntegerField(help_text="[-]")
    power_w = serializers.FloatField(help_text="Power to plan with. [W]")


class LostHostSerializer(serializers.Serializer[Any]):
    """A host that is lost."""

    slug = serializers.CharField()
    host_type = serializers.CharField()
    rack = serializers.CharField()
    row = serializers.CharField()
    site = serializers.CharField()


LOSS_FIELDS: Mapping[str, Any] = {
    "at": serializers.DateField(),
    "tree": serializers.CharField(help_text="Which tree, or what kind of place."),
    "node": serializers.CharField(),
    "snapshot_digest": serializers.CharField(),
    "racks_lost": serializers.IntegerField(help_text="[-]"),
    "hosts_lost": serializers.IntegerField(help_text="Those in maintenance included. [-]"),
    "power_lost_w": serializers.FloatField(help_text="Power to plan with of the hosts lost. [W]"),
    "replicas_before": serializers.IntegerField(help_text="At the sites concerned. [-]"),
    "replicas_lost": serializers.IntegerField(help_text="[-]"),
    "tiers": TierLossSerializer(many=True),
    "runs_on": RunsOnSerializer(),
}


class BlastRadiusView(PlaceView):
    """What is lost with one node of a tree or with one place."""

    own = (*FAILING, "at")
    is_paged = True

    @extend_schema(
        parameters=described(*FAILING, "at", paged=True),
        responses={200: paged_of("BlastRadiusPage", LostHostSerializer, **LOSS_FIELDS), 304: SAME},
    )
    def get(self, request: Request) -> Response:
        """Show racks, hosts, replicas and output that go, what runs on, and page by page the hosts lost."""
        name, key = self.named(FAILING, required=True)
        found = self.place(name, key)
        if not found.stands_on(self.at):
            raise ValidationError({name: [f"{key!r} does not stand on {self.at}."]})
        sites = tuple(site.slug for site in failing_sites(FAILING[name], found))
        return self.answer(sites, lambda digest: Response(self._loss(FAILING[name], key, sites, digest)))

    def _loss(self, tree: str, key: str, sites: Sequence[str], digest: str) -> dict[str, Any]:
        lost = [one for site in sites if (one := self._lost(tree, key, site))]
        hosts = [(snapshot, host) for snapshot, radius in lost for host in radius.hosts.tolist()]
        return {
            "at": self.at,
            "tree": tree,
            "node": key,
            "snapshot_digest": digest,
            "racks_lost": sum(len(radius.racks) for _, radius in lost),
            "hosts_lost": len(hosts),
            "power_lost_w": sum(float(hosts_w(snapshot, radius.hosts)) for snapshot, radius in lost),
            "replicas_before": sum(int(radius.replicas_before.sum()) for _, radius in lost),
            "replicas_lost": sum(int(radius.replicas_lost.sum()) for _, radius in lost),
            "tiers": tiers_dict(lost),
            "runs_on": self._runs_on(lost),
            **self.page(hosts, lambda pair: host_dict(*pair)),
        }

    def _lost(self, tree: str, key: str, site: str) -> tuple[FleetSnapshot, BlastRadius] | None:
        """Return what is lost at a site; nothing, if what fails is not in the fleet of that day."""
        snapshot = self.snapshot(site)
        kind, node = ("site", site) if tree == "region" else (tree, key)
        try:
            return snapshot, blast_radius(snapshot, self.at, tree=kind, node=node)
        except UnknownNodeError:
            return None

    def _runs_on(self, lost: Iterable[tuple[FleetSnapshot, BlastRadius]]) -> dict[str, Any]:
        racks = hosts = 0
        power_w = 0.0
        for snapshot, radius in lost:
            kept = np.flatnonzero(np.isin(snapshot.host_rack, radius.racks_kept) & snapshot.hosts_here(self.at))
            racks, hosts = racks + len(radius.racks_kept), hosts + len(kept)
            power_w += float(hosts_w(snapshot, kept))
        return {"racks": racks, "hosts": hosts, "power_w": power_w}


def hosts_w(snapshot: FleetSnapshot, hosts: Any) -> Any:
    """Return the power to plan with of some hosts. [W]"""
    return snapshot.kind_power_w[snapshot.host_kind[hosts]].sum()


def host_dict(snapshot: FleetSnapshot, host: int) -> dict[str, Any]:
    """Return a host and where it stands."""
    rack = int(snapshot.host_rack[host])
    return {
        "slug": snapshot.host_slugs[host],
        "host_type": snapshot.kinds[snapshot.host_kind[host]].slug,
        "rack": snapshot.rack_slugs[rack],
        "row": snapshot.row_keys[snapshot.rack_row[rack]],
        "site": snapshot.sites[snapshot.rack_site[rack]].slug,
    }


def tiers_dict(lost: Iterable[tuple[FleetSnapshot, BlastRadius]]) -> list[dict[str, Any]]:
    """Return losses by tier over several sites, those tiers that serve anything there."""
    names = ("replicas_before", "replicas_lost", "before_tok_s", "lost_tok_s")
    found: dict[str, dict[str, Any]] = {}
    for _, radius in lost:
        for loss in radius.tiers:
            row = found.setdefault(loss.tier, {"tier": loss.tier, **dict.fromkeys(names, 0)})
            for name in names:
                row[name] += getattr(loss, name)
    return [row for _, row in sorted(found.items()) if row["replicas_before"]]


# --- limits of racks --------------------------------------------------------------------------------------------------
class RackLimitSerializer(serializers.Serializer[Any]):
    """One limit of a rack."""

    limit = serializers.ChoiceField(choices=list(LIMITS))
    unit = serializers.CharField()
    load = serializers.FloatField(help_text="In the unit; of nodes after the worst single failure.")
    most = serializers.FloatField(allow_null=True, help_text="The limit itself; null: none is known.")
    share_ratio = serializers.FloatField(allow_null=True, help_text="Load over it; null: none, or one of 0. [-]")
    node = serializers.CharField(allow_blank=True, help_text="Node that is meant; empty: the rack itself.")
    failure = serializers.CharField(allow_blank=True, help_text="Node whose loss gives that load.")


class RackLoadSerializer(serializers.Serializer[Any]):
    """A rack with every limit that bears on it."""

    slug = serializers.CharField()
    row = serializers.CharField()
    site = serializers.CharField()
    hosts = serializers.IntegerField(help_text="[-]")
    nearest = serializers.CharField(allow_null=True, help_text="The limit that is; null: nothing is loaded.")
    share_ratio = serializers.FloatField(allow_null=True, help_text="Of the nearest limit. [-]")
    limits = RackLimitSerializer(many=True)


class RackLoadsView(PlaceView):
    """How full racks are, and of what."""

    own = (*SCOPES, "at")
    is_paged = sorts = True

    @extend_schema(
        parameters=[*described(*SCOPES, "at", paged=True), SORTED],
        responses={200: paged_of("RackLoadPage", RackLoadSerializer), 304: SAME},
    )
    def get(self, request: Request) -> Response:
        """Show every open rack with its limits, and which of them is nearest."""
        scope, order = self.scope(), self.order()
        return self.answer(scope.sites, lambda _: Response(self.page(self._racks(scope, order), rack_dict)))

    def _racks(self, scope: Scope, order: str) -> list[tuple[FleetDay, int]]:
        found = []
        for site in scope.sites:
            day = self.fleet_day(site)
            racks = np.flatnonzero(scope.racks(day.snapshot) & day.is_open)
            found += [(day, rack) for rack in racks.tolist()]
        found.sort(key=lambda pair: pair[0].snapshot.rack_slugs[pair[1]], reverse=order == "-slug")
        if "share" in order:
            found.sort(key=lambda pair: pair[0].loads.ratio[pair[1]].max(), reverse=order.startswith("-"))
        return found


def rack_dict(pair: tuple[FleetDay, int]) -> dict[str, Any]:
    """Return a rack with its limits as JSON values."""
    day, rack = pair
    nearest, ratio, *_ = day.loads.nearest(np.array([rack]))
    return {
        "slug": day.snapshot.rack_slugs[rack],
        "row": day.snapshot.row_keys[day.snapshot.rack_row[rack]],
        "site": day.snapshot.sites[day.snapshot.rack_site[rack]].slug,
        "hosts": int(day.loads.rack_hosts[rack]),
        "nearest": nearest if ratio > 0 else None,
        "share_ratio": finite(ratio),
        "limits": [limit_dict(day, rack, column, name) for column, name in enumerate(LIMITS)],
    }


def limit_dict(day: FleetDay, rack: int, column: int, name: str) -> dict[str, Any]:
    """Return one limit of a rack as JSON values."""
    node, most = int(day.loads.node[rack, column]), finite(float(day.limit[rack, column]))
    loads = day.tree_loads("cooling" if name == COOLING_NODE else "power")
    failure = int(loads.worst_failure[node]) if node >= 0 else -1
    return {
        "limit": name,
        "unit": LIMIT_UNITS[name],
        "load": float(day.load[rack, column]),
        "most": most,
        "share_ratio": None if most is None else finite(float(day.loads.ratio[rack, column])),
        "node": day.loads.node_slug(name, node),
        "failure": day.loads.node_slug(name, failure),
    }


# --- what comes and goes ----------------------------------------------------------------------------------------------
class ExpectedSerializer(serializers.Serializer[Any]):
    """When something promised will come."""

    p10_on = serializers.DateField()
    p50_on = serializers.DateField()
    p90_on = serializers.DateField()


class HappeningSerializer(serializers.Serializer[Any]):
    """One dated event; empty texts: it is about nothing of the kind."""

    kind = serializers.ChoiceField(choices=list(HAPPENINGS))
    slug = serializers.CharField()
    url = serializers.URLField()
    display = serializers.CharField()
    note = serializers.CharField()
    on = serializers.DateField(help_text="Day written down; of a delivery that has come, the day it came.")
    until = serializers.DateField(allow_null=True, help_text="Last day, if it ends.")
    expected = ExpectedSerializer(
        allow_null=True, help_text="Of a delivery that may be late; null: as promised, come, or cancelled."
    )
    region = serializers.CharField(allow_blank=True)
    site = serializers.CharField(allow_blank=True)
    host_type = serializers.CharField(allow_blank=True)
    chip = serializers.CharField(allow_blank=True)
    quantity = serializers.IntegerField(allow_null=True, help_text="Hosts. [-]")


class TimelineView(PlaceView):
    """Orders, deliveries, retirements, policy events and firmware baselines, in time."""

    own = ("site", "from", "to")
    is_paged = True

    @extend_schema(
        parameters=described("site", "from", "to", paged=True),
        responses={200: paged_of("TimelinePage", HappeningSerializer), 304: SAME},
    )
    def get(self, request: Request) -> Response:
        """Show what touches the days from `from` to `to`; rules for everywhere are everywhere."""
        first, last = self._window()
        _, key = self.named(["site"])
        site = self.place("site", key) if key else None
        found = happenings_seen(user_of(request), first, last, site)
        data = self.page(found, self._row)
        return self.answer_tagged(orjson.dumps(data), lambda: Response(data))

    def _window(self) -> tuple[date, date]:
        today = timezone.now().date()
        first = self.day("from", month_add(today, -MONTHS_BEFORE))
        last = self.day("to", month_add(today, MONTHS_AFTER))
        if last < first:
            raise ValidationError({"to": [f"{last} comes before the first day, {first}."]})
        if month_add(first, MONTHS_MOST) < last.replace(day=1):
            raise ValidationError({"to": [f"At most {MONTHS_MOST} months are shown at once."]})
        return first, last

    def _row(self, one: Happening) -> dict[str, Any]:
        view = f"api:{INVENTORY[one.name].kind}-detail"
        names = ("region", "site", "host_type", "chip", "quantity")
        return {
            "kind": one.kind,
            "slug": one.slug,
            "url": reverse(view, kwargs={"pk": one.pk}, request=self.request),
            "display": one.label,
            "note": one.note,
            "on": one.day,
            "until": one.until,
            "expected": dict(zip(("p10_on", "p50_on", "p90_on"), one.slip, strict=True)) if one.slip else None,
            **{name: getattr(one, name) for name in names},
        }
