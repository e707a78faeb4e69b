"""What people know about the demand of a service that its past does not say: events to come, and better figures."""

from django.db import models
from django.db.models import F, Q

from fleet.models.services import DEMAND_MOST_REQUEST_S, Service
from fleet.models.versioned import Versioned, between, check_day, days_in_reach, rule

MULTIPLIER_MOST_RATIO = 100
REASON_MOST = 200


class DemandEvent(Versioned):
    """Something dated that multiplies a forecast while it lasts: a launch, a holiday, a big client that leaves."""

    slug = models.SlugField(unique=True)
    service = models.ForeignKey(Service, models.CASCADE, related_name="demand_events")
    starts_on = models.DateField(validators=[check_day], help_text="First day of it. [date]")
    ends_on = models.DateField(validators=[check_day], help_text="First day after it. [date]")
    multiplier_low_ratio = models.FloatField(
        validators=between(0, MULTIPLIER_MOST_RATIO), help_text="P10 of demand with it over demand without. [-]"
    )
    multiplier_ratio = models.FloatField(
        validators=between(0, MULTIPLIER_MOST_RATIO), help_text="Demand with it over demand without, P50. [-]"
    )
    multiplier_high_ratio = models.FloatField(
        validators=between(0, MULTIPLIER_MOST_RATIO), help_text="P90 of demand with it over demand without. [-]"
    )
    reason = models.CharField(max_length=REASON_MOST, help_text="What happens, and who says so.")

    class Meta:
        ordering = ["starts_on", "slug"]
        constraints = [
            days_in_reach("demand_event_days_in_reach", "starts_on", "ends_on"),
            rule("demand_event_dates", Q(ends_on__gt=F("starts_on")), "ends_on comes before the day after starts_on"),
            rule(
                "demand_event_multipliers_in_order",
                Q(multiplier_low_ratio__gte=0)
                & Q(multiplier_low_ratio__lte=F("multiplier_ratio"))
                & Q(multiplier_ratio__lte=F("multiplier_high_ratio"))
                & Q(multiplier_high_ratio__lte=MULTIPLIER_MOST_RATIO),
                "multiplier_low_ratio, multiplier_ratio and multiplier_high_ratio rise in this order, "
                f"from 0 to {MULTIPLIER_MOST_RATIO}",
            ),
            rule("demand_event_reason", ~Q(reason=""), "reason is needed"),
        ]

    def __str__(self) -> str:
        return self.slug


class DemandOverride(Versioned):
    """Demand of the busiest hour of some months as somebody knows it better. It replaces the forecast."""

    slug = models.SlugField(unique=True)
    service = models.ForeignKey(Service, models.CASCADE, related_name="demand_overrides")
    first_on = models.DateField(validators=[check_day], help_text="First month: any day of it. [date]")
    last_on = models.DateField(validators=[check_day], help_text="Last month: any day of it. [date]")
    p10_request_s = models.FloatField(
        validators=between(0, DEMAND_MOST_REQUEST_S), help_text="Requests in the busiest hour of each month, P10. [1/s]"
    )
    p50_request_s = models.FloatField(
        validators=between(0, DEMAND_MOST_REQUEST_S), help_text="Requests in the busiest hour of each month, P50. [1/s]"
    )
    p90_request_s = models.FloatField(
        validators=between(0, DEMAND_MOST_REQUEST_S), help_text="Requests in the busiest hour of each month, P90. [1/s]"
    )
    author = models.CharField(max_length=80, help_text="Who knows it better.")
    reason = models.CharField(max_length=REASON_MOST, help_text="How they know.")

    class Meta:
        ordering = ["first_on", "slug"]
        constraints = [
            days_in_reach("demand_override_days_in_reach", "first_on", "last_on"),
            rule("demand_override_dates", Q(last_on__gte=F("first_on")), "last_on comes before first_on"),
            rule(
                "demand_override_band_in_order",
                Q(p10_request_s__gte=0)
                & Q(p10_request_s__lte=F("p50_request_s"))
                & Q(p50_request_s__lte=F("p90_request_s"))
                & Q(p90_request_s__lte=DEMAND_MOST_REQUEST_S),
                "p10_request_s, p50_request_s and p90_request_s rise in this order, "
                f"from 0 to {DEMAND_MOST_REQUEST_S:g}",
            ),
            rule("demand_override_author", ~Q(author=""), "author is needed"),
            rule("demand_override_reason", ~Q(reason=""), "reason is needed"),
        ]

    def __str__(self) -> str:
        return self.slug
