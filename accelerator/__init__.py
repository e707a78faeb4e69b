"""What a chip can do for a model: facts, workloads, step times, memory and the rating of one replica. No framework."""

from accelerator.architectures import ModelSpec, model_get, models_load
from accelerator.chips import ChipSpec, Figure, chip_get, chips_load
from accelerator.efficiency import Efficiency
from accelerator.errors import (
    AcceleratorError,
    ConfigError,
    DataFileError,
    KernelMissingError,
    ModelDoesNotFitError,
    PrecisionError,
    TraceError,
    TraceWarning,
    UnknownChipError,
    UnknownModelError,
    UnknownNameError,
    UnknownProfileError,
)
from accelerator.memory import MemoryFit, memory_fit
from accelerator.rating import RATING_VERSION, Rating, Slo, rating_best, replica_rate
from accelerator.steps import DeploymentConfig, StepTable, explain, step_table_build
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
    "DataFileError",
    "DeploymentConfig",
    "Efficiency",
    "Figure",
    "KernelMissingError",
    "MemoryFit",
    "ModelDoesNotFitError",
    "ModelSpec",
    "PrecisionError",
    "Profile",
    "Rating",
    "Slo",
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
    "explain",
    "memory_fit",
    "model_get",
    "models_load",
    "profile_mix",
    "rating_best",
    "replica_rate",
    "step_table_build",
    "workload_generate",
    "workload_parse",
    "workload_read",
]
