"""How fast step times come out of a step table: the compiled kernel beside its plain twin, and building a table."""

import numpy as np
from measure import call_cpu_s, figure_print, machine_print

from accelerator import DeploymentConfig, StepTable, chip_get, model_get, step_table_build
from accelerator.kernels import kernel_load

CASES = (
    ("h20-96", "qwen3-32b", DeploymentConfig("fp8", tp=2)),
    ("ascend-910c", "deepseek-r1", DeploymentConfig("int8", tp=16)),
)
STEPS_MANY, STEPS_FEW = 100_000, 16  # a whole replica's day of steps at once; what a simulator asks between events


def kernel_cpu_s(kernel: str, table: StepTable, columns: tuple[np.ndarray, ...]) -> float:
    """Return the CPU time of one call of a kernel. [s]"""
    module, out_s = kernel_load(kernel), np.empty(len(columns[0]))
    fixed = (table.linear_s, table.context_s_per_tok, table.prefill_s_per_tok2, table.fixed_s)
    return call_cpu_s(lambda: module.step_times_s(*fixed, *columns, out_s))


def main() -> None:
    """Print steps per CPU second of both kernels, and the time to build a table."""
    machine_print()
    chip, model, config = CASES[0]
    table = step_table_build(chip_get(chip), model_get(model), config)
    rng = np.random.default_rng(1)
    for steps in (STEPS_MANY, STEPS_FEW):
        tok = rng.integers(1, table.max_batched_tok, steps).astype(np.float64)
        columns = (tok, tok * 1000.0, rng.uniform(0, 1e6, steps))
        compiled_s, plain_s = (kernel_cpu_s(kernel, table, columns) for kernel in ("compiled", "python"))
        what = f"step times, {steps:,} a call"
        figure_print(what, steps / compiled_s, "steps/CPU-s", reference="plain twin", ratio=plain_s / compiled_s)
        figure_print(f"{what}, plain twin", steps / plain_s, "steps/CPU-s")
    for chip, model, config in CASES:
        build_s = call_cpu_s(lambda c=chip, m=model, f=config: step_table_build(chip_get(c), model_get(m), f))
        figure_print(f"step table of {model} on {chip}, {config.label}", build_s * 1e6, "CPU-us")


if __name__ == "__main__":
    main()
