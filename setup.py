"""Compile the Cython kernels of accelerator/ in place. Everything else about the project is in pyproject.toml."""

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

kernels = [
    Extension(
        f"accelerator.{name}",
        [f"accelerator/{name}.pyx"],
        include_dirs=[np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        # no fused multiply-add: the plain twin must agree; nobody reads errno
        extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno"],
    )
    for name in ("_des", "_roofline")
]

setup(ext_modules=cythonize(kernels, language_level=3))
