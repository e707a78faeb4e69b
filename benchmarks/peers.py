"""Public simulators of LLM serving on the common workload, in a virtual environment of their own, in CPU seconds."""

import argparse
import csv
import json
import resource
import subprocess
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "var" / "peers"  # var/ is not in git
PINNED = {"ai-dynamo-runtime": "1.6.1", "vllm-sr-sim": "0.1.0.dev20260713123629"}
LEAST_S = 2.0  # CPU time that one figure is measured for, at least
LONGEST_S = 120  # a peer that takes longer is not waited for
BATCH_TOK, SEQS, KV_BLOCK_TOK, KV_TOK = 512, 128, 16, 262_144  # of one replica
HASH_BLOCK_TOK = 512  # prompt tokens per hash in a trace for DynoSim; every hash is new: no two prompts share a prefix
A100_MS = 25.0, 49.0  # steps with prefill, with decode: C1 then has the latencies that BLIS predicts for A100

Row = tuple[float, int, int]  # arrival [s], input and output tokens
Prepare = Callable[[], Callable[[], str]]  # makes a run, which is timed and says what it predicted


@dataclass(frozen=True)
class PeerFigure:
    """What one peer did on one workload; `_process` counts interpreter, imports and parsing too."""

    name: str
    version: str
    workload: str
    requests: int
    requests_per_cpu_s: float
    requests_per_cpu_s_process: float
    peak_mib: float
    note: str


def peers_install(folder: Path = FOLDER) -> Path | None:
    """Return the Python that has the peers, which are installed first; None, and why in a printed line, without."""
    python = folder / "bin" / "python"
    records = {name: f"lib/python*/site-packages/{name.replace('-', '_')}-{PINNED[name]}.dist-info" for name in PINNED}
    wanted = [f"{name}=={PINNED[name]}" for name in PINNED if not any(folder.glob(records[name]))]
    try:
        if not (folder / "bin" / "pip").exists():
            venv.create(folder, with_pip=True, symlinks=True)
        if wanted:
            pip = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "10"]
            subprocess.run([*pip, *wanted], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"peer not run: {_reason(error)}")
        return None
    return python


def dynosim_run(
    python: Path, trace: Path, replicas: int, *, step_ms: tuple[float, float] | None = None, kv_tok: int = KV_TOK
) -> PeerFigure | None:
    """Return NVIDIA DynoSim's figure, with its default step times or with fixed (prefill, decode) ones. [ms]"""
    fixed = {"type": "fixed", "prefill_ms": step_ms[0], "decode_ms": step_ms[1]} if step_ms else None
    options = {"timing": fixed or {"type": "polynomial"}, "kv_blocks": kv_tok // KV_BLOCK_TOK}
    return _peer_run("dynosim", "ai-dynamo-runtime", python, trace, replicas, options)


def sr_sim_run(python: Path, trace: Path, replicas: int) -> PeerFigure | None:
    """Return vllm-sr-sim's figure: one event a request, no steps."""
    return _peer_run("sr-sim", "vllm-sr-sim", python, trace, replicas, {})


def _peer_run(
    name: str, package: str, python: Path, trace: Path, replicas: int, options: dict[str, Any]
) -> PeerFigure | None:
    """Start this file in the peers' environment and return what it measured."""
    inside = ["--replicas", str(replicas), "--inside", name, "--options", json.dumps(options)]
    try:
        done = subprocess.run(
            [str(python), "-I", __file__, str(trace), *inside], check=True, capture_output=True, text=True,
            timeout=LONGEST_S, env={"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return PeerFigure(name, PINNED[package], **json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"peer not run: {name}: {_reason(error)}")
        return None


def _reason(error: Exception) -> str:
    """Return the line of a failed command that says why, or the error itself."""
    lines = (error.stderr or "").splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else str(error))


def _dynosim(rows: list[Row], replicas: int, options: dict[str, Any], folder: Path) -> Prepare:
    """Return a replay of the rows by DynoSim: steps of a token budget, chunked prefill, KV blocks; with reading."""
    replay = import_module("dynamo._core").run_mocker_trace_replay
    trace, fresh, timing = folder / "trace.jsonl", count(), options["timing"]
    with trace.open("w") as lines:
        for arrival_s, input_tok, output_tok in rows:
            hashes = list(islice(fresh, -(-input_tok // HASH_BLOCK_TOK)))
            row = {"timestamp": arrival_s * 1e3, "input_length": input_tok, "output_length": output_tok}
            lines.write(json.dumps(row | {"hash_ids": hashes}) + "\n")
    engine = {
        "backend": "vllm", "timing_model": timing, "num_gpu_blocks": options["kv_blocks"],
        "block_size": KV_BLOCK_TOK, "max_num_batched_tokens": BATCH_TOK, "max_num_seqs": SEQS,
        "enable_chunked_prefill": True, "enable_prefix_caching": False,
    }  # fmt: skip

    def run() -> str:
        got = replay(
            [str(trace)], extra_engine_args={"engine": engine}, num_workers=replicas, router_mode="round_robin",
            trace_block_size=HASH_BLOCK_TOK, capture_planner_details=False,
        ).summary  # fmt: skip
        if (got["completed_requests"], got["total_output_tokens"]) != (len(rows), sum(row[2] for row in rows)):
            raise RuntimeError(f"{got['completed_requests']:,} of {len(rows):,} requests completed")
        latencies = f"TTFT {got['mean_ttft_ms']:.1f} ms (p99 {got['p99_ttft_ms']:.0f}), ITL {got['mean_itl_ms']:.1f} ms"
        return f"{timing['type']} step times, {latencies}"

    return lambda: run


def _sr_sim(rows: list[Row], replicas: int) -> Prepare:
    """Return a run of the rows by vllm-sr-sim on its profile of A100, whose batch is 128 at this context."""
    sim = import_module("fleet_sim")
    pool = sim.PoolConfig("all", sim.A100_80GB, replicas, max_ctx=8192, lb_strategy="round_robin")

    def prepare() -> Callable[[], str]:
        requests = [(row[0], sim.Request(index, *row)) for index, row in enumerate(rows)]  # a run writes into them

        def run() -> str:
            result = sim.Fleet(sim.FleetConfig([pool])).run(requests)
            if len(result.completed) != len(rows):
                raise RuntimeError(f"{len(result.completed):,} of {len(rows):,} requests completed")
            return f"no token batching, TTFT median {result.p50_ttft_ms():.1f} ms (p99 {result.p99_ttft_ms():.0f})"

        return run

    return prepare


def _inside(name: str, trace: Path, replicas: int, options: dict[str, Any]) -> dict[str, object]:
    """Return what is measured inside the peer's environment: a first run as a process, then repeats by themselves."""
    with trace.open(newline="") as lines, tempfile.TemporaryDirectory() as folder:
        columns = ("arrival_s", "input_tokens", "output_tokens")
        texts = (tuple(row[column] for column in columns) for row in csv.DictReader(lines))
        rows = [(float(arrival), int(tok_in), int(tok_out)) for arrival, tok_in, tok_out in texts]
        prepare = _sr_sim(rows, replicas) if name == "sr-sim" else _dynosim(rows, replicas, options, Path(folder))
        note = prepare()()
        process_s, peak_mib, spent_s, runs = _cpu_s(), _peak_mib(), 0.0, 0
        while spent_s < LEAST_S:
            run = prepare()
            start_s = _cpu_s()
            run()
            spent_s += _cpu_s() - start_s
            runs += 1
    return {
        "workload": f"{len(rows):,} requests on {replicas} replica{'s' * (replicas > 1)}", "requests": len(rows),
        "requests_per_cpu_s": len(rows) * runs / spent_s, "requests_per_cpu_s_process": len(rows) / process_s,
        "peak_mib": peak_mib, "note": note,
    }  # fmt: skip


def _cpu_s() -> float:
    """CPU time so far, user and system, all threads, and children that have ended. [s]"""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_mib() -> float:
    """Peak memory of this program; `ru_maxrss` would start from that of the process which started it. [MiB]"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Print one line for each peer on a trace: requests per CPU second, memory, and the latencies that it predicts."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("trace", type=Path, help="csv with arrival_s,input_tokens,output_tokens")
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="virtual environment of the peers")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(_inside(given.inside, given.trace, given.replicas, given.options)))
        return
    python = peers_install(given.folder)
    if python is None:
        return
    case = python, given.trace, given.replicas
    for figure in (dynosim_run(*case), dynosim_run(*case, step_ms=A100_MS), sr_sim_run(*case)):
        if figure is not None:
            rates = f"{figure.requests_per_cpu_s:,.0f} ({figure.requests_per_cpu_s_process:,.0f} as a process)"
            print(f"{figure.name} {figure.version}, {figure.workload}: {rates} requests/CPU-s", end=", ")
            print(f"{figure.peak_mib:.0f} MiB, {figure.note}")


if __name__ == "__main__":
    main()
