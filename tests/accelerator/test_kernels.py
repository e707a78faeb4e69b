import sys

import pytest

from accelerator.errors import KernelMissingError
from accelerator.kernels import kernel_load


def test_the_compiled_kernel_is_the_default(monkeypatch):
    monkeypatch.delenv("ACCELERATOR_KERNEL", raising=False)
    assert kernel_load().__name__ == "accelerator._roofline"


def test_the_environment_chooses_the_plain_twin(monkeypatch):
    monkeypatch.setenv("ACCELERATOR_KERNEL", "python")
    assert kernel_load().__name__ == "accelerator._roofline_py"


def test_an_unknown_choice_names_the_choices():
    with pytest.raises(KernelMissingError, match='"fast"; it can be compiled or python'):
        kernel_load("fast")


def test_a_missing_build_names_the_command_and_does_not_fall_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerator._roofline", None)  # how Python marks a module that cannot be found
    with pytest.raises(KernelMissingError, match="run `make install`"):
        kernel_load("compiled")


def test_both_twins_offer_the_same_kernels():
    plain, compiled = (kernel_load(choice) for choice in ("python", "compiled"))
    for name in ("family_times_s", "linear_times_s", "step_times_s"):
        assert callable(getattr(plain, name)), name
        assert callable(getattr(compiled, name)), name
