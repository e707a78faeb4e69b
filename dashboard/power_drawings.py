"""Loads of feeds and of the power tree, now and after the worst single failure, as coordinates of bars.

Values in, values out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboard.elevations import hatch_path
from dashboard.presenters import UNKNOWN, decimals_of, number_text

FEED_PX, FEED_HEIGHT_PX = 400, 14
TREE_PX, TREE_HEIGHT_PX = 150, 9
DEPTH_MOST = 6
NEAR_RATIO = 0.9
OVER_RATIO = 1 + 1e-9  # by so much a sum of floats may be off
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
    """A node of the power tree with its loads [VA].

    Sources and standby are keys of the nodes that it draws on, the one that it is shown under first. Usable None: not
    known. Headroom None: usable less the larger load. Feeds: how many racks' feeds hang on it.
    """

    key: str
    name: str
    kind: str
    usable_va: float | None
    now_va: float
    worst_va: float | None = None
    worst_cause: str = ""
    sources: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    url: str = ""
    headroom_va: float | None = None
    stranded_va: float = 0.0
    stranded_why: str = ""
    feeds: int = 0
    feeds_url: str = ""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One line of the tree: a node, or only a reference to one that is shown elsewhere."""

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
    now: LoadBar | None = None
    worst: LoadBar | None = None


# --- feeds of a rack --------------------------------------------------------------------------------------------------
def feed_bars_draw(feeds: Sequence[FeedLoad]) -> FeedsDrawing:
    """Return the bars of the feeds on one scale, which ends at the limit or at the largest load, if that is larger."""
    top = _scale_top(feeds)
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
        usable=f"{kva_text(feed.usable_va)} kVA",
        cause=cause,
        sentence=f"{now.text}; {cause}: {worst.text}" if worst else f"{now.text}; no single failure adds to it",
        now=now,
        worst=worst,
    )


# --- the tree ---------------------------------------------------------------------------------------------------------
def power_tree_draw(nodes: Sequence[NodeLoad]) -> list[NodeRow]:
    """Return the lines of the tree, each node below its first source and as a reference below its others.

    Nodes keep the order in which they come; one whose sources are all unknown is a root. A ring is refused.
    """
    by_key = {node.key: node for node in nodes}
    above = {node.key: [key for key in (*node.sources, *node.standby) if key in by_key] for node in nodes}
    below: dict[str, list[NodeLoad]] = {key: [] for key in by_key}
    for node in nodes:
        for key in dict.fromkeys(above[node.key]):
            below[key].append(node)
    top = _scale_top(nodes)
    rows: list[NodeRow] = []
    waiting = [(node, 0, "") for node in reversed(nodes) if not above[node.key]]
    while waiting:
        node, depth, under = waiting.pop()
        home = next(iter(above[node.key]), "")
        if under != home:
            rows.append(_reference(node, depth, by_key[home].name, is_standby=under not in node.sources))
            continue
        rows.append(_row(node, depth, home, by_key, top))
        waiting += [(child, depth + 1, node.key) for child in reversed(below[node.key])]
    drawn = {row.key for row in rows if not row.is_reference}
    if missing := [node.name for node in nodes if node.key not in drawn]:
        raise ValueError(f"these feed each other in a ring, or hang on one: {', '.join(missing)}")
    return rows


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
    size_px, usable_va, worst_va = (TREE_PX, TREE_HEIGHT_PX), node.usable_va, node.worst_va
    now = worst = headroom_va = None
    cause = f"after losing {node.worst_cause}" if node.worst_cause else "after the worst single failure"
    if usable_va is not None:
        headroom_va = usable_va - max(node.now_va, worst_va or 0.0) if node.headroom_va is None else node.headroom_va
        now = _bar(node.now_va, usable_va, top, size_px, about=f"{node.name}, now", text_has_usable=True)
        if worst_va is not None:
            worst = _bar(worst_va, usable_va, top, size_px, about=f"{node.name}, {cause}")
    return NodeRow(
        key=node.key,
        depth=min(depth, DEPTH_MOST),
        level=depth + 1,
        name=node.name,
        kind=node.kind,
        url=node.url,
        note=_sources_text(node, home, by_key),
        is_reference=False,
        now_text=load_text(node.now_va, usable_va, with_usable=True),
        worst_text=UNKNOWN if worst_va is None else load_text(worst_va, usable_va),
        cause=cause if node.worst_cause else "",
        headroom=UNKNOWN if headroom_va is None else kva_text(headroom_va),
        is_short=headroom_va is not None and headroom_va < 0,
        stranded=kva_text(node.stranded_va) if node.stranded_va else "none",
        stranded_why=node.stranded_why if node.stranded_va else "",
        feeds=f"{node.feeds:,} {'feed' if node.feeds == 1 else 'feeds'}" if node.feeds else "",
        feeds_url=node.feeds_url,
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
def kva_text(value_va: float, size_va: float | None = None) -> str:
    """Return kilovolt-amperes with three significant digits, or with the decimals that a neighbour of size_va has."""
    value = value_va / 1e3
    decimals = decimals_of(abs(value if size_va is None else size_va / 1e3))
    text = number_text(value) if size_va is None and abs(value) < 9.995 else f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def load_text(load_va: float, usable_va: float | None, *, with_usable: bool = False) -> str:
    """Return a load as `56.0 kVA, 155 %, over by 19.8 kVA`, or with its limit as `27.9 of 36.2 kVA, 77 %`."""
    if usable_va is None:
        return f"{kva_text(load_va)} kVA"
    size_va = max(load_va, usable_va) if with_usable else load_va
    load = kva_text(load_va, size_va)
    said = [f"{load} of {kva_text(usable_va, size_va)} kVA" if with_usable else f"{load} kVA"]
    if usable_va > 0:
        said.append(f"{load_va / usable_va * 100:,.0f} %")
    state = _state(_share(load_va, usable_va))
    if state == "over":
        said.append(f"over by {kva_text(load_va - usable_va)} kVA")
    elif state == "near":
        said.append("near the limit")
    return ", ".join(said)


def _state(share: float) -> str:
    return "over" if share > OVER_RATIO else "near" if share > NEAR_RATIO else "ok"


def _share(load_va: float, usable_va: float) -> float:
    return load_va / usable_va if usable_va > 0 else NO_LIMIT_SHARE if load_va > 0 else 0.0


def _scale_top(loads: Iterable[FeedLoad | NodeLoad]) -> float:
    """Return the share of its limit that the longest bar shows, in whole percent and at least 1."""
    shares = [
        _share(load_va, one.usable_va)
        for one in loads
        if one.usable_va is not None
        for load_va in (one.now_va, one.worst_va or 0.0)
    ]
    return math.ceil(max([1.0, *shares]) * 100 - 1e-6) / 100


def _bar(
    load_va: float, usable_va: float, top: float, size_px: tuple[int, int], *, about: str, text_has_usable: bool = False
) -> LoadBar:
    width_px, height_px = size_px
    share, limit_px = _share(load_va, usable_va), round(width_px / top, 1)
    state = _state(share)
    over_px = round(share / top * width_px - limit_px, 1) if state == "over" else 0.0
    text = load_text(load_va, usable_va, with_usable=text_has_usable)
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
