"""Pages of the trees over the racks: power, cooling and network of a site, and what is lost with any node or place."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from dashboard import losses, redundancy, supplies
from dashboard.fleet_forms import TREES as TREE_WORDS
from dashboard.fleet_forms import FailureForm
from dashboard.fleet_views import Asked, asked_of, render_on, site_day, site_seen, way
from dashboard.limits import SiteDay
from dashboard.links import Crumb, list_url, row_url
from dashboard.power_drawings import tree_draw
from dashboard.views import csv_answer
from fleet.domains import TREES, BlastRadius, UnknownNodeError, blast_radius, tree_of
from fleet.failing import failing_entry, failing_find, failing_sites
from fleet.models import PowerNode, Site
from fleet.selectors import in_service
from scenarios.seen import services_seen

LINES_MOST = 60  # of a tree; deeper levels have pages of their own
ROWS_MOST = 25  # of the tables beside it; their files have all


@dataclass(frozen=True, slots=True)
class Dark:
    """What single failures of a tree do: the racks lost, and the promises that this breaks, if any were made."""

    rows: list[redundancy.DarkRow]
    promises: redundancy.Promises | None


def _dark(day: SiteDay, site: Site, name: str, lost: Any) -> Dark:
    promises = None
    if name == "power":
        designs = PowerNode.objects.filter(in_service(day.day), site=site).exclude(redundancy="").order_by("slug")
        promises = redundancy.promises_of(day, dict(designs.values_list("slug", "redundancy")), lost)
    return Dark(redundancy.dark_rows(day, name, lost), promises)


@login_required
@require_safe
def tree(request: HttpRequest, slug: str, tree: str) -> HttpResponse:
    """What does every node of a tree of a site bear, now and after the worst single failure?"""
    found, asked, form = site_seen(request, slug), asked_of(request), redundancy.FORMS[tree]
    day = site_day(asked, slug)
    lost = supplies.racks_lost(day.tree(tree))
    nodes, dark = redundancy.tree_nodes(day, tree, lost), _dark(day, found, tree, lost)
    name = request.GET.get("node", "")
    root = next((node for node in nodes if node.name == name), None)
    if name and not root:
        raise Http404(f"There is no {TREE_WORDS[tree]} {name!r} in the tree of this day.")
    crumbs = way(asked.links, found)
    whole_url = asked.links.tree(tree, slug)
    if root:
        crumbs = [*crumbs, Crumb(form.title, whole_url)]
    promises = dark.promises
    return render_on(
        request,
        "tree",
        asked,
        crumbs,
        kept={"node": name} if root else {},
        site=found,
        tree=tree,
        words=form,
        root=root,
        whole_url=whole_url,
        unit=f"k{form.unit}" if form.unit else "",
        tiles=redundancy.tree_tiles(tree, nodes, dark.rows, promises),
        rows=tree_draw(nodes, root=root.key if root else "", most=LINES_MOST),
        caption=f"{form.title} of {found.name} on {asked.day}, {f'below {name}' if root else form.ends}",
        dark=dark.rows[:ROWS_MOST],
        dark_count=len(dark.rows),
        unfed=redundancy.racks_unfed(day, tree),
        promises=promises,
        broken=promises.broken[:ROWS_MOST] if promises else [],
        list_page=list_url(f"{tree}-nodes"),
        others=[(redundancy.FORMS[one].title, asked.links.tree(one, slug)) for one in TREES if one != tree],
    )


@login_required
@require_safe
def tree_csv(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """A table of the page of a tree as CSV, with all its rows."""
    found, asked, tree = site_seen(request, slug), asked_of(request), name.partition("-")[0]
    if tree not in TREES or asked.status != 200:
        raise Http404(f"There is no table {name} of that day.")
    day = site_day(asked, slug)
    dark = _dark(day, found, tree, supplies.racks_lost(day.tree(tree)))
    tables = redundancy.tree_tables(day, tree, dark.rows, dark.promises)
    table = next((table for table in tables if table.name == name), None)
    if table is None:
        raise Http404(f"There is no table {name}.")
    return csv_answer(table.csv(), f"{slug}-{name}-{asked.day}.csv")


@login_required
@require_safe
def failure(request: HttpRequest) -> HttpResponse:
    """What is lost with one node or one place, and what must the rest carry?"""
    asked, is_asked = asked_of(request), "tree" in request.GET or "node" in request.GET
    form = FailureForm(request.GET if is_asked else None, initial={"tree": "power"})
    values: dict[str, Any] = {"status": 400 if is_asked and not form.is_valid() else 200}
    if is_asked and form.is_valid():
        tree, name = form.cleaned_data["tree"], form.cleaned_data["node"].strip()
        found = failing_find(tree, name, request.user)
        if found is None:
            form.add_error("node", f"There is no {TREE_WORDS[tree]} {name!r}.")
            values["status"] = 404
        else:
            values = {"kept": {"tree": tree, "node": name}, **_failure(request, asked, tree, name, found)}
    crumbs = [Crumb("Fleet", asked.links.fleet())]
    return render_on(request, "failure", asked, crumbs, node_form=form, **values)


def _failure(request: HttpRequest, asked: Asked, tree: str, name: str, found: Any) -> dict[str, Any]:
    """Return what a page says about the failure of a node: what is lost, its own load, what others carry then."""
    sites = failing_sites(tree, found)
    lost: list[tuple[SiteDay, BlastRadius]] = []
    missing = ""
    for place in sites:
        day = site_day(asked, place.slug)
        try:
            inner = ("site", place.slug) if tree == "region" else (tree, name)
            lost.append((day, blast_radius(day.snapshot, asked.day, tree=inner[0], node=inner[1])))
        except UnknownNodeError as error:
            missing = str(error)
    values: dict[str, Any] = {
        "title": f"{TREE_WORDS[tree]} {name}",
        "node": found,
        "sites": [(place.name, asked.links.site(place.slug)) for place in sites],
        "row_page": row_url(failing_entry(tree).name, found.pk),
        "missing": missing if not lost else "",
        "is_planned": bool(found.in_service_on and found.in_service_on > asked.day),
    }
    if not lost:
        return values
    values["loss"] = losses.loss_of(lost, services_seen(request.user))
    if tree in TREES:
        day = lost[0][0]
        at = tree_of(day.snapshot, tree).slugs.index(name)
        values["figures"] = supplies.figures_of(day, tree, at)
        values["title"] = values["figures"]["title"]
        values["carry"] = supplies.carry_rows(day, tree, at) if tree != "network" else None
        values["tree_page"] = asked.links.tree(tree, sites[0].slug)
        values["tree_title"] = redundancy.FORMS[tree].title.lower()
    return values
