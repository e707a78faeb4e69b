"""The door to workloads: read a trace, or generate one with the statistics of a published service."""

from accelerator.profiles import PROFILES, Profile, profile_mix, workload_generate
from accelerator.requests import TokenMix, Workload
from accelerator.traces import workload_parse, workload_read

__all__ = [
    "PROFILES",
    "Profile",
    "TokenMix",
    "Workload",
    "profile_mix",
    "workload_generate",
    "workload_parse",
    "workload_read",
]
