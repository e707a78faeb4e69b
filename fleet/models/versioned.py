"""What every row of the fleet has: a version that each edit raises, so that two editors never overwrite each other.

And the bounds of its values: what no fleet of this world has is refused, so that every sum about it stays finite.
"""

import math
from collections.abc import Callable
from datetime import date
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

DAY_FIRST, DAY_LAST = date(2000, 1, 1), date(2100, 1, 1)
POWER_MOST_W = 1e8  # a whole campus
HEIGHT_MOST_U = 1000


def check_day(day: date) -> None:
    """Refuse a day with which no calendar sum is safe."""
    if not DAY_FIRST <= day <= DAY_LAST:
        raise ValidationError(f"{day} is out of reach: a day from {DAY_FIRST} to {DAY_LAST} is needed")


def check_finite(value: float) -> None:
    """Refuse infinity and what is no number: no comparison finds the latter."""
    if not math.isfinite(value):
        raise ValidationError(f"{value} is not a number to count with")


def between(low: float, high: float) -> list[Callable[[Any], None]]:
    """Return the validators of a finite number from `low` to `high`."""
    return [check_finite, MinValueValidator(low), MaxValueValidator(high)]


class Versioned(models.Model):
    """Integer version (the ETag of the row) and the times of making and of the last edit."""

    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Dated(models.Model):
    """Stands in the fleet from `in_service_on` to the day before `out_of_service_on`; open ends are empty."""

    planned_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="Day of the decision. [date]"
    )
    in_service_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="First day of use; empty: always was. [date]"
    )
    out_of_service_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="First day gone; empty: stays. [date]"
    )

    class Meta:
        abstract = True

    def stands_on(self, day: date) -> bool:
        """Return whether it is in service on a day."""
        first, last = self.in_service_on, self.out_of_service_on
        return (first is None or first <= day) and (last is None or day < last)


def rule(name: str, condition: models.Q, message: str) -> models.CheckConstraint:
    """Return a rule that the database enforces, with the sentence that a form shows."""
    return models.CheckConstraint(condition=condition, name=name, violation_error_message=message)


def days_in_reach(name: str, *fields: str) -> models.CheckConstraint:
    """Return the rule that the days of a row are ones to count with; an empty day is none."""
    reach = models.Q(**{f"{field}__range": (DAY_FIRST, DAY_LAST) for field in fields})
    return rule(name, reach, f"{', '.join(fields)}: a day from {DAY_FIRST} to {DAY_LAST} is needed")


def dates_in_order(name: str) -> models.CheckConstraint:
    """Return the rule that a thing does not end before it begins."""
    open_end = models.Q(in_service_on__isnull=True) | models.Q(out_of_service_on__isnull=True)
    ordered = models.Q(out_of_service_on__gt=models.F("in_service_on"))
    return rule(name, open_end | ordered, "out_of_service_on comes before in_service_on")


def dates_sound(name: str) -> list[models.CheckConstraint]:
    """Return the rules of everything that is dated; their names begin with `name`."""
    return [
        dates_in_order(f"{name}_dates"),
        days_in_reach(f"{name}_days_in_reach", "planned_on", "in_service_on", "out_of_service_on"),
    ]
