"""Host types and hosts: the machines that hold the chips."""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from accelerator import UnknownChipError, chip_get
from fleet.models.places import Rack
from fleet.models.versioned import Dated, Versioned, dates_in_order, rule


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
    chips = models.PositiveIntegerField(validators=[MinValueValidator(1)], help_text="Chips in one host. [-]")
    height_u = models.PositiveIntegerField(help_text="Rack units. [U]")
    power_w = models.FloatField(
        validators=[MinValueValidator(1)], help_text="Power to plan with: the whole host at full inference load. [W]"
    )
    idle_w = models.FloatField(validators=[MinValueValidator(0)], help_text="Power of the whole host without load. [W]")
    source = models.CharField(max_length=200, help_text="Where the power figures come from.")

    class Meta:
        ordering = ["slug"]
        constraints = [
            rule("host_type_has_chips", Q(chips__gt=0), "a host type has at least one chip"),
            rule("host_type_power_positive", Q(power_w__gt=0), "power_w is positive"),
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
    position_u = models.PositiveIntegerField(null=True, blank=True, help_text="Lowest rack unit it fills. [U]")

    class Meta:
        ordering = ["slug"]
        constraints = [dates_in_order("host_dates")]
        indexes = [models.Index(fields=["rack", "host_type"])]

    def __str__(self) -> str:
        return self.slug
