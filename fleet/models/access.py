"""Which regions an account sees, if not all."""

from django.conf import settings
from django.db import models

from fleet.models.places import Region


class RegionLimit(models.Model):
    """An account with such a row sees and edits what lies in its regions, and nothing else; without one, everything."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="region_limit")
    regions = models.ManyToManyField(Region, related_name="limits", blank=True)

    def __str__(self) -> str:
        return f"limit of {self.user_id}"
