"""``python -m accelerator``: chips, models and one step, from the command line."""

import argparse
import sys
from collections.abc import Sequence

from accelerator.architectures import model_get, models_load
from accelerator.chips import chip_get, chips_load
from accelerator.errors import AcceleratorError
from accelerator.operators import DeploymentConfig
from accelerator.steps import explain
from accelerator.units import GIGA, TERA


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 and one sentence on stderr for names and configs that do not exist."""
    options = _parser().parse_args(arguments)
    try:
        lines = options.command(options)
    except AcceleratorError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m accelerator", description="What a chip can do for a model.")
    commands = parser.add_subparsers(required=True, metavar="command")
    chips = commands.add_parser("chips", help="all chips, or every figure of one with its source")
    chips.add_argument("--chip")
    chips.set_defaults(command=_chips)
    commands.add_parser("models", help="all models").set_defaults(command=_models)
    step = commands.add_parser("step", help="where the time of one decode step goes")
    step.add_argument("--chip", required=True)
    step.add_argument("--model", required=True)
    step.add_argument("--precision", help="of the weights; default: the 8-bit one the chip has, else bf16")
    step.add_argument("--tp", type=int, default=1)
    step.add_argument("--batch", type=int, default=1, help="decoding sequences")
    step.add_argument("--context", type=int, default=1024, help="KV tokens of each")
    step.set_defaults(command=_step)
    return parser


def _chips(options: argparse.Namespace) -> list[str]:
    if options.chip:
        rows = chip_get(options.chip).figures().items()
        return [
            f"{name:20} {figure.value:>12.4g} ({figure.low:.4g} to {figure.high:.4g}) {figure.unit:7} "
            f"{figure.confidence}: {figure.source}"
            for name, figure in rows
        ]
    return [
        f"{chip.slug:15} {chip.peak_flop_s['bf16'].value / TERA:6.0f} TFLOP/s bf16 "
        f"{chip.memory_byte_s.value / GIGA:6.0f} GB/s {chip.memory_byte.value / GIGA:5.0f} GB "
        f"{chip.tdp_w.value:5.0f} W  {', '.join(chip.peak_flop_s)}"
        for chip in chips_load().values()
    ]


def _models(_: argparse.Namespace) -> list[str]:
    return [
        f"{model.slug:16} {model.params_total / GIGA:7.1f} G parameters {model.params_active / GIGA:6.1f} G active "
        f"{model.kv_byte_per_tok():8.0f} byte/tok of KV (bf16)"
        for model in models_load().values()
    ]


def _step(options: argparse.Namespace) -> list[str]:
    chip, model = chip_get(options.chip), model_get(options.model)
    precision = options.precision or next(p for p in ("fp8", "int8", "bf16") if p in chip.peak_flop_s)
    rows = explain(chip, model, DeploymentConfig(precision, tp=options.tp), options.batch, options.context)
    total_s = sum(row.time_s for row in rows)
    return [
        *(f"{row.operator:18} {row.time_s * 1e3:9.3f} ms  {row.bound_by}" for row in rows),
        f"{'step':18} {total_s * 1e3:9.3f} ms  {options.batch / total_s:.0f} tok/s in {precision}",
    ]


if __name__ == "__main__":
    sys.exit(main())
