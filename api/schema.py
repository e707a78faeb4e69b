"""The OpenAPI document: what every operation adds to it, and where it is served."""

import json
from collections import Counter
from functools import cache
from typing import Any, Literal

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer2
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from api.bulk import ROWS_MOST, RowsWrittenSerializer
from api.errors import MEDIA_TYPE
from api.resources import DRY_RUN, REASON, Door
from api.serializers import INTEGER_MAX
from fleet.audit import WHY_MOST
from fleet.inventory import INVENTORY, Entry

ALWAYS = (400, 401, 403, 429, 500, 503)
WITH_BODY = (409, 413, 415, 422)
MANY = ("edit_rows", "delete_rows")
MEANINGS = {
    400: "The request cannot be read; `errors` names the places.",
    401: "Nobody is signed in, or the token opens nothing.",
    403: "You, or the token, may not do this.",
    404: "There is no such thing, or you may not see it.",
    409: "It goes against the state of the object.",
    412: "It was edited since you read it.",
    413: "The body is too large.",
    415: "The body has another media type.",
    422: "The Idempotency-Key was used for another request.",
    428: "If-Match is missing.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "An internal error, logged.",
    503: "The data base or the broker does not answer; `Retry-After` says when to come back.",
}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `code` names the kind of problem for programs; `errors` the places at fault.",
    "required": ["type", "title", "status", "detail", "instance", "code", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["message"],
                "properties": {
                    "field": {"type": ["string", "null"]},
                    "index": {"type": "integer"},
                    "line": {"type": ["integer", "null"]},
                    "column": {"type": ["string", "integer", "null"]},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
FIELDS = OpenApiParameter("fields", str, description="Fields to show, with commas; default: all.")
BRIEF = OpenApiParameter("brief", bool, description="Show id, url, display and slug alone.")
CHANGE_REASON = OpenApiParameter(
    REASON,
    {"type": "string", "maxLength": WHY_MOST},
    OpenApiParameter.HEADER,
    description="Why: it is kept in the log of changes.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="ETag that you have: 304 if it is still the present one."
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200},
    OpenApiParameter.HEADER,
    description="Makes a repeat of the same request safe for a day: it gets the first answer.",
)


def problem_of(code: int) -> dict[str, Any]:
    """Describe a problem as the answer of an operation."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": MEANINGS.get(code, ""), "content": content}


class OperationSchema(AutoSchema):
    """Adds the headers, the shaping parameters and the problems that all operations share."""

    def get_override_parameters(self) -> Any:
        """Return the common parameters of an operation."""
        verb = getattr(self.view, "action", None) or self.method.lower()
        handler = getattr(self.view, verb, None)
        found = []
        if verb in {"list", "retrieve"} and hasattr(self.view, "filters"):
            found += [FIELDS, BRIEF]
        if verb == "retrieve" and self._is_conditional():
            found.append(IF_NONE_MATCH)
        if verb in {"partial_update", "destroy"} and hasattr(self._model(), "version"):
            text = "ETag that you have read: 412 if somebody has edited it since."
            required = bool(getattr(self.view, "match_required", False))
            found.append(
                OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, required=required, description=text)
            )
        if getattr(handler, "is_idempotent", False):
            found.append(IDEMPOTENCY_KEY)
        return found

    def _model(self) -> Any:
        return getattr(getattr(self.view, "queryset", None), "model", None)

    def _is_conditional(self) -> bool:
        return hasattr(self._model(), "version") and bool(getattr(self.view, "conditional", False))

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        verb = getattr(self.view, "action", None) or self.method.lower()
        codes = [*ALWAYS]
        if "{" in self.path:
            codes.append(404)
        if self.method in {"POST", "PUT", "PATCH"}:
            codes += WITH_BODY
        if self.method == "DELETE":
            codes.append(409)
        if verb in {"partial_update", "destroy"} and hasattr(self._model(), "version"):
            codes += [412] + ([428] if getattr(self.view, "match_required", False) else [])
        if verb == "retrieve" and self._is_conditional():
            bodies["304"] = {"description": "Nothing has changed."}
        for code in sorted(codes):
            bodies.setdefault(str(code), problem_of(code))
        return bodies


class RowsSchema(OperationSchema):
    """Operations on rows of the fleet: one or many in a body, a row or a report of what was done in the answer."""

    def get_operation_id(self) -> str:
        """Tell the operations on many rows from those on one."""
        name: str = super().get_operation_id()
        head, _, _ = name.rpartition("partial_update" if self.method == "PATCH" else "destroy")
        return f"{head}bulk_{name.removeprefix(head)}" if self._verb in MANY else name

    def get_override_parameters(self) -> Any:
        """Add what writes may carry."""
        found = super().get_override_parameters()
        return [*found, DRY_RUN, CHANGE_REASON] if self.method in {"POST", "PATCH", "DELETE"} else found

    @property
    def _entry(self) -> Entry:
        view: Any = self.view
        return view.entry

    @property
    def _verb(self) -> str:
        return str(getattr(self.view, "action", None) or self.method.lower())

    def _get_request_body(self, direction: Literal["request", "response"] = "request") -> Any:
        """Describe one row, an array of rows, of edits, or of names."""
        if self._verb == "delete_rows":
            return {"content": {"application/json": {"schema": self._array(self._names())}}, "required": True}
        body = super()._get_request_body(direction)
        if self._verb not in {"create", "edit_rows"}:
            return body
        media = body["content"]["application/json"]
        if self._verb == "create":
            media["schema"] = {"oneOf": [media["schema"], self._array(media["schema"])]}
        else:
            media["schema"] = self._array({"$ref": f"#/components/schemas/{edit_name(self._entry)}"})
        return {**body, "required": True}

    def _names(self) -> dict[str, Any]:
        """Describe what names a row to be deleted."""
        entry = self._entry
        number = {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX}
        texts = {"type": ["string", "integer"]}
        properties = {"id": number, "version": number, **dict.fromkeys(entry.key, texts)}
        of_object = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"oneOf": [number, {"type": "string"}, of_object]}

    def _report(self) -> Any:
        return self.resolve_serializer(RowsWrittenSerializer, "response").ref

    def _or_report(self, body: dict[str, Any], description: str) -> dict[str, Any]:
        one = body["content"]["application/json"]["schema"]
        content = {"application/json": {"schema": {"anyOf": [one, self._report()]}}}
        return {"content": content, "description": description}

    @staticmethod
    def _array(items: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": items, "minItems": 1, "maxItems": ROWS_MOST}

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        report = {"application/json": {"schema": self._report()}}
        if self._verb in MANY:
            bodies.pop("204", None)
            bodies["200"] = {"content": report, "description": "What was done with each row."}
            bodies |= {str(code): problem_of(code) for code in (412, 413, 415)}
        elif self._verb == "create":
            bodies["201"] = self._or_report(bodies["201"], "The row; of an array, what was done with each.")
            bodies["200"] = {"content": report, "description": "A dry run: nothing was stored."}
        elif self._verb == "partial_update":
            bodies["200"] = self._or_report(bodies["200"], "The row; of a dry run, what would be done.")
        elif self._verb == "destroy":
            bodies["200"] = {"content": report, "description": "A dry run: nothing was deleted."}
        return bodies


def edit_name(entry: Entry) -> str:
    """Return the name of the component that describes one of many edits."""
    return f"{entry.model.__name__}EditRequest"


def edits_describe(components: dict[str, Any]) -> None:
    """Describe the edits of many rows: those of one, with what names the row and the version that was read."""
    number = {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX}
    for entry in INVENTORY.values():
        one = components[f"Patched{entry.model.__name__}Request"]
        properties = {"id": number, "version": number, **one["properties"]}
        text = f"An edit of a row that `id` or {' and '.join(f'`{name}`' for name in entry.key)} names."
        components[edit_name(entry)] = {**one, "properties": properties, "description": text}


def parameters_share(result: dict[str, Any]) -> None:
    """Write down once what several operations have in common: most filters stand in many lists."""
    operations = [operation for methods in result["paths"].values() for operation in methods.values()]
    told = [(one, json.dumps(one, sort_keys=True)) for each in operations for one in each.get("parameters", ())]
    times = Counter(text for _, text in told)
    names: dict[str, str] = {}
    variants: Counter[str] = Counter()
    shared = result["components"].setdefault("parameters", {})
    for parameter, text in told:
        if times[text] > 1 and text not in names:
            name = parameter["name"]
            variants[name] += 1
            names[text] = f"{name}.{variants[name]}" if variants[name] > 1 else name
            shared[names[text]] = parameter
    for operation in operations:
        texts = [(one, json.dumps(one, sort_keys=True)) for one in operation.get("parameters", ())]
        if texts:
            operation["parameters"] = [
                {"$ref": f"#/components/parameters/{names[text]}"} if text in names else one for one, text in texts
            ]


def problems_share(result: dict[str, Any]) -> None:
    """Write down once each problem that an operation answers with."""
    shared = result["components"].setdefault("responses", {})
    for methods in result["paths"].values():
        for operation in methods.values():
            for code, answer in operation["responses"].items():
                if answer == problem_of(int(code)):
                    shared[f"Problem{code}"] = answer
                    operation["responses"][code] = {"$ref": f"#/components/responses/Problem{code}"}


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the problem; a request takes no unknown field, and a row may lack any field, for `?fields=` chooses."""
    components = result["components"]["schemas"]
    for name, component in components.items():
        if name.endswith("Request") and component.get("type") == "object":
            component["additionalProperties"] = False
        elif {"url", "display"} <= set(component.get("properties", ())):
            component.pop("required", None)
    edits_describe(components)
    components["Problem"] = PROBLEM
    parameters_share(result)
    problems_share(result)
    return result


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


@cache
def document_bytes(form: str) -> bytes:
    """Return the document as json or yaml; made once in a process."""
    renderer = OpenApiYamlRenderer2() if form == "yaml" else OpenApiJsonRenderer2()
    return bytes(renderer.render(document(), renderer_context={}))


class SchemaView(Door):
    """The OpenAPI document, json or yaml. It says nothing about a fleet, so everybody may read it."""

    authentication_classes = ()
    permission_classes = ()
    own_params = {"get": ("format",)}

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Show it."""
        form = request.query_params.get("format") or ("yaml" if "yaml" in request.headers.get("Accept", "") else "json")
        if form not in {"json", "yaml"}:
            raise ValidationError({"format": ["json or yaml."]})
        media = "application/yaml" if form == "yaml" else "application/vnd.oai.openapi+json"
        return HttpResponse(document_bytes(form), content_type=f"{media}; charset=utf-8")
