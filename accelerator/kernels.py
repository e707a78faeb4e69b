"""The one place that picks between the compiled kernels and their plain twins.

``ACCELERATOR_KERNEL=python`` in the environment chooses the twins (for tests); otherwise the compiled kernels are
needed, and a missing build is an error, never a silent fallback to code many times slower.
"""

import importlib
import os
from types import ModuleType

from accelerator.errors import KernelMissingError

CHOICES = ("compiled", "python")


def kernel_load(choice: str | None = None, kernel: str = "roofline") -> ModuleType:
    """Return the module of a kernel.

    Parameters
    ----------
    choice : str, optional
        ``compiled`` or ``python``; the environment decides if left out.
    kernel : str
        ``roofline`` (steps and operators) or ``des`` (the simulator).
    """
    choice = choice or os.environ.get("ACCELERATOR_KERNEL", "compiled")
    if choice not in CHOICES:
        raise KernelMissingError(f'ACCELERATOR_KERNEL is "{choice}"; it can be {" or ".join(CHOICES)}')
    name = f"accelerator._{kernel}" if choice == "compiled" else f"accelerator._{kernel}_py"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise KernelMissingError("the compiled kernels are missing: run `make install`") from error


roofline = kernel_load()
