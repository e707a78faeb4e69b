"""docker-compose.yml describes a deployment that cannot start half configured and that scales by workers."""

import re

import pytest
import yaml

from tests.compose_run import ComposeError, compose_read, interpolate
from tests.conftest import ROOT

COMPOSE = ROOT / "docker-compose.yml"
SECRETS = {
    "SECRET_KEY": "k" * 64,
    "POSTGRES_PASSWORD": "pg",
    "REDIS_PASSWORD": "rd",
    "ALLOWED_HOSTS": "twin.example.com",
}
OURS = ("migrate", "web", "worker", "beat")


@pytest.fixture(scope="module")
def services():
    return compose_read(COMPOSE, SECRETS)


def test_every_part_of_the_deployment_is_there(services):
    assert set(services) == {"postgres", "redis", *OURS}


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_deployment_without_a_secret_does_not_start(name):
    with pytest.raises(ComposeError, match=name):
        compose_read(COMPOSE, SECRETS | {name: ""})


def test_no_secret_is_written_down():
    text = COMPOSE.read_text()
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert re.search(rf"\$\{{{name}:\?", text)
        assert not re.search(rf"\$\{{{name}:-", text)
    example = (ROOT / ".env.example").read_text()
    assert re.findall(r"^(SECRET_KEY|POSTGRES_PASSWORD|REDIS_PASSWORD)=(.+)$", example, re.MULTILINE) == []


def test_every_variable_of_the_file_is_explained_in_the_example():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used - example <= {"LOG_LEVEL", "TWIN_VERSION"}
    assert example <= used


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_deployments_on_postgresql_and_redis(services, name):
    env = services[name]["environment"]
    assert env["DEPLOYMENT"] == "1"
    assert env["DATABASE_URL"] == "postgresql://twin:pg@postgres:5432/twin"
    assert env["REDIS_URL"] == "redis://:rd@redis:6379/0"
    assert not {"DEBUG", "DEMO"} & set(env)


def test_what_runs_on_is_restarted_and_checked_and_what_runs_once_is_not(services):
    for name in ("postgres", "redis", "web", "worker", "beat"):
        assert services[name]["restart"] == "unless-stopped"
        assert services[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert services["migrate"]["restart"] == "no"


def test_nothing_starts_before_the_tables_are_there(services):
    for name in ("web", "worker", "beat"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert services[name]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_workers_can_be_scaled_because_nothing_of_them_is_unique(services):
    assert not {"container_name", "ports", "hostname"} & set(services["worker"])


def test_only_the_web_is_reachable_and_only_from_this_machine(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:8000:8000"]}


def test_the_broker_keeps_what_it_accepted_and_wants_a_password(services):
    command = " ".join(services["redis"]["command"])
    assert "--requirepass rd" in command
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_runs_as_nobody_special_and_keeps_no_compiler():
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    assert "build_ext" in stages[0]
    assert "gcc" not in stages[1]
    assert re.search(r"^USER twin$", stages[1], re.MULTILINE)


def test_secrets_and_local_files_stay_out_of_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".git", ".venv", "var"} <= set(ignored)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("${B:-2}", "2"),
        ("${A:-2}", "1"),
        ("x$$HOME", "x$HOME"),
        ("${A:?no}/${B:-}", "1/"),
    ],
)
def test_variables_are_replaced_as_compose_does(text, expected):
    assert interpolate(text, {"A": "1"}) == expected


def test_the_file_is_plain_yaml_without_duplicate_services():
    names = re.findall(
        r"^  (\w+):$", COMPOSE.read_text().split("\nservices:\n")[1].split("\nvolumes:\n")[0], re.MULTILINE
    )
    assert sorted(names) == sorted(set(names)) == sorted(yaml.safe_load(COMPOSE.read_text())["services"])
