"""How fast a trace is read: half a million generated requests, plain and gzipped, beside csv without any check."""

import csv
import gzip
import tempfile
from pathlib import Path

from measure import call_cpu_s, figure_print, machine_print

from accelerator import workload_generate, workload_read

REQUESTS = 500_000


def csv_read(path: Path) -> int:
    """Read the same rows with the standard library alone and check nothing; return how many there are."""
    with path.open(newline="") as stream:
        rows = csv.reader(stream)
        next(rows)
        return len([(float(arrival), int(prompt), int(answer)) for arrival, prompt, answer in rows])


def main() -> None:
    """Print rows per CPU second."""
    machine_print()
    load = workload_generate("azure-conv", requests=REQUESTS, seed=1)
    generate_s = call_cpu_s(lambda: workload_generate("azure-conv", requests=REQUESTS, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        path, packed = Path(folder) / "trace.csv", Path(folder) / "trace.csv.gz"
        rows = zip(load.arrival_s.tolist(), load.input_tok.tolist(), load.output_tok.tolist(), strict=True)
        text = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{t:.6f},{i},{o}\n" for t, i, o in rows)
        path.write_text(text)
        packed.write_bytes(gzip.compress(text.encode(), compresslevel=6))
        reference_s = call_cpu_s(lambda: csv_read(path))
        for name, file in (("csv", path), ("csv.gz", packed)):
            read_s = call_cpu_s(lambda file=file: workload_read(file))
            what = f"trace of {REQUESTS:,} requests, {name}"
            ratio = reference_s / read_s
            figure_print(what, REQUESTS / read_s, "rows/CPU-s", reference="csv module, unchecked", ratio=ratio)
    figure_print("csv module, unchecked", REQUESTS / reference_s, "rows/CPU-s")
    figure_print("workload generated", REQUESTS / generate_s, "requests/CPU-s")


if __name__ == "__main__":
    main()
