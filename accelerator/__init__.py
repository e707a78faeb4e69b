"""What a chip can do for a model: facts, kernel times, workloads, steps, memory, ratings. No framework."""

from accelerator.architectures import ModelSpec, model_get, models_load
from accelerator.chips import ChipSpec, Figure, chip_get, chips_load, chips_read
from accelerator.efficiency import Efficiency
from accelerator.errors import (
    AcceleratorError,
    ConfigError,
    DataFileError,
    KernelMissingError,
    MissingFigureError,
    ModelDoesNotFitError,
    PrecisionError,
    TraceError,
    TraceWarning,
    UnknownChipError,
    UnknownModelError,
    UnknownNameError,
    UnknownProfileError,
)
from accelerator.estimate import StepEstimate, StepRow, step_estimate
from accelerator.hf_config import ConfigFileError, config_parse, models_read
from accelerator.memory import MemoryFit, memory_fit
from accelerator.rating import RATING_VERSION, Rating, Slo, rating_best, replica_rate
from accelerator.steps import DeploymentConfig, StepTable, step_table_build
from accelerator.units import Band
from accelerator.workload import (
    PROFILES,
    Profile,
    TokenMix,
    Workload,
    profile_mix,
    workload_generate,
    workload_parse,
    workload_read,
)

__all__ = [
    "PROFILES",
    "RATING_VERSION",
    "AcceleratorError",
    "Band",
    "ChipSpec",
    "ConfigError",
    "ConfigFileError",
    "DataFileError",
    "DeploymentConfig",
    "Efficiency",
    "Figure",
    "KernelMissingError",
    "MemoryFit",
    "MissingFigureError",
    "ModelDoesNotFitError",
    "ModelSpec",
    "PrecisionError",
    "Profile",
    "Rating",
    "Slo",
    "StepEstimate",
    "StepRow",
    "StepTable",
    "TokenMix",
    "TraceError",
    "TraceWarning",
    "UnknownChipError",
    "UnknownModelError",
    "UnknownNameError",
    "UnknownProfileError",
    "Workload",
    "chip_get",
    "chips_load",
    "chips_read",
    "config_parse",
    "memory_fit",
    "model_get",
    "models_load",
    "models_read",
    "profile_mix",
    "rating_best",
    "replica_rate",
    "step_estimate",
    "step_table_build",
    "workload_generate",
    "workload_parse",
    "workload_read",
]
