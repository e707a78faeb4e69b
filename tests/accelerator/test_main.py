import re
import subprocess
import sys

import pytest

from accelerator.__main__ import main
from accelerator.architectures import models_load
from accelerator.chips import chips_load


def test_chips_and_models_list_everything(capsys):
    assert main(["chips"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(chips_load())
    assert main(["models"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(models_load())


def test_one_chip_shows_every_figure_with_range_and_source(capsys):
    assert main(["chips", "--chip", "ppu-810e"]) == 0
    bandwidth = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("memory_byte_s"))
    assert re.search(r"2\.35e\+12 \(2e\+12 to 2\.76e\+12\) byte/s +assumed: never published", bandwidth)


def test_a_step_shows_its_parts_and_their_sum(capsys):
    arguments = ["step", "--chip", "h20-96", "--model", "qwen3-32b", "--tp", "2", "--batch", "32", "--context", "1000"]
    assert main(arguments) == 0
    *parts, total = capsys.readouterr().out.splitlines()
    times = [float(re.search(r"([\d.]+) ms", line).group(1)) for line in (*parts, total)]
    assert sum(times[:-1]) == pytest.approx(times[-1], abs=0.01)
    assert "tok/s in fp8" in total


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["chips", "--chip", "h2O-96"], 'unknown chip "h2O-96"; did you mean h20-96?\n'),
        (["step", "--chip", "h20", "--model", "qwen9"], 'unknown model "qwen9"'),
        (
            ["step", "--chip", "910c", "--model", "qwen3-8b", "--precision", "fp8"],
            "ascend-910c does not compute in fp8",
        ),
    ],
)
def test_unknown_names_are_one_sentence_and_exit_code_two(capsys, arguments, sentence):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(sentence)
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "accelerator", "models"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "qwen3-32b" in done.stdout
