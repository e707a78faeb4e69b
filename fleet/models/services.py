"""Services that the fleet serves, and on which chips their software is ready."""

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from accelerator import PROFILES, UnknownModelError, model_get
from fleet.models.hosts import check_chip
from fleet.models.places import Region
from fleet.models.versioned import Versioned, between, check_day, days_in_reach, rule

DEMAND_MOST_REQUEST_S = 1e9  # every human being once in eight seconds
LIMIT_LEAST_S, LIMIT_MOST_S = 1e-6, 1e6


def check_model(name: str) -> None:
    """Refuse a model that the catalog does not know, with the closest names."""
    try:
        model_get(name)
    except UnknownModelError as error:
        raise ValidationError(str(error)) from error


def check_profile(name: str) -> None:
    """Refuse a workload profile that is not built in."""
    if name not in PROFILES:
        raise ValidationError(f"unknown workload profile {name!r}; there are: {', '.join(sorted(PROFILES))}")


class Service(Versioned):
    """One model offered under one latency promise, with the demand of its busiest hour and its growth."""

    class Tier(models.TextChoices):
        GOLD = "gold", "gold"
        STANDARD = "standard", "standard"
        BATCH = "batch", "batch"

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    region = models.ForeignKey(Region, models.PROTECT, related_name="services")
    model = models.CharField(max_length=64, validators=[check_model], help_text="Slug of the model in the catalog.")
    profile = models.CharField(max_length=32, validators=[check_profile], help_text="Built-in mix of lengths.")
    tier = models.CharField(max_length=12, choices=Tier.choices, default=Tier.STANDARD)
    ttft_s = models.FloatField(
        validators=between(LIMIT_LEAST_S, LIMIT_MOST_S), help_text="Time to first token, limit at the percentile. [s]"
    )
    tpot_s = models.FloatField(
        validators=between(LIMIT_LEAST_S, LIMIT_MOST_S), help_text="Time per output token, limit at the percentile. [s]"
    )
    percentile = models.FloatField(
        default=0.95, validators=between(0, 1), help_text="Share of requests that must keep both limits. [-]"
    )
    demand_on = models.DateField(validators=[check_day], help_text="Month in which the demand was measured. [date]")
    demand_request_s = models.FloatField(
        validators=between(0, DEMAND_MOST_REQUEST_S), help_text="Requests in the busiest hour of that month. [1/s]"
    )
    growth_ratio = models.FloatField(
        validators=between(-1, 1), help_text="Growth of the busiest hour per month, middle of the band. [1/month]"
    )
    growth_low_ratio = models.FloatField(validators=between(-1, 1), help_text="P10 of the growth per month. [1/month]")
    growth_high_ratio = models.FloatField(validators=between(-1, 1), help_text="P90 of the growth per month. [1/month]")
    movable = models.BooleanField(default=True, help_text="False: it may never leave its GPUs.")
    note = models.CharField(max_length=200, blank=True, help_text="Why it may not move, or who owns it.")

    class Meta:
        ordering = ["slug"]
        constraints = [
            days_in_reach("service_days_in_reach", "demand_on"),
            rule(
                "service_limits_positive",
                Q(ttft_s__range=(LIMIT_LEAST_S, LIMIT_MOST_S), tpot_s__range=(LIMIT_LEAST_S, LIMIT_MOST_S)),
                f"ttft_s and tpot_s lie between {LIMIT_LEAST_S:g} and {LIMIT_MOST_S:g}",
            ),
            rule("service_percentile", Q(percentile__gt=0, percentile__lt=1), "percentile lies between 0 and 1"),
            rule(
                "service_demand_not_negative",
                Q(demand_request_s__gte=0, demand_request_s__lte=DEMAND_MOST_REQUEST_S),
                f"demand_request_s lies between 0 and {DEMAND_MOST_REQUEST_S:g}",
            ),
            rule(
                "service_growth_band_in_order",
                Q(growth_low_ratio__gt=-1)
                & Q(growth_low_ratio__lte=models.F("growth_ratio"))
                & Q(growth_ratio__lte=models.F("growth_high_ratio"))
                & Q(growth_high_ratio__lte=1),
                "growth_low_ratio, growth_ratio and growth_high_ratio rise in this order, above -1 and up to 1",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Readiness(Versioned):
    """The day on which a service's software is signed off on a homegrown chip; without a row it is not ready."""

    service = models.ForeignKey(Service, models.CASCADE, related_name="readiness")
    chip = models.CharField(max_length=64, validators=[check_chip], help_text="Slug of the chip in the catalog.")
    ready_on = models.DateField(validators=[check_day], help_text="First day it may serve there. [date]")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["service_id", "chip"]
        verbose_name_plural = "readiness"
        constraints = [
            models.UniqueConstraint(fields=["service", "chip"], name="readiness_once_per_chip"),
            days_in_reach("readiness_days_in_reach", "ready_on"),
        ]

    def __str__(self) -> str:
        return f"{self.service_id} on {self.chip} from {self.ready_on}"
