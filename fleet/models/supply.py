"""What is on its way: deliveries that may come late or short."""

from django.db import models
from django.db.models import F, Q

from fleet.models.hosts import HostType
from fleet.models.places import Site
from fleet.models.versioned import Versioned


class Delivery(Versioned):
    """An order of hosts for a site: the day that was promised, and how far such promises slip and shrink."""

    slug = models.SlugField(unique=True)
    site = models.ForeignKey(Site, models.PROTECT, related_name="deliveries")
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="deliveries")
    quantity = models.PositiveIntegerField(help_text="Hosts ordered. [-]")
    expected_on = models.DateField(help_text="Day that the supplier names. [date]")
    slip_p50_days = models.FloatField(default=0, help_text="Half of such deliveries come at least this late. [d]")
    slip_p90_days = models.FloatField(default=0, help_text="One in ten comes at least this late. [d]")
    fill_ratio = models.FloatField(default=1, help_text="Share of the order that arrives usable, expected. [-]")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["expected_on", "slug"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="delivery_of_something"),
            models.CheckConstraint(
                condition=Q(slip_p50_days__gte=0, slip_p90_days__gte=F("slip_p50_days")), name="delivery_slip_in_order"
            ),
            models.CheckConstraint(condition=Q(fill_ratio__gte=0, fill_ratio__lte=1), name="delivery_fill_is_a_share"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.host_type.slug} for {self.site.slug} on {self.expected_on}"
