"""``python -m accelerator``: chips, models, one step, simulations, ratings, kernel predictions, the fit behind them."""

import argparse
import csv
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from accelerator import predict_command, rate_command, simulate_command
from accelerator.architectures import ModelSpec, model_get, models_load
from accelerator.calibration import calibration_load
from accelerator.chips import ChipSpec, chip_get, chips_load, chips_read
from accelerator.errors import AcceleratorError
from accelerator.estimate import StepEstimate, step_estimate
from accelerator.facts import Figure
from accelerator.families import kernel_file_read
from accelerator.fitting import (
    calibration_make,
    calibration_write,
    families_wanted,
    files_read,
    microbench_read,
    report_lines,
)
from accelerator.hf_config import models_read
from accelerator.operators import DeploymentConfig
from accelerator.units import GIB, GIGA, PRECISION_BYTE, TERA

CALIBRATION_FOLDER = Path(__file__).parent / "data" / "calibration"
KERNEL_DATA_FOLDER = Path("../shared/data/kernels")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 and one sentence on stderr for names, files and configs that do not exist."""
    options = _parser().parse_args(arguments)
    try:
        for line in options.command(options):
            sys.stdout.write(f"{line}\n")
    except AcceleratorError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `| head` does; nothing may be flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m accelerator", description="What a chip can do for a model.")
    commands = parser.add_subparsers(required=True, metavar="command")

    chips = commands.add_parser("chips", help="all chips, or every figure of one with its source")
    chips.add_argument("--chip")
    _add_chips(chips)
    chips.set_defaults(command=_chips)

    models = commands.add_parser("models", help="all models")
    _add_models(models)
    models.set_defaults(command=_models)

    step = commands.add_parser("step", help="one engine step: time with band, where it goes, memory and power")
    step.add_argument("--chip", required=True)
    step.add_argument("--model", required=True)
    step.add_argument("--precision", choices=PRECISION_BYTE, help="of the weights; default: the 8-bit one the chip has")
    step.add_argument("--kv-precision", choices=PRECISION_BYTE, default="bf16", help="of the KV cache")
    step.add_argument("--tp", type=int, default=1, help="tensor parallel size")
    step.add_argument("--pp", type=int, default=1, help="pipeline stages")
    step.add_argument("--dp", type=int, default=1, help="groups of data-parallel attention")
    step.add_argument("--ep", type=int, default=1, help="1: experts are sliced; tp x dp: whole experts are spread")
    step.add_argument("--engine", default="", help="vllm, trtllm, vllm-ascend ...; default: the chip's usual one")
    step.add_argument("--expert-skew", type=float, default=0.0, help="0: tokens choose experts evenly; 1.2: power law")
    step.add_argument("--batch", type=float, default=1, help="decoding sequences")
    step.add_argument("--context", type=float, default=1024, help="KV tokens of each")
    step.add_argument("--prefill", type=float, default=0, help="prompt tokens in the same step")
    step.add_argument("--past", type=float, default=0, help="tokens of that prompt which are cached already")
    step.add_argument("--json", action="store_true", help="everything, as JSON")
    _add_chips(step)
    _add_models(step)
    step.set_defaults(command=_step)

    for name, text, options_add, run in (
        (
            "simulate", "requests through replicas: latencies, goodput, throughput, energy",
            simulate_command.options_add, _simulate,
        ),
        (
            "rate", "what a chip sustains for a model, a mix and limits, searched by simulation",
            rate_command.rate_options_add, _rate,
        ),
        (
            "exchange", "how many hosts of other chips one host equals for a service",
            rate_command.exchange_options_add, _exchange,
        ),
        (
            "predict", "what each row of a table of serving points should measure",
            predict_command.predict_options_add, _predict,
        ),
        (
            "calibrate", "update the published fit with own serving points",
            predict_command.calibrate_options_add, _calibrate,
        ),
        (
            "anchors", "which points to measure: those that tell most about the others",
            predict_command.anchors_options_add, _anchors,
        ),
        (
            "fit-serving", "fit published serving points, with errors of rows held out",
            predict_command.fit_options_add, _fit_serving,
        ),
    ):  # fmt: skip
        command = commands.add_parser(name, help=text)
        options_add(command)
        _add_chips(command)
        _add_models(command)
        command.set_defaults(command=run)

    kernels = commands.add_parser("kernels", help="predict each row of a kernel file: row,latency_ms,p10,p90,reason")
    kernels.add_argument("file", type=Path, help="csv or csv.gz; its columns say which operation it holds")
    _add_chips(kernels)
    kernels.set_defaults(command=_kernels)

    fit = commands.add_parser("fit", help="fit kernel files, measure errors on rows held out, write the calibration")
    fit.add_argument(
        "--data",
        type=Path,
        action="append",
        help=f"folder of kernel files; may be repeated, to fit them together; default: {KERNEL_DATA_FOLDER}",
    )
    fit.add_argument("--out", type=Path, default=CALIBRATION_FOLDER, help="default: accelerator/data/calibration")
    fit.add_argument("--family", action="append", default=[], help="only this one; may be repeated")
    _add_chips(fit)
    fit.add_argument("--date", default=datetime.now(UTC).date().isoformat(), help="day written beside the parameters")
    fit.set_defaults(command=_fit)

    errors = commands.add_parser("errors", help="how far each family of kernels was off on rows held out")
    errors.add_argument("--family", action="append", default=[])
    errors.set_defaults(command=_errors)
    return parser


def _add_chips(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--chips", type=Path, metavar="FILE", help="more chips, in the form of accelerator/data/chips.csv"
    )


def _add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument("--models", type=Path, metavar="DIR", help="more models: config.json files")


def _chips_known(options: argparse.Namespace) -> Mapping[str, ChipSpec]:
    return chips_read(options.chips) if options.chips else chips_load()


def _models_more(options: argparse.Namespace) -> Mapping[str, ModelSpec]:
    return models_read(options.models) if options.models else {}


def _chips(options: argparse.Namespace) -> Iterator[str]:
    chips = _chips_known(options)
    if options.chip:
        for name, figure in chip_get(options.chip, chips).figures().items():
            yield (
                f"{name:20} {figure.value:>12.4g} ({figure.low:.4g} to {figure.high:.4g}) {figure.unit:7} "
                f"{figure.confidence}: {figure.source} [{figure.read_on}]"
            )
        return
    for chip in chips.values():
        yield (
            f"{chip.slug:15} {_amount(chip.peak_flop_s.get('bf16'), TERA, 6)} TFLOP/s bf16 "
            f"{_amount(chip.given.get('memory_byte_s'), GIGA, 6)} GB/s "
            f"{_amount(chip.given.get('memory_byte'), GIGA, 5)} GB "
            f"{_amount(chip.given.get('tdp_w'), 1, 5)} W  {', '.join(chip.peak_flop_s) or 'no peak published'}"
        )


def _amount(figure: Figure | None, unit: float, width: int) -> str:
    return f"{figure.value / unit:{width}.0f}" if figure else "?".rjust(width)


def _models(options: argparse.Namespace) -> Iterator[str]:
    for model in {**models_load(), **_models_more(options)}.values():
        yield (
            f"{model.slug:20} {model.params_total / GIGA:7.1f} G parameters {model.params_active / GIGA:6.1f} G active "
            f"{model.kv_byte_per_tok():8.0f} byte/tok of KV (bf16)"
        )


def _step(options: argparse.Namespace) -> Iterator[str]:
    chip, model = chip_get(options.chip, _chips_known(options)), model_get(options.model, _models_more(options))
    precision = options.precision or next((p for p in ("fp8", "int8", "bf16") if p in chip.peak_flop_s), "bf16")
    config = DeploymentConfig(
        precision,
        kv_precision=options.kv_precision,
        tp=options.tp,
        pp=options.pp,
        dp=options.dp,
        ep=options.ep,
        engine=options.engine,
        expert_skew=options.expert_skew,
        max_seqs=_at_least(256, options.batch),
        max_batched_tok=_at_least(8192, options.batch + options.prefill),
    )
    estimate = step_estimate(
        chip,
        model,
        config,
        options.batch,
        options.context,
        prefill_tok=options.prefill,
        past_tok=options.past,
    )
    if options.json:
        yield json.dumps(estimate.as_dict(), allow_nan=False)
        return
    yield from _step_lines(estimate)


def _at_least(least: int, asked: float) -> int:
    """Return a limit of a step that holds what is asked for; what is no number is refused by the estimate."""
    return max(least, math.ceil(asked)) if 0 <= asked < 1e9 else least


def _step_lines(estimate: StepEstimate) -> Iterator[str]:
    for row in sorted(estimate.rows, key=lambda row: -row.time_s):
        yield (
            f"{row.operator:26} {row.time_s * 1e3:9.3f} ms {row.time_s / estimate.time_s:6.1%}  {row.bound_by:8} "
            f"{row.flop / GIGA:10.1f} Gflop {row.byte / GIGA:8.3f} GB  {row.basis}"
        )
    band, memory = estimate.band_s, estimate.memory
    yield (
        f"{'step':26} {estimate.time_s * 1e3:9.3f} ms  (P10 {band.p10 * 1e3:.3f}, P90 {band.p90 * 1e3:.3f}), mostly "
        f"{estimate.binding}; {estimate.batch / estimate.time_s:.0f} tok/s in {estimate.config.label}"
    )
    yield (
        f"{'memory':26} weights {memory.weights_byte / GIB:.1f}, activations {memory.activations_byte / GIB:.1f}, "
        f"engine {memory.engine_byte / GIB:.1f}, KV {memory.kv_byte / GIB:.1f} of {memory.usable_byte / GIB:.1f} GiB; "
        f"at most {memory.seqs_most(estimate.sequence_tok)} sequences of this length"
        f"{'' if estimate.fits else ': THIS STEP DOES NOT FIT'}"
    )
    if math.isnan(estimate.power_w):
        yield f"{'power':26} unknown: {estimate.chip.slug} has no published TDP"
    else:
        chips = estimate.config.chips
        yield f"{'power':26} {estimate.power_w:.0f} W of {chips} chips, {estimate.energy_j:.2f} J per step"
    moved = ", ".join(f"{name} ({low - 1:+.1%} to {high - 1:+.1%})" for name, low, high in estimate.drivers[:4])
    yield f"{'uncertain through':26} {moved}"


def _simulate(options: argparse.Namespace) -> Iterator[str]:
    return simulate_command.simulate_run(options, chips=_chips_known(options), models=_models_more(options))


def _rate(options: argparse.Namespace) -> Iterator[str]:
    return rate_command.rate_run(options, chips=_chips_known(options), models=_models_more(options))


def _exchange(options: argparse.Namespace) -> Iterator[str]:
    return rate_command.exchange_run(options, chips=_chips_known(options), models=_models_more(options))


def _kernels(options: argparse.Namespace) -> Iterator[str]:
    file = kernel_file_read(options.file, _chips_known(options))
    median_s, low_s, high_s = calibration_load(file.family.name).predict(file.rows)
    answers = {
        int(row): (f"{p50 * 1e3:.6g}", f"{p10 * 1e3:.6g}", f"{p90 * 1e3:.6g}", "")
        for row, p50, p10, p90 in zip(file.at, median_s, low_s, high_s, strict=True)
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("row", "latency_ms", "p10", "p90", "reason"))
    for row in range(file.count):
        writer.writerow((row, *answers.get(row, ("", "", "", file.reasons.get(row, "")))))
    yield text.getvalue().rstrip("\n")


def _fit(options: argparse.Namespace) -> Iterator[str]:
    families = families_wanted(options.family)
    chips = _chips_known(options)
    folders = options.data or [KERNEL_DATA_FOLDER]
    files = files_read(folders, chips)
    for family in families:
        if family.name not in files:
            yield f"{family.name}: no rows in {', '.join(map(str, folders))}"
            continue
        always = microbench_read(folders, chips) if family.name == "gemm" else None
        calibration = calibration_make(family, files[family.name], fitted_on=options.date, always=always)
        path = calibration_write(calibration, options.out)
        yield from report_lines(calibration)
        yield f"  written to {path}"


def _predict(options: argparse.Namespace) -> Iterator[str]:
    chips, models = _chips_known(options), _models_more(options)
    calibration = predict_command.calibration_read(options.calibration)
    return predict_command.predict_lines(options.points, calibration, chips=chips, models=models)


def _calibrate(options: argparse.Namespace) -> Iterator[str]:
    chips, models = _chips_known(options), _models_more(options)
    calibration = predict_command.calibration_read(options.calibration)
    return predict_command.calibrate_lines(options.points, options.out, calibration, chips=chips, models=models)


def _anchors(options: argparse.Namespace) -> Iterator[str]:
    chips, models = _chips_known(options), _models_more(options)
    calibration = predict_command.calibration_read(options.calibration)
    return predict_command.anchors_lines(options.points, options.number, calibration, chips=chips, models=models)


def _fit_serving(options: argparse.Namespace) -> Iterator[str]:
    chips, models = _chips_known(options), _models_more(options)
    return predict_command.fit_lines(options, chips=chips, models=models)


def _errors(options: argparse.Namespace) -> Iterator[str]:
    for family in families_wanted(options.family):
        calibration = calibration_load(family.name)
        yield f"fitted on {calibration.fitted_on}"
        yield from report_lines(calibration)


if __name__ == "__main__":
    sys.exit(main())
