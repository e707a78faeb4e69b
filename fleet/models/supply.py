"""What comes and goes: orders and deliveries that may come late or short, retirements, and what policy forbids."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_slug
from django.db import models
from django.db.models import F, Q

from fleet.models.hosts import Currency, FirmwareSet, HostType, check_chip
from fleet.models.places import Region, Site
from fleet.models.versioned import Versioned, between, check_day, days_in_reach, rule

QUANTITY_MOST = 10_000_000
SLIP_LEAST_DAYS, SLIP_MOST_DAYS = 0.01, 3650  # below the least a quarter of an hour: on time, and no ratio to take


def check_slip(days: float) -> None:
    """Refuse a slip that is neither none nor long enough to form a ratio with."""
    if 0 < days < SLIP_LEAST_DAYS:
        raise ValidationError(f"{days} is neither 0 nor at least {SLIP_LEAST_DAYS}")


class Order(Versioned):
    """A contract with a supplier; its hosts come in one or more deliveries."""

    slug = models.SlugField(unique=True)
    supplier = models.CharField(max_length=80)
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(QUANTITY_MOST)], help_text="Hosts ordered. [-]"
    )
    ordered_on = models.DateField(validators=[check_day], help_text="Day of the contract. [date]")
    cancelled_on = models.DateField(null=True, blank=True, validators=[check_day], help_text="[date]")
    unit_price = models.DecimalField(
        max_digits=14,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Of one host, in `currency`.",
    )
    currency = models.CharField(max_length=3, choices=Currency.choices, default=Currency.CNY)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["ordered_on", "slug"]
        constraints = [
            days_in_reach("order_days_in_reach", "ordered_on", "cancelled_on"),
            rule(
                "order_dates",
                Q(cancelled_on__isnull=True) | Q(cancelled_on__gte=F("ordered_on")),
                "cancelled_on comes before ordered_on",
            ),
            rule(
                "order_of_something",
                Q(quantity__gt=0, quantity__lte=QUANTITY_MOST),
                f"quantity lies between 1 and {QUANTITY_MOST}",
            ),
            rule("order_price", Q(unit_price__isnull=True) | Q(unit_price__gte=0), "unit_price is not negative"),
        ]

    def __str__(self) -> str:
        return self.slug


class Delivery(Versioned):
    """Hosts on their way to a site: the day that was promised, and how far such promises slip and shrink."""

    slug = models.SlugField(unique=True)
    order = models.ForeignKey(Order, models.PROTECT, null=True, blank=True, related_name="deliveries")
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
    fill_p10_ratio = models.FloatField(
        null=True,
        blank=True,
        validators=between(0, 1),
        help_text="In one case of ten at most this share arrives usable; empty: as expected. [-]",
    )
    correlation_group = models.CharField(
        max_length=64,
        blank=True,
        validators=[validate_slug],
        help_text="Deliveries that slip and shrink together: one foundry, one maker of memory.",
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
            rule(
                "delivery_fill_in_order",
                Q(fill_p10_ratio__isnull=True) | Q(fill_p10_ratio__gte=0, fill_p10_ratio__lte=F("fill_ratio")),
                "fill_p10_ratio lies between 0 and fill_ratio",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.host_type.slug} for {self.site.slug} on {self.expected_on}"


class Retirement(Versioned):
    """Hosts of a type that leave a site, decided before anybody named them; named hosts carry the day themselves."""

    slug = models.SlugField(unique=True)
    site = models.ForeignKey(Site, models.PROTECT, related_name="retirements")
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="retirements")
    quantity = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(QUANTITY_MOST)], help_text="Hosts that leave. [-]"
    )
    retire_on = models.DateField(validators=[check_day], help_text="First day gone. [date]")
    done_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="Day on which hosts were named; empty: open. [date]"
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["retire_on", "slug"]
        constraints = [
            days_in_reach("retirement_days_in_reach", "retire_on", "done_on"),
            rule(
                "retirement_of_something",
                Q(quantity__gt=0, quantity__lte=QUANTITY_MOST),
                f"quantity lies between 1 and {QUANTITY_MOST}",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.host_type.slug} leave {self.site.slug} on {self.retire_on}"


class PolicyEvent(Versioned):
    """From a day on a chip may not be bought, sold, supported or used; somewhere, or everywhere."""

    class Verb(models.TextChoices):
        BUY = "buy", "not to be bought"
        SELL = "sell", "not to be sold"
        SUPPORT = "support", "no longer supported"
        USE = "use", "not to be used"

    slug = models.SlugField(unique=True)
    chip = models.CharField(max_length=64, validators=[check_chip], help_text="Slug of the chip in the catalog.")
    verb = models.CharField(max_length=8, choices=Verb.choices)
    starts_on = models.DateField(validators=[check_day], help_text="First day on which it holds. [date]")
    ends_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="First day free again; empty: stays. [date]"
    )
    region = models.ForeignKey(
        Region, models.PROTECT, null=True, blank=True, related_name="policy_events", help_text="Empty: everywhere."
    )
    site = models.ForeignKey(
        Site, models.PROTECT, null=True, blank=True, related_name="policy_events", help_text="Empty: the whole region."
    )
    source = models.CharField(max_length=200, help_text="Which rule says so.")

    class Meta:
        ordering = ["starts_on", "slug"]
        constraints = [
            days_in_reach("policy_event_days_in_reach", "starts_on", "ends_on"),
            rule(
                "policy_event_dates",
                Q(ends_on__isnull=True) | Q(ends_on__gt=F("starts_on")),
                "ends_on comes before starts_on",
            ),
            rule(
                "policy_event_one_place",
                Q(region__isnull=True) | Q(site__isnull=True),
                "one place is meant: a region or a site, not both",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.chip}: {self.get_verb_display()} from {self.starts_on}"


class FirmwareBaseline(Versioned):
    """From a day on a chip needs at least this firmware set; somewhere, or everywhere."""

    slug = models.SlugField(unique=True)
    firmware = models.ForeignKey(FirmwareSet, models.PROTECT, related_name="baselines", help_text="The least allowed.")
    starts_on = models.DateField(validators=[check_day], help_text="First day on which it holds. [date]")
    region = models.ForeignKey(
        Region, models.PROTECT, null=True, blank=True, related_name="firmware_baselines", help_text="Empty: everywhere."
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["starts_on", "slug"]
        constraints = [days_in_reach("firmware_baseline_days_in_reach", "starts_on")]

    def __str__(self) -> str:
        return f"{self.firmware_id} from {self.starts_on}"
