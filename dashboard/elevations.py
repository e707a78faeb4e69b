"""Rack elevation, front and rear: where each host stands, as coordinates of a drawing. Values in, values out."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

UNIT_PX = 18  # height of one rack unit
LEFT_PX, WIDTH_PX = 34, 250  # the units' numbers, and one face
BETWEEN_PX = 22  # from the front's frame to the rear's
HEAD_PX = 24  # above the frames: "Front", "Rear"
NAME_PX, MARK_PX = 11, 11.3  # sizes of letters; those of a mark are of size 10 and bold, so they are wider
BAND_PX = 5  # on the left of a host in maintenance
PAD_PX = 7  # from the edge of a box to its words
LINE_PX = 14  # from one line of words to the next
LABEL_LEAST_PX = 62  # a line that its mark leaves less of shows the mark's first word only

FACES = "front", "rear"
STATE_WORDS = {
    "in service": "",
    "planned": "planned",
    "leaving": "leaves",
    "in maintenance": "in maintenance",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A host and where it stands: lowest unit [U], height [U].

    Face is one of FACES, state a key of STATE_WORDS; note: the date or words that follow the state.
    """

    label: str
    title: str
    position_u: int
    height_u: int
    is_homegrown: bool
    url: str = ""
    face: str = "front"
    full_depth: bool = True
    state: str = "in service"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """A line of words that says the state of a host."""

    text: str
    x_px: int
    y_px: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class Box:
    """One host in the drawing of one face; muted where only its back is seen. y and height are its rack units."""

    y_px: int
    height_px: int
    text_y_px: float
    label: str
    title: str
    is_homegrown: bool
    x_px: int
    width_px: int
    text_x_px: int
    url: str
    style: str
    marks: list[Words]
    hatch: str
    band_px: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Units of a face in which nothing stands and nothing is planned."""

    y_px: int
    height_px: int
    text_x_px: int
    text_y_px: float
    text: str


@dataclass(frozen=True, slots=True)
class FaceDrawing:
    """One face: its frame, boxes and gaps."""

    label: str
    x_px: int
    text_x_px: int
    boxes: list[Box]
    gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class Elevation:
    """A drawing of a rack from both sides, unit 1 at the bottom."""

    height_px: int
    ticks: list[tuple[int, float]]
    title: str
    description: str
    faces: list[FaceDrawing]
    has_links: bool
    width_px: int = LEFT_PX + 2 * WIDTH_PX + BETWEEN_PX + LEFT_PX
    frame_px: int = WIDTH_PX
    head_px: int = HEAD_PX

    @property
    def boxes(self) -> list[Box]:
        """Return the boxes of the front."""
        return self.faces[0].boxes

    @property
    def view_height_px(self) -> int:
        """Return the height with the head and the frame's line."""
        return self.head_px + self.height_px + 2

    @property
    def ticks_x_px(self) -> tuple[int, int]:
        """Return where the units' numbers end on the left, and begin on the right."""
        return LEFT_PX - 6, self.width_px - LEFT_PX + 6


# --- letters and patterns, for every drawing --------------------------------------------------------------------------
def text_width_px(text: str, size_px: float) -> float:
    """Return about how wide a text is in a wide sans serif: an ideograph is as wide as high, a letter 0.6 of it."""
    return sum(size_px if unicodedata.east_asian_width(letter) in "WF" else 0.6 * size_px for letter in text)


def text_cut(text: str, width_px: float, size_px: float) -> str:
    """Return the text, its end replaced by an ellipsis if it is wider than there is room."""
    if text_width_px(text, size_px) <= width_px:
        return text
    while text and text_width_px(f"{text}…", size_px) > width_px:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def text_wrap(text: str, width_px: float, size_px: float) -> list[str]:
    """Return the text as lines that are broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width_px(f"{lines[-1]} {word}", size_px) <= width_px:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def hatch_path(x_px: float, y_px: float, width_px: float, height_px: float, step_px: float = 6) -> str:
    """Return the path of diagonal lines that fill a rectangle: a pattern that needs no name in the page."""
    lines = []
    for at in range(1, int((width_px + height_px) / step_px) + 1):
        sum_px = at * step_px
        left, right = max(0, sum_px - height_px), min(sum_px, width_px)
        if left < right:
            lines.append(f"M{x_px + left:g} {y_px + sum_px - left:g}L{x_px + right:g} {y_px + sum_px - right:g}")
    return "".join(lines)


# --- the drawing ------------------------------------------------------------------------------------------------------
def elevation_draw(
    height_u: int, hosts: Sequence[Standing], *, name: str = "the rack", unplaced_u: int = 0
) -> Elevation:
    """Return the drawing; a host is cut at the edge of the rack, and hosts that overlap stand side by side.

    `unplaced_u` is the height of hosts without a recorded position: they are not drawn, and what is free is less by it.
    """
    inside = [host for host in hosts if 1 <= host.position_u <= height_u and host.height_u > 0]
    faces = [_face_draw(height_u, inside, face) for face in FACES]
    free_u = [_free_u(height_u, inside, face) for face in FACES]
    through_u = sorted(set(free_u[0]) & set(free_u[1]))
    return Elevation(
        height_px=height_u * UNIT_PX,
        ticks=[(unit, (height_u - unit + 0.5) * UNIT_PX) for unit in range(1, height_u + 1)],
        title=f"Elevation of {name}, front and rear",
        description=_description(height_u, inside, through_u, unplaced_u),
        faces=faces,
        has_links=any(host.url for host in inside),
    )


def _top_u(host: Standing, height_u: int) -> int:
    return min(host.position_u + host.height_u - 1, height_u)


def _seen(hosts: Iterable[Standing], face: str) -> list[Standing]:
    return [host for host in hosts if host.face == face or host.full_depth]


def _free_u(height_u: int, hosts: Iterable[Standing], face: str) -> list[int]:
    taken = {unit for host in _seen(hosts, face) for unit in range(host.position_u, _top_u(host, height_u) + 1)}
    return [unit for unit in range(1, height_u + 1) if unit not in taken]


def _runs(units: Sequence[int]) -> list[tuple[int, int]]:
    """Return units in a row as (lowest, highest)."""
    runs = []
    for _, run in groupby(enumerate(units), lambda pair: pair[1] - pair[0]):
        members = [unit for _, unit in run]
        runs.append((members[0], members[-1]))
    return runs


def _description(height_u: int, hosts: Sequence[Standing], through_u: Sequence[int], unplaced_u: int) -> str:
    counts = {state: sum(host.state == state for host in hosts) for state in STATE_WORDS}
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no host"
    largest_u = max((high - low + 1 for low, high in _runs(through_u)), default=0)
    free = f"{max(0, len(through_u) - unplaced_u)} of {height_u} U free from front to rear"
    if unplaced_u:
        free += f" with {unplaced_u} U left for hosts without a recorded position"
    return f"{counted}; {free}, the largest gap {largest_u} U." if largest_u else f"{counted}; {free}."


def _face_draw(height_u: int, hosts: Sequence[Standing], face: str) -> FaceDrawing:
    x_px = LEFT_PX if face == "front" else LEFT_PX + WIDTH_PX + BETWEEN_PX
    gaps = []
    for low, high in reversed(_runs(_free_u(height_u, hosts, face))):
        y_px, units = (height_u - high) * UNIT_PX, high - low + 1
        text_x_px, text_y_px = x_px + WIDTH_PX // 2, y_px + units * UNIT_PX / 2
        gaps.append(Gap(y_px, units * UNIT_PX, text_x_px, text_y_px, f"{units} U free"))
    boxes = [
        _box_draw(height_u, host, x_px=x_px + lane * WIDTH_PX // lanes, width_px=WIDTH_PX // lanes, face=face)
        for host, lane, lanes in _lanes(height_u, _seen(hosts, face))
    ]
    return FaceDrawing(face.title(), x_px, x_px + WIDTH_PX // 2, boxes, gaps)


def _lanes(height_u: int, hosts: Sequence[Standing]) -> list[tuple[Standing, int, int]]:
    """Return each host with its lane and how many lanes there are; what stands is left of what is planned."""
    lanes: dict[int, int] = {}
    ranked = sorted(range(len(hosts)), key=lambda at: (hosts[at].state == "planned", at))

    def meet(one: Standing, other: Standing) -> bool:
        return one.position_u <= _top_u(other, height_u) and other.position_u <= _top_u(one, height_u)

    for at in ranked:
        taken = {lanes[other] for other in lanes if meet(hosts[at], hosts[other])}
        lanes[at] = next(lane for lane in range(len(hosts)) if lane not in taken)
    counts = {at: 1 + max(lanes[other] for other in lanes if meet(hosts[at], hosts[other])) for at in lanes}
    for _ in hosts:  # a chain of overlaps shares one count, or its boxes would cover each other
        wider = {at: max(counts[o] for o in counts if meet(hosts[at], hosts[o])) for at in counts}
        if wider == counts:
            break
        counts = wider
    return [(host, lanes[at], counts[at]) for at, host in enumerate(hosts)]


def _box_draw(height_u: int, host: Standing, *, x_px: int, width_px: int, face: str) -> Box:
    top_u = _top_u(host, height_u)
    y_px, units = (height_u - top_u) * UNIT_PX, top_u - host.position_u + 1
    middle_px = y_px + units * UNIT_PX / 2
    is_back = host.face != face
    band_px = BAND_PX if host.state == "in maintenance" and not is_back else 0
    text_x_px, room_px = x_px + 2 + band_px + PAD_PX, width_px - 4 - band_px - 2 * PAD_PX
    label, lines = _words(host, units, room_px)
    first_px = middle_px - len(lines) * LINE_PX / 2 if units > 1 else middle_px
    right_px = x_px + width_px - 2 - PAD_PX
    marks = [
        Words(line, right_px, middle_px, is_right=True)
        if units == 1
        else Words(line, text_x_px, first_px + at * LINE_PX, is_right=False)
        for at, line in enumerate(lines, start=1)
    ]
    state = f"{STATE_WORDS[host.state]} {host.note}".strip()
    said = [host.title, state, "seen from behind" if is_back else "", f"units {host.position_u} to {top_u}"]
    kinds = ["back" if is_back else "face", host.state.replace(" ", "-"), "homegrown" if host.is_homegrown else "gpu"]
    return Box(
        y_px=y_px,
        height_px=units * UNIT_PX,
        text_y_px=first_px,
        label=label,
        title=", ".join(filter(None, said)),
        is_homegrown=host.is_homegrown,
        x_px=x_px + 2,
        width_px=width_px - 4,
        text_x_px=text_x_px,
        url=host.url,
        style=" ".join(kinds),
        marks=marks,
        hatch=hatch_path(x_px + 2, y_px + 1, width_px - 4, units * UNIT_PX - 2, 9) if is_back else "",
        band_px=band_px,
    )


def _words(host: Standing, units: int, room_px: float) -> tuple[str, list[str]]:
    """Return the label and the lines of the state, cut to their room: the state's word stays, the rest gives way."""
    word, full = STATE_WORDS[host.state], f"{STATE_WORDS[host.state]} {host.note}".strip()
    if not full:
        return text_cut(host.label, room_px, NAME_PX), []
    if units > 1:
        lines = text_wrap(full, room_px, MARK_PX)
        if len(lines) >= units * UNIT_PX // LINE_PX:  # the label has a line of its own
            lines = [word or host.note]
        return text_cut(host.label, room_px, NAME_PX), [text_cut(line, room_px, MARK_PX) for line in lines]
    wanted_px = min(text_width_px(host.label, NAME_PX), LABEL_LEAST_PX) + PAD_PX
    mark = full if text_width_px(full, MARK_PX) + wanted_px <= room_px else word or host.note
    mark = text_cut(mark, room_px, MARK_PX)
    return text_cut(host.label, room_px - text_width_px(mark, MARK_PX) - PAD_PX, NAME_PX), [mark]
