"""What the door remembers: who may come in by a token, and which answers were given already."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Token(models.Model):
    """A key for a program. Only the hash of its secret is kept; the secret is shown once, when it is made."""

    class Scope(models.TextChoices):
        READ = "read", "read"
        WRITE = "write", "write"
        RUN = "run", "start and cancel runs"
        ADMIN = "admin", "make and revoke tokens"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80, help_text="What the token is for.")
    prefix = models.CharField(max_length=12, editable=False, help_text="Begin of the secret, to tell tokens apart.")
    hash = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256 of the secret.")
    scopes = models.JSONField(default=list, help_text="What it may do: read, write, run, admin.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire. [datetime]")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    @property
    def is_live(self) -> bool:
        """Whether it opens the door now."""
        return not self.revoked and (self.expires_at is None or self.expires_at > timezone.now())


class IdempotencyKey(models.Model):
    """A request that its client may send again, and the answer it got; no status: it is still being answered."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=500)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the body.")
    claim = models.UUIDField(help_text="The attempt that answers; a later one may take over after a crash.")
    claimed_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once_per_user")]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.key}"
