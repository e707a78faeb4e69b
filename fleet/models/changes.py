"""Who changed what, when and why; a chain of hashes shows whether anybody has tampered with it."""

from django.conf import settings
from django.db import models


class ChangeSet(models.Model):
    """The writes of one transaction. `number` counts without gaps; each set seals the one before it."""

    number = models.PositiveBigIntegerField(unique=True)
    at = models.DateTimeField()
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    actor_name = models.CharField(max_length=150, help_text="Of the account or the command, as it was then.")
    why = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    undo_of = models.ForeignKey("self", models.PROTECT, null=True, related_name="undone_by")
    rows = models.PositiveIntegerField(help_text="Rows written. [-]")
    previous_hash = models.CharField(max_length=64, help_text="Of the set before; zeros for the first.")
    hash = models.CharField(max_length=64, help_text="SHA-256 over the previous hash, this set and its changes.")

    class Meta:
        ordering = ["-number"]
        indexes = [models.Index(fields=["at"]), models.Index(fields=["request_id"])]

    def __str__(self) -> str:
        return f"change set {self.number}"


class Change(models.Model):
    """One row written: its values before and after. Of an edit, only those that differ, and the version."""

    class Action(models.TextChoices):
        CREATE = "create", "made"
        UPDATE = "update", "edited"
        DELETE = "delete", "deleted"

    change_set = models.ForeignKey(ChangeSet, models.PROTECT, related_name="changes")
    position = models.PositiveIntegerField(help_text="Order in its set. [-]")
    kind = models.CharField(max_length=32, help_text="Model of the row, as host.")
    object_id = models.PositiveBigIntegerField()
    label = models.CharField(max_length=200, help_text="The row as people call it.")
    action = models.CharField(max_length=6, choices=Action.choices)
    region_pk = models.PositiveBigIntegerField(
        null=True, help_text="Region in which the row lay; empty: everywhere. A plain number: it outlives the region."
    )
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    hash = models.CharField(max_length=64, help_text="SHA-256 of the above; the set's hash seals it.")

    class Meta:
        ordering = ["-change_set_id", "position"]
        indexes = [models.Index(fields=["kind", "object_id"])]

    def __str__(self) -> str:
        return f"{self.label} {self.get_action_display()}"


class ChangeHead(models.Model):
    """The end of the chain, one row: whoever appends locks it."""

    number = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    def __str__(self) -> str:
        return f"{self.number} {self.hash}"
