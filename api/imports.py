"""Imports over HTTP: a file comes in whole, is looked at at once, and a worker writes it."""

import io
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.datastructures import MultiValueDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, UnsupportedMediaType, ValidationError
from rest_framework.parsers import BaseParser, DataAndFiles, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from api.auth import Right
from api.errors import BodyError, ConflictError, TooLargeError
from api.idempotency import idempotent
from api.renderers import OrjsonParser
from api.resources import FORM_EXTRA_BYTE, ReadResource, user_of
from api.schema import CHANGE_REASON
from api.serializers import COMMON, BriefField, RowSerializer, StrictSerializer
from api.views import CSV, RETRY_AFTER_S, WAIT, awaited, download
from fleet.audit import WHY_MOST, author_current
from fleet.inventory import INVENTORY
from scenarios.imports import (
    ImportRefusedError,
    faults_csv,
    import_apply,
    import_cancel,
    import_check,
    import_submit,
)
from scenarios.models import ImportJob

NAME_MOST = 255
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode that no file name holds: line ends, marks that turn text around, halves of pairs."""
PIECE_BYTE = 2**16
TRUE, FALSE = ("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0")


# --- a file as it comes in --------------------------------------------------------------------------------------------
class CountedStream(io.RawIOBase):
    """The body of a request, counted as it is read: one that ends too soon is half a file."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self.stream, self.count_byte = stream, 0

    def read(self, *size: Any) -> bytes:
        """Read some of it."""
        data: bytes = self.stream.read(*size)
        self.count_byte += len(data)
        return data


class FileParser(BaseParser):
    """A body that is a file itself; what else there is to say stands in the address."""

    suffix = ""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """Return the file, on disk and not in memory, as a form would bring it."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- it lives as long as its upload
        size_byte = 0
        while data := stream.read(PIECE_BYTE):
            size_byte += file.write(data)
            if size_byte > settings.IMPORT_MAX_BYTE:
                raise TooLargeError(f"The file is larger than {settings.IMPORT_MAX_BYTE} byte.")
        upload = UploadedFile(cast("Any", file), name=f"upload{self.suffix}", size=size_byte)
        asked = dict(parser_context or {})["request"].query_params
        return DataAndFiles(asked, MultiValueDict({"file": [upload]}))


class CsvParser(FileParser):
    """CSV."""

    media_type, suffix = "text/csv", ".csv"


class JsonParser(FileParser):
    """A JSON array of objects, or for a whole fleet an object of arrays."""

    media_type, suffix = "application/json", ".json"


class JsonLinesParser(FileParser):
    """A JSON object per line."""

    media_type, suffix = "application/x-ndjson", ".ndjson"


class WorkbookParser(FileParser):
    """An Excel workbook."""

    media_type, suffix = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"


FILE_PARSERS = (CsvParser, JsonParser, JsonLinesParser, WorkbookParser)
SUFFIXES = {parser.media_type: parser.suffix for parser in FILE_PARSERS}


# --- as JSON ----------------------------------------------------------------------------------------------------------
class SwitchField(serializers.BooleanField):
    """True or false in so many words."""

    TRUE_VALUES, FALSE_VALUES, NULL_VALUES = {*TRUE}, {*FALSE}, set()
    default_empty_html = serializers.empty  # a form that leaves it out says nothing


class ImportUploadSerializer(StrictSerializer):
    """A file and what to do with it."""

    file = serializers.FileField(allow_empty_file=True, help_text="csv, xlsx, json or json lines.")
    entry = serializers.ChoiceField(
        choices=[*INVENTORY, ImportJob.WHOLE],
        help_text="Kind of row, as hosts; all: every table that a .json file or an .xlsx workbook holds.",
    )
    mode = serializers.ChoiceField(
        choices=ImportJob.Mode.values,
        default="upsert",
        help_text="Whether rows may be made and edited, or one of both.",
    )
    dry_run = SwitchField(default=False, help_text="Find out all that it would do, and write nothing.")
    why = serializers.CharField(
        required=False, allow_blank=True, max_length=WHY_MOST, help_text="Kept in the log of changes."
    )
    name = serializers.CharField(
        required=False, max_length=NAME_MOST, help_text="What errors call the file; its ending tells the format."
    )

    def validate_name(self, text: str) -> str:
        """A name without a path, that can be stored."""
        name = PurePath(text.replace("\\", "/")).name
        if not name:
            raise serializers.ValidationError("A file name is needed.")
        if unseen := next((letter for letter in name if unicodedata.category(letter) in UNSEEN), ""):
            raise serializers.ValidationError(f"It holds the control character U+{ord(unseen):04X}.")
        return name


class CountsSerializer(serializers.Serializer[Any]):
    """Rows of one table."""

    created = serializers.IntegerField(help_text="Made, or to be made. [-]")
    updated = serializers.IntegerField(help_text="Edited, or to be edited. [-]")
    unchanged = serializers.IntegerField(help_text="As they were. [-]")
    refused = serializers.IntegerField(help_text="That cannot be used. [-]")


class FaultSerializer(serializers.Serializer[Any]):
    """Something in the file that cannot be used."""

    entry = serializers.CharField(allow_blank=True, help_text="Table; empty: the file as a whole.")
    file = serializers.CharField()
    sheet = serializers.CharField(allow_null=True, help_text="Of a workbook.")
    line = serializers.IntegerField(allow_null=True)
    column = serializers.CharField(allow_null=True)
    reason = serializers.CharField()


class ChangedRowSerializer(serializers.Serializer[Any]):
    """A row that is made or edited, by the key that the file gives it."""

    entry = serializers.CharField()
    line = serializers.IntegerField()
    key = serializers.CharField()
    before = serializers.DictField(allow_null=True, help_text="Values that differ; null: a new row.")
    after = serializers.DictField(help_text="The same, as the file has them.")


class ImportSerializer(RowSerializer):
    """An import, without what it found row by row."""

    owner = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, allow_null=True, help_text="Who asked, and in whose name it writes."
    )
    applies = BriefField(read_only=True, allow_null=True)
    counts = serializers.SerializerMethodField(help_text="Rows by table; empty until they are known.")
    is_sound = serializers.SerializerMethodField(help_text="It is done, and nothing in the file is wrong.")
    changes_url = serializers.SerializerMethodField(help_text="Its change sets, once rows are written.")

    class Meta:
        model = ImportJob
        fields = [
            *(*COMMON, "entry", "mode", "dry_run", "why", "file_name", "size_byte", "sha256", "status", "stage"),
            *("progress_ratio", "attempt", "error", "counts", "errors_total", "is_sound", "written", "applies"),
            *("request_id", "changes_url", "owner", "created_at", "started_at", "finished_at"),
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.DictField(child=CountsSerializer()))
    def get_counts(self, job: ImportJob) -> Any:
        """Return the counts of each table."""
        return job.tables

    def get_is_sound(self, job: ImportJob) -> bool:
        """Return whether nothing is wrong."""
        return job.is_sound

    @extend_schema_field({"type": ["string", "null"], "format": "uri"})
    def get_changes_url(self, job: ImportJob) -> str | None:
        """Return the address of the change sets."""
        if not job.written:
            return None
        return f"{reverse('api:changeset-list', request=self.context.get('request'))}?request_id={job.request_id}"


class ImportDetailSerializer(ImportSerializer):
    """An import with the first 1,000 rows that it changes and the first 1,000 errors."""

    changes = serializers.SerializerMethodField(help_text="The first 1,000 rows made or edited.")
    errors = serializers.SerializerMethodField(help_text="The first 1,000 of errors_total.")  # type: ignore[assignment]

    class Meta(ImportSerializer.Meta):
        fields = [*ImportSerializer.Meta.fields, "changes", "errors"]
        read_only_fields = fields

    @extend_schema_field(ChangedRowSerializer(many=True))
    def get_changes(self, job: ImportJob) -> Any:
        """Return the changes."""
        return (job.report or {}).get("changes", [])

    @extend_schema_field(FaultSerializer(many=True))
    def get_errors(self, job: ImportJob) -> Any:
        """Return the errors."""
        return (job.report or {}).get("errors", [])


# --- the view ---------------------------------------------------------------------------------------------------------
def upload_read(request: Request) -> dict[str, Any]:
    """Return the file of a request and what to do with it; refuse what is wrong with it, with the place."""
    values = form_read(request)
    file, user = cast("BinaryIO", values.pop("file").file), user_of(request)
    what = {name: values[name] for name in ("name", "entry", "mode")}
    if lacking := import_check(file, **what, user=user):
        raise PermissionDenied(f"You lack the permission {lacking}.", code="permission_missing")
    return {"file": file, "values": values}


def form_read(request: Request) -> dict[str, Any]:
    """Return what a request asks for: its form, or the file that its body is with what the address says of it."""
    if (coding := request.headers.get("Content-Encoding", "").strip().lower()) not in {"", "identity"}:
        raise UnsupportedMediaType(coding, "A body is taken as it is, without a Content-Encoding.")
    data: Any = request.data
    told_byte, read_byte = int(request.META.get("CONTENT_LENGTH") or 0), body_of(request).count_byte
    if read_byte < told_byte:
        raise BodyError(f"The body ends after {read_byte} of {told_byte} byte.")
    if not told_byte:
        raise BodyError("There is no body, or no Content-Length that says how large it is.")
    suffix = SUFFIXES.get((request.content_type or "").split(";")[0].strip().lower())
    if not suffix and request.query_params:
        told = "A form says this in a field, not in the address."
        raise ValidationError({name: [told] for name in request.query_params})
    if repeated := {name: ["Only one value is taken."] for name, found in data.lists() if len(found) > 1}:
        raise ValidationError(repeated)
    asked = ImportUploadSerializer(data=data)
    asked.is_valid(raise_exception=True)
    values = dict(asked.validated_data)
    values["name"] = values.get("name") or asked.validate_name(values["file"].name)
    if suffix and not values["name"].lower().endswith(suffix):
        raise ValidationError({"name": [f"A body of {request.content_type} is called as a {suffix} file."]})
    values["why"] = values.get("why") or author_current().why
    return values


def body_of(request: Request) -> CountedStream:
    """Return the body of a request to this view."""
    known: Any = request
    return cast("CountedStream", known.counted)


class ImportView(mixins.CreateModelMixin, ReadResource):
    """Files on their way into the fleet. Each is written by a worker, all of it or nothing."""

    queryset = ImportJob.objects.select_related("owner", "applies").defer("applies__report")
    serializer_class = ImportDetailSerializer
    parser_classes = (MultiPartParser, *FILE_PARSERS)
    filters = {
        "entry": "entry",
        "mode": "mode",
        "dry_run": "dry_run",
        "file_name": "file_name",
        "sha256": "sha256",
        "status": "status",
        "errors_total": "errors_total",
        "written": "written",
        "applies": "applies",
        "request_id": "request_id",
        "created_at": "created_at",
        "finished_at": "finished_at",
    }
    search = ("file_name", "why")
    rights = {
        "apply": Right("write", ("scenarios.add_importjob",)),
        "cancel": Right("write", ("scenarios.change_importjob",)),
    }
    buckets = {"create": "run", "apply": "run", "cancel": "run", "errors_csv": "export"}
    own_params = {"create": ("entry", "mode", "dry_run", "why", "name"), "retrieve": ("wait",)}

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Count what is read of the body, whoever reads it."""
        known: Any = request
        known._stream = known.counted = CountedStream(known._stream)  # noqa: SLF001 -- Django has no other door to it
        return super().initialize_request(request, *args, **kwargs)

    def most_byte(self) -> int:
        """Return how large a body may be."""
        return settings.IMPORT_MAX_BYTE + FORM_EXTRA_BYTE if self.verb == "create" else self.body_max_byte

    def get_queryset(self) -> QuerySet[ImportJob]:
        """Return the imports; lists leave out what they found row by row."""
        jobs = super().get_queryset()
        return jobs.defer("report", "applies__report") if self.verb == "list" else jobs

    def get_serializer_class(self) -> Any:
        """One import shows what it found."""
        return ImportDetailSerializer if self.verb in {"retrieve", "cancel"} else ImportSerializer

    @extend_schema(
        parameters=[
            *(
                OpenApiParameter(name, kind, enum=enum, description=f"Where the body is the file itself: {text}")
                for name, kind, enum, text in (
                    ("entry", str, [*INVENTORY, ImportJob.WHOLE], "what it is."),
                    (
                        "mode",
                        str,
                        ImportJob.Mode.values,
                        "whether rows may be made and edited (upsert), or one of both.",
                    ),
                    ("dry_run", bool, None, "find out all, and write nothing."),
                    ("why", {"type": "string", "maxLength": WHY_MOST}, None, "kept in the log of changes."),
                    ("name", {"type": "string", "minLength": 1, "maxLength": NAME_MOST}, None, "what errors call it."),
                )
            ),
            CHANGE_REASON,
        ],
        request={
            "multipart/form-data": ImportUploadSerializer,
            "application/json": {"oneOf": [{"type": "array", "items": {"type": "object"}}, {"type": "object"}]},
            **{
                parser.media_type: {"type": "string", "format": "binary"}
                for parser in FILE_PARSERS
                if parser is not JsonParser
            },
        },
        responses={202: OpenApiResponse(ImportSerializer, "Queued: `Location` says where to look.")},
    )
    @idempotent(read=upload_read)
    def create(self, request: Request, *args: Any, file: BinaryIO, values: dict[str, Any], **kwargs: Any) -> Response:
        """Take a file. Its size, type and header are looked at now, 400 with the place; its rows by a worker."""
        return self._queued(lambda: import_submit(file, **values, owner=user_of(request)))

    @extend_schema(parameters=[WAIT])
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show an import; `wait` holds the answer back until it has ended."""
        job: ImportJob = awaited(self)
        headers = {} if job.has_ended else {"Retry-After": str(RETRY_AFTER_S)}
        return Response(self.get_serializer(job).data, headers=headers)

    @extend_schema(request=None, responses={200: ImportDetailSerializer})
    @action(detail=True, methods=["post"], parser_classes=[OrjsonParser], filter_backends=[], pagination_class=None)
    def cancel(self, request: Request, pk: str) -> Response:
        """End an import that nobody wants any more; one that has ended stays as it is, 409."""
        job = self.get_object()
        if not import_cancel(job):
            raise ConflictError(f"The import is {self.get_object().status} already.", code="import_has_ended")
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        request=None,
        parameters=[CHANGE_REASON],
        responses={202: OpenApiResponse(ImportSerializer, "Queued: an import of its own that writes the same bytes.")},
    )
    @action(detail=True, methods=["post"], parser_classes=[OrjsonParser], filter_backends=[], pagination_class=None)
    @idempotent()
    def apply(self, request: Request, pk: str) -> Response:
        """Write the file of a dry run in which nothing was wrong; any other import is refused, 409."""
        job = self.get_object()
        return self._queued(lambda: import_apply(job, owner=user_of(request), why=author_current().why))

    @extend_schema(responses={CSV: OpenApiTypes.STR})
    @action(detail=True, url_path=r"errors\.csv", filter_backends=[], pagination_class=None)
    def errors_csv(self, request: Request, pk: str) -> HttpResponse:
        """Download the first 1,000 errors, each with its place."""
        return download(faults_csv(self.get_object()), "text/csv", f"import-{pk}-errors.csv")

    def _queued(self, submit: Callable[[], ImportJob]) -> Response:
        try:
            job = submit()
        except ImportRefusedError as error:
            raise ConflictError(f"{str(error)[:1].upper()}{str(error)[1:]}.", code=error.code) from error
        data = self.get_serializer(job).data
        return Response(data, status=202, headers={"Location": data["url"], "Retry-After": str(RETRY_AFTER_S)})
