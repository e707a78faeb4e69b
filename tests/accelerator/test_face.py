import pkgutil
import subprocess
import sys

import accelerator


def test_the_face_is_sorted_and_every_name_is_there():
    by_kind = sorted(accelerator.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    assert list(accelerator.__all__) == by_kind  # constants, classes, functions
    assert all(hasattr(accelerator, name) for name in accelerator.__all__)


def test_everything_imported_into_the_face_is_exported():
    modules = {module.name for module in pkgutil.iter_modules(accelerator.__path__)}
    public = {name for name in vars(accelerator) if not name.startswith("_")} - modules
    assert public == set(accelerator.__all__)


def test_every_error_of_the_tree_can_be_caught_by_its_root():
    errors = [getattr(accelerator, name) for name in accelerator.__all__ if name.endswith("Error")]
    assert len(errors) >= 10
    assert all(issubclass(error, accelerator.AcceleratorError) for error in errors)


def test_the_room_imports_no_framework():
    code = "import sys, accelerator, accelerator.__main__; print({m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(framework in loaded for framework in ("'django'", "'rest_framework'", "'celery'"))


def test_the_face_is_enough_to_ask_every_question():
    """A step with its table, what fits, and a rating, by nothing but the names of the room."""
    chip, model = accelerator.chip_get("h20-96"), accelerator.model_get("Qwen/Qwen3-32B")
    config = accelerator.DeploymentConfig("fp8", tp=2)
    estimate = accelerator.step_estimate(chip, model, config, 16, 1000)
    assert isinstance(estimate, accelerator.StepEstimate)
    assert all(isinstance(row, accelerator.StepRow) for row in estimate.rows)
    assert isinstance(estimate.memory, accelerator.MemoryFit)
    assert isinstance(estimate.band_s, accelerator.Band)
    table = accelerator.step_table_build(chip, model, config)
    assert isinstance(table, accelerator.StepTable)
    mix, slo = accelerator.profile_mix("azure-conv"), accelerator.Slo(4.0, 0.05)
    rating = accelerator.replica_rate(chip, model, config, mix, slo)
    assert isinstance(rating, accelerator.Rating)
    assert rating.tok_s.p50 > 0
