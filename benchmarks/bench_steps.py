"""How fast steps are: times from a table, building one, whole configurations, the kernels beside their twins."""

from itertools import islice, product

import numpy as np
from measure import call_cpu_s, figure_print, machine_print

from accelerator import (
    AcceleratorError,
    DeploymentConfig,
    StepTable,
    chip_get,
    model_get,
    step_estimate,
    step_table_build,
)
from accelerator.efficiency import DEFAULT
from accelerator.kernels import kernel_load
from accelerator.roofline import Program, program_make

CASES = (
    ("h20-96", "qwen3-32b", DeploymentConfig("fp8", tp=2)),
    ("ascend-910c", "deepseek-r1", DeploymentConfig("int8", tp=16)),
    ("h200", "gpt-oss-120b", DeploymentConfig("fp8", tp=4)),
)
STEPS_MANY, STEPS_FEW = 100_000, 16  # a whole replica's day of steps at once; what a simulator asks between events
CONFIGS = 2000
CHIPS = (
    "a100-80", "h100-sxm", "h200", "h20-96", "b200", "l40s", "ascend-910b3", "ascend-910c", "thead-ppu-810e", "mi300x",
)  # fmt: skip
MODELS = ("llama-3.1-8b", "qwen3-32b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v3")
PEER_CONFIGS_S = 258 / 10.2  # aiconfigurator 0.12, Qwen3-32B on H200, 2 shared cores: 258 configurations in 10.2 CPU-s
PEER_ESTIMATE_S = 0.80  # the same, one warm estimate


def step_kernel_cpu_s(kernel: str, table: StepTable, columns: tuple[np.ndarray, ...]) -> float:
    """Return the CPU time of one call of the kernel that reads a table. [s]"""
    module, out_s = kernel_load(kernel), np.empty(len(columns[0]))
    parts = (
        table.linear_s, table.decode_s, table.context_s_per_tok, table.window_s_per_tok, table.prefill_s_per_tok2,
        table.window_s_per_tok2, table.prefill_s, table.fixed_s, table.window_tok,
    )  # fmt: skip
    return call_cpu_s(lambda: module.step_times_s(*parts, *columns, out_s))


def linear_kernel_cpu_s(kernel: str, program: Program, tok: np.ndarray) -> float:
    """Return the CPU time of one call of the kernel that adds up operators. [s]"""
    module, out = kernel_load(kernel), np.empty((len(tok), 3))
    rows = (program.code, program.count, program.tok_ratio, program.most_tok, program.shape, program.parameters)
    return call_cpu_s(lambda: module.linear_times_s(*rows, tok, out))


def configurations() -> list[tuple[object, ...]]:
    """Return (chip, model, config, batch) of the first cases that a chip can hold, all kinds mixed."""
    found = []
    batches, tps = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256), (1, 2, 4, 8)
    for batch, model, chip, tp in product(batches, MODELS, CHIPS, tps):
        spec = chip_get(chip)
        precision = next(p for p in ("fp8", "int8", "bf16") if p in spec.peak_flop_s)
        case = spec, model_get(model), DeploymentConfig(precision, tp=tp), batch
        try:
            step_estimate(*case, 1000.0)
        except AcceleratorError:
            continue
        found.append(case)
    return list(islice(found, CONFIGS))


def main() -> None:
    """Print steps per CPU second of both kernels, time to build a table, configurations per CPU second."""
    machine_print()
    chip, model, config = CASES[0]
    table = step_table_build(chip_get(chip), model_get(model), config)
    rng = np.random.default_rng(1)
    for steps in (STEPS_MANY, STEPS_FEW):
        tok = rng.integers(1, table.max_batched_tok, steps).astype(np.float64)
        seqs = np.minimum(tok, rng.integers(1, table.max_seqs, steps))
        columns = (tok, seqs, seqs * 1000.0, rng.uniform(0, 1e6, steps))
        compiled_s, plain_s = (step_kernel_cpu_s(kernel, table, columns) for kernel in ("compiled", "python"))
        what = f"step times, {steps:,} a call"
        figure_print(what, steps / compiled_s, "steps/CPU-s", reference="plain twin", ratio=plain_s / compiled_s)
        figure_print(f"{what}, plain twin", steps / plain_s, "steps/CPU-s")
    for chip, model, config in CASES:
        program = program_make(chip_get(chip), model_get(model), config, DEFAULT)
        tok = np.arange(1.0, 257.0)
        compiled_s, plain_s = (linear_kernel_cpu_s(kernel, program, tok) for kernel in ("compiled", "python"))
        rows = len(tok) * len(program.ops)
        what = f"operator times, {model}"
        figure_print(what, rows / compiled_s, "operators/CPU-s", reference="plain twin", ratio=plain_s / compiled_s)
    for chip, model, config in CASES:
        build_s = call_cpu_s(lambda c=chip, m=model, f=config: step_table_build(chip_get(c), model_get(m), f))
        figure_print(f"step table of {model} on {chip}, {config.label}", build_s * 1e3, "CPU-ms")
    cases = configurations()

    def all_configurations() -> None:
        for case in cases:
            step_estimate(*case, 1000.0)

    spent_s = call_cpu_s(all_configurations)
    rate = len(cases) / spent_s
    figure_print(
        f"configurations with memory, {len(cases):,}", rate, "configs/CPU-s", reference="aiconfigurator",
        ratio=rate / PEER_CONFIGS_S,
    )  # fmt: skip
    figure_print(f"configurations with memory, all {len(cases):,}", spent_s, "CPU-s")
    one_s = call_cpu_s(lambda: step_estimate(*cases[0], 1000.0))
    figure_print(
        "one warm estimate", one_s * 1e3, "CPU-ms", reference="aiconfigurator", ratio=PEER_ESTIMATE_S / one_s
    )  # fmt: skip
    band_s = call_cpu_s(lambda: step_estimate(*cases[0], 1000.0).band_s)
    figure_print("one warm estimate with its band", band_s * 1e3, "CPU-ms")


if __name__ == "__main__":
    main()
