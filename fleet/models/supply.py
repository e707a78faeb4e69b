"""What is on its way: deliveries that may come late or short."""

from django.db import models
from django.db.models import F, Q

from fleet.models.hosts import HostType
from fleet.models.places import Site
from fleet.models.versioned import Versioned, rule


class Delivery(Versioned):
    """An order of hosts for a site: the day that was promised, and how far such promises slip and shrink."""

    slug = models.SlugField(unique=True)
    site = models.ForeignKey(Site, models.PROTECT, related_name="deliveries")
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="deliveries")
    quantity = models.PositiveIntegerField(help_text="Hosts ordered. [-]")
    expected_on = models.DateField(help_text="Day that the supplier names. [date]")
    slip_p50_days = models.FloatField(default=0, help_text="Half of such deliveries come at least this late. [d]")
    slip_p90_days = models.FloatField(default=0, help_text="One in ten comes at least this late. [d]")
    received_on = models.DateField(
        null=True, blank=True, help_text="Day from which its hosts are entered as hosts; empty: on its way. [date]"
    )
    fill_ratio = models.FloatField(default=1, help_text="Share of the order that arrives usable, expected. [-]")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["expected_on", "slug"]
        verbose_name_plural = "deliveries"
        constraints = [
            rule("delivery_of_something", Q(quantity__gt=0), "quantity is at least 1"),
            rule(
                "delivery_slip_in_order",
                Q(slip_p50_days__gte=0, slip_p90_days__gte=F("slip_p50_days"), slip_p90_days__lte=3650),
                "slip_p50_days and slip_p90_days rise in this order, from 0 to 3650",
            ),
            rule(
                "delivery_fill_is_a_share", Q(fill_ratio__gte=0, fill_ratio__lte=1), "fill_ratio lies between 0 and 1"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.host_type.slug} for {self.site.slug} on {self.expected_on}"
