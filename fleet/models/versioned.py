"""What every row of the fleet has: a version that each edit raises, so that two editors never overwrite each other."""

from django.db import models


class Versioned(models.Model):
    """Integer version (the ETag of the row) and the times of making and of the last edit."""

    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Dated(models.Model):
    """Stands in the fleet from `in_service_on` to the day before `out_of_service_on`; open ends are empty."""

    planned_on = models.DateField(null=True, blank=True, help_text="Day of the decision. [date]")
    in_service_on = models.DateField(null=True, blank=True, help_text="First day of use; empty: always was. [date]")
    out_of_service_on = models.DateField(null=True, blank=True, help_text="First day gone; empty: stays. [date]")

    class Meta:
        abstract = True


def rule(name: str, condition: models.Q, message: str) -> models.CheckConstraint:
    """Return a rule that the database enforces, with the sentence that a form shows."""
    return models.CheckConstraint(condition=condition, name=name, violation_error_message=message)


def dates_in_order(name: str) -> models.CheckConstraint:
    """Return the rule that a thing does not end before it begins."""
    open_end = models.Q(in_service_on__isnull=True) | models.Q(out_of_service_on__isnull=True)
    ordered = models.Q(out_of_service_on__gt=models.F("in_service_on"))
    return rule(name, open_end | ordered, "out_of_service_on comes before in_service_on")
