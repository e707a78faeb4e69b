"""Loads of feeds and of trees of supply, now and after the worst single failure, as coordinates of bars.

Values in, values out.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dashboard.elevations import hatch_path
from dashboard.presenters import UNKNOWN, decimals_of, number_text, percent_text, state_of

FEED_PX, FEED_HEIGHT_PX = 400, 14
TREE_PX, TREE_HEIGHT_PX = 150, 9
DEPTH_MOST = 6
LEVELS_LEAST = 2  # of a tree of which not all is drawn
SUFFIXES = {"feed": "s", "rack switch": "es", "rack": "s"}  # of more than one leaf
NO_LIMIT_SHARE = 2.0  # a load on what may carry nothing is drawn as twice its limit


@dataclass(frozen=True, slots=True)
class LoadBar:
    """A load against what may be drawn for hours: a bar up to the limit, and the hatched rest beyond it."""

    width_px: int
    height_px: int
    load_px: float
    over_px: float
    limit_px: float
    hatch: str
    state: str
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class FeedLoad:
    """A feed: what it may carry for hours, what it does, and what it would after the worst single failure [VA]."""

    label: str
    usable_va: float
    now_va: float
    worst_va: float | None = None
    worst_cause: str = ""
    url: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FeedBars:
    """One feed in the drawing."""

    label: str
    url: str
    note: str
    usable: str
    cause: str
    sentence: str
    now: LoadBar
    worst: LoadBar | None


@dataclass(frozen=True, slots=True)
class FeedsDrawing:
    """The feeds of a rack on one scale."""

    feeds: list[FeedBars]
    scale: str


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """A node of a tree with its loads in a unit, VA or W; one that bears none, as a switch, has neither.

    Sources and standby are keys of the nodes that it draws on, the one that it is shown under first. Usable None: not
    known. Headroom None: usable less the larger load. Feeds: how many leaves hang on it, as feeds of racks. Racks: how
    many hang on it in the end, and how many of them its loss takes. `tree_url` is the tree below it alone.
    """

    key: str
    name: str
    kind: str
    usable: float | None
    now: float
    worst: float | None = None
    worst_cause: str = ""
    sources: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    url: str = ""
    headroom: float | None = None
    stranded: float = 0.0
    stranded_why: str = ""
    feeds: int = 0
    feeds_url: str = ""
    feed_word: str = "feed"
    racks: int = 0
    racks_lost: int = 0
    tree_url: str = ""
    unit: str = "VA"


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One line of the tree: a node, or only a reference to one that is shown elsewhere.

    `more` counts the lines below that the drawing leaves out; `more_url` shows them.
    """

    key: str
    depth: int
    level: int
    name: str
    kind: str
    url: str
    note: str
    is_reference: bool
    now_text: str = ""
    worst_text: str = ""
    cause: str = ""
    headroom: str = ""
    is_short: bool = False
    stranded: str = ""
    stranded_why: str = ""
    feeds: str = ""
    feeds_url: str = ""
    racks: int = 0
    racks_lost: int = 0
    now: LoadBar | None = None
    worst: LoadBar | None = None
    more: int = 0
    more_url: str = ""


@dataclass(frozen=True, slots=True)
class TreeLine:
    """Where a node stands in a tree that is written line by line, and which node it is below."""

    node: NodeLoad
    depth: int
    under: str
    is_reference: bool


# --- feeds of a rack --------------------------------------------------------------------------------------------------
def feed_bars_draw(feeds: Sequence[FeedLoad]) -> FeedsDrawing:
    """Return the bars of the feeds on one scale, which ends at the limit or at the largest load, if that is larger."""
    top = _scale_top((feed.usable_va, feed.now_va, feed.worst_va) for feed in feeds)
    scale = f"Bars end at {top * 100:,.0f} % of usable power; the line marks 100 %."
    return FeedsDrawing([_feed_draw(feed, top) for feed in feeds], scale)


def _feed_draw(feed: FeedLoad, top: float) -> FeedBars:
    size_px = FEED_PX, FEED_HEIGHT_PX
    cause = f"after losing {feed.worst_cause}" if feed.worst_cause else "after the worst single failure"
    now = _bar(feed.now_va, feed.usable_va, top, size_px, about=f"{feed.label}, now", text_has_usable=True)
    worst = None
    if feed.worst_va is not None:
        worst = _bar(feed.worst_va, feed.usable_va, top, size_px, about=f"{feed.label}, {cause}")
    return FeedBars(
        label=feed.label,
        url=feed.url,
        note=feed.note,
        usable=f"{kilo_text(feed.usable_va)} kVA",
        cause=cause,
        sentence=f"{now.text}; {cause}: {worst.text}" if worst else f"{now.text}; no single failure adds to it",
        now=now,
        worst=worst,
    )


# --- the tree ---------------------------------------------------------------------------------------------------------
def tree_draw(nodes: Sequence[NodeLoad], *, root: str = "", most: int = 0) -> list[NodeRow]:
    """Return the lines of the tree, each node below its first source and as a reference below its others.

    Nodes keep the order in which they come; one whose sources are all unknown is a root. A ring is refused. With
    `root`, a key, the tree below that node alone; with `most`, as many levels as so many lines hold, two at least.
    """
    by_key = {node.key: node for node in nodes}
    above = {node.key: [key for key in (*node.sources, *node.standby) if key in by_key] for node in nodes}
    if root:
        inside = _below(root, above)
        above = {key: [one for one in above[key] if one in inside] if key != root else [] for key in inside}
    lines = _lines([node for node in nodes if node.key in above], above)
    deepest = _levels_shown(lines, most) - 1 if most else len(nodes)
    top = _scale_top((node.usable, node.now, node.worst) for node in nodes)
    rows: list[NodeRow] = []
    for at, line in enumerate(lines):
        if line.depth > deepest:
            continue
        home = next(iter(above[line.node.key]), "")
        if line.is_reference:
            standby = line.under not in line.node.sources
            rows.append(_reference(line.node, line.depth, by_key[home].name, is_standby=standby))
            continue
        row = _row(line.node, line.depth, home, by_key, top)
        if line.depth == deepest:
            hidden = itertools.takewhile(lambda below: below.depth > deepest, lines[at + 1 :])
            row = replace(row, more=sum(1 for _ in hidden), more_url=line.node.tree_url)
        rows.append(row)
    return rows


def _below(root: str, above: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the keys of a node and of all that draw on it, on whatever way."""
    inside, grown = {root}, True
    while grown:
        more = {key for key, sources in above.items() if key not in inside and not inside.isdisjoint(sources)}
        inside, grown = inside | more, bool(more)
    return inside


def _lines(nodes: Sequence[NodeLoad], above: Mapping[str, Sequence[str]]) -> list[TreeLine]:
    """Return every line of the tree; a ring has no root, and is refused."""
    below: dict[str, list[NodeLoad]] = {node.key: [] for node in nodes}
    for node in nodes:
        for key in dict.fromkeys(above[node.key]):
            below[key].append(node)
    lines: list[TreeLine] = []
    waiting = [(node, 0, "") for node in reversed(nodes) if not above[node.key]]
    while waiting:
        node, depth, under = waiting.pop()
        is_reference = under != next(iter(above[node.key]), "")
        lines.append(TreeLine(node, depth, under, is_reference))
        if not is_reference:
            waiting += [(child, depth + 1, node.key) for child in reversed(below[node.key])]
    drawn = {line.node.key for line in lines if not line.is_reference}
    if missing := [node.name for node in nodes if node.key not in drawn]:
        raise ValueError(f"these feed each other in a ring, or hang on one: {', '.join(missing)}")
    return lines


def _levels_shown(lines: Sequence[TreeLine], most: int) -> int:
    """Return how many levels hold at most so many lines, two at least."""
    levels, total = 0, 0
    for count in np.bincount([line.depth for line in lines]).tolist() if lines else ():
        total += count
        if levels >= LEVELS_LEAST and total > most:
            break
        levels += 1
    return levels


def _reference(node: NodeLoad, depth: int, home: str, *, is_standby: bool) -> NodeRow:
    return NodeRow(
        key=node.key,
        depth=min(depth, DEPTH_MOST),
        level=depth + 1,
        name=node.name,
        kind=node.kind,
        url=node.url,
        note=f"{'on standby' if is_standby else 'also fed'} from here; shown and counted under {home}",
        is_reference=True,
    )


def _row(node: NodeLoad, depth: int, home: str, by_key: Mapping[str, NodeLoad], top: float) -> NodeRow:
    size_px, usable, at_worst = (TREE_PX, TREE_HEIGHT_PX), node.usable, node.worst
    now = worst = headroom = None
    unit = f"k{node.unit}"
    cause = f"after losing {node.worst_cause}" if node.worst_cause else "after the worst single failure"
    if usable is not None:
        headroom = usable - max(node.now, at_worst or 0.0) if node.headroom is None else node.headroom
        now = _bar(node.now, usable, top, size_px, about=f"{node.name}, now", text_has_usable=True, unit=unit)
        if at_worst is not None:
            worst = _bar(at_worst, usable, top, size_px, about=f"{node.name}, {cause}", unit=unit)
    return NodeRow(
        key=node.key,
        depth=min(depth, DEPTH_MOST),
        level=depth + 1,
        name=node.name,
        kind=node.kind,
        url=node.url,
        note=_sources_text(node, home, by_key),
        is_reference=False,
        now_text=load_text(node.now, usable, with_usable=True, unit=unit),
        worst_text=UNKNOWN if at_worst is None else load_text(at_worst, usable, unit=unit),
        cause=cause if node.worst_cause else "",
        headroom=UNKNOWN if headroom is None else kilo_text(headroom),
        is_short=headroom is not None and headroom < 0,
        stranded=kilo_text(node.stranded) if node.stranded else "none",
        stranded_why=node.stranded_why if node.stranded else "",
        feeds=f"{node.feeds:,} {node.feed_word}{'' if node.feeds == 1 else SUFFIXES[node.feed_word]}"
        if node.feeds
        else "",
        feeds_url=node.feeds_url,
        racks=node.racks,
        racks_lost=node.racks_lost,
        now=now,
        worst=worst,
    )


def _sources_text(node: NodeLoad, home: str, by_key: Mapping[str, NodeLoad]) -> str:
    said = []
    for words, keys in (("also fed by" if home else "fed by", node.sources), ("on standby:", node.standby)):
        names = [by_key[key].name if key in by_key else key for key in keys if key != home]
        if names:
            said.append(f"{words} {', '.join(names)}")
    return "; ".join(said)


# --- a load against its limit -----------------------------------------------------------------------------------------
def kilo_text(value: float, size: float | None = None) -> str:
    """Return VA as kVA, or W as kW, with three significant digits, or with the decimals of a neighbour of size."""
    kilo = value / 1e3
    decimals = decimals_of(abs(kilo if size is None else size / 1e3))
    text = number_text(kilo) if size is None and abs(kilo) < 9.995 else f"{kilo:,.{decimals}f}"
    return text.replace("-", "−")


def load_text(load: float, usable: float | None, *, with_usable: bool = False, unit: str = "kVA") -> str:
    """Return a load as `56.0 kVA, 155 %, over by 19.8 kVA`, or with its limit as `27.9 of 36.2 kVA, 77 %`."""
    if usable is None:
        return f"{kilo_text(load)} {unit}"
    size = max(load, usable) if with_usable else load
    text = kilo_text(load, size)
    said = [f"{text} of {kilo_text(usable, size)} {unit}" if with_usable else f"{text} {unit}"]
    if usable > 0:
        said.append(percent_text(load / usable))
    state, word = state_of(_share(load, usable))
    if state == "over":
        said.append(f"over by {kilo_text(load - usable)} {unit}")
    elif word:
        said.append(word)
    return ", ".join(said)


def _share(load: float, usable: float) -> float:
    return load / usable if usable > 0 else NO_LIMIT_SHARE if load > 0 else 0.0


def _scale_top(loads: Iterable[tuple[float | None, float, float | None]]) -> float:
    """Return the share of its limit that the longest bar shows, in whole percent and at least 1.

    Loads are usable, now and worst of each node.
    """
    shares = [
        _share(load, usable) for usable, now, worst in loads if usable is not None for load in (now, worst or 0.0)
    ]
    return math.ceil(max([1.0, *shares]) * 100 - 1e-6) / 100


def _bar(
    load: float,
    usable: float,
    top: float,
    size_px: tuple[int, int],
    *,
    about: str,
    text_has_usable: bool = False,
    unit: str = "kVA",
) -> LoadBar:
    width_px, height_px = size_px
    share, limit_px = _share(load, usable), round(width_px / top, 1)
    state, _ = state_of(share)
    over_px = round(share / top * width_px - limit_px, 1) if state == "over" else 0.0
    text = load_text(load, usable, with_usable=text_has_usable, unit=unit)
    return LoadBar(
        width_px=width_px,
        height_px=height_px,
        load_px=round(min(share, 1.0) / top * width_px, 1),
        over_px=over_px,
        limit_px=limit_px,
        hatch=hatch_path(limit_px, 0, over_px, height_px, 5) if state == "over" else "",
        state=state,
        text=text,
        title=f"{about}: {text}",
    )
