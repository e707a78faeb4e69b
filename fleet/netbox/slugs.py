"""Slugs of things that NetBox knows by names: the same in every run, and unique in the whole fleet."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.text import slugify

SLUG_MOST = 50


def slug_of(name: str, kind: str = "") -> str:
    """Return a slug that follows from a name alone; of one without Latin letters or too long, with a digest."""
    slug = slugify(name)
    if not slug:
        return f"{kind}-{_digest(name)}"
    return slug if len(slug) <= SLUG_MOST else f"{slug[: SLUG_MOST - 9]}-{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a thing would be called, the best first; the site at which it is, and its place there."""

    site: str
    place: str
    slugs: tuple[str, ...]

    @classmethod
    def of(cls, name: str, kind: str, site: str, place: str = "", prefixes: Sequence[str] = ()) -> "Wish":
        """Return the wishes of a name: bare, behind its site, behind site and prefixes."""
        bare = slug_of(name, kind)
        longer = [slug_of("-".join((site, *prefixes[:many], name))) for many in range(len(prefixes) + 1)]
        if bare.startswith(f"{site}-"):
            longer[0] = bare
        return cls(site, place, tuple(dict.fromkeys((bare, *longer))))


def slugs_give(wishes: Iterable[Wish], standing: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return a slug for each wish.

    `standing` are site and place of every slug that is taken. A thing keeps the slug under which it stands in its
    place, or, if nobody else there wishes it, at its site; a new one takes the first that nobody else wishes or has.
    What wishes the same to the end gets the same: an import then names both.
    """
    wishes = list(wishes)
    here: Counter[tuple[str, str]] = Counter((wish.site, slug) for wish in wishes for slug in wish.slugs)
    anywhere: Counter[str] = Counter(slug for wish in wishes for slug in wish.slugs)
    given = []
    for wish in wishes:
        there = {slug: standing[slug] for slug in wish.slugs if slug in standing and standing[slug][0] == wish.site}
        own = (slug for slug, (_, place) in there.items() if place == wish.place)
        moved = (slug for slug in there if here[wish.site, slug] == 1)
        free = (slug for slug in wish.slugs if anywhere[slug] == 1 and slug not in standing)
        given.append(next(own, None) or next(moved, None) or next(free, wish.slugs[-1]))
    return given
