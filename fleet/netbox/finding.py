"""Which thing another one means: by id, as the API says it, or by name, as an exported table does."""

from collections import defaultdict
from typing import Any

from fleet.netbox.kinds import SITED
from fleet.netbox.slugs import slug_of
from fleet.netbox.sources import Thing, Things


class OmitError(Exception):
    """A thing that is left out, and why."""


class BadError(Exception):
    """A thing that says what cannot be: the field, and why."""

    def __init__(self, column: str, reason: str) -> None:
        self.column = column
        super().__init__(reason)


class Finder:
    """Things by id and by text, and which of them are left out."""

    def __init__(self, things: Things) -> None:
        self.gone: set[Thing] = set()
        self._by_id = {(kind, one.values["id"]): one for kind in things for one in things[kind] if "id" in one.values}
        self._by_text: dict[tuple[str, str], list[Thing]] = defaultdict(list)
        for kind, some in things.items():
            for one in some:
                for text in {str(one.values[name]) for name in ("name", "slug", "model") if name in one.values}:
                    self._by_text[kind, text].append(one)

    def find(self, one: Thing, column: str, kind: str, *, site: Thing | None = None) -> Thing:
        """Return what a field names; raise OmitError where that is left out, or the field is empty."""
        if one.values.get(column) is None:
            raise OmitError(f"has no {_words(column)}")
        found = self._found(one, column, kind, site)
        if found in self.gone:
            raise OmitError(f"its {_words(column)} {found.name} is left out")
        return found

    def _found(self, one: Thing, column: str, kind: str, site: Thing | None) -> Thing:
        said = one.values[column]
        by_id = self._by_id.get((kind, said.get("id"))) if isinstance(said, dict) else None
        if by_id is not None:
            return by_id
        text = _text(said)
        found = self.named(kind, text)
        if site is not None:
            found = [thing for thing in found if self.site_of(thing) is site]
        if len(found) > 1:
            found = _nearest(one, found)
        if not found:
            raise BadError(column, f'there is no "{text}" among the {kind} that were read')
        if len(found) > 1:
            raise BadError(column, f'"{text}" is the name of {len(found)} {kind}: {found[0].place}, {found[1].place}')
        return found[0]

    def named(self, kind: str, text: str) -> list[Thing]:
        """Return the things of a list with a name, slug or model."""
        return self._by_text.get((kind, text), [])

    def site_of(self, one: Thing) -> Thing | None:
        """Return the site of a thing, if it tells: of a feed that of its panel."""
        if one.kind == "power-feeds" and one.values.get("site") is None:
            return self.site_of(self.find(one, "power_panel", "power-panels"))
        return None if one.values.get("site") is None else self._found(one, "site", "sites", None)

    def site_slug(self, one: Thing) -> str:
        """Return our slug of the site of a thing."""
        if one.kind == "power-feeds":
            return self.site_slug(self.rack(one))
        return slug_of(str(self.find(one, "site", "sites").values.get("slug")))

    def rack(self, one: Thing) -> Thing:
        """Return the rack of a device or feed."""
        return self.find(one, "rack", "racks", site=self.site_of(one))

    def panel(self, feed: Thing) -> Thing:
        """Return the panel of a feed."""
        site = self.site_of(feed) if feed.values.get("site") is not None else None
        return self.find(feed, "power_panel", "power-panels", site=site)

    def location(self, one: Thing) -> list[Thing]:
        """Return the location of a thing with those around it, the outermost first; none where it has none."""
        if one.values.get("location") is None:
            return []
        return self.chain(self.find(one, "location", "locations", site=self.site_of(one)))

    def chain(self, location: Thing) -> list[Thing]:
        """Return a location with those around it, the outermost first."""
        chain = [location]
        while (parent := self.parent(chain[0])) is not None:
            if parent in chain:
                raise BadError("parent", f"{parent.name} lies in itself")
            chain.insert(0, parent)
        for place in chain:
            if place in self.gone:
                raise OmitError(f"its location {place.name} is left out")
        return chain

    def parent(self, location: Thing) -> Thing | None:
        """Return the location around a location."""
        if location.values.get("parent") is None:
            return None
        return self._found(location, "parent", "locations", self.site_of(location))


def _text(said: Any) -> str:
    """Return what tells a thing in a table or a file without ids, as of device types in YAML."""
    if not isinstance(said, dict):
        return str(said)
    return str(next((said[name] for name in ("slug", "model", "name", "display", "id") if name in said), "nothing"))


def things_at(things: Things, slug: str) -> Things:
    """Return the things at one site, and those that are at none; the site itself may be missing."""
    finder = Finder(things)
    sites = [one for one in things["sites"] if one.values.get("slug") == slug]

    def is_there(one: Thing) -> bool:
        try:
            return finder.site_of(one) in sites
        except (OmitError, BadError):
            return False

    kept = {kind: [one for one in things[kind] if is_there(one)] for kind in SITED}
    return {**things, "sites": sites, **kept}


def _nearest(one: Thing, found: list[Thing]) -> list[Thing]:
    """Return those of several with one name that agree in location or maker, where that tells them apart."""
    for name in ("location", "manufacturer"):
        said = one.values.get(name)
        near = [thing for thing in found if said is not None and thing.values.get(name) == said]
        if near:
            return near
    return found


def _words(column: str) -> str:
    return column.replace("_", " ")
