"""Region, site, hall, row, rack: where a host can stand, and how much power it finds there."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from fleet.models.versioned import HEIGHT_MOST_U, POWER_MOST_W, Dated, Versioned, between, dates_sound, rule

PUE_MOST_RATIO = 10
PORTS_MOST = 100_000
WEIGHT_MOST_KG = 1e6


class Cooling(models.TextChoices):
    """How heat leaves a host, and what a room or a rack can take away."""

    AIR = "air", "air"
    LIQUID = "liquid", "direct liquid"


class Region(Versioned, Dated):
    """An area with one latency to its users and one policy; services are served inside one region."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)

    class Meta:
        ordering = ["slug"]
        constraints = [*dates_sound("region")]

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


class Hall(Versioned, Dated):
    """A room with one cooling kind; its racks have it too, unless they name their own."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="halls")
    slug = models.SlugField(help_text="Unique within the site.")
    name = models.CharField(max_length=80)
    cooling = models.CharField(max_length=8, choices=Cooling.choices, default=Cooling.AIR)

    class Meta:
        ordering = ["site__slug", "slug"]
        constraints = [
            models.UniqueConstraint(fields=["site", "slug"], name="hall_slug_in_site"),
            *dates_sound("hall"),
        ]

    def __str__(self) -> str:
        return f"{self.site.name}, {self.name}"


class Row(Versioned, Dated):
    """A line of racks, in floor order."""

    hall = models.ForeignKey(Hall, models.PROTECT, related_name="rows")
    slug = models.SlugField(help_text="Unique within the hall.")
    position = models.PositiveIntegerField(default=0, help_text="Order on the floor. [-]")

    class Meta:
        ordering = ["hall__site__slug", "hall__slug", "position", "slug"]
        constraints = [
            models.UniqueConstraint(fields=["hall", "slug"], name="row_slug_in_hall"),
            *dates_sound("row"),
        ]

    def __str__(self) -> str:
        return f"{self.hall}, row {self.slug}"


class Rack(Versioned, Dated):
    """A cabinet: its place on the floor, and what it holds, draws, cools, carries and connects at most.

    What its feeds bear is not written here: the power tree says it. An empty limit is one that nobody knows.
    """

    row = models.ForeignKey(Row, models.PROTECT, related_name="racks")
    slug = models.SlugField(unique=True)
    position = models.PositiveIntegerField(default=0, help_text="Place in the row, counted in cabinets. [-]")
    height_u = models.PositiveIntegerField(
        default=48,
        validators=[MinValueValidator(1), MaxValueValidator(HEIGHT_MOST_U)],
        help_text="Usable height. [U]",
    )
    power_limit_w = models.FloatField(
        validators=between(1, POWER_MOST_W), help_text="Continuous limit with one feed lost, after derating. [W]"
    )
    cooling = models.CharField(
        max_length=8, choices=Cooling.choices, blank=True, help_text="Empty: as the hall. A liquid rack cools air too."
    )
    cooling_limit_w = models.FloatField(
        null=True, blank=True, validators=between(1, POWER_MOST_W), help_text="Heat that leaves it for hours. [W]"
    )
    cooling_node = models.ForeignKey(
        "fleet.CoolingNode",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="racks",
        help_text="What takes its heat away.",
    )
    weight_limit_kg = models.FloatField(
        null=True, blank=True, validators=between(1, WEIGHT_MOST_KG), help_text="Hosts that the floor bears. [kg]"
    )
    ports = models.PositiveIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(PORTS_MOST)], help_text="Network ports for hosts. [-]"
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
            rule(
                "rack_cooling_positive",
                Q(cooling_limit_w__isnull=True) | Q(cooling_limit_w__gt=0, cooling_limit_w__lte=POWER_MOST_W),
                f"cooling_limit_w is positive and at most {POWER_MOST_W:.0f}",
            ),
            rule(
                "rack_weight_positive",
                Q(weight_limit_kg__isnull=True) | Q(weight_limit_kg__gt=0, weight_limit_kg__lte=WEIGHT_MOST_KG),
                f"weight_limit_kg is positive and at most {WEIGHT_MOST_KG:.0f}",
            ),
            rule(
                "rack_ports",
                Q(ports__isnull=True) | Q(ports__lte=PORTS_MOST),
                f"ports is at most {PORTS_MOST}",
            ),
        ]

    def __str__(self) -> str:
        return self.slug
