"""``python -m accelerator rate`` and ``exchange``: a rating or exchange ratios, as text or JSON."""

import argparse
import json
import math
from collections.abc import Iterator, Mapping

from accelerator.architectures import ModelSpec, model_get
from accelerator.chips import ChipSpec, chip_get
from accelerator.errors import AcceleratorError
from accelerator.exchange import Exchange, exchange_ratio
from accelerator.goodput import goodput_search
from accelerator.pareto import FrontPoint, pareto_front
from accelerator.profiles import PROFILES, profile_mix
from accelerator.rating import Rating
from accelerator.steady import Slo
from accelerator.units import PRECISION_BYTE, Band

FRONT_LINES = 12
"""Points of the front that are shown as text, evenly spread over it."""


def rate_options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rate`` to its parser."""
    command.add_argument("--chip", required=True)
    command.add_argument("--host-chips", type=int, help="chips of a host; default: the chip's usual host")
    command.add_argument("--pareto", action="store_true", help="also speed for one user against tokens per chip")
    _options_add(command)


def exchange_options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of ``exchange`` to its parser."""
    command.add_argument("--from", dest="from_chip", required=True, metavar="CHIP", help="chip that is replaced")
    command.add_argument(
        "--to", dest="to_chips", required=True, action="append", metavar="CHIP", help="may be repeated"
    )
    _options_add(command)


def _options_add(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", required=True)
    command.add_argument("--mix", required=True, help=", ".join(PROFILES))
    command.add_argument("--ttft-p95-s", type=float, required=True, help="limit of the time to first token, in seconds")
    command.add_argument(
        "--tpot-p95-s", type=float, required=True, help="limit of the time per later token, in seconds"
    )
    command.add_argument(
        "--percentile", type=float, default=0.95, help="share of requests that keep each limit; default: 0.95"
    )
    command.add_argument(
        "--precision", action="append", choices=PRECISION_BYTE, help="of the weights; may be repeated; default: any"
    )
    command.add_argument("--json", action="store_true", help="everything, as JSON")


def rate_run(
    options: argparse.Namespace, *, chips: Mapping[str, ChipSpec], models: Mapping[str, ModelSpec]
) -> Iterator[str]:
    """Yield the lines of the rating of one chip for one model."""
    chip, model, mix = chip_get(options.chip, chips), model_get(options.model, models), profile_mix(options.mix)
    slo = _slo(options)
    host_chips = chip.host_chips if options.host_chips is None else options.host_chips
    if host_chips < 1:
        raise AcceleratorError(f"a host has at least one chip, not {host_chips}")
    rating = goodput_search(chip, model, mix, slo, host_chips=host_chips, precisions=options.precision)
    points: tuple[FrontPoint, ...] = ()
    if options.pareto or options.json:
        points = pareto_front(chip, model, mix, host_chips=host_chips, slo=slo, precisions=options.precision)
    if options.json:
        values = {**rating.as_dict(), "host_chips": host_chips, "pareto": [point.as_dict() for point in points]}
        yield json.dumps(values, allow_nan=False)
        return
    yield from rating_lines(rating, host_chips)
    if options.pareto:
        yield from front_lines(points)


def exchange_run(
    options: argparse.Namespace, *, chips: Mapping[str, ChipSpec], models: Mapping[str, ModelSpec]
) -> Iterator[str]:
    """Yield the lines of the exchange ratios of one chip for others."""
    start, model, mix = chip_get(options.from_chip, chips), model_get(options.model, models), profile_mix(options.mix)
    slo = _slo(options)
    others = [chip_get(name, chips) for name in options.to_chips]
    found = [exchange_ratio(start, other, model, mix, slo, precisions=options.precision) for other in others]
    if options.json:
        yield json.dumps([exchange.as_dict() for exchange in found], allow_nan=False)
        return
    yield from exchange_lines(found)


def rating_lines(rating: Rating, host_chips: int) -> Iterator[str]:
    """Yield a rating as text."""
    percent = f"P{rating.slo.percentile * 100:g}"
    yield (
        f"{rating.model} on {rating.chip} for {rating.mix}, TTFT {rating.slo.ttft_s:g} s and "
        f"TPOT {rating.slo.tpot_s * 1e3:g} ms at {percent}"
    )
    if rating.refusal is not None or rating.config is None:
        yield f"{'refused':14} {rating.refusal}"
        return
    config, chips = rating.config, rating.chips
    yield f"{'config':14} {rating.label}: {chips} of the {host_chips} chips of a host"
    yield f"{'limits':14} at most {config.max_batched_tok} tokens and {config.max_seqs} sequences a step"
    yield f"{'':14} {'P10':>10} {'P50':>10} {'P90':>10}"
    yield _band_line("requests/s", rating.request_s)
    yield _band_line("tok/s", rating.tok_s)
    yield _band_line("... per chip", rating.tok_s.scaled(1 / rating.counted_chips))
    if rating.power_w:
        yield _band_line("... per kW", rating.tok_s.scaled(1e3 / rating.power_w))
    else:
        yield f"{'... per kW':14} unknown: {rating.chip} has no published TDP"
    if rating.price_usd:
        yield _band_line("... per kUSD", rating.tok_s.scaled(1e3 / rating.price_usd / rating.counted_chips))
    else:
        yield f"{'... per kUSD':14} unknown: {rating.chip} has no published price"
    yield (
        f"{'runs':14} {rating.batch:.1f} sequences decode at a time, TTFT {rating.ttft_s:.3g} s and "
        f"TPOT {rating.tpot_s * 1e3:.3g} ms at {percent}, {rating.power_w:.0f} W without hosts"
    )
    yield f"{'bound by':14} {rating.binds}; {rating.basis}"
    moved = ", ".join(f"{name} ({low - 1:+.0%} to {high - 1:+.0%})" for name, low, high in rating.drivers[:4])
    yield f"{'uncertain by':14} {moved or 'nothing that is known'}"


def _band_line(title: str, band: Band) -> str:
    return f"{title:14} {band.p10:10.4g} {band.p50:10.4g} {band.p90:10.4g}"


def front_lines(points: tuple[FrontPoint, ...]) -> Iterator[str]:
    """Yield some points of a front as text."""
    yield f"{'tok/s for one':>14} {'per chip':>10} {'batch':>8}  config, nobody waiting"
    last = len(points) - 1
    shown = dict.fromkeys(round(at * last / (FRONT_LINES - 1)) for at in range(FRONT_LINES)) if points else {}
    for at in shown:
        point = points[at]
        yield f"{point.user_tok_s:14.1f} {point.chip_tok_s:10.1f} {point.batch:8.1f}  {point.label}"


def exchange_lines(found: list[Exchange]) -> Iterator[str]:
    """Yield exchange ratios as text."""
    first = found[0]
    yield (
        f"one {first.from_chip} host of {first.from_host_chips} chips equals so many hosts, for {first.model}, "
        f"{first.mix}, TTFT {first.slo.ttft_s:g} s and TPOT {first.slo.tpot_s * 1e3:g} ms at "
        f"P{first.slo.percentile * 100:g} (P50, P10 to P90)"
    )
    yield f"{'of':16} {'chips':>5}  {'prefill':22} {'decode':22} {'service':22}"
    for exchange in found:
        ratios = " ".join(f"{_ratio_text(band):22}" for band in (exchange.prefill, exchange.decode, exchange.service))
        yield f"{exchange.to_chip:16} {exchange.to_host_chips:5}  {ratios}".rstrip()
        if exchange.refusal:
            yield f"{'':16} {exchange.refusal}"


def _ratio_text(band: Band | None) -> str:
    return "-" if band is None else f"{band.p50:.2f} ({band.p10:.2f} to {band.p90:.2f})"


def _slo(options: argparse.Namespace) -> Slo:
    if math.isinf(options.ttft_p95_s) or math.isinf(options.tpot_p95_s):
        raise AcceleratorError("limits are finite")
    return Slo(options.ttft_p95_s, options.tpot_p95_s, options.percentile)
