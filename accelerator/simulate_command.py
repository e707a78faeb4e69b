"""``python -m accelerator simulate``: options or a file in, metrics as text or JSON out."""

import argparse
import csv
import json
import math
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.errors import ConfigError
from accelerator.experiment import LOADS, Experiment, experiment_run
from accelerator.ledger import Latency
from accelerator.outcome import LEVEL_NAMES, Outcome
from accelerator.simulation import Router
from accelerator.tables import Table
from accelerator.units import PRECISION_BYTE

BAR_AFTER_S, BAR_EVERY_S = 2.0, 0.2

BAND_QUANTILES = (0.1, 0.9)
"""Of every step time, as if all of them were that fast, or that slow, together."""

Option = tuple[str, str, dict[str, Any]]

POOL_OPTIONS: tuple[Option, ...] = (
    ("--chip", "chip", {"help": "chip of the replicas"}),
    ("--model", "model", {"help": "model that they serve"}),
    (
        "--precision",
        "precision",
        {"choices": PRECISION_BYTE, "help": "of the weights; default: as published, or the closest"},
    ),
    ("--kv-precision", "kv_precision", {"choices": PRECISION_BYTE, "help": "of the KV cache; default: bf16"}),
    ("--tp", "tp", {"type": int, "help": "tensor parallel size"}),
    ("--pp", "pp", {"type": int, "help": "pipeline stages"}),
    ("--dp", "dp", {"type": int, "help": "groups of data-parallel attention"}),
    ("--ep", "ep", {"type": int, "help": "1: experts are sliced; tp x dp: whole experts are spread"}),
    ("--engine", "engine", {"help": "engine whose kernels are used; default: the chip's usual one"}),
    ("--expert-skew", "expert_skew", {"type": float, "help": "0: experts are chosen evenly; 1.2: power law"}),
    ("--replicas", "replicas", {"type": int, "help": "replicas; default: 1"}),
    ("--max-batched-tokens", "max_batched_tok", {"type": int, "help": "most tokens of a step; default: 8192"}),
    ("--max-seqs", "max_seqs", {"type": int, "help": "most running requests of a replica; default: 256"}),
    ("--block-size", "block_tok", {"type": int, "help": "tokens of a KV block; default: 16"}),
    ("--kv-blocks", "kv_blocks", {"type": int, "help": "KV blocks of a replica; default: what fits into its memory"}),
    ("--watermark", "watermark_ratio", {"type": float, "help": "share of KV blocks an admission leaves free"}),
    ("--max-context", "context_most_tok", {"type": int, "help": "longest prompt and answer; default: the model's"}),
    (
        "--prefix-cache",
        "prefix_ratio",
        {"type": float, "help": "share of the KV memory set apart for the prefix cache"},
    ),
    ("--prefix-blocks", "prefix_blocks", {"help": "prefix cache beside the KV memory: blocks of hashes, or unlimited"}),
    ("--prefix-block-size", "prefix_block_tok", {"type": int, "help": "tokens of a block of hashes; default: 512"}),
    ("--draft-tokens", "draft_tok", {"type": int, "help": "speculative decoding: tokens drafted per step"}),
    ("--acceptance", "acceptance_ratio", {"type": float, "help": "chance that a drafted token is accepted"}),
    ("--draft-seconds", "draft_s", {"type": float, "help": "time to draft, per step"}),
    ("--load-bytes-per-second", "load_byte_s", {"type": float, "help": "weights loaded per second at a cold start"}),
)

WORKLOAD_OPTIONS: tuple[Option, ...] = (
    (
        "--trace",
        "trace",
        {"help": "csv or csv.gz: arrival_s,input_tokens,output_tokens[,prefix_hashes,client_id,priority]"},
    ),
    ("--profile", "profile", {"help": "generate requests with the statistics of a published service"}),
    ("--requests", "requests", {"type": int, "help": "how many; of a trace: the first so many"}),
    ("--rate", "rate_request_s", {"type": float, "help": "requests per second; default: as recorded or published"}),
)

LOAD_OPTIONS: tuple[Option, ...] = (
    ("--load", "kind", {"choices": LOADS, "help": "how requests arrive; default: open (at their own times)"}),
    ("--clients", "clients", {"type": int, "help": "closed: clients; static: requests of a batch"}),
    ("--think-seconds", "think_s", {"type": float, "help": "closed: pause of a client before its next request"}),
    ("--think-random", "think_random", {"action": "store_true", "default": None, "help": "pauses are exponential"}),
    ("--ramp-seconds", "ramp_s", {"type": float, "help": "closed: time over which clients begin"}),
)

SLO_OPTIONS: tuple[Option, ...] = (
    ("--slo-ttft", "ttft_s", {"type": float, "help": "goodput counts requests with a TTFT of at most so many seconds"}),
    ("--slo-tpot", "tpot_s", {"type": float, "help": "... and a TPOT of at most so many"}),
    ("--slo-e2e", "e2e_s", {"type": float, "help": "... and a whole time of at most so many"}),
)

FAILURE_OPTIONS: tuple[Option, ...] = (
    ("--mtbf-seconds", "mtbf_s", {"type": float, "help": "replicas fail at random, so long apart on average"}),
    ("--repair-seconds", "repair_s", {"type": float, "help": "time from a failure to the start of loading"}),
)

TOP_OPTIONS: tuple[Option, ...] = (
    ("--router", "router", {"choices": [router.name.lower().replace("_", "-") for router in Router],
                            "help": "default: round-robin; for an offline load least-outstanding"}),
    ("--seed", "seed", {"type": int, "help": "of everything random; default: 0"}),
    ("--seeds", "seeds", {"type": int, "help": "repeat with so many seeds"}),
    ("--cells", "cells", {"type": int, "help": "independent parts, each with its router and share of everything"}),
    ("--max-waiting", "waiting_most", {"type": int, "help": "stop and say unstable when so many wait"}),
    ("--until-seconds", "until_s", {"type": float, "help": "stop at this simulated time"}),
    ("--timeline-seconds", "timeline_s", {"type": float, "help": "first interval of the timeline"}),
)  # fmt: skip

GROUPS: tuple[tuple[str, str, tuple[Option, ...]], ...] = (
    ("pool", "the replicas (several pools: --config)", POOL_OPTIONS),
    ("workload", "the requests", WORKLOAD_OPTIONS),
    ("load", "how they arrive", LOAD_OPTIONS),
    ("slo", "limits for goodput", SLO_OPTIONS),
    ("failures", "failures", FAILURE_OPTIONS),
    ("", "the run", TOP_OPTIONS),
)


def options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    command.add_argument("--config", type=Path, metavar="FILE", help="an experiment as TOML; options change its values")
    for _, title, options in GROUPS:
        group = command.add_argument_group(title)
        for flag, name, details in options:
            metavar = {} if "choices" in details or "action" in details else {"metavar": "X"}
            group.add_argument(flag, dest=f"simulate_{name}", **{"default": None, **metavar, **details})
    command.add_argument("--threads", type=int, default=0, help="for seeds and cells; default: as many as cores")
    command.add_argument("--band", action="store_true", help="run with fast and slow step times too: P10 and P90")
    command.add_argument("--timeline", type=Path, metavar="FILE", help="write what was sampled over time as csv")
    command.add_argument(
        "--measure-cpu-s", type=float, default=0.25, metavar="X", help="repeat a short run until its CPU time is this"
    )
    command.add_argument("--requests-out", type=Path, metavar="FILE", help="write what became of each request as csv")
    command.add_argument("--json", action="store_true", help="everything, as JSON")


def simulate_run(
    options: argparse.Namespace, *, chips: Mapping[str, ChipSpec], models: Mapping[str, ModelSpec]
) -> Iterator[str]:
    """Run the command and yield its lines."""
    if options.threads < 0 or not 0 <= options.measure_cpu_s < math.inf:
        raise ConfigError("--threads and --measure-cpu-s are numbers from 0 on")
    values, folder = _values(options)
    experiment = Experiment(values, folder, chips=chips, models=models)
    experiment.prepare()
    _outputs_check(options, experiment)
    before_cpu_s = time.process_time()  # since the process began: import, parsing, step tables
    outcome, wall_s, cpu_s = _run_timed(experiment, options)
    figures = outcome.as_dict() | {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "requests_per_cpu_s": outcome.arrived / cpu_s if cpu_s else None,
        "process_cpu_s": before_cpu_s + cpu_s,
    }
    if options.band:
        figures["band"] = _band(experiment, figures, options.threads)
    if options.timeline:
        _rows_write(options.timeline, outcome.timeline_rows())
    if options.requests_out:
        _rows_write(options.requests_out, outcome.request_rows())
    if options.json:
        yield json.dumps({"experiment": json_ready(experiment.values), **figures}, allow_nan=False)
    else:
        yield from outcome_lines(figures)


def _outputs_check(options: argparse.Namespace, experiment: Experiment) -> None:
    """Refuse files that cannot be written, or that would take the place of another one, before anything is computed."""
    taken = [path for path in (options.config, experiment.trace_path) if path]
    for path in (options.timeline, options.requests_out):
        if path is None:
            continue
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise ConfigError(f"{path}: cannot be written: no such folder, or a folder itself")
        if any(path.resolve() == other.resolve() for other in taken):
            raise ConfigError(f"{path}: is read or written by another option")
        taken.append(path)


def _run_timed(experiment: Experiment, options: argparse.Namespace) -> tuple[Outcome, float, float]:
    """Return the outcome, and wall and CPU time of one run from loaded workload to all latencies. [s], [s]

    A short run is repeated, from nothing each time, until its CPU time can be told; the first one, which fills the
    machine's caches, does not count then.
    """
    bar = _Bar(sys.stderr, experiment.requests)
    runs, spent_s = 0, 0.0
    while True:
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        outcome = experiment_run(
            experiment, threads=options.threads, keep_requests=bool(options.requests_out), on_progress=bar.show
        )
        outcome.latencies()
        wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
        bar.clear()
        if cpu_s >= options.measure_cpu_s:
            return outcome, wall_s, cpu_s
        if runs == 0:
            first_s, first_cpu_s = time.perf_counter(), time.process_time()
        spent_s = time.process_time() - first_cpu_s
        if runs and spent_s >= options.measure_cpu_s:
            return outcome, (time.perf_counter() - first_s) / runs, spent_s / runs
        runs += 1


def _values(options: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Return the experiment: of the file if there is one, changed by the options."""
    values: dict[str, Any] = {}
    folder = Path()
    if options.config:
        folder = options.config.parent
        values = values_read(options.config)
    for group, _, known in GROUPS:
        given = {name: value for _, name, _ in known if (value := getattr(options, f"simulate_{name}")) is not None}
        if given.get("prefix_blocks", "unlimited") != "unlimited":
            given["prefix_blocks"] = _whole("--prefix-blocks", given["prefix_blocks"])
        if "trace" in given:
            given["trace"] = str(Path(given["trace"]).absolute())
        if not given:
            continue
        if group in {"pool", "slo"}:
            values.setdefault(group, [{}])
            tables = Table(values, "", values).tables(group)
            if len(tables) != 1:
                raise ConfigError(f"options for a {group} change the only one; the file has {len(tables)}")
            _change(tables[0], f"{group}[0]", given)
        elif group:
            _change(values.setdefault(group, {}), group, given)
        else:
            values |= given
    return values, folder


def _change(table: Any, place: str, given: Mapping[str, Any]) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: a table is expected")
    table |= given


def values_read(path: Path) -> dict[str, Any]:
    """Return the experiment of a TOML file, not checked yet."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, numbers or nesting beyond what Python reads
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _whole(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f'{flag}: a whole number or unlimited is expected, not "{text}"') from error


def json_ready(value: Any) -> Any:
    """Return values of an experiment with None for what JSON has no number for: an infinite limit is none."""
    if isinstance(value, Mapping):
        return {name: json_ready(each) for name, each in value.items()}
    if isinstance(value, list):
        return [json_ready(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _band(experiment: Experiment, usual: dict[str, Any], threads: int) -> dict[str, dict[str, float | None]]:
    """Return the main figures with every step as fast, as usual and as slow as it may be."""
    fast, slow = (experiment_run(experiment, quantile=at, threads=threads).as_dict() for at in BAND_QUANTILES)
    figures = (fast, usual, slow)
    names = ("request_s", "output_tok_s", "energy_j_per_tok")
    rows = {name: [values[name] for values in figures] for name in names}
    for kind in Latency:
        for level in LEVEL_NAMES:
            name = f"{kind.name.lower()}_s"
            rows[f"{name}.{level}"] = [values[name][level] for values in figures]
    return {name: dict(zip(("p10", "p50", "p90"), _rising(values), strict=True)) for name, values in rows.items()}


def _rising(values: list[float | None]) -> list[float | None]:
    return values if None in values else sorted(values)  # type: ignore[type-var]


def _rows_write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            for number, row in enumerate(rows):
                if not number:
                    writer.writerow(row)
                writer.writerow(row.values())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


class _Bar:
    """A progress bar on a terminal, for what takes longer than two seconds."""

    def __init__(self, stream: TextIO, requests: int) -> None:
        self.stream, self.requests = stream, requests
        self.start_s = self.last_s = time.monotonic()
        self.is_shown = False

    def show(self, arrived: int) -> None:
        """Show how many requests have arrived."""
        now_s = time.monotonic()
        if now_s - self.start_s < BAR_AFTER_S or now_s - self.last_s < BAR_EVERY_S or not self.stream.isatty():
            return
        self.last_s, self.is_shown = now_s, True
        share = min(1.0, arrived / self.requests) if self.requests else 0.0
        rate = arrived / (now_s - self.start_s)
        self.stream.write(f"\r{'#' * int(40 * share):40} {share:4.0%} {arrived:,} requests, {rate:,.0f} per second ")
        self.stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self.is_shown:
            self.stream.write("\r" + " " * 100 + "\r")
            self.stream.flush()


# --- text -------------------------------------------------------------------------------------------------------------
def outcome_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures of an outcome as text, and what it took to compute if they say so."""
    refused = ", ".join(f"{count:,} {reason}" for reason, count in figures["refused"].items()) or "none"
    yield (
        f"{'requests':12} {figures['arrived']:,} arrived, {figures['finished']:,} finished "
        f"({figures['truncated']:,} truncated), {figures['unfinished']:,} unfinished; refused: {refused}"
    )
    yield f"{'time':12} {figures['duration_s']:,.1f} s simulated, {figures['progress']}"
    if figures["overload"]:
        yield f"{'OVERLOAD':12} {figures['overload']}"
    yield (
        f"{'throughput':12} {_text(figures['request_s'])} requests/s, {_text(figures['output_tok_s'])} output tok/s, "
        f"{_text(figures['energy_j_per_tok'])} J/tok (chips)"
    )
    yield f"{'':12} {'mean':>10} {'P50':>10} {'P90':>10} {'P95':>10} {'P99':>10} {'max':>10}   samples"
    for kind in Latency:
        row = figures[f"{kind.name.lower()}_s"]
        cells = " ".join(f"{_ms(row[name]):>10}" for name in ("mean", *LEVEL_NAMES, "max"))
        yield f"{kind.name + ' [ms]':12} {cells}   {row['samples']:,}"
    for good in figures["goodput"]:
        limits = ", ".join(
            f"{name.removesuffix('_s').upper()} {value:g} s" for name, value in good["limits"].items() if value
        )
        yield f"{'goodput':12} {_percent(good['good_ratio'])} within {limits}: {_text(good['request_s'])} requests/s"
    for pool in figures["pools"]:
        yield (
            f"{pool['name']:12} {pool['replicas']} replicas, {pool['chips']} chips, {pool['role']}: busy "
            f"{_percent(pool['busy_ratio'])}, {_text(pool['mean_running'])} running ({_text(pool['mean_decoding'])} "
            f"decode), KV {_percent(pool['kv_mean_ratio'])} (peak {_percent(pool['kv_peak_ratio'])}), "
            f"{pool['preemptions']:,} preemptions, prefix hits {_percent(pool['prefix_hit_ratio'])}, "
            f"{_text(pool['power_w'])} W"
        )
    for name, band in figures.get("band", {}).items():
        yield f"{'band':12} {name:22} P10 {_text(band['p10'])}, P50 {_text(band['p50'])}, P90 {_text(band['p90'])}"
    if "wall_s" not in figures:
        return
    yield (
        f"{'computed in':12} {figures['wall_s']:.3f} s, {figures['cpu_s']:.3f} CPU-s: "
        f"{figures['requests_per_cpu_s'] or math.nan:,.0f} requests per CPU-second"
    )


def _ms(value_s: float | None) -> str:
    return "-" if value_s is None else f"{value_s * 1e3:,.2f}"


def _text(value: float | None) -> str:
    return "?" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
