"""Rack elevation: where each host stands, as coordinates of a drawing. Values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass

UNIT_PX = 18  # height of one rack unit
LEFT_PX, WIDTH_PX = 34, 250


@dataclass(frozen=True, slots=True)
class Box:
    """One host in the drawing."""

    y_px: int
    height_px: int
    text_y_px: float
    label: str
    title: str
    is_homegrown: bool


@dataclass(frozen=True, slots=True)
class Elevation:
    """A drawing of a rack from its front, unit 1 at the bottom."""

    height_px: int
    boxes: list[Box]
    ticks: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Standing:
    """A host and where it stands: lowest unit [U], height [U]."""

    label: str
    title: str
    position_u: int
    height_u: int
    is_homegrown: bool


def elevation_draw(height_u: int, hosts: Sequence[Standing]) -> Elevation:
    """Return the drawing; a host that reaches beyond the rack is cut at its edge."""
    boxes = []
    for host in hosts:
        top_u = min(host.position_u + host.height_u - 1, height_u)
        units = top_u - host.position_u + 1
        if units <= 0 or host.position_u < 1:
            continue
        y_px = (height_u - top_u) * UNIT_PX
        boxes.append(
            Box(
                y_px=y_px,
                height_px=units * UNIT_PX,
                text_y_px=y_px + units * UNIT_PX / 2,
                label=host.label,
                title=host.title,
                is_homegrown=host.is_homegrown,
            )
        )
    ticks = [(unit, (height_u - unit + 0.5) * UNIT_PX) for unit in range(1, height_u + 1)]
    return Elevation(height_px=height_u * UNIT_PX, boxes=boxes, ticks=ticks)
