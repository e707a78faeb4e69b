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
