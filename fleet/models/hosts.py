"""Host types and hosts: the machines that hold the chips."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from accelerator import UnknownChipError, chip_get
from fleet.models.places import Rack
from fleet.models.versioned import HEIGHT_MOST_U, POWER_MOST_W, Dated, Versioned, between, dates_sound, rule

CHIPS_MOST = 100_000  # in one host


def check_chip(name: str) -> None:
    """Refuse a chip that the catalog does not know, with the closest names."""
    try:
        chip_get(name)
    except UnknownChipError as error:
        raise ValidationError(str(error)) from error


class HostType(Versioned):
    """A machine as it is bought: so many chips of one kind, its height and the power to plan with."""

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
        ]

    def __str__(self) -> str:
        return self.name


class Host(Versioned, Dated):
    """One machine in one rack."""

    slug = models.SlugField(unique=True)
    host_type = models.ForeignKey(HostType, models.PROTECT, related_name="hosts")
    rack = models.ForeignKey(Rack, models.PROTECT, related_name="hosts")
    position_u = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(HEIGHT_MOST_U)],
        help_text="Lowest rack unit it fills. [U]",
    )

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("host"),
            rule("host_position", Q(position_u__lte=HEIGHT_MOST_U), f"position_u is at most {HEIGHT_MOST_U}"),
        ]
        indexes = [models.Index(fields=["rack", "host_type"])]

    def __str__(self) -> str:
        return self.slug
