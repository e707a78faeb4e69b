"""What feeds, cools and connects the racks: three trees over the same hosts, beside the one of places.

A node may have several sources; it lives while one of them does. Its load splits equally over its living primary
sources, and goes to its standby sources when no primary one lives. `fleet.trees` computes with them.
"""

import math

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q

from fleet.models.places import PORTS_MOST, Rack, Site
from fleet.models.versioned import POWER_MOST_W, Dated, Versioned, between, dates_sound, rule

APPARENT_MOST_VA = 1e9
VOLTAGE_MOST_V, CURRENT_MOST_A = 1e6, 1e5


class Node(Versioned, Dated):
    """A node of a tree, at a site."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.slug


class Link(Versioned, Dated):
    """A node draws on another one."""

    standby = models.BooleanField(default=False, help_text="Drawn on only when no primary source lives.")

    class Meta:
        abstract = True


def link_rules(name: str) -> list[models.BaseConstraint]:
    """Return the rules of the links of one tree; their names begin with `name`."""
    return [
        models.UniqueConstraint(fields=["node", "source"], name=f"{name}_once"),
        rule(f"{name}_not_itself", ~Q(node=F("source")), "a node cannot be its own source"),
        *dates_sound(name),
    ]


class PowerNode(Node):
    """A part of the power tree, from the utility down to the feed of a rack. Nameplate stored, the rest derived.

    The rating is written down (`rating_va`), or follows from voltage, current and phases, as for a breaker.
    """

    class Kind(models.TextChoices):
        UTILITY = "utility", "utility"
        GENERATOR = "generator", "generator"
        SWITCHBOARD = "switchboard", "main switchboard"
        UPS = "ups", "UPS"
        PDU = "pdu", "PDU or busway"
        FEED = "feed", "feed of a rack"

    class Redundancy(models.TextChoices):
        N = "1N", "1N"
        N_PLUS_1 = "N+1", "N+1"
        TWO_N = "2N", "2N"
        THREE_N_BY_2 = "3N/2", "3N/2"

    site = models.ForeignKey(Site, models.PROTECT, related_name="power_nodes")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    rack = models.ForeignKey(
        Rack, models.PROTECT, null=True, blank=True, related_name="feeds", help_text="Of a feed: the rack it feeds."
    )
    rating_va = models.FloatField(
        null=True, blank=True, validators=between(1, APPARENT_MOST_VA), help_text="Nameplate. [VA]"
    )
    voltage_v = models.FloatField(
        null=True, blank=True, validators=between(1, VOLTAGE_MOST_V), help_text="Line to line if three-phase. [V]"
    )
    current_a = models.FloatField(
        null=True, blank=True, validators=between(0.1, CURRENT_MOST_A), help_text="Of the breaker. [A]"
    )
    phases = models.PositiveSmallIntegerField(choices={1: "single", 3: "three"}, default=3)
    derate_ratio = models.FloatField(
        default=0.8, validators=between(0.01, 1), help_text="Share of the rating that may be drawn for hours. [-]"
    )
    efficiency_ratio = models.FloatField(
        default=1, validators=between(0.5, 1), help_text="Power given over power drawn. [-]"
    )
    house_va = models.FloatField(
        default=0,
        validators=between(0, APPARENT_MOST_VA),
        help_text="Load on it beside racks, as chillers and light. [VA]",
    )
    redundancy = models.CharField(
        max_length=4, choices=Redundancy.choices, blank=True, help_text="As designed; the power page says what is kept."
    )
    sources: "models.ManyToManyField[PowerNode, PowerLink]" = models.ManyToManyField(
        "self", through="PowerLink", through_fields=("node", "source"), symmetrical=False, related_name="fed"
    )

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("power_node"),
            rule(
                "power_node_rack_of_feed",
                Q(kind="feed", rack__isnull=False) | (~Q(kind="feed") & Q(rack__isnull=True)),
                "a feed names its rack, and nothing else does",
            ),
            rule(
                "power_node_rated",
                Q(rating_va__isnull=False, voltage_v__isnull=True, current_a__isnull=True)
                | Q(rating_va__isnull=True, voltage_v__isnull=False, current_a__isnull=False),
                "either rating_va, or voltage_v and current_a",
            ),
            rule(
                "power_node_rating_positive",
                (Q(rating_va__isnull=True) | Q(rating_va__gt=0, rating_va__lte=APPARENT_MOST_VA))
                & (Q(voltage_v__isnull=True) | Q(voltage_v__gt=0, voltage_v__lte=VOLTAGE_MOST_V))
                & (Q(current_a__isnull=True) | Q(current_a__gt=0, current_a__lte=CURRENT_MOST_A)),
                "rating_va, voltage_v and current_a are positive and of this world",
            ),
            rule(
                "power_node_ratios",
                Q(derate_ratio__range=(0.01, 1), efficiency_ratio__range=(0.5, 1)),
                "derate_ratio lies between 0.01 and 1, efficiency_ratio between 0.5 and 1",
            ),
            rule(
                "power_node_house",
                Q(house_va__range=(0, APPARENT_MOST_VA)),
                f"house_va lies between 0 and {APPARENT_MOST_VA:.0f}",
            ),
            rule("power_node_phases", Q(phases__in=(1, 3)), "phases is 1 or 3"),
        ]

    @property
    def rated_va(self) -> float:
        """Nameplate: as written, or U I, times the root of 3 for three phases. [VA]"""
        if self.rating_va is not None:
            return self.rating_va
        return math.sqrt(self.phases) * (self.voltage_v or 0.0) * (self.current_a or 0.0)

    @property
    def usable_va(self) -> float:
        """Apparent power that may be drawn for hours. [VA]"""
        return self.rated_va * self.derate_ratio


class PowerLink(Link):
    """A power node draws on another one."""

    node = models.ForeignKey(PowerNode, models.CASCADE, related_name="links")
    source = models.ForeignKey(PowerNode, models.PROTECT, related_name="links_below")

    class Meta:
        ordering = ["node_id", "standby", "source_id"]
        constraints = link_rules("power_link")

    def __str__(self) -> str:
        return f"{self.node_id} on {self.source_id}"


class CoolingNode(Node):
    """A part of the cooling tree: plant, loop, or the unit that takes the heat of some racks."""

    class Kind(models.TextChoices):
        PLANT = "plant", "chiller plant"
        LOOP = "loop", "loop"
        CDU = "cdu", "CDU or air handler"

    site = models.ForeignKey(Site, models.PROTECT, related_name="cooling_nodes")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    limit_w = models.FloatField(
        null=True,
        blank=True,
        validators=between(1, POWER_MOST_W * 10),
        help_text="Heat that it takes for hours; empty: nobody knows. [W]",
    )
    sources: "models.ManyToManyField[CoolingNode, CoolingLink]" = models.ManyToManyField(
        "self", through="CoolingLink", through_fields=("node", "source"), symmetrical=False, related_name="cooled"
    )

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("cooling_node"),
            rule(
                "cooling_node_limit",
                Q(limit_w__isnull=True) | Q(limit_w__gt=0, limit_w__lte=POWER_MOST_W * 10),
                f"limit_w is positive and at most {POWER_MOST_W * 10:.0f}",
            ),
        ]


class CoolingLink(Link):
    """A cooling node gives its heat to another one."""

    node = models.ForeignKey(CoolingNode, models.CASCADE, related_name="links")
    source = models.ForeignKey(CoolingNode, models.PROTECT, related_name="links_below")

    class Meta:
        ordering = ["node_id", "standby", "source_id"]
        constraints = link_rules("cooling_link")

    def __str__(self) -> str:
        return f"{self.node_id} on {self.source_id}"


class NetworkNode(Node):
    """A switch: core, spine, leaf, or one that hosts of a rack plug into."""

    class Kind(models.TextChoices):
        CORE = "core", "core"
        SPINE = "spine", "spine"
        LEAF = "leaf", "leaf"
        TOR = "tor", "top of rack"

    site = models.ForeignKey(Site, models.PROTECT, related_name="network_nodes")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    rack = models.ForeignKey(
        Rack,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="switches",
        help_text="Of a top-of-rack switch: the rack whose hosts plug into it.",
    )
    ports = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(PORTS_MOST)],
        help_text="Ports for hosts; empty: nobody counted. [-]",
    )
    sources: "models.ManyToManyField[NetworkNode, NetworkLink]" = models.ManyToManyField(
        "self", through="NetworkLink", through_fields=("node", "source"), symmetrical=False, related_name="connected"
    )

    class Meta:
        ordering = ["slug"]
        constraints = [
            *dates_sound("network_node"),
            rule(
                "network_node_rack_of_tor",
                Q(kind="tor", rack__isnull=False) | (~Q(kind="tor") & Q(rack__isnull=True)),
                "a top-of-rack switch names its rack, and nothing else does",
            ),
            rule(
                "network_node_ports",
                Q(ports__isnull=True) | Q(ports__lte=PORTS_MOST),
                f"ports is at most {PORTS_MOST}",
            ),
        ]


class NetworkLink(Link):
    """A switch reaches the rest through another one."""

    node = models.ForeignKey(NetworkNode, models.CASCADE, related_name="links")
    source = models.ForeignKey(NetworkNode, models.PROTECT, related_name="links_below")

    class Meta:
        ordering = ["node_id", "standby", "source_id"]
        constraints = link_rules("network_link")

    def __str__(self) -> str:
        return f"{self.node_id} on {self.source_id}"
