"""Sites, halls, rows and racks out of NetBox's sites, locations and racks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.models import Hall, Rack, Row, Site
from fleet.netbox.finding import OmitError
from fleet.netbox.kinds import DAYS, RACK_FIGURES
from fleet.netbox.readings import NAME_MOST, Kept, Reading
from fleet.netbox.slugs import slug_of
from fleet.netbox.sources import Thing

ROW, HALL = "a", "hall"
"""What the row of a hall and the hall of a site are called that NetBox does not divide."""
NO_DAYS: Mapping[str, Any] = dict.fromkeys(DAYS, Kept())


class Places:
    """Translates places; one that several things lie in is made once."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.finder, self.tables = reading, reading.finder, reading.tables
        self.depth = reading.options.hall_depth
        self._made: set[tuple[str, str]] = set()

    def translate(self, feeds: Mapping[Thing, Sequence[float]]) -> None:
        """Translate all places; `feeds` is what may be drawn from those of each rack. [VA]"""
        self.reading.each("sites", self._site)
        self.reading.each("locations", self._location)
        paths = ("row__hall__site__slug", "row__hall__slug", "row__slug")
        self.reading.named(["racks"], Rack, paths, self._placed)
        self.reading.each("racks", lambda one: self._rack(one, feeds.get(one, ())))

    def _placed(self, rack: Thing) -> tuple[str, Sequence[str]]:
        chain = self.finder.location(rack)
        hall, row = self._slug(chain[: self.depth]) or HALL, self._slug(chain[self.depth :]) or _group(rack) or ROW
        return f"{hall}/{row}", ["-".join(self.reading.text(place, "slug") for place in chain)]

    def _slug(self, chain: Sequence[Thing]) -> str:
        """Return the slug of some levels of locations; of none, nothing."""
        return slug_of("-".join(self.reading.text(place, "slug") for place in chain)) if chain else ""

    def _add(self, entry: str, one: Thing, key: str, values: dict[str, Any]) -> None:
        self._made.add((entry, key))
        self.tables[entry].append((one, values))

    def _site(self, one: Thing) -> None:
        said = self.reading.text(one, "slug")
        self.reading.slug_note(one, slug_of(said), said)
        days = self.reading.days(one, Site.objects.filter(slug=slug_of(said)).exists)
        values = {"slug": slug_of(said), "name": self.reading.name_of(one), "region": self._region(one)}
        self._add("sites", one, said, {**values, **self.reading.figures(one, ["pue_ratio"]), **days})

    def _region(self, site: Thing) -> str:
        """Return the slug of a site's region, which comes along."""
        said = site.values.get("region")
        if said is None:
            slug = self.reading.options.region
            if not slug:
                raise OmitError('has no region, and the map names none for such sites: "region"')
            self.reading.assume("sites.region")
            name: Any = Kept(slug)
        elif isinstance(said, dict):
            told = str(said.get("name") or said.get("slug") or "region")
            slug, name = slug_of(str(said.get("slug") or told), "region"), told[:NAME_MOST]
        elif found := self.finder.named("regions", str(said)):
            slug, name = slug_of(self.reading.text(found[0], "slug")), self.reading.name_of(found[0])
        else:
            slug, name = slug_of(str(said), "region"), str(said)[:NAME_MOST]
        if ("regions", slug) not in self._made:
            self._add("regions", site, slug, {"slug": slug, "name": name})
        return slug

    def _location(self, one: Thing) -> None:
        """Make a hall of a location on the level of halls, a row of one below that holds no other."""
        self.finder.find(one, "site", "sites")
        chain = self.finder.chain(one)
        if len(chain) == self.depth:
            self._hall(chain)
        elif len(chain) < self.depth:
            self.reading.days(one)
        elif one not in self._around:
            self._row_of(chain)

    @property
    def _around(self) -> set[Thing]:
        """Locations that hold others."""
        if not hasattr(self, "_around_found"):
            parents = (self.finder.parent(one) for one in self.reading.things["locations"])
            self._around_found = {one for one in parents if one is not None}
        return self._around_found

    def _hall(self, chain: Sequence[Thing]) -> str:
        """Make a hall of the innermost of some locations, once; return its key."""
        one = chain[-1]
        site, slug = self.finder.site_slug(one), self._slug(chain)
        if ("halls", f"{site}/{slug}") not in self._made:
            standing = Hall.objects.filter(site__slug=site, slug=slug)
            values = {"site": site, "slug": slug, "name": self.reading.name_of(one)}
            values |= {**self.reading.figures(one, ["cooling"]), **self.reading.days(one, standing.exists)}
            self._add("halls", one, f"{site}/{slug}", values)
        return f"{site}/{slug}"

    def _hall_of_site(self, rack: Thing) -> str:
        """Make the one hall of a site whose racks have no location, once; return its key."""
        site = self.finder.site_slug(rack)
        self.reading.assume("racks.location: the one hall of the site")
        if ("halls", f"{site}/{HALL}") not in self._made:
            values = {"site": site, "slug": HALL, "name": Kept("Hall"), "cooling": Kept(), **NO_DAYS}
            self._add("halls", rack, f"{site}/{HALL}", values)
        return f"{site}/{HALL}"

    def _row_of(self, chain: Sequence[Thing]) -> str:
        """Make the row that a location below a hall is, once; return its key."""
        one, hall = chain[-1], self._hall(chain[: self.depth])
        slug = self._slug(chain[self.depth :])
        if ("rows", f"{hall}/{slug}") not in self._made:
            site, hall_slug = hall.split("/")
            standing = Row.objects.filter(hall__site__slug=site, hall__slug=hall_slug, slug=slug)
            values = {"hall": hall, "slug": slug, **self.reading.figures(one, ["position"])}
            self._add("rows", one, f"{hall}/{slug}", {**values, **self.reading.days(one, standing.exists)})
        return f"{hall}/{slug}"

    def _row(self, rack: Thing) -> str:
        """Return the key of the row in which a rack stands: a location below its hall, its group, or the hall's one."""
        chain = self.finder.location(rack)
        if len(chain) > self.depth:
            return self._row_of(chain)
        hall = self._hall(chain) if chain else self._hall_of_site(rack)
        slug = _group(rack)
        if not slug:
            self.reading.assume("racks.group: the one row of the hall")
            slug = ROW
        if ("rows", f"{hall}/{slug}") not in self._made:
            self._add("rows", rack, f"{hall}/{slug}", {"hall": hall, "slug": slug, "position": Kept(), **NO_DAYS})
        return f"{hall}/{slug}"

    def _rack(self, one: Thing, feeds: Sequence[float]) -> None:
        days, figures = self.reading.days(one), self.reading.figures(one, RACK_FIGURES)
        figures |= {name: Kept(said) for name, said in self.reading.options.rack.items() if figures[name] == Kept()}
        slug = self.reading.slugs[one]
        if isinstance(figures["power_limit_w"], Kept) and feeds:
            self.reading.assume("racks.power_limit_w: what its feeds give with the largest lost")
            figures["power_limit_w"] = Kept(round(sum(feeds) - (max(feeds) if len(feeds) > 1 else 0), 1))
        if figures["power_limit_w"] == Kept() and slug not in self.reading.standing["racks"]:
            raise OmitError("neither a feed nor the custom field power_limit_w nor the map says what it may draw")
        height = self.reading.whole(one, "u_height", math.floor) if "u_height" in one.values else Kept()
        values = {"slug": slug, "row": self._row(one), "height_u": height, **figures, **days}
        self._add("racks", one, slug, {**values, "weight_limit_kg": self.reading.weight(one, "max_weight")})


def _group(rack: Thing) -> str:
    """Return the slug of the group of a rack, or nothing."""
    group = rack.values.get("group")
    if isinstance(group, dict):
        group = group.get("slug") or group.get("name")
    return "" if group is None else slug_of(str(group), "row")
