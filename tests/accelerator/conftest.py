"""Both twins of the kernels, and the folder of published data beside the project."""

import os
from pathlib import Path

import pytest

from accelerator.kernels import CHOICES, kernel_load


@pytest.fixture(params=CHOICES)
def kernel(request):
    return kernel_load(request.param)


@pytest.fixture(scope="session")
def shared_data():
    root = Path(__file__).parents[2]
    folder = (root / os.environ.get("SHARED_DIR", "../shared")).resolve() / "data"
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}")
    return folder
