import json

import pytest
import schemathesis
import yaml
from django.core.management import CommandError, call_command
from django.test.client import ClientHandler
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from rest_framework.test import APIClient
from schemathesis.specs.openapi import checks

from api import views
from api.management.commands import openapi_check
from api.schema import document
from api.urls import PLACES
from tests.api.conftest import TRACE, client_of, upload, user_make
from tests.api.rows import region_fill
from tests.calibrations import row
from tests.scenarios.rating_questions import FAST

HANDLER = ClientHandler(enforce_csrf_checks=False)  # one for all requests: it reads the middleware once
NO_LISTS = {"accuracy", "capacity/query", "exchange-ratios", "schema"} | set(PLACES)
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    schemathesis.checks.not_a_server_error,
]


def test_the_committed_document_is_what_the_api_says(capsys):
    call_command("openapi_check")


def test_a_document_that_is_old_is_told_with_the_difference(tmp_path, settings):
    settings.BASE_DIR = tmp_path
    (tmp_path / "docs").mkdir()
    call_command("openapi_check", "--write")
    path = tmp_path / openapi_check.PATH
    path.write_text(path.read_text().replace("/api/v1/regions/", "/api/v1/areas/"))
    with pytest.raises(CommandError, match="openapi_check --write") as refusal:
        call_command("openapi_check")
    assert "+  /api/v1/regions/:" in str(refusal.value)


def test_a_document_with_a_warning_is_refused_and_not_written(tmp_path, settings, monkeypatch, capsys):
    def get(self, request):
        """A handler that does not say what it answers."""

    settings.BASE_DIR = tmp_path
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(views.RootView, "get", get)
    with pytest.raises(CommandError, match="warnings"):
        call_command("openapi_check", "--write")
    assert "RootView" in capsys.readouterr().err
    assert not (tmp_path / openapi_check.PATH).exists()


def test_the_document_is_valid_and_small():
    schema = document()
    validate_schema(schema)
    assert schema["openapi"].startswith("3.1")
    assert len(json.dumps(schema)) < 2_000_000
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "cookieAuth"}


def test_every_operation_says_what_can_go_wrong():
    schema = document()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"400", "401", "403", "429", "503"} <= set(answers), (path, method)
            shared = schema["components"]["responses"][answers["401"]["$ref"].rpartition("/")[2]]
            content = shared["content"]["application/problem+json"]
            assert content["schema"]["$ref"].endswith("/Problem")


@pytest.mark.parametrize(
    ("query", "accept", "media", "read"),
    [
        ("", "*/*", "application/vnd.oai.openapi+json", json.loads),
        ("?format=yaml", "*/*", "application/yaml", yaml.safe_load),
        ("", "application/yaml", "application/yaml", yaml.safe_load),
    ],
)
def test_the_document_is_served_to_everybody(db, query, accept, media, read):
    response = APIClient().get(f"/api/v1/schema/{query}", headers={"Accept": accept})
    assert response["Content-Type"].startswith(media)
    assert read(response.content)["info"]["title"] == "Fleet twin"
    assert APIClient().get("/api/v1/schema/?format=pdf").status_code == 400


@pytest.fixture
def secret(roles, fleet, done_run, published):
    """Fill every list, so that the fuzzer also meets rows that exist; who asks may write them all."""
    region_fill("extra")
    client = client_of(user_make("boss", "admin"))
    client.patch("/api/v1/racks/", [{"slug": "extra-0-r", "height_u": 50}])
    client.post("/api/v1/traces/", upload(TRACE), format="multipart")
    lots = {**upload(b"slug,chip\nlot-1,h20-96\n", "lots.csv"), "entry": "lots"}
    client.post("/api/v1/imports/", lots, format="multipart")
    client.post("/api/v1/ratings/query/", FAST)
    client.post("/api/v1/calibrations/", {"rows": [row()]})
    windows = {"starts_at": "2027-01-01T00:00:00Z", "window_s": 3600, "request_s": [5.0, None] * 24}
    client.post("/api/v1/demand-histories/", {"service": "extra-0-chat", **windows})
    return client._credentials["HTTP_AUTHORIZATION"]


def rows_there(secret):
    """Return the id of one row of every list, of demand its service, by the begin of its path."""
    client = APIClient(headers={"Authorization": secret})
    links = {name: url for name, url in client.get("/api/v1/").json().items() if name not in NO_LISTS}
    found = {name: client.get(url).json()["results"] for name, url in links.items()}
    return {f"/api/v1/{name}/": rows[-1].get("id") or rows[-1]["service"] for name, rows in found.items() if rows}


def application(environ, start_response):
    """The product as WSGI, on the connection and in the transaction of the test."""
    response = HANDLER(environ)
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [response.content]


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_no_request_breaks_the_server_or_the_document(secret, settings, mode):
    settings.API_WAIT_MAX_S = 0
    schema = schemathesis.openapi.from_dict(document())
    schema.config.generation.update(modes=[mode])
    refusing = schema.config.checks.negative_data_rejection
    # a stale ETag is told before a wrong body, and an array of too many rows by its length
    refusing.expected_statuses = [*refusing.expected_statuses, "412", "413"]
    schema.app = application
    tried, failures, there = 0, [], rows_there(secret)
    assert len(there) == 45
    for result in schema.get_all_operations():
        operation = result.ok()

        @seed(7)
        @hypothesis_settings(
            max_examples=5,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def call(case):
            nonlocal tried
            tried += 1
            if mode == schemathesis.GenerationMode.POSITIVE and (key := {"id", "slug"} & set(case.path_parameters)):
                case.path_parameters[key.pop()] = there[case.operation.path.split("{")[0]]
            case.call_and_validate(headers={"Authorization": secret}, checks=CHECKS)

        try:
            given(operation.as_strategy(generation_mode=mode))(call)()
        except schemathesis.errors.SchemathesisError as error:
            failures.append(f"{operation.label}: {error}")
        except BaseExceptionGroup as group:
            failures += [f"{operation.label}: {error}" for error in group.exceptions]
    assert not failures, "\n\n".join(failures)
    assert tried > 150


def test_every_reference_of_the_document_leads_somewhere():
    def references(part):
        if isinstance(part, dict):
            yield from (value for key, value in part.items() if key == "$ref")
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        for one in inner:
            yield from references(one)

    whole = document()
    found = set(references(whole))
    assert found
    for reference in found:
        at = whole
        for step in reference.removeprefix("#/").split("/"):
            assert step in at, reference
            at = at[step]
