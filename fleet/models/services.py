"""Services that the fleet serves, where they run, and on which chips their software is ready."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accelerator import PROFILES, UnknownModelError, model_get
from fleet.models.hosts import CHIPS_MOST, RANK_MOST, Host, HostType, check_chip
from fleet.models.places import Region, Site
from fleet.models.versioned import Dated, Versioned, between, check_day, dates_sound, days_in_reach, rule

DEMAND_MOST_REQUEST_S = 1e9  # every human being once in eight seconds
TOK_MOST_S = 1e9
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


class Service(Versioned, Dated):
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
            days_in_reach("service_demand_on_in_reach", "demand_on"),
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
            *dates_sound("service"),
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


class Gate(Versioned):
    """One of the eight gates that software of a model family passes on a chip, with its evidence and who signed."""

    class Number(models.TextChoices):
        MEMORY = "G1", "G1 loads in memory at an allowed precision"
        OPERATORS = "G2", "G2 operators on the device, by time"
        FEATURES = "G3", "G3 features that the endpoint uses"
        QUALITY = "G4", "G4 quality parity"
        LATENCY = "G5", "G5 latency promise at target load"
        SOAK = "G6", "G6 soak without hang or leak"
        SECURITY = "G7", "G7 signed firmware, attestation, isolation"
        OPERATIONS = "G8", "G8 exporter, alarms, repair, spares"

    class State(models.TextChoices):
        PASSED = "passed", "passed"
        PARTLY = "partly", "experimental"
        FAILED = "failed", "failed"
        OPEN = "open", "not tested"

    family = models.SlugField(help_text="Model family, as qwen3 or deepseek-v3.")
    chip = models.CharField(max_length=64, validators=[check_chip], help_text="Slug of the chip in the catalog.")
    gate = models.CharField(max_length=2, choices=Number.choices)
    state = models.CharField(max_length=6, choices=State.choices, default=State.OPEN)
    expected_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="Day on which it should be passed. [date]"
    )
    decided_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="Day of the evidence. [date]"
    )
    evidence = models.CharField(max_length=200, blank=True, help_text="What was run, with its figure and unit.")
    owner = models.CharField(max_length=80, blank=True, help_text="Who brings it about.")
    signed_by = models.CharField(max_length=80, blank=True, help_text="Who signed it off.")

    class Meta:
        ordering = ["family", "chip", "gate"]
        constraints = [
            models.UniqueConstraint(fields=["family", "chip", "gate"], name="gate_once"),
            days_in_reach("gate_days_in_reach", "expected_on", "decided_on"),
            rule(
                "gate_passed_is_signed",
                ~Q(state="passed") | (Q(decided_on__isnull=False) & ~Q(evidence="") & ~Q(signed_by="")),
                "a passed gate names its day, its evidence and who signed it",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.gate} of {self.family} on {self.chip}"


class Endpoint(Versioned, Dated):
    """An address of a service at a site: what clients of a region are routed to."""

    slug = models.SlugField(unique=True)
    service = models.ForeignKey(Service, models.PROTECT, related_name="endpoints")
    site = models.ForeignKey(Site, models.PROTECT, related_name="endpoints")
    share_ratio = models.FloatField(
        default=1, validators=between(0, 1), help_text="Of the service's traffic that comes here. [-]"
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("endpoint"),
            rule("endpoint_share", Q(share_ratio__range=(0, 1)), "share_ratio lies between 0 and 1"),
        ]

    def __str__(self) -> str:
        return self.slug


class Deployment(Versioned, Dated):
    """Replicas of one rated config behind an endpoint, on hosts of one type."""

    slug = models.SlugField(unique=True)
    endpoint = models.ForeignKey(Endpoint, models.PROTECT, related_name="deployments")
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="deployments")
    config = models.CharField(max_length=120, help_text="As the rating names it: precision, TP, PP, EP, batch limits.")
    replica_chips = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(CHIPS_MOST)], help_text="Chips of one replica. [-]"
    )
    replica_tok_s = models.FloatField(
        validators=between(0, TOK_MOST_S), help_text="Output of one replica within the promise, P50. [tok/s]"
    )
    rating_digest = models.CharField(max_length=64, blank=True, help_text="Of the rating that says so; empty: stated.")

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("deployment"),
            rule(
                "deployment_chips",
                Q(replica_chips__gt=0, replica_chips__lte=CHIPS_MOST),
                f"replica_chips lies between 1 and {CHIPS_MOST}",
            ),
            rule(
                "deployment_rate",
                Q(replica_tok_s__range=(0, TOK_MOST_S)),
                f"replica_tok_s lies between 0 and {TOK_MOST_S:g}",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Placement(Versioned, Dated):
    """Replicas of a deployment on one host; or the share of one replica that spans the hosts of a `unit`."""

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="placements")
    host = models.ForeignKey(Host, models.PROTECT, related_name="placements")
    replicas = models.PositiveIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(CHIPS_MOST)],
        help_text="Whole replicas on the host; 1 where it is a part of a unit. [-]",
    )
    unit = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(RANK_MOST)],
        help_text="Hosts of one number hold one replica together; empty: replicas end within the host. [-]",
    )

    class Meta:
        ordering = ["deployment_id", "host_id"]
        constraints = [
            models.UniqueConstraint(fields=["deployment", "host"], name="placement_once"),
            *dates_sound("placement"),
            rule(
                "placement_replicas",
                Q(unit__isnull=True, replicas__gt=0, replicas__lte=CHIPS_MOST) | Q(unit__isnull=False, replicas=1),
                f"replicas lies between 1 and {CHIPS_MOST}, and is 1 in a unit",
            ),
            rule("placement_unit", Q(unit__isnull=True) | Q(unit__lte=RANK_MOST), f"unit is at most {RANK_MOST}"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id} on {self.host_id}"
