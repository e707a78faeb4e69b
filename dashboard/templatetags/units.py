"""Filters that show a value in base units as people read it. Templates do no other arithmetic."""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from django import template

from dashboard import presenters

register = template.Library()


@register.filter
def quantity(value: float | None, unit: str) -> str:
    """`{{ power_w|quantity:"W" }}` shows kilowatts or megawatts."""
    return presenters.quantity_text(value, unit)


@register.filter
def band(value: Mapping[str, float] | None, unit: str) -> str:
    """`{{ headroom_ratio|band:"ratio" }}` shows the middle and both ends in one unit."""
    return presenters.band_text(value, unit)


@register.filter
def in_zone(value: datetime, zone: str) -> str:
    """`{{ fire_at|in_zone:"Asia/Shanghai" }}` shows a time in a zone, and prints the zone's abbreviation and offset."""
    return f"{value.astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M (UTC%z)}"


@register.filter
def utc(value: datetime | None) -> str:
    """`{{ run.created_at|utc }}` shows a time in UTC and says so."""
    return f"{value:%Y-%m-%d %H:%M} UTC" if value else presenters.UNKNOWN
