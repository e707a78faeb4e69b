"""How fast one rating is: every chip of the catalog with every model, best configuration found, band included."""

from itertools import product

from measure import call_cpu_s, figure_print, machine_print

from accelerator import Slo, chips_load, models_load, profile_mix, rating_best, replica_rate

SLO = Slo(ttft_s=4.0, tpot_s=0.05, percentile=0.95)
MIX = "azure-conv"


def main() -> None:
    """Print the mean over the grid, and over its parts that are answered and refused."""
    machine_print()
    mix = profile_mix(MIX)
    pairs = list(product(chips_load().values(), models_load().values()))
    ratings = [rating_best(chip, model, mix, SLO, host_chips=chip.host_chips) for chip, model in pairs]
    answered = [at for at, rating in enumerate(ratings) if not rating.refusal]
    refused = [at for at, rating in enumerate(ratings) if rating.refusal]

    def rate(positions: list[int]) -> float:
        def work() -> None:
            for at in positions:
                chip, model = pairs[at]
                rating_best(chip, model, mix, SLO, host_chips=chip.host_chips)

        return call_cpu_s(work) / len(positions)

    def rate_configs() -> None:
        for at in answered:
            replica_rate(*pairs[at], ratings[at].config, mix, SLO)

    one_s = call_cpu_s(rate_configs) / len(answered)
    for what, positions in (("answered", answered), ("refused", refused)):
        if positions:
            mean_s = rate(positions)
            name = f"best rating, {what}, mean of {len(positions)} pairs"
            figure_print(name, 1 / mean_s, "ratings/CPU-s")
            figure_print(f"{name}, one of them", mean_s * 1e3, "CPU-ms")
    figure_print("rating of a configuration already chosen", one_s * 1e3, "CPU-ms")


if __name__ == "__main__":
    main()
