"""Questions about the fleet, the runs that answer them, and the schedules that ask again."""

import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from fleet.audit import REQUEST_MOST, WHY_MOST
from fleet.inventory import INVENTORY
from fleet.models import Service
from fleet.models.versioned import Versioned


class Claimed(models.Model):
    """Something that a worker computes. The database is the queue of record: a worker owns a row by its claim."""

    class Status(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    ENDED = (Status.DONE, Status.FAILED, Status.CANCELLED)

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED, editable=False)
    claim = models.UUIDField(null=True, editable=False, help_text="Fencing token of the attempt that owns the run.")
    attempt = models.PositiveIntegerField(default=0, editable=False)
    worker = models.CharField(max_length=120, blank=True, editable=False, help_text="host:pid of the last attempt.")
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    sent_at = models.DateTimeField(null=True, editable=False, help_text="When its id last went to the broker.")
    send_count = models.PositiveIntegerField(default=0, editable=False, help_text="How often it went there. [-]")
    progress_ratio = models.FloatField(default=0, editable=False)
    stage = models.CharField(max_length=80, blank=True, editable=False)
    error = models.TextField(blank=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in self.ENDED


class Trace(models.Model):
    """A recorded workload, kept as its arrays. Equal arrays are stored once."""

    digest = models.CharField(max_length=64, unique=True, editable=False)
    name = models.CharField(max_length=120)
    requests = models.PositiveIntegerField(editable=False, help_text="Requests in the trace. [-]")
    mix = models.JSONField(editable=False, help_text="Token mix: means, percentiles, burstiness.")
    note = models.CharField(max_length=300, blank=True, editable=False, help_text="What of its file was not read.")
    arrays = models.BinaryField(editable=False, help_text="The workload's arrays, numpy zip format.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class DemandHistory(models.Model):
    """The measured demand of a service, kept as its arrays, with what its own backtest says."""

    service = models.OneToOneField(Service, models.CASCADE, related_name="demand_history")
    name = models.CharField(max_length=120, help_text="File or trace that it came from last.")
    digest = models.CharField(max_length=64, editable=False, db_index=True, help_text="Of start, window and arrays.")
    starts_at = models.DateTimeField(editable=False, help_text="Begin of its first window. [datetime]")
    ends_at = models.DateTimeField(editable=False, help_text="End of its last window. [datetime]")
    window_s = models.PositiveIntegerField(editable=False, help_text="Length of a window. [s]")
    windows = models.PositiveIntegerField(editable=False, help_text="Windows whose rate is known. [-]")
    arrays = models.BinaryField(editable=False, help_text="The arrays, numpy zip format.")
    scores = models.JSONField(default=list, editable=False, help_text="Of its own backtest, by horizon and part.")
    note = models.CharField(max_length=300, blank=True, editable=False, help_text="What of its file was not read.")
    is_invented = models.BooleanField(default=False, editable=False, help_text="Made up, as the demo is.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "demand histories"
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="demand_history_has_a_length"),
        ]

    def __str__(self) -> str:
        return f"demand of {self.service_id} by {self.name}"


class Scenario(Versioned):
    """A question with its assumptions. Editing raises the version; a run keeps the inputs it was started with."""

    class Kind(models.TextChoices):
        CAPACITY = "capacity", "Capacity: how long does the fleet last?"
        MIGRATION = "migration", "Migration: when can services leave their GPUs?"
        OUTAGE = "outage", "Outage: what if a part of the fleet is lost?"
        EVENT = "event", "Event: what if a chip is banned, a supplier stops, demand jumps?"

    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    note = models.TextField(blank=True, max_length=2000)
    starts_on = models.DateField(help_text="First month of the question. [date]")
    ends_on = models.DateField(help_text="Last month of the question. [date]")
    trace = models.ForeignKey(
        Trace,
        models.PROTECT,
        null=True,
        blank=True,
        help_text="Recorded workload whose token mix replaces the services' own; the output tokens demanded stay.",
    )
    services = models.JSONField(
        default=list, blank=True, help_text="Slugs of the services asked about; empty: all of them."
    )
    reserve_ratio = models.FloatField(
        default=0.1,
        validators=[MinValueValidator(0), MaxValueValidator(0.9)],
        help_text="Share of every host kept free for failures and bursts. [-]",
    )
    growth_override_ratio = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(-0.5), MaxValueValidator(1)],
        help_text="One growth per month for every service instead of its own. [1/month]",
    )
    dual_run_months = models.PositiveSmallIntegerField(
        default=1,
        validators=[MaxValueValidator(12)],
        help_text="Months for which GPU hosts stay warm behind traffic that has moved. [month]",
    )
    params = models.JSONField(
        default=dict,
        blank=True,
        help_text="What a kind of scenario takes besides, such as waves, floors and prices; docs/models/plan.md.",
    )
    draws = models.PositiveIntegerField(
        default=200,
        validators=[MinValueValidator(10), MaxValueValidator(2_000)],
        help_text="Futures drawn for bands and promises. [-]",
    )
    seed = models.PositiveIntegerField(
        default=1, validators=[MaxValueValidator(2**31 - 1)], help_text="Seed of the draws."
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    is_demo = models.BooleanField(default=False, editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_on__gte=F("starts_on")),
                name="scenario_ends_after_it_begins",
                violation_error_message="the scenario ends before it begins",
            ),
            models.CheckConstraint(condition=Q(reserve_ratio__gte=0, reserve_ratio__lt=1), name="scenario_reserve"),
            models.CheckConstraint(condition=Q(draws__gte=1), name="scenario_draws"),
        ]

    def __str__(self) -> str:
        return self.name


class Schedule(Versioned):
    """Runs a scenario and stores a report at the times of a cron expression in a named time zone."""

    name = models.CharField(max_length=120)
    scenario = models.ForeignKey(Scenario, models.PROTECT, related_name="schedules")
    cron = models.CharField(max_length=100, help_text="Minute, hour, day, month, weekday, such as 0 7 * * 1.")
    zone = models.CharField(max_length=64, default="UTC", help_text="IANA time zone, such as Asia/Shanghai.")
    enabled = models.BooleanField(default=True)
    next_fire_at = models.DateTimeField(null=True, blank=True, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    is_demo = models.BooleanField(default=False, editable=False)

    class Meta:
        ordering = ["name", "id"]
        indexes = [models.Index(fields=["enabled", "next_fire_at"])]

    def __str__(self) -> str:
        return self.name


class Run(Claimed):
    """One answer in the making."""

    scenario = models.ForeignKey(Scenario, models.PROTECT, related_name="runs")
    inputs = models.JSONField(editable=False, help_text="The scenario as it was when the run was started.")
    inputs_digest = models.CharField(max_length=64, editable=False, db_index=True)
    seed = models.PositiveIntegerField(editable=False)
    result = models.JSONField(null=True, editable=False)
    snapshot_digest = models.CharField(max_length=64, blank=True, editable=False)
    engine_version = models.CharField(max_length=40, blank=True, editable=False)
    opened = models.PositiveIntegerField(default=0, editable=False, help_text="Stages that were split into steps. [-]")
    steps_done = models.PositiveIntegerField(default=0, editable=False, help_text="Steps that are done. [-]")
    steps_total = models.PositiveIntegerField(
        default=0, editable=False, help_text="Steps of the stages that were split so far. [-]"
    )
    question_digest = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        db_index=True,
        help_text="Of all that the answer follows from: inputs, fleet, demand, calibration, seed, versions.",
    )
    is_reusable = models.BooleanField(
        default=True,
        editable=False,
        help_text="Whether its result may answer the same question: no clock cut it short.",
    )
    recompute = models.BooleanField(
        default=False, editable=False, help_text="Asked to compute, whether or not the question was answered before."
    )
    reused_from = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        editable=False,
        related_name="reused_by",
        help_text="Run with the same question whose result this is; empty: it was computed.",
    )
    schedule = models.ForeignKey(Schedule, models.SET_NULL, null=True, editable=False, related_name="runs")
    fire_at = models.DateTimeField(null=True, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["status", "heartbeat_at"])]
        constraints = [
            models.UniqueConstraint(fields=["schedule", "fire_at"], name="run_once_per_fire_time"),
            models.CheckConstraint(condition=~Q(status="done") | Q(result__isnull=False), name="run_done_has_a_result"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.scenario_id}"


class RunStep(Claimed):
    """A part of a run that one worker computes, in a minute at most. What it has found is kept until the run ends."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="steps")
    stage_name = models.CharField(max_length=20, editable=False, help_text="Stage of the pipeline, as draws.")
    number = models.PositiveIntegerField(editable=False, help_text="Place in its stage, from 0.")
    payload = models.JSONField(editable=False, help_text="What it is about.")
    share_ratio = models.FloatField(editable=False, help_text="Share of the run's work. [-]")
    result = models.BinaryField(null=True, editable=False, help_text="Empty once the run has ended.")
    result_digest = models.CharField(max_length=64, blank=True, editable=False, help_text="SHA-256 of the result.")
    is_reusable = models.BooleanField(default=True, editable=False, help_text="False: the clock cut it short.")
    checkpoint = models.BinaryField(null=True, editable=False, help_text="What the next attempt goes on from.")
    took_s = models.FloatField(null=True, editable=False, help_text="Time of the attempt that finished. [s]")
    cpu_s = models.FloatField(null=True, editable=False, help_text="Time of the processor in it. [s]")

    class Meta:
        ordering = ["run", "pk"]
        verbose_name = "step"
        indexes = [models.Index(fields=["status", "heartbeat_at"])]
        constraints = [
            models.UniqueConstraint(fields=["run", "stage_name", "number"], name="step_once_per_run"),
            models.CheckConstraint(condition=~Q(status="done") | ~Q(result_digest=""), name="step_done_has_a_digest"),
        ]

    def __str__(self) -> str:
        return f"step {self.label} of run {self.run_id}"

    @property
    def label(self) -> str:
        """Its stage, and which one of it this is, counted from 1."""
        return f"{self.stage_name} {self.number + 1}"


class Report(models.Model):
    """What a scheduled run leaves behind: a page and a table, as they were on that day."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    run = models.OneToOneField(Run, models.CASCADE, related_name="report")
    schedule = models.ForeignKey(Schedule, models.SET_NULL, null=True, related_name="reports")
    title = models.CharField(max_length=200)
    html = models.TextField()
    csv = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Simulation(models.Model):
    """An experiment of the request-level simulator, computed in parts that workers share."""

    experiment = models.JSONField(editable=False, help_text="As it was asked for; docs/models/simulator.md.")
    digest = models.CharField(
        max_length=64, editable=False, db_index=True, help_text="Of the experiment and the trace that it names."
    )
    trace = models.ForeignKey(Trace, models.SET_NULL, null=True, editable=False, related_name="simulations")
    engine_version = models.CharField(max_length=40, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"simulation {self.pk}"


class SimulationPart(Claimed):
    """One seed and one cell of an experiment. Parts know nothing of each other and are merged by number."""

    simulation = models.ForeignKey(Simulation, models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField(editable=False)
    result = models.BinaryField(null=True, editable=False, help_text="The outcome, numpy zip format.")

    class Meta:
        ordering = ["simulation", "number"]
        indexes = [models.Index(fields=["status", "heartbeat_at"])]
        constraints = [
            models.UniqueConstraint(fields=["simulation", "number"], name="part_once_per_simulation"),
            models.CheckConstraint(
                condition=~Q(status="done") | Q(result__isnull=False), name="part_done_has_a_result"
            ),
        ]

    def __str__(self) -> str:
        return f"part {self.number} of simulation {self.simulation_id}"


class StoredRating(models.Model):
    """The rating of a chip for a model, by simulation, kept under the digest of everything it follows from."""

    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="Of all inputs, not of the rating.")
    chip = models.CharField(max_length=80, editable=False)
    model = models.CharField(max_length=80, editable=False)
    mix = models.CharField(max_length=120, editable=False)
    trace_digest = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Of the recorded workload; empty: a built-in profile."
    )
    ttft_p95_s = models.FloatField(editable=False, help_text="Limit of the time to first token. [s]")
    tpot_p95_s = models.FloatField(editable=False, help_text="Limit of the time per later token. [s]")
    percentile = models.FloatField(
        default=0.95, editable=False, help_text="Share of the requests within each limit; nearly always P95. [-]"
    )
    host_chips = models.PositiveIntegerField(editable=False, help_text="Chips of the host. [-]")
    tok_s_per_chip = models.FloatField(editable=False, help_text="Output tokens; 0 for a refusal. [tok/s]")
    binds = models.CharField(max_length=20, blank=True, editable=False, help_text="The limit that stops a little more.")
    basis = models.CharField(max_length=20, editable=False, help_text="What it stands on.")
    refusal = models.TextField(blank=True, editable=False, help_text="Why there is no rate; empty if there is one.")
    payload = models.JSONField(editable=False, help_text="The rating, and what a host does in prefill and in decode.")
    took_s = models.FloatField(editable=False, help_text="Time that it took to compute. [s]")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["model", "mix"]), models.Index(fields=["chip", "mix"])]

    def __str__(self) -> str:
        return f"{self.model} on {self.chip} for {self.mix}"


class RatingBatch(Claimed):
    """Pairs of the catalog that one worker rates, about a minute at most. Who takes over goes on where it was left."""

    catalog = models.UUIDField(db_index=True, editable=False, help_text="The request that it is a part of.")
    pairs = models.JSONField(
        editable=False, help_text="Slugs of chip and model, and chips of a host where it is not the chip's usual one."
    )
    mix = models.CharField(max_length=120, editable=False)
    trace_digest = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Of the recorded workload; empty: a built-in profile."
    )
    ttft_p95_s = models.FloatField(editable=False, help_text="Limit of the time to first token. [s]")
    tpot_p95_s = models.FloatField(editable=False, help_text="Limit of the time per later token. [s]")
    percentile = models.FloatField(
        default=0.95, editable=False, help_text="Share of the requests within each limit. [-]"
    )
    digest = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Of its questions, where an answer waits for them."
    )
    digests = models.JSONField(default=list, editable=False, help_text="Of its questions, in the order of the pairs.")
    rated = models.PositiveIntegerField(null=True, editable=False, help_text="Pairs with a rate. [-]")
    refused = models.PositiveIntegerField(null=True, editable=False, help_text="Pairs without one. [-]")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["status", "heartbeat_at"])]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="done") | Q(rated__isnull=False, refused__isnull=False),
                name="rating_batch_done_has_counts",
            ),
            models.UniqueConstraint(
                fields=["digest"],
                condition=Q(status__in=("queued", "running")) & ~Q(digest=""),
                name="rating_batch_open_once",
            ),
        ]
        verbose_name_plural = "rating batches"

    def __str__(self) -> str:
        return f"rating batch {self.pk}"


class CalibrationVersion(models.Model):
    """The serving calibration after an operator's own measurements. It never changes; which one is in use does."""

    parent = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        editable=False,
        related_name="children",
        help_text="Version that was in use when this one was made; empty: the published fit.",
    )
    digest = models.CharField(
        max_length=64, editable=False, db_index=True, help_text="Of what predictions follow from."
    )
    published_digest = models.CharField(max_length=64, editable=False, help_text="Of the published fit below it.")
    fitted_on = models.DateField(editable=False, help_text="Day of the update. [date]")
    note = models.CharField(max_length=300, blank=True, editable=False)
    points = models.PositiveIntegerField(editable=False, help_text="Own points that it stands on. [-]")
    points_added = models.PositiveIntegerField(editable=False, help_text="Of them, those that came with it. [-]")
    table = models.TextField(editable=False, help_text="The own points as CSV, by point_id.")
    errors = models.JSONField(editable=False, help_text="By chip: errors on the own points before and after.")
    payload = models.BinaryField(editable=False, help_text="The calibration, JSON in gzip.")
    is_active = models.BooleanField(
        default=False, editable=False, help_text="In use; if none is, the published fit is."
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="calibration_one_active"),
            models.CheckConstraint(
                condition=Q(points_added__lte=F("points"), points__gte=1), name="calibration_has_points"
            ),
        ]

    def __str__(self) -> str:
        return f"calibration {self.pk}"


class CalibrationChange(models.Model):
    """That a calibration was taken into use, by whom and when; nobody edits this history."""

    version = models.ForeignKey(
        CalibrationVersion,
        models.PROTECT,
        null=True,
        editable=False,
        related_name="changes",
        help_text="Empty: the published fit.",
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.version or 'the published fit'} in use"


class ImportUpload(models.Model):
    """The bytes of a file to be imported, kept where every worker reaches them until its imports have ended."""

    size_byte = models.PositiveBigIntegerField(editable=False, help_text="[byte]")
    sha256 = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"upload {self.pk}"


class ImportChunk(models.Model):
    """A piece of an upload, in the order of its number."""

    upload = models.ForeignKey(ImportUpload, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField(editable=False)
    data = models.BinaryField(editable=False)

    class Meta:
        ordering = ["upload", "number"]
        constraints = [models.UniqueConstraint(fields=["upload", "number"], name="chunk_once_per_upload")]

    def __str__(self) -> str:
        return f"chunk {self.number} of upload {self.upload_id}"


class ImportJob(Claimed):
    """A file on its way into the fleet, as the account that uploaded it may write. All of it or nothing."""

    class Mode(models.TextChoices):
        UPSERT = "upsert", "make new rows and edit those that are there"
        CREATE = "create", "make new rows only"
        UPDATE = "update", "edit rows that are there only"

    WHOLE = "all"
    """In place of an entry: every table that the file holds."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False)
    entry = models.CharField(max_length=32, editable=False, help_text="Kind of row, as hosts; all: a whole fleet.")
    mode = models.CharField(max_length=6, choices=Mode.choices, default=Mode.UPSERT, editable=False)
    dry_run = models.BooleanField(default=False, editable=False, help_text="Finds out all, and writes nothing.")
    why = models.CharField(max_length=WHY_MOST, blank=True, editable=False, help_text="Kept in the log of changes.")
    request_id = models.CharField(
        max_length=REQUEST_MOST, editable=False, help_text="Of the request that asked; its change sets carry it."
    )
    regions = models.JSONField(
        null=True, editable=False, help_text="Slugs of the regions that the account was limited to; empty: of all."
    )
    file_name = models.CharField(max_length=255, editable=False)
    size_byte = models.PositiveBigIntegerField(editable=False, help_text="Of the file. [byte]")
    sha256 = models.CharField(max_length=64, editable=False, help_text="Of the file.")
    upload = models.ForeignKey(ImportUpload, models.SET_NULL, null=True, editable=False, related_name="jobs")
    applies = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        editable=False,
        related_name="applied_by",
        help_text="Dry run whose file it writes.",
    )
    counts = models.JSONField(default=dict, editable=False, help_text="By kind: created, updated, unchanged, refused.")
    errors_total = models.PositiveIntegerField(null=True, editable=False, help_text="Empty until it is known. [-]")
    written = models.BooleanField(default=False, editable=False, help_text="Whether rows of the fleet were written.")
    report = models.JSONField(null=True, editable=False, help_text="Its first changes and errors.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "import"
        indexes = [models.Index(fields=["status", "heartbeat_at"]), models.Index(fields=["owner", "status"])]
        permissions = [("oversee_importjob", "Can see the imports of others")]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="done") | Q(report__isnull=False, errors_total__isnull=False),
                name="import_done_has_a_report",
            ),
            models.CheckConstraint(
                condition=Q(written=False) | Q(dry_run=False, status="done"), name="import_written_is_done"
            ),
        ]

    def __str__(self) -> str:
        return f"import {self.pk} of {self.file_name}"

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        """Counts by kind, in the order of the inventory: a database may keep its own."""
        return {name: self.counts[name] for name in INVENTORY if name in self.counts}

    @property
    def is_sound(self) -> bool:
        """Whether all of the file was looked at, and nothing in it is wrong."""
        return self.status == self.Status.DONE and self.errors_total == 0
