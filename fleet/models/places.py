"""Region, site, hall, row, rack: where a host can stand, and how much power it finds there."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from fleet.models.versioned import HEIGHT_MOST_U, POWER_MOST_W, Dated, Versioned, between, dates_sound, rule

PUE_MOST_RATIO = 10


class Region(Versioned):
    """An area with one latency to its users and one policy; services are served inside one region."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class Site(Versioned, Dated):
    """A campus on one utility feed. Hosts of a region's sites share its load."""

    region = models.ForeignKey(Region, models.PROTECT, related_name="sites")
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    pue_ratio = models.FloatField(
        default=1.3, validators=between(1, PUE_MOST_RATIO), help_text="Facility power per IT power, yearly mean. [-]"
    )

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("site"),
            rule(
                "site_pue_at_least_one",
                Q(pue_ratio__gte=1, pue_ratio__lte=PUE_MOST_RATIO),
                f"pue_ratio lies between 1 and {PUE_MOST_RATIO}",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Hall(Versioned):
    """A room with one cooling kind."""

    class Cooling(models.TextChoices):
        AIR = "air", "air"
        LIQUID = "liquid", "direct liquid"

    site = models.ForeignKey(Site, models.PROTECT, related_name="halls")
    slug = models.SlugField(help_text="Unique within the site.")
    name = models.CharField(max_length=80)
    cooling = models.CharField(max_length=8, choices=Cooling.choices, default=Cooling.AIR)

    class Meta:
        ordering = ["site__slug", "slug"]
        constraints = [models.UniqueConstraint(fields=["site", "slug"], name="hall_slug_in_site")]

    def __str__(self) -> str:
        return f"{self.site.name}, {self.name}"


class Row(Versioned):
    """A line of racks, in floor order."""

    hall = models.ForeignKey(Hall, models.PROTECT, related_name="rows")
    slug = models.SlugField(help_text="Unique within the hall.")
    position = models.PositiveIntegerField(default=0, help_text="Order on the floor. [-]")

    class Meta:
        ordering = ["hall__site__slug", "hall__slug", "position", "slug"]
        constraints = [models.UniqueConstraint(fields=["hall", "slug"], name="row_slug_in_hall")]

    def __str__(self) -> str:
        return f"{self.hall}, row {self.slug}"


class Rack(Versioned, Dated):
    """A cabinet: so many rack units, and the power that may be drawn for hours with one feed lost."""

    row = models.ForeignKey(Row, models.PROTECT, related_name="racks")
    slug = models.SlugField(unique=True)
    position = models.PositiveIntegerField(default=0, help_text="Order in the row. [-]")
    height_u = models.PositiveIntegerField(
        default=48,
        validators=[MinValueValidator(1), MaxValueValidator(HEIGHT_MOST_U)],
        help_text="Usable height. [U]",
    )
    power_limit_w = models.FloatField(
        validators=between(1, POWER_MOST_W), help_text="Continuous limit with one feed lost, after derating. [W]"
    )

    class Meta:
        ordering = ["row_id", "position", "slug"]
        constraints = [
            *dates_sound("rack"),
            rule(
                "rack_power_positive",
                Q(power_limit_w__gt=0, power_limit_w__lte=POWER_MOST_W),
                f"power_limit_w is positive and at most {POWER_MOST_W:.0f}",
            ),
            rule(
                "rack_height_positive",
                Q(height_u__gt=0, height_u__lte=HEIGHT_MOST_U),
                f"height_u is positive and at most {HEIGHT_MOST_U}",
            ),
        ]

    def __str__(self) -> str:
        return self.slug
