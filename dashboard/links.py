"""Addresses of the fleet's pages on one day: a link keeps the day that its page shows."""

from dataclasses import dataclass
from datetime import date

from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses on a day, from what places and nodes are called."""

    day: date

    def fleet(self) -> str:
        """Return the page of all sites."""
        return self._page("fleet")

    def site(self, slug: str) -> str:
        """Return the page of a site."""
        return self._page("site", slug)

    def tree(self, tree: str, site: str, **values: str) -> str:
        """Return the page of a site's `power`, `cooling` or `network` tree; `node` names whose part of it."""
        return self._page(tree, site, **values)

    def hall(self, site: str, hall: str, **values: str) -> str:
        """Return the floor plan of a hall; `metric` names what it shows."""
        return self._page("hall", site, hall, **values)

    def row(self, key: str) -> str:
        """Return the page of a row of racks, known as `dc01/h1/a`."""
        return self._page("row", *key.split("/"))

    def rack(self, slug: str) -> str:
        """Return the page of a rack."""
        return self._page("rack", slug)

    def host(self, slug: str) -> str:
        """Return the page of a host."""
        return self._page("host", slug)

    def card(self, serial: str) -> str:
        """Return the page of a card, or an empty text for a serial that is no part of an address."""
        try:
            return self._page("card", serial)
        except NoReverseMatch:
            return ""

    def failure(self, tree: str, node: str) -> str:
        """Return the page that says what is lost with a node of a tree, or with a place."""
        return self._page("failure", tree=tree, node=node)

    def timeline(self, **values: str) -> str:
        """Return the timeline; `site` names whose."""
        return self._page("timeline", **values)

    def _page(self, page: str, *names: str, **values: str) -> str:
        address = reverse(f"dashboard:{page}", args=names)
        return f"{address}?{urlencode({**values, 'day': self.day.isoformat()})}"


@dataclass(frozen=True, slots=True)
class Crumb:
    """One step of the way to a page: what it is called, and its address, empty where it has none."""

    label: str
    url: str = ""


def row_url(name: str, pk: int) -> str:
    """Return the page of one row of a list, which says what is written down about it."""
    return reverse("dashboard:entry_row", args=[name, pk])


def list_url(name: str, **values: str) -> str:
    """Return a list, filtered."""
    address = reverse("dashboard:entry_list", args=[name])
    return f"{address}?{urlencode(values)}" if values else address
