"""How fast the simulator is: the common workload beside its peers, cost by length, memory, a week of 200 M requests.

C1 is 20,000 requests at 6 per second on 8 replicas, C1s 2,000 at 0.75 on one: Poisson arrivals, lognormal lengths, a
dense 70B model on two A100, steps of at most 512 tokens and 128 sequences. A figure counts CPU time of all threads from
the loaded workload to the finished result, all metrics on, from nothing each time, step tables built before.
"""

import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import ROOT, call_cpu_s, figure_print, machine_print
from peers import A100_MS, dynosim_run, peers_install, sr_sim_run

from accelerator import (
    DeploymentConfig,
    Experiment,
    Limits,
    Plan,
    Pool,
    Router,
    Workload,
    chip_get,
    experiment_run,
    model_get,
    pool_build,
    simulate,
    workload_read,
)
from accelerator.kernels import kernel_load

C1, C1S = (20_000, 6.0, 8), (2_000, 0.75, 1)  # requests, requests per second, replicas
C1_TOK = (22_897_634, 4_073_265)  # input and output of C1, as published with it
PEERS = {"inference-lab (Rust), measured elsewhere": (16_200, 20_400), "BLIS (Go), measured elsewhere": (1_010, 3_360)}
WEEK = "week"
LEAST_S = 2.0
TWIN_REQUESTS = 200
LENGTHS = (10_000, 100_000, 1_000_000, 10_000_000)
WEEK_REQUESTS, WEEK_S, WEEK_REPLICAS, WEEK_CELLS = 200_000_000, 7 * 86_400.0, 500, 10
COMMAND = (
    "simulate --json --measure-cpu-s 0 --chip a100-80 --model llama-3.1-70b --tp 2 "
    "--max-batched-tokens 512 --max-seqs 128"
)
MEMORY_CODE = """
import re, sys
sys.path[:0] = [{root!r}]
def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
import numpy
before = peak_mib()
from accelerator.__main__ import main
main([*{command!r}.split(), "--replicas", "8", "--trace", {trace!r}])
print(peak_mib() - before, file=sys.stderr)
"""


def trace_write(folder: Path, name: str, requests: int, rate_request_s: float) -> Path:
    """Write the common workload and return its file."""
    draws, at_s = random.Random(1), 0.0
    lines = ["arrival_s,input_tokens,output_tokens\n"]
    for _ in range(requests):
        at_s += draws.expovariate(rate_request_s)
        prompt_tok = min(3500, max(16, int(draws.lognormvariate(math.log(900), 0.75))))
        answer_tok = min(560, max(8, int(draws.lognormvariate(math.log(170), 0.65))))
        lines.append(f"{round(at_s, 6)},{prompt_tok},{answer_tok}\n")
    path = folder / f"{name}.csv"
    path.write_text("".join(lines))
    return path


def pool_of(replicas: int) -> Pool:
    """Return the replicas of the common workload."""
    config = DeploymentConfig("bf16", tp=2, max_batched_tok=512, max_seqs=128)
    return pool_build("a100", chip_get("a100-80"), model_get("llama-3.1-70b"), config, replicas=replicas)


def rate_request_cpu_s(workload: Workload, pool: Pool, router: Router) -> float:
    """Return requests per CPU second of whole simulations with all figures. [1/s]"""

    def once() -> None:
        simulate(Plan([pool], router=router, slos=[Limits(1.0, 0.1)]), workload).latencies()

    return len(workload) / call_cpu_s(once, least_s=LEAST_S)


def process_print(name: str, path: Path, replicas: int) -> None:
    """Print the same as a process of its own: import, parsing and building step tables included."""
    arguments = [*COMMAND.split(), "--replicas", str(replicas), "--trace", str(path)]
    before = _children_cpu_s()
    subprocess.run([sys.executable, "-m", "accelerator", *arguments], check=True, cwd=ROOT, capture_output=True)
    requests = sum(1 for _ in path.open()) - 1
    figure_print(f"{name}, the whole process", requests / (_children_cpu_s() - before), "requests/CPU-s")


def _children_cpu_s() -> float:
    import resource  # noqa: PLC0415 - not there on every system that the rest runs on

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peers_print(name: str, path: Path, replicas: int, ours: float) -> None:
    """Print the peers that can be run here, beside ours."""
    python = peers_install()
    if python is None:
        return
    runs = (
        ("DynoSim, its default step times", lambda: dynosim_run(python, path, replicas)),
        ("DynoSim, steps as long as an A100's", lambda: dynosim_run(python, path, replicas, step_ms=A100_MS)),
        ("vllm-sr-sim (one event a request, no batching)", lambda: sr_sim_run(python, path, replicas)),
    )
    for peer, run in runs:
        figure = run()
        if figure:
            figure_print(
                f"{name}, {peer}", figure.requests_per_cpu_s, "requests/CPU-s",
                reference="slower than ours", ratio=ours / figure.requests_per_cpu_s,
            )  # fmt: skip


def long_workload(requests: int, rate_request_s: float) -> Workload:
    """Return a workload as common as C1, of any length."""
    rng = np.random.default_rng(1)
    return Workload(
        "long",
        np.cumsum(rng.exponential(1 / rate_request_s, requests)),
        np.clip(rng.lognormal(math.log(900), 0.75, requests), 16, 3500).astype(np.int64),
        np.clip(rng.lognormal(math.log(170), 0.65, requests), 8, 560).astype(np.int64),
    )


def week_print() -> None:
    """Print wall time, CPU time and memory of a week on 500 replicas, in cells on all cores."""
    experiment = Experiment({
        "router": "least-outstanding",
        "cells": WEEK_CELLS,
        "workload": {
            "profile": "azure-conv", "requests": WEEK_REQUESTS, "rate_request_s": WEEK_REQUESTS / WEEK_S,
        },
        "pool": [{
            "chip": "h100-sxm", "model": "llama-3.1-70b", "tp": 2, "replicas": WEEK_REPLICAS,
            "max_batched_tok": 2048, "max_seqs": 128,
        }],
    })  # fmt: skip
    experiment.prepare()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    outcome = experiment_run(experiment)
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    what = f"a week, {WEEK_REQUESTS // 10**6} million requests on {WEEK_REPLICAS} replicas"
    figure_print(what, wall_s, "s of wall time")
    figure_print(f"{what}, with drawing them", outcome.arrived / cpu_s, "requests/CPU-s")
    status = Path("/proc/self/status").read_text()
    peak_mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
    figure_print("peak memory of its process", peak_mib, "MiB")


def memory_mib(trace: str) -> float:
    """Return the peak memory of a process that simulates a trace, above an interpreter with numpy. [MiB]"""
    code = MEMORY_CODE.format(root=str(ROOT), trace=trace, command=COMMAND)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stderr.split()[-1])


def main() -> None:
    """Print all figures; peers and the week come last, since they take longest."""
    machine_print()
    with tempfile.TemporaryDirectory() as folder:
        paths, ours = {}, {}
        for name, (requests, rate_request_s, replicas), routers in (
            ("C1", C1, (Router.ROUND_ROBIN, Router.LEAST_OUTSTANDING)), ("C1s", C1S, (Router.ROUND_ROBIN,)),
        ):  # fmt: skip
            paths[name] = trace_write(Path(folder), name, requests, rate_request_s)
            workload, pool = workload_read(paths[name]), pool_of(replicas)
            if name == "C1":
                assert (workload.input_tok.sum(), workload.output_tok.sum()) == C1_TOK
            for router in routers:
                rate = rate_request_cpu_s(workload, pool, router)
                ours.setdefault(name, rate)
                figure_print(f"{name}, {router.name.lower().replace('_', ' ')}", rate, "requests/CPU-s")
            process_print(name, paths[name], replicas)
        few = workload_read(paths["C1s"], max_requests=C1S[0])
        few = Workload(
            "few", few.arrival_s[:TWIN_REQUESTS], few.input_tok[:TWIN_REQUESTS], few.output_tok[:TWIN_REQUESTS]
        )
        plan = Plan([pool_of(1)])
        twin = TWIN_REQUESTS / call_cpu_s(
            lambda: simulate(plan, few, kernel=kernel_load("python", "des")), least_s=LEAST_S
        )
        compiled = TWIN_REQUESTS / call_cpu_s(lambda: simulate(plan, few), least_s=LEAST_S)
        figure_print(f"the first {TWIN_REQUESTS} of C1s, plain twin", twin, "requests/CPU-s")
        figure_print(
            f"the first {TWIN_REQUESTS} of C1s, compiled", compiled, "requests/CPU-s",
            reference="plain twin", ratio=compiled / twin,
        )  # fmt: skip
        pool, costs = pool_of(8), {}
        for requests in LENGTHS:
            workload = long_workload(requests, C1[1])
            costs[requests] = 1e9 / rate_request_cpu_s(workload, pool, Router.LEAST_OUTSTANDING)
            figure_print(f"cost of a request, {requests:,} of them", costs[requests], "CPU-ns")
            del workload
        longest, shortest = costs[LENGTHS[-1]], costs[LENGTHS[0]]
        figure_print("cost of a request, most over fewest requests", longest / shortest, "(1 is flat)")
        figure_print("peak memory of C1 above an interpreter with numpy", memory_mib(str(paths["C1"])), "MiB")
        for name, (_, _, replicas) in (("C1", C1), ("C1s", C1S)):
            for peer, rates in PEERS.items():
                rate = rates[name == "C1s"]
                figure_print(
                    f"{name}, {peer}", rate, "requests/CPU-s", reference="slower than ours", ratio=ours[name] / rate
                )
            peers_print(name, paths[name], replicas, ours[name])
    subprocess.run([sys.executable, __file__, WEEK], check=True)  # alone, so that its memory is its own


if __name__ == "__main__":
    week_print() if sys.argv[1:] == [WEEK] else main()
