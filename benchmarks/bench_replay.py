"""How fast a plan's peak hour is replayed: one service in one month, as planned, too much, apart, and after a flip."""

from measure import call_cpu_s, figure_print, machine_print

from accelerator import Slo, chip_get, goodput_search, model_get, profile_mix
from accelerator.serving_calibration import serving_calibration_load
from scenarios.replay import replay_payloads, replay_shard
from scenarios.replay_plan import unit_of_label, unit_of_rating
from scenarios.replay_values import LoadValues, ReplayQuestion

PAIRS = (
    ("h20-96", "qwen3-32b", "azure-conv", Slo(2.0, 0.05)),
    ("thead-ppu-810e", "qwen3-30b-a3b", "m-small", Slo(1.0, 0.03)),
    ("ascend-910c", "deepseek-v3", "m-large", Slo(4.0, 0.06)),
    ("h20-141", "deepseek-r1", "r1-reasoning", Slo(4.0, 0.06)),
)
"""Pairs as the demo fleet has them."""

HOSTS = 10.0


def question_of(pair: tuple[str, str, str, Slo], loads: tuple[LoadValues, ...], hit_ratio: float) -> ReplayQuestion:
    """Return one service in one month."""
    _, model, mix, slo = pair
    return ReplayQuestion(
        period="2027-03",
        service="bench",
        model=model,
        mix=profile_mix(mix),
        ttft_s=slo.ttft_s,
        tpot_s=slo.tpot_s,
        percentile=slo.percentile,
        demand_tok_s=0.0,
        loads=loads,
        cache_hit_ratio=hit_ratio,
    )


def rated(pair: tuple[str, str, str, Slo], factor: float, hit_ratio: float) -> ReplayQuestion:
    """Return hosts that are planned at so many times their rating by simulation."""
    chip, model, mix, slo = pair
    spec = chip_get(chip)
    rating = goodput_search(spec, model_get(model), profile_mix(mix), slo, host_chips=spec.host_chips)
    unit = unit_of_rating(rating, spec.host_chips)
    tok_s = rating.request_s.p50 * profile_mix(mix).output_tok * unit.per_host * factor
    return question_of(pair, (LoadValues("a/1", "a", chip, HOSTS, tok_s, unit, flips=hit_ratio > 0),), hit_ratio)


def apart(request_s: float) -> ReplayQuestion:
    """Return 810E hosts that read prompts for H20 hosts that answer them."""
    tok_s = request_s * profile_mix(PAIRS[0][2]).output_tok
    loads = tuple(
        LoadValues("a/1", "a", chip, 1.0, tok_s, unit_of_label(label, chip, chip_get(chip).host_chips), phase)
        for chip, label, phase in (("thead-ppu-810e", "int8 tp4", "prefill"), ("h20-96", "fp8 tp2", "decode"))
    )
    return question_of(PAIRS[0], loads, 0.0)


def main() -> None:
    """Print what replaying one service in one month takes."""
    machine_print()
    digest = serving_calibration_load().digest

    def cpu_s(question: ReplayQuestion) -> float:
        (payload,) = replay_payloads([question], calibration_digest=digest)
        return call_cpu_s(lambda: replay_shard(payload))

    for pair in PAIRS:
        name = " ".join(pair[:3])
        figure_print(f"replay, at the rating: {name}", cpu_s(rated(pair, 1.0, 0.0)), "CPU s")
        figure_print(f"replay, a fifth too much: {name}", cpu_s(rated(pair, 1.2, 0.0)), "CPU s")
        figure_print(f"replay and first hour after a flip: {name}", cpu_s(rated(pair, 1.0, 0.5625)), "CPU s")
    figure_print("replay, 810E reads for H20, limits of a step open", cpu_s(apart(20.0)), "CPU s")
    figure_print("replay, the same, twice as much", cpu_s(apart(40.0)), "CPU s")


if __name__ == "__main__":
    main()
