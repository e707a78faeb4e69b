import json

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.engines import efficiency_fitted
from accelerator.operators import DeploymentConfig
from accelerator.pareto import front, pareto_front
from accelerator.profiles import profile_mix
from accelerator.steady import Slo
from accelerator.steps import step_table_build

CONV = profile_mix("azure-conv")


def points(chip="h200", model="qwen3-32b", **options):
    return pareto_front(chip_get(chip), model_get(model), CONV, host_chips=8, **options)


def test_a_front_by_hand():
    across = np.array([1.0, 3.0, 2.0, 2.0, 3.0])
    along = np.array([9.0, 1.0, 5.0, 4.0, 0.5])
    assert front(across, along) == [1, 2, 0]
    assert front(np.zeros(0), np.zeros(0)) == []


def test_no_point_beats_another_in_both():
    found = points()
    assert len(found) > 20
    users, chips = ([getattr(point, name) for point in found] for name in ("user_tok_s", "chip_tok_s"))
    assert users == sorted(users, reverse=True)
    assert chips == sorted(chips)


def test_its_ends_are_one_fast_user_and_many_slow_ones():
    found = points()
    assert found[0].label.endswith("tp8")
    assert found[0].batch == 1
    assert found[-1].batch > 100
    assert found[0].user_tok_s > 10 * found[-1].user_tok_s
    assert found[-1].chip_tok_s > 10 * found[0].chip_tok_s


def test_the_fastest_user_is_served_by_a_step_of_its_own():
    """With next to nothing beside it, a user gets one token a step; prompts rarely stand between."""
    (fastest, *_) = points(precisions=["fp8"])
    chip, model, config = chip_get("h200"), model_get("qwen3-32b"), DeploymentConfig("fp8", tp=8)
    table = step_table_build(chip, model, config, efficiency=efficiency_fitted(chip, model, config))
    assert fastest.user_tok_s == pytest.approx(1 / table.step_s(1, 1, CONV.context_tok), rel=0.25)


def test_configs_that_cannot_read_a_prompt_in_time_are_left_out():
    loose, strict = points(), points(slo=Slo(0.15, 1.0))
    assert {point.label for point in strict} < {point.label for point in loose}
    assert points(slo=Slo(1e-4, 1.0)) == ()


def test_what_does_not_fit_has_no_front():
    assert points("a100-80", "deepseek-v3") == ()
    assert points("h20-96", "gpt2") == ()  # it does not read that far


def test_points_are_json_ready():
    assert set(json.loads(json.dumps(points()[0].as_dict()))) == {"user_tok_s", "chip_tok_s", "batch", "label"}
