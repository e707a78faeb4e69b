"""Rows and questions as JSON, and back. What may be saved is the services' decision."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from accelerator import UnknownNameError, chip_get, model_get, profile_mix
from accelerator.serving_calibration import ServingCalibration
from api.models import Token
from fleet import services as fleet_services
from fleet.access import entry_of, is_shown, region_limit
from fleet.inventory import key_paths
from scenarios.calibrations import calibration_current
from scenarios.event_checks import check_event
from scenarios.models import Report, Run, Scenario, Schedule, StoredRating, Trace
from scenarios.rating_store import EXCHANGE_MOST, MIX, TPOT_P95_S, TTFT_P95_S, phase_shown, rating_is_current
from scenarios.schedules import schedule_next, schedule_save
from scenarios.seen import seen, services_seen
from scenarios.services import scenario_save

INTEGER_MAX = 2**31 - 1
NAME_MOST = 64  # characters of one text of a key
COMMON = ["id", "url", "display"]
KEPT = ["version", "created_at", "updated_at"]


def row_url(row: Model, request: Any, suffix: str = "detail") -> str:
    """Return the address of a row."""
    return str(reverse(f"api:{row._meta.model_name}-{suffix}", kwargs={"pk": row.pk}, request=request))


class BriefField(serializers.RelatedField[Any, Any, Any]):
    """A related row: shown in brief, taken as its id, its slug, or its key, as `dc01/h1/a` for a row of racks.

    One that the account does not see is shown as null and cannot be named.
    """

    default_error_messages = {
        "missing": "There is no {what} {value!r}.",
        "wrong": "The {how}id of a {what} is needed.",
    }

    def __init__(self, *, may_hide: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.may_hide = may_hide

    def use_pk_only_optimization(self) -> bool:
        """The whole row is shown."""
        return False

    @property
    def user(self) -> Any:
        """The account that asks."""
        return getattr(self.context.get("request"), "user", None)

    def to_representation(self, row: Any) -> dict[str, Any] | None:
        """Return the row in brief."""
        if not is_shown(row, self.user):
            return None
        shown = {"id": row.pk, "url": row_url(row, self.context.get("request")), "display": str(row)}
        return {**shown, "slug": row.slug} if hasattr(row, "slug") else shown

    def to_internal_value(self, value: Any) -> Any:
        """Find the row; where many are read at once, they were found before."""
        queryset = self.get_queryset()
        assert queryset is not None  # noqa: S101 -- a field that is only read is never asked
        model = queryset.model
        what = model._meta.verbose_name
        if not self.can_name(model, value):
            self.fail("wrong", what=what, how=name_words(model))
        found: Mapping[Any, Any] = self.context.get("found", {})
        if model in found:
            row = found[model].get(value)
        else:
            row = seen(queryset, self.user).filter(rows_named(model, [value])).first()
        if row is None:
            self.fail("missing", what=what, value=value if isinstance(value, int) else value[:80])
        return row

    @staticmethod
    def can_name(model: type[Model], value: Any) -> bool:
        """Return whether a value is of a type that names a row."""
        if isinstance(value, str):
            return bool(name_paths(model)) and "\x00" not in value
        return isinstance(value, int) and not isinstance(value, bool)


def name_paths(model: type[Model]) -> tuple[str, ...]:
    """Return the paths of the texts that a row is named by beside its id; none for a row with an id alone."""
    if entry_of(model):
        return key_paths(model)
    return ("slug",) if hasattr(model, "slug") else ()


def name_words(model: type[Model]) -> str:
    """Return the words for what names a row beside its id."""
    return ("key or the " if len(name_paths(model)) > 1 else "slug or the ") if name_paths(model) else ""


def rows_named(model: type[Model], values: Iterable[int | str]) -> Q:
    """Return the filter of the rows that ids, slugs or keys name."""
    paths = name_paths(model)
    texts = [value for value in values if isinstance(value, str)]
    found = Q(pk__in=[value for value in values if isinstance(value, int) and abs(value) < 2**63])
    if len(paths) == 1:
        return found | Q(**{f"{paths[0]}__in": texts}) if texts else found
    for parts in (text.split("/") for text in texts):
        if len(parts) == len(paths):
            found |= Q(**dict(zip(paths, parts, strict=True)))
    return found


class BriefFieldSchema(OpenApiSerializerFieldExtension):
    """How the schema describes both sides of it."""

    target_class = "api.serializers.BriefField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the names of a row for a request, the brief row for an answer."""
        field = self.target
        model = field.queryset.model if field.queryset is not None else None
        if direction == "request":
            by_id = {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX}
            paths = name_paths(model) if model else ()
            by_name = {"type": "string", "maxLength": NAME_MOST * max(1, len(paths))}
            return {"oneOf": [by_name, by_id]} if paths else by_id
        properties = {
            "id": {"type": "integer"},
            "url": {"type": "string", "format": "uri"},
            "display": {"type": "string"},
            "slug": {"type": "string"},
        }
        kind = ["object", "null"] if field.may_hide else "object"
        return {"type": kind, "required": COMMON, "properties": properties}


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know, and its own that cannot be written: nothing sent is left aside."""

    def to_internal_value(self, data: Any) -> Any:
        """Read the fields."""
        if isinstance(data, dict):
            refused = {name: self._hint(name) for name in data if name not in self.fields}
            refused |= {
                name: "Cannot be written." for name in data if name in self.fields and self.fields[name].read_only
            }
            if refused:
                raise serializers.ValidationError({name[:80] or "''": [text] for name, text in refused.items()})
        return super().to_internal_value(data)

    def _hint(self, name: str) -> str:
        known = [own for own, field in self.fields.items() if not field.read_only]
        close = difflib.get_close_matches(name, known, n=2)
        return f"Unknown field; did you mean {' or '.join(close)}?" if close else "Unknown field."


class RowSerializer(StrictSerializer, serializers.ModelSerializer[Any]):
    """A row with its address. Subclasses name the service that saves it."""

    url = serializers.SerializerMethodField()
    display = serializers.SerializerMethodField()
    row_save: Callable[..., Any] = staticmethod(fleet_services.row_save)

    def get_url(self, row: Model) -> str:
        """Return the address of the row."""
        return row_url(row, self.context.get("request"))

    def get_display(self, row: Model) -> str:
        """Return the row as people call it."""
        return str(row)

    def only(self, names: Sequence[str] | None) -> None:
        """Leave out every field that is not named."""
        hidden = set() if names is None else {str(name) for name in self.fields} - set(names)
        for name in hidden:
            self.fields.pop(name)

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        """Whole numbers have one limit, whatever data base is below; choices need none."""
        kind, options = super().build_standard_field(field_name, model_field)
        if issubclass(kind, serializers.ChoiceField):
            options.pop("validators", None)
        if issubclass(kind, serializers.IntegerField) and not options.get("read_only"):
            options["max_value"] = min(options.get("max_value") or INTEGER_MAX, INTEGER_MAX)
        return kind, options

    def create(self, values: dict[str, Any]) -> Any:
        """Save a new row by its service."""
        return self.row_save(self.Meta.model(**values))  # type: ignore[misc]

    def update(self, row: Any, values: dict[str, Any]) -> Any:
        """Save an edit by its service, under the version that was read."""
        for name, value in values.items():
            setattr(row, name, value)
        return self.row_save(row, version=row.version)


class TraceSerializer(RowSerializer):
    """A recorded workload, without its arrays."""

    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who made it."
    )
    mix = serializers.DictField(read_only=True, help_text="Token mix: means, percentiles, burstiness.")

    class Meta:
        model = Trace
        fields = [*COMMON, "name", "digest", "requests", "mix", "note", "owner", "created_at"]
        read_only_fields = fields


class TraceUploadSerializer(StrictSerializer):
    """An upload: csv or csv.gz with arrival_s, input_tokens, output_tokens."""

    file = serializers.FileField(help_text="csv or csv.gz.")
    name = serializers.CharField(max_length=120, required=False, help_text="Empty: the name of the file.")


class ScenarioSerializer(RowSerializer):
    """A question about the fleet."""

    trace = BriefField(queryset=Trace.objects.defer("arrays"), required=False, allow_null=True)
    services = serializers.ListField(
        child=serializers.CharField(max_length=50),
        required=False,
        help_text="Slugs of the services asked about; empty: all of them.",
    )
    params = serializers.DictField(
        required=False,
        help_text="What a migration takes besides: waves, floors, offers, prices and more, each with a default; "
        "docs/models/plan.md lists them with their units. An outage and an event take these and what happens: "
        "docs/models/events.md.",
    )
    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who made it."
    )
    row_save = staticmethod(scenario_save)

    class Meta:
        model = Scenario
        fields = [
            *(*COMMON, "name", "kind", "note", "starts_on", "ends_on", "trace", "services", "reserve_ratio"),
            *("growth_override_ratio", "dual_run_months", "params", "draws", "seed", "owner", "is_demo", *KEPT),
        ]
        read_only_fields = ["is_demo", *KEPT]

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Who is limited to regions asks about services of theirs, by name."""
        user = self.context["request"].user
        if region_limit(user) is not None:
            asked = values.get("services", self.instance.services if self.instance else [])
            known = services_seen(user)
            unknown = [slug for slug in asked if slug not in known]
            if unknown or not asked:
                what = f"Unknown service {unknown[0][:80]!r}" if unknown else "Name the services asked about"
                raise serializers.ValidationError(
                    {"services": [f"{what}; there are: {', '.join(known[:20]) or 'none'}."]}
                )
            self._check_event(values)
        return values

    def _check_event(self, values: dict[str, Any]) -> None:
        """What an outage or an event names lies where the account sees it; `scenario_save` checks what is left."""
        names = ("kind", "params", "starts_on", "ends_on")
        asked: dict[str, Any] = {name: values.get(name, getattr(self.instance, name, {})) for name in names}
        try:
            check_event(**asked, account=self.context["request"].user)
        except ValidationError as error:
            raise serializers.ValidationError(error.message_dict) from error


class ScheduleSerializer(RowSerializer):
    """A scenario that is run at set times."""

    scenario = BriefField(queryset=Scenario.objects.all())
    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who made it."
    )
    row_save = staticmethod(schedule_save)

    class Meta:
        model = Schedule
        fields = [
            *(*COMMON, "name", "scenario", "cron", "zone", "enabled", "next_fire_at", "owner", "is_demo", *KEPT),
        ]
        read_only_fields = ["next_fire_at", "is_demo", *KEPT]


class ScheduleDetailSerializer(ScheduleSerializer):
    """A schedule with its next five times."""

    next_fire_times = serializers.SerializerMethodField(help_text="The next five, in the schedule's zone.")

    class Meta(ScheduleSerializer.Meta):
        fields = [*ScheduleSerializer.Meta.fields, "next_fire_times"]

    @extend_schema_field({"type": "array", "items": {"type": "string", "format": "date-time"}})
    def get_next_fire_times(self, schedule: Schedule) -> list[str]:
        """Return the next five times; none while it is switched off."""
        return [at.isoformat() for at in schedule_next(schedule)] if schedule.enabled else []


class RunRequestSerializer(StrictSerializer):
    """How a run is to be computed; all of it may be left out."""

    recompute = serializers.BooleanField(
        default=False, help_text="Compute even if the same question was answered before."
    )


class StepCountSerializer(serializers.Serializer[Any]):
    """How many steps a run has so far, and how many are done. Later stages are split when they begin."""

    done = serializers.IntegerField(source="steps_done", help_text="[-]")
    total = serializers.IntegerField(source="steps_total", help_text="[-]")


class RunSerializer(RowSerializer):
    """An answer in the making, without its result."""

    scenario = BriefField(read_only=True)
    schedule = BriefField(read_only=True, allow_null=True)
    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who made it."
    )
    inputs = serializers.DictField(read_only=True, help_text="The scenario as it was when the run was started.")
    result_url = serializers.SerializerMethodField(help_text="Where the result is, once there is one.")
    steps = StepCountSerializer(source="*", read_only=True)
    reused_from = serializers.SerializerMethodField(
        help_text="Id of the run with the same question whose result this is; null: it was computed."
    )

    class Meta:
        model = Run
        fields = [
            *(*COMMON, "scenario", "status", "progress_ratio", "stage", "steps", "attempt", "seed", "inputs"),
            *("inputs_digest", "snapshot_digest", "question_digest", "engine_version", "error", "result_url"),
            *("is_reusable", "recompute", "reused_from", "schedule", "fire_at", "owner"),
            *("created_at", "started_at", "finished_at"),
        ]
        read_only_fields = fields

    def get_result_url(self, run: Run) -> str | None:
        """Return the address of the result of a run that is done."""
        return row_url(run, self.context.get("request"), "result") if run.status == Run.Status.DONE else None

    def get_reused_from(self, run: Run) -> int | None:
        """Return the run whose result this is, if the account sees it."""
        user = getattr(self.context.get("request"), "user", None)
        if run.reused_from_id is None or not seen(Run.objects.filter(pk=run.reused_from_id), user).exists():
            return None
        return run.reused_from_id


class ReportSerializer(RowSerializer):
    """What a scheduled run left behind."""

    run = BriefField(read_only=True)
    schedule = BriefField(read_only=True, allow_null=True)
    html_url = serializers.SerializerMethodField()
    csv_url = serializers.SerializerMethodField()

    class Meta:
        model = Report
        fields = [*COMMON, "uid", "title", "run", "schedule", "html_url", "csv_url", "created_at"]
        read_only_fields = fields

    def get_html_url(self, report: Report) -> str:
        """Return the address of the page."""
        return row_url(report, self.context.get("request"), "html")

    def get_csv_url(self, report: Report) -> str:
        """Return the address of the table."""
        return row_url(report, self.context.get("request"), "csv")


class TokenSerializer(RowSerializer):
    """A token, without its secret."""

    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Token.Scope.choices), min_length=1)

    class Meta:
        model = Token
        fields = [
            *(*COMMON, "name", "prefix", "scopes", "expires_at", "last_used_at", "revoked", "created_at"),
        ]
        read_only_fields = ["revoked"]


class TokenMadeSerializer(TokenSerializer):
    """A token as it is made: the only time its secret is shown."""

    secret = serializers.CharField(
        read_only=True, allow_null=True, help_text="Shown once; null where the answer is replayed."
    )

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "secret"]


# --- the capacity query ---
class ScopeSerializer(StrictSerializer):
    """Where: one site, one region, or everywhere."""

    site = serializers.CharField(max_length=50, required=False, help_text="Slug of a site.")
    region = serializers.CharField(max_length=50, required=False, help_text="Slug of a region.")


class UnitSerializer(StrictSerializer):
    """What is counted: one more host of a type."""

    host_type = serializers.CharField(max_length=50, help_text="Slug of a host type.")


class CapacityQuestionSerializer(StrictSerializer):
    """How many more hosts fit, what stops the next one, what they would serve, and how long the fleet lasts."""

    as_of = serializers.DateField(help_text="Day asked about.")
    scope = ScopeSerializer(required=False)
    unit = UnitSerializer()
    service = serializers.CharField(max_length=50, required=False, allow_null=True, help_text="Slug of a service.")
    quantile = serializers.FloatField(
        default=0.5, min_value=0.05, max_value=0.95, help_text="How sure the figures of `sure` shall be. [-]"
    )


class BandSerializer(serializers.Serializer[Any]):
    """P10, P50 and P90."""

    p10 = serializers.FloatField()
    p50 = serializers.FloatField()
    p90 = serializers.FloatField()


class MonthBandSerializer(serializers.Serializer[Any]):
    """Months, YYYY-MM; null: not within the horizon."""

    p10 = serializers.CharField(allow_null=True)
    p50 = serializers.CharField(allow_null=True)
    p90 = serializers.CharField(allow_null=True)


class BindingSerializer(serializers.Serializer[Any]):
    """What stops the next host."""

    constraint = serializers.CharField()
    object = serializers.CharField(help_text="The node that racks share, or the rack or feed that comes closest.")
    failure = serializers.CharField(help_text="Node after whose failure it binds; empty: it binds now.")
    share = serializers.FloatField(help_text="Share of the racks that it stops. [-]")


class RegionRunOutSerializer(serializers.Serializer[Any]):
    """When one region runs out."""

    region = serializers.CharField()
    run_out = MonthBandSerializer()
    sentence = serializers.CharField()


class CalibrationSerializer(serializers.Serializer[Any]):
    """How far the rates were held against measurements."""

    basis = serializers.CharField()
    mape = serializers.FloatField(allow_null=True, help_text="Mean absolute percentage error. [%]")
    n = serializers.IntegerField(help_text="Measurements behind it. [-]")
    as_of = serializers.DateField(allow_null=True)


class SureSerializer(serializers.Serializer[Any]):
    """What holds with the probability that was asked for."""

    quantile = serializers.FloatField()
    hosts = serializers.FloatField(help_text="At least so many fit. [-]")
    tok_s = serializers.FloatField(allow_null=True, help_text="They serve at least this. [tok/s]")


class ServingCalibrationSerializer(serializers.Serializer[Any]):
    """A calibration of serving as results name it."""

    version = serializers.CharField(help_text="Id of a calibration, or `published`.")
    digest = serializers.CharField(help_text="Of what predictions follow from.")
    fitted_on = serializers.DateField()
    rows = serializers.IntegerField(help_text="Measured rows behind it. [-]")


class RatingSourcesSerializer(serializers.Serializer[Any]):
    """Where the ratings behind an answer are from, refusals among them."""

    simulated = serializers.IntegerField(help_text="Pairs of a service and a host type rated by simulation. [-]")
    steady_state = serializers.IntegerField(help_text="Rated by the closed formula until they are simulated. [-]")
    job = serializers.URLField(
        allow_null=True, help_text="Where the missing ones are worked out; null: none is missing, or none can be."
    )


class CapacityAnswerSerializer(serializers.Serializer[Any]):
    """The answer to a capacity query."""

    question = serializers.DictField(help_text="What was asked, in full.")
    fits = BandSerializer(help_text="Hosts that the racks still take, after the deliveries due by then. [-]")
    fits_without_deliveries = serializers.IntegerField(help_text="The same if none of them comes. [-]")
    tok_s = BandSerializer(allow_null=True, help_text="Output tokens per second of all that fit. [tok/s]")
    rating = serializers.DictField(allow_null=True, help_text="What one host does for the service, and its basis.")
    binding = BindingSerializer(many=True)
    run_out = MonthBandSerializer()
    run_out_regions = RegionRunOutSerializer(many=True)
    sure = SureSerializer()
    horizon = serializers.ListField(child=serializers.CharField(), help_text="First and last month looked at.")
    assumptions = serializers.ListField(child=serializers.CharField())
    snapshot_digest = serializers.CharField()
    engine_version = serializers.CharField()
    rating_version = serializers.CharField()
    ratings_digest = serializers.CharField(help_text="Of the simulated ratings among those behind the answer.")
    ratings = RatingSourcesSerializer()
    calibration = CalibrationSerializer()
    serving_calibration = ServingCalibrationSerializer(allow_null=True, help_text="In use; null: there is none.")


# --- ratings and exchange ratios ---
class HostPhaseSerializer(serializers.Serializer[Any]):
    """What one host does in one phase, in its best config."""

    tok_s = BandSerializer(allow_null=True, help_text="Prompt tokens read, or output tokens made. [tok/s]")
    config = serializers.CharField(allow_blank=True, help_text="Of its replicas.")
    refusal = serializers.CharField(allow_blank=True, help_text="Why there is no rate.")


class RatingValuesSerializer(serializers.Serializer[Any]):
    """A rating, the figures of one replica; all rates are 0 where it is a refusal."""

    label = serializers.CharField(  # type: ignore[assignment]  # the name is the rating's
        allow_blank=True, help_text="Config, or configs of prefill and decode apart."
    )
    chips = serializers.IntegerField(help_text="Chips of one replica. [-]")
    request_s = BandSerializer(help_text="[1/s]")
    tok_s = BandSerializer(help_text="Output tokens. [tok/s]")
    tok_s_per_chip = serializers.FloatField(help_text="[tok/s]")
    tok_s_per_kw = serializers.FloatField(help_text="0: no power is published. [tok/s/kW]")
    tok_s_per_usd = serializers.FloatField(help_text="Per dollar of the chips' price; 0: none is published.")
    ttft_s = serializers.FloatField(help_text="P95 at this rate. [s]")
    tpot_s = serializers.FloatField(help_text="P95 at this rate. [s]")
    batch = serializers.FloatField(help_text="Sequences that decode. [-]")
    power_w = serializers.FloatField(help_text="Mean of the replica's chips, without hosts. [W]")
    drivers = serializers.ListField(child=serializers.DictField(), help_text="Uncertain inputs, largest effect first.")


class StoredRatingSerializer(RowSerializer):
    """What a chip does for a model, with where it came from."""

    rating = serializers.SerializerMethodField()
    prefill = serializers.SerializerMethodField(help_text="One host that only reads prompts.")
    decode = serializers.SerializerMethodField(help_text="One host that only makes answers.")
    is_current = serializers.SerializerMethodField(help_text="Whether catalog and calibrations still say the same.")

    class Meta:
        model = StoredRating
        fields = [
            *(*COMMON, "chip", "model", "mix", "trace_digest", "ttft_p95_s", "tpot_p95_s", "percentile", "host_chips"),
            *("refusal", "binds", "basis"),
            *("rating", "prefill", "decode", "is_current", "digest", "took_s", "created_at"),
        ]
        read_only_fields = fields

    @extend_schema_field(RatingValuesSerializer)
    def get_rating(self, row: StoredRating) -> dict[str, Any]:
        """Return its figures."""
        return {str(name): row.payload["rating"][str(name)] for name in RatingValuesSerializer().fields}

    @extend_schema_field(HostPhaseSerializer)
    def get_prefill(self, row: StoredRating) -> dict[str, Any]:
        """Return what a host reads."""
        return phase_dict(row, "prefill")

    @extend_schema_field(HostPhaseSerializer)
    def get_decode(self, row: StoredRating) -> dict[str, Any]:
        """Return what a host makes."""
        return phase_dict(row, "decode")

    def get_is_current(self, row: StoredRating) -> bool:
        """Compare its digest with that of today's inputs."""
        return rating_is_current(row, self.calibration)

    @cached_property
    def calibration(self) -> ServingCalibration:
        """The calibration in use, read once for all rows."""
        return calibration_current()


class RatingCatalogSerializer(serializers.Serializer[Any]):
    """How far a catalog of ratings is that workers share."""

    catalog = serializers.UUIDField()
    status = serializers.CharField(help_text="queued, running, done or failed.")
    progress_ratio = serializers.FloatField(help_text="[0..1]")
    rated = serializers.IntegerField(help_text="Pairs with a rate so far. [-]")
    refused = serializers.IntegerField(help_text="Pairs without one so far. [-]")
    error = serializers.CharField(allow_blank=True, help_text="Of the first batch that failed.")


class RatingLimitsSerializer(StrictSerializer):
    """For which requests, within which limits at P95."""

    mix = serializers.CharField(max_length=80, default=MIX, help_text="A built-in profile.")
    ttft_p95_s = serializers.FloatField(
        default=TTFT_P95_S, min_value=0.001, max_value=3600, help_text="Limit of the time to first token. [s]"
    )
    tpot_p95_s = serializers.FloatField(
        default=TPOT_P95_S, min_value=0.0001, max_value=60, help_text="Limit of the time per later token. [s]"
    )

    def validate_mix(self, name: str) -> str:
        """It is one of the built-in ones."""
        return name_known(profile_mix, name)

    def validate_model(self, name: str) -> str:
        """The catalog has it."""
        return name_known(model_get, name)


class RatingQuestionSerializer(RatingLimitsSerializer):
    """What a chip does for a model."""

    chip = serializers.CharField(max_length=80, help_text="Slug or alias of a chip.")
    model = serializers.CharField(max_length=80, help_text="Slug or alias of a model.")
    host_chips = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=512, help_text="Null: the chip's usual host. [-]"
    )

    def validate_chip(self, name: str) -> str:
        """The catalog has it."""
        return name_known(chip_get, name)


class ExchangeQuestionSerializer(RatingLimitsSerializer):
    """One chip and those that would replace it; the fields of a query string."""

    to = serializers.ListField(
        child=serializers.CharField(max_length=80), min_length=1, max_length=EXCHANGE_MOST, help_text="Other chips."
    )
    model = serializers.CharField(max_length=80, help_text="Slug or alias of a model.")

    def get_fields(self) -> dict[str, Any]:
        """`from` is a word of the language, so it cannot be declared as the others are."""
        start = serializers.CharField(max_length=80, help_text="The chip that is replaced.")
        return {"from": start, **super().get_fields()}

    def validate_from(self, name: str) -> str:
        """The catalog has it."""
        return name_known(chip_get, name)

    def validate_to(self, names: list[str]) -> list[str]:
        """The catalog has them all."""
        return [name_known(chip_get, name) for name in names]


class ExchangeSideSerializer(serializers.Serializer[Any]):
    """One side: the host, what it does in each phase in which config, and what binds the service."""

    chip = serializers.CharField()
    host_chips = serializers.IntegerField(help_text="[-]")
    binds = serializers.CharField(allow_blank=True, help_text="What stops a little more of the service.")
    basis = serializers.CharField()
    prefill = HostPhaseSerializer()
    decode = HostPhaseSerializer()
    service = HostPhaseSerializer()
    digest = serializers.CharField(help_text="Of the rating.")


class ExchangeRowSerializer(serializers.Serializer[Any]):
    """Hosts of one other chip that one host equals; null where one of the two cannot serve."""

    to = ExchangeSideSerializer()
    prefill = BandSerializer(allow_null=True, help_text="[-]")
    decode = BandSerializer(allow_null=True, help_text="[-]")
    service = BandSerializer(allow_null=True, help_text="[-]")
    refusal = serializers.CharField(allow_blank=True, help_text="Why a ratio is missing.")


class ExchangeAnswerSerializer(serializers.Serializer[Any]):
    """Exchange ratios, in the order of `to`."""

    model = serializers.CharField()
    mix = serializers.CharField()
    ttft_p95_s = serializers.FloatField()
    tpot_p95_s = serializers.FloatField()
    start = ExchangeSideSerializer(help_text="One host of `from`.")
    rows = ExchangeRowSerializer(many=True)
    rating_version = serializers.CharField()
    goodput_version = serializers.CharField()


def name_known(find: Callable[[str], Any], name: str) -> str:
    """Return a name that is found; the error of one that is not suggests others."""
    try:
        find(name)
    except UnknownNameError as error:
        raise serializers.ValidationError(str(error)) from error
    return name


def phase_dict(row: StoredRating, phase: str) -> dict[str, Any]:
    """Return one phase of a host as it is shown; a refusal has no rate."""
    return phase_shown(row.payload[phase])
