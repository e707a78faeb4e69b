"""What is on its way: deliveries that may come late or short."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from fleet.models.hosts import HostType
from fleet.models.places import Site
from fleet.models.versioned import Versioned, between, check_day, days_in_reach, rule

QUANTITY_MOST = 10_000_000
SLIP_LEAST_DAYS, SLIP_MOST_DAYS = 0.01, 3650  # below the least a quarter of an hour: on time, and no ratio to take


def check_slip(days: float) -> None:
    """Refuse a slip that is neither none nor long enough to form a ratio with."""
    if 0 < days < SLIP_LEAST_DAYS:
        raise ValidationError(f"{days} is neither 0 nor at least {SLIP_LEAST_DAYS}")


class Delivery(Versioned):
    """An order of hosts for a site: the day that was promised, and how far such promises slip and shrink."""

    slug = models.SlugField(unique=True)
    site = models.ForeignKey(Site, models.PROTECT, related_name="deliveries")
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="deliveries")
    quantity = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(QUANTITY_MOST)], help_text="Hosts ordered. [-]"
    )
    expected_on = models.DateField(validators=[check_day], help_text="Day that the supplier names. [date]")
    slip_p50_days = models.FloatField(
        default=0,
        validators=[*between(0, SLIP_MOST_DAYS), check_slip],
        help_text="Half of such deliveries come at least this late. [d]",
    )
    slip_p90_days = models.FloatField(
        default=0, validators=between(0, SLIP_MOST_DAYS), help_text="One in ten comes at least this late. [d]"
    )
    received_on = models.DateField(
        null=True,
        blank=True,
        validators=[check_day],
        help_text="Day from which its hosts are entered as hosts; empty: on its way. [date]",
    )
    fill_ratio = models.FloatField(
        default=1, validators=between(0, 1), help_text="Share of the order that arrives usable, expected. [-]"
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["expected_on", "slug"]
        verbose_name_plural = "deliveries"
        constraints = [
            days_in_reach("delivery_days_in_reach", "expected_on", "received_on"),
            rule(
                "delivery_of_something",
                Q(quantity__gt=0, quantity__lte=QUANTITY_MOST),
                f"quantity lies between 1 and {QUANTITY_MOST}",
            ),
            rule(
                "delivery_slip_none_or_some",
                Q(slip_p50_days=0) | Q(slip_p50_days__gte=SLIP_LEAST_DAYS),
                f"slip_p50_days is 0 or at least {SLIP_LEAST_DAYS}",
            ),
            rule(
                "delivery_slip_in_order",
                Q(slip_p50_days__gte=0, slip_p90_days__gte=F("slip_p50_days"), slip_p90_days__lte=SLIP_MOST_DAYS),
                f"slip_p50_days and slip_p90_days rise in this order, from 0 to {SLIP_MOST_DAYS}",
            ),
            rule(
                "delivery_fill_is_a_share", Q(fill_ratio__gte=0, fill_ratio__lte=1), "fill_ratio lies between 0 and 1"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.host_type.slug} for {self.site.slug} on {self.expected_on}"
