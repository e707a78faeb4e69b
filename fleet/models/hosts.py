"""Host types, hosts, and what they are made of: scale-up domains, cards with their lots and firmware, maintenance."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from accelerator import UnknownChipError, chip_get
from fleet.models.places import PORTS_MOST, WEIGHT_MOST_KG, Cooling, Rack, Site
from fleet.models.versioned import (
    HEIGHT_MOST_U,
    POWER_MOST_W,
    Dated,
    Versioned,
    between,
    check_day,
    dates_sound,
    days_in_reach,
    rule,
)

CHIPS_MOST = 100_000  # in one host
RANK_MOST = 1_000_000


class Currency(models.TextChoices):
    """In which a price is written down."""

    CNY = "CNY", "CNY"
    USD = "USD", "USD"


def check_chip(name: str) -> None:
    """Refuse a chip that the catalog does not know, with the closest names."""
    try:
        chip_get(name)
    except UnknownChipError as error:
        raise ValidationError(str(error)) from error


class HostType(Versioned, Dated):
    """A machine as it is bought: so many chips of one kind, its height, power, weight and ports.

    Its dates are those of the type: from when it may be ordered, and until when.
    """

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    chip = models.CharField(max_length=64, validators=[check_chip], help_text="Slug of the chip in the catalog.")
    chips = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(CHIPS_MOST)], help_text="Chips in one host. [-]"
    )
    height_u = models.PositiveIntegerField(validators=[MaxValueValidator(HEIGHT_MOST_U)], help_text="Rack units. [U]")
    power_w = models.FloatField(
        validators=between(1, POWER_MOST_W),
        help_text="Power to plan with: the whole host at full inference load. [W]",
    )
    idle_w = models.FloatField(
        validators=between(0, POWER_MOST_W), help_text="Power of the whole host without load. [W]"
    )
    typical_w = models.FloatField(
        null=True, blank=True, validators=between(0, POWER_MOST_W), help_text="Measured mean of a day in service. [W]"
    )
    nameplate_w = models.FloatField(
        null=True, blank=True, validators=between(1, POWER_MOST_W), help_text="As its plate says. [W]"
    )
    power_factor_ratio = models.FloatField(
        default=1, validators=between(0.5, 1), help_text="Power over apparent power at full load. [-]"
    )
    cooling = models.CharField(max_length=8, choices=Cooling.choices, default=Cooling.AIR)
    full_depth = models.BooleanField(default=True, help_text="Whether nothing fits behind it.")
    ports = models.PositiveIntegerField(
        default=0, validators=[MaxValueValidator(PORTS_MOST)], help_text="Network ports that it needs. [-]"
    )
    weight_kg = models.FloatField(default=0, validators=between(0, WEIGHT_MOST_KG), help_text="0: not known. [kg]")
    price = models.DecimalField(
        max_digits=14,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Of one host, in `currency`.",
    )
    currency = models.CharField(max_length=3, choices=Currency.choices, default=Currency.CNY)
    source = models.CharField(max_length=200, help_text="Where the power figures come from.")

    class Meta:
        ordering = ["slug"]
        constraints = [
            rule(
                "host_type_has_chips",
                Q(chips__gt=0, chips__lte=CHIPS_MOST),
                f"a host type has at least one chip and at most {CHIPS_MOST}",
            ),
            rule("host_type_height", Q(height_u__lte=HEIGHT_MOST_U), f"height_u is at most {HEIGHT_MOST_U}"),
            rule(
                "host_type_power_positive",
                Q(power_w__gt=0, power_w__lte=POWER_MOST_W),
                f"power_w is positive and at most {POWER_MOST_W:.0f}",
            ),
            rule(
                "host_type_idle_not_negative",
                Q(idle_w__gte=0, idle_w__lte=F("power_w")),
                "idle_w lies between 0 and power_w",
            ),
            rule(
                "host_type_typical",
                Q(typical_w__isnull=True) | Q(typical_w__gte=0, typical_w__lte=POWER_MOST_W),
                f"typical_w lies between 0 and {POWER_MOST_W:.0f}",
            ),
            rule(
                "host_type_nameplate",
                Q(nameplate_w__isnull=True) | Q(nameplate_w__gt=0, nameplate_w__lte=POWER_MOST_W),
                f"nameplate_w is positive and at most {POWER_MOST_W:.0f}",
            ),
            rule(
                "host_type_power_factor",
                Q(power_factor_ratio__range=(0.5, 1)),
                "power_factor_ratio lies between 0.5 and 1",
            ),
            rule("host_type_ports", Q(ports__lte=PORTS_MOST), f"ports is at most {PORTS_MOST}"),
            rule(
                "host_type_weight",
                Q(weight_kg__range=(0, WEIGHT_MOST_KG)),
                f"weight_kg lies between 0 and {WEIGHT_MOST_KG:.0f}",
            ),
            rule("host_type_price", Q(price__isnull=True) | Q(price__gte=0), "price is not negative"),
            *dates_sound("host_type"),
        ]

    def __str__(self) -> str:
        return self.name


class ScaleUpDomain(Versioned, Dated):
    """Chips on one fast fabric: what a replica may span without the slower network. It fails as a whole."""

    slug = models.SlugField(unique=True)
    site = models.ForeignKey(Site, models.PROTECT, related_name="scale_up_domains")
    chips = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(CHIPS_MOST)], help_text="Chips that it joins. [-]"
    )
    link_byte_s = models.FloatField(
        null=True, blank=True, validators=between(1, 1e15), help_text="Of one chip, per direction. [byte/s]"
    )
    switched = models.BooleanField(default=True, help_text="Whether chips meet in switches, not by direct links.")

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("scale_up_domain"),
            rule(
                "scale_up_domain_chips",
                Q(chips__gt=0, chips__lte=CHIPS_MOST),
                f"a domain has at least one chip and at most {CHIPS_MOST}",
            ),
            rule(
                "scale_up_domain_link",
                Q(link_byte_s__isnull=True) | Q(link_byte_s__gt=0, link_byte_s__lte=1e15),
                "link_byte_s is positive and at most 1e15",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Host(Versioned, Dated):
    """One machine in one rack."""

    class Face(models.TextChoices):
        FRONT = "front", "front"
        REAR = "rear", "rear"

    slug = models.SlugField(unique=True)
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="hosts")
    rack = models.ForeignKey(Rack, models.PROTECT, related_name="hosts")
    position_u = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(HEIGHT_MOST_U)],
        help_text="Lowest rack unit it fills. [U]",
    )
    face = models.CharField(max_length=5, choices=Face.choices, default=Face.FRONT)
    scale_up_domain = models.ForeignKey(ScaleUpDomain, models.PROTECT, null=True, blank=True, related_name="hosts")

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("host"),
            rule(
                "host_position",
                Q(position_u__isnull=True) | Q(position_u__gte=1, position_u__lte=HEIGHT_MOST_U),
                f"position_u lies between 1 and {HEIGHT_MOST_U}",
            ),
        ]
        indexes = [models.Index(fields=["rack", "host_type"])]

    def __str__(self) -> str:
        return self.slug


class Maintenance(Versioned):
    """A time in which a host serves nothing: it stands and draws, and its replicas are elsewhere."""

    class Kind(models.TextChoices):
        DRAIN = "drain", "drained"
        REPAIR = "repair", "in repair"
        QUARANTINE = "quarantine", "in quarantine"

    slug = models.SlugField(unique=True)
    host = models.ForeignKey(Host, models.CASCADE, related_name="maintenance")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    starts_on = models.DateField(validators=[check_day], help_text="First day. [date]")
    ends_on = models.DateField(
        null=True, blank=True, validators=[check_day], help_text="First day back; empty: not known. [date]"
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["starts_on", "slug"]
        verbose_name_plural = "maintenance"
        constraints = [
            days_in_reach("maintenance_days_in_reach", "starts_on", "ends_on"),
            rule(
                "maintenance_dates",
                Q(ends_on__isnull=True) | Q(ends_on__gt=F("starts_on")),
                "ends_on comes before starts_on",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class FirmwareSet(Versioned, Dated):
    """Driver, firmware and runtime of a chip as one release. A later release has a higher `rank`."""

    slug = models.SlugField(unique=True)
    chip = models.CharField(max_length=64, validators=[check_chip], help_text="Slug of the chip in the catalog.")
    rank = models.PositiveIntegerField(
        validators=[MaxValueValidator(RANK_MOST)], help_text="Order of the chip's releases. [-]"
    )
    note = models.CharField(max_length=200, blank=True, help_text="Versions of driver, firmware and runtime.")

    class Meta:
        ordering = ["chip", "rank", "slug"]
        constraints = [
            models.UniqueConstraint(fields=["chip", "rank"], name="firmware_set_rank_once"),
            rule("firmware_set_rank", Q(rank__lte=RANK_MOST), f"rank is at most {RANK_MOST}"),
            *dates_sound("firmware_set"),
        ]

    def __str__(self) -> str:
        return self.slug


class Lot(Versioned, Dated):
    """Cards that were made and bought together: where they come from."""

    class Channel(models.TextChoices):
        DIRECT = "direct", "from the maker"
        DISTRIBUTOR = "distributor", "through a distributor"
        INTERNAL = "internal", "of our own make"
        SECONDARY = "secondary", "second hand"
        UNKNOWN = "unknown", "not known"

    slug = models.SlugField(unique=True)
    chip = models.CharField(max_length=64, validators=[check_chip], help_text="Slug of the chip in the catalog.")
    foundry = models.CharField(max_length=80, blank=True, help_text="Who made the silicon; empty: not known.")
    hbm_maker = models.CharField(max_length=80, blank=True, help_text="Who made the memory; empty: not known.")
    channel = models.CharField(max_length=12, choices=Channel.choices, default=Channel.UNKNOWN)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["slug"]
        constraints = [*dates_sound("lot")]

    def __str__(self) -> str:
        return self.slug


class Card(Versioned, Dated):
    """One installed chip."""

    class Attestation(models.TextChoices):
        UNKNOWN = "unknown", "never asked"
        PASSED = "passed", "passed"
        FAILED = "failed", "failed"
        EXPIRED = "expired", "expired"

    serial = models.CharField(max_length=64, unique=True, help_text="As on the card.")
    host = models.ForeignKey(Host, models.PROTECT, related_name="cards")
    slot = models.PositiveIntegerField(validators=[MaxValueValidator(CHIPS_MOST)], help_text="Place in the host. [-]")
    lot = models.ForeignKey(Lot, models.PROTECT, null=True, blank=True, related_name="cards")
    firmware = models.ForeignKey(FirmwareSet, models.PROTECT, null=True, blank=True, related_name="cards")
    attestation = models.CharField(max_length=8, choices=Attestation.choices, default=Attestation.UNKNOWN)
    attested_on = models.DateField(null=True, blank=True, validators=[check_day], help_text="Last asked. [date]")

    class Meta:
        ordering = ["serial"]
        constraints = [
            *dates_sound("card"),
            days_in_reach("card_attested_in_reach", "attested_on"),
            rule("card_slot", Q(slot__lte=CHIPS_MOST), f"slot is at most {CHIPS_MOST}"),
        ]

    def __str__(self) -> str:
        return self.serial
