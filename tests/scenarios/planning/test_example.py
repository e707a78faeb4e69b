"""The example of docs/examples through the command line, and the schemas that are published beside it."""

import json

import jsonschema
import pytest

from scenarios.planning.__main__ import BAD_INPUT, NO_PLAN, SCHEMAS, main, schema_text
from scenarios.planning.migration import plan_migration
from scenarios.planning.problem import problem_read
from tests.conftest import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "migration.json"


@pytest.fixture
def example():
    return json.loads(EXAMPLE.read_text())


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--draws=-1", "capacity.draws: -1 is below 0"),
        ("--target-ratio=-2", "capacity.target_ratio: -2 is below 0"),
        ("--target-ratio=nan", "capacity.target_ratio: a finite number is needed"),
        ("--lead-months=inf", "capacity.lead_months: a finite number is needed"),
    ],
)
def test_a_capacity_question_out_of_range_is_refused_by_its_field(capsys, option, said):
    assert main(["capacity", str(EXAMPLE), "--draws=0", option]) == BAD_INPUT
    assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize("lead_months", ["1.5", "1e9"])
def test_a_capacity_question_is_answered_as_json(capsys, lead_months):
    assert main(["capacity", str(EXAMPLE), "--draws=0", "--seed=3", f"--lead-months={lead_months}"]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, json.loads((ROOT / "docs" / "schemas" / "capacity-plan.json").read_text()))
    assert (answer["draws"], answer["seed"]) == (0, 3)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_that_of_the_code(name):
    assert (ROOT / "docs" / "schemas" / f"{name}.json").read_text() == schema_text(SCHEMAS[name]())


def test_the_example_and_its_answer_keep_the_published_schemas(example):
    jsonschema.validate(example, json.loads((ROOT / "docs" / "schemas" / "problem.json").read_text()))
    answer = plan_migration(problem_read(example)).as_dict()
    schema = json.loads((ROOT / "docs" / "schemas" / "migration-plan.json").read_text())
    jsonschema.validate(json.loads(json.dumps(answer)), schema)


def test_a_problem_survives_its_json(example):
    problem = problem_read(example)
    assert problem_read(json.loads(json.dumps(problem.as_dict()))) == problem


def test_prompts_move_to_the_homegrown_chip_and_answers_stay(example):
    answer = plan_migration(problem_read(example))
    assert [(row.service, row.kind, row.phase) for row in answer.opened] == [("chat", "ppu", "prefill")]
    last = [row for row in answer.loads if row.period == 3 and row.service == "chat" and row.serving_hosts > 0]
    assert ("h20", "decode") in {(row.kind, row.phase) for row in last}


def test_the_command_prints_what_the_page_quotes(capsys):
    assert main(["migration", str(EXAMPLE)]) == 0
    printed = capsys.readouterr().out
    page = (ROOT / "docs" / "models" / "plan.md").read_text()
    assert printed.strip() in page


def test_the_command_prints_the_whole_answer_as_json(capsys):
    assert main(["migration", str(EXAMPLE), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "optimal"


def test_an_incident_and_its_answer_keep_the_published_schemas(capsys):
    """Four of eight H20 hosts are lost for 0.36 of February: what they cannot make is told, and for how long."""
    path = EXAMPLE.with_name("incident.json")
    jsonschema.validate(json.loads(path.read_text()), json.loads((ROOT / "docs/schemas/incident.json").read_text()))
    assert main(["incident", str(EXAMPLE), str(path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, json.loads((ROOT / "docs" / "schemas" / "incident-answer.json").read_text()))
    assert [(row["hosts"], row["hit_hosts"]) for row in answer["hits"]] == [(8.0, 4.0)]
    assert {row["nothing_months"] for row in answer["recovery"]} == {0.36}


def test_an_incident_that_does_not_fit_is_refused_with_its_place(tmp_path, capsys):
    path = tmp_path / "incident.json"
    path.write_text(json.dumps({"words": "x", "first": 0, "hits": [{"place": "x", "kind": "h20", "ratio": 2}]}))
    assert main(["incident", str(EXAMPLE), str(path)]) == BAD_INPUT
    assert "incident.hits[0].ratio[0]: 2 is above 1" in capsys.readouterr().err
    path.write_text(json.dumps({"words": "x", "first": 0, "hits": [{"place": "x", "kind": "h20", "ratio": 1}]}))
    assert main(["incident", str(EXAMPLE), str(path)]) == BAD_INPUT
    assert "incident.hits[0].place: unknown place 'x'" in capsys.readouterr().err


def test_the_command_names_what_is_wrong(tmp_path, capsys, example):
    example["services"][0]["demand_tok_s"] = [-1]
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(example))
    assert main(["migration", str(path)]) == BAD_INPUT
    assert "problem.services[0].demand_tok_s[0]: -1 is below 0" in capsys.readouterr().err


def test_the_command_says_which_requirements_conflict(tmp_path, capsys, example):
    example["floors"] = [{"ratio": 0.9, "period": 0}]
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(example))
    assert main(["migration", str(path)]) == NO_PLAN
    assert "homegrown tokens are at least 90% from 2027-01" in capsys.readouterr().out
