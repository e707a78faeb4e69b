"""Input rules of scenarios and schedules, one function per rule. Each raises ValidationError that names its field."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from django.core.exceptions import ValidationError

from fleet.models import Service
from fleet.models.versioned import DAY_FIRST, DAY_LAST
from scenarios.demand import months_between
from scenarios.planning.params import PARAMS
from scenarios.planning.plain import ProblemError, plain_read

HORIZON_MAX_MONTHS = 120


def check_horizon(*, starts_on: date, ends_on: date) -> None:
    """A scenario does not end before it begins, and asks about at most ten years."""
    if ends_on < starts_on:
        raise ValidationError({"ends_on": f"the scenario ends on {ends_on}, before it begins on {starts_on}"})
    for field, day in (("starts_on", starts_on), ("ends_on", ends_on)):
        if not DAY_FIRST <= day <= DAY_LAST:
            raise ValidationError({field: f"{day} is out of reach: a day from {DAY_FIRST} to {DAY_LAST} is needed"})
    months = months_between(starts_on, ends_on) + 1
    if months > HORIZON_MAX_MONTHS:
        raise ValidationError({"ends_on": f"{months} months are too many: at most {HORIZON_MAX_MONTHS}"})


def check_services(slugs: Any) -> None:
    """The services asked about exist, and none is named twice."""
    if not isinstance(slugs, list) or not all(isinstance(slug, str) for slug in slugs):
        raise ValidationError({"services": "a list of service slugs is needed, such as ['chat']"})
    known = set(Service.objects.values_list("slug", flat=True))
    unknown = [slug for slug in slugs if slug not in known]
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        raise ValidationError({"services": f"unknown service {unknown[0]!r}; there are: {there}"})
    if len(set(slugs)) != len(slugs):
        raise ValidationError({"services": "a service is named twice"})


def check_params(kind: str, params: Any) -> None:
    """What a kind of scenario takes besides is known, of its type and within its range."""
    known = PARAMS.get(kind)
    if known is None:
        if params:
            raise ValidationError({"params": f"a {kind} scenario takes none"})
        return
    try:
        plain_read(known, params, place="params")
    except ProblemError as error:
        raise ValidationError({"params": [f"{place}: {text}" for place, text in error.errors]}) from None


def check_cron(expression: str) -> None:
    """A cron expression of five fields that will fire again."""
    try:
        next(CronSim(expression, datetime(2026, 1, 1)))  # noqa: DTZ001 -- only the expression is tried here
    except CronSimError as error:
        raise ValidationError({"cron": f"{expression!r} is not a cron expression: {error}"}) from error
    except StopIteration:
        raise ValidationError({"cron": f"{expression!r} never fires"}) from None


def check_zone(name: str) -> None:
    """A time zone of the IANA data base."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValidationError({"zone": f"{name!r} is not an IANA time zone, such as Asia/Shanghai"}) from None


def check_scenario(values: Mapping[str, Any]) -> None:
    """Apply every rule of a scenario and raise all violations at once."""
    _all(
        lambda: check_horizon(starts_on=values["starts_on"], ends_on=values["ends_on"]),
        lambda: check_services(values.get("services", [])),
        lambda: check_params(values["kind"], values.get("params", {})),
    )


def check_schedule(values: Mapping[str, Any]) -> None:
    """Apply every rule of a schedule and raise all violations at once."""
    _all(lambda: check_cron(values["cron"]), lambda: check_zone(values["zone"]))


def _all(*rules: Callable[[], None]) -> None:
    errors: dict[str, list[str]] = {}
    for rule in rules:
        try:
            rule()
        except ValidationError as error:
            for field, messages in error.message_dict.items():
                errors.setdefault(field, []).extend(messages)
    if errors:
        raise ValidationError(errors)
