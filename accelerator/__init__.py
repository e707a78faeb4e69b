"""What a chip can do for a model: facts, kernel times, workloads, steps, memory, simulations, ratings. No framework."""

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
from accelerator.exchange import Exchange, exchange_ratio
from accelerator.experiment import Experiment, Part, experiment_run, part_run, parts_merge
from accelerator.goodput import GOODPUT_VERSION, goodput_digest, goodput_search
from accelerator.hf_config import ConfigFileError, config_parse, models_read
from accelerator.ledger import Latency
from accelerator.memory import MemoryFit, memory_fit
from accelerator.outcome import Outcome, outcomes_merge
from accelerator.pareto import FrontPoint, pareto_front
from accelerator.pools import pool_build
from accelerator.rating import RATING_VERSION, Rating, Slo, rating_best, replica_rate
from accelerator.simulation import Change, ChangeKind, Limits, Load, LoadKind, Plan, Pool, Role, Router
from accelerator.simulator import simulate
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
    "GOODPUT_VERSION",
    "PROFILES",
    "RATING_VERSION",
    "AcceleratorError",
    "Band",
    "Change",
    "ChangeKind",
    "ChipSpec",
    "ConfigError",
    "ConfigFileError",
    "DataFileError",
    "DeploymentConfig",
    "Efficiency",
    "Exchange",
    "Experiment",
    "Figure",
    "FrontPoint",
    "KernelMissingError",
    "Latency",
    "Limits",
    "Load",
    "LoadKind",
    "MemoryFit",
    "MissingFigureError",
    "ModelDoesNotFitError",
    "ModelSpec",
    "Outcome",
    "Part",
    "Plan",
    "Pool",
    "PrecisionError",
    "Profile",
    "Rating",
    "Role",
    "Router",
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
    "exchange_ratio",
    "experiment_run",
    "goodput_digest",
    "goodput_search",
    "memory_fit",
    "model_get",
    "models_load",
    "models_read",
    "outcomes_merge",
    "pareto_front",
    "part_run",
    "parts_merge",
    "pool_build",
    "profile_mix",
    "rating_best",
    "replica_rate",
    "simulate",
    "step_estimate",
    "step_table_build",
    "workload_generate",
    "workload_parse",
    "workload_read",
]
