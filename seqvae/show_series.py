"""What the commands print of series."""

from collections.abc import Mapping

from seqvae import show
from seqvae.data.series.corpus import SeriesSplit
from seqvae.model.frame_decoding import Unrolled
from seqvae.series_vae import SeriesVAE, picture


def factors(found: Mapping[str, float]) -> None:
    """How well factors are told from the posterior means."""
    print("\n  probes: cross-validated R^2 of a linear map from the posterior means")
    for name, r2 in found.items():
        print(f"  {name:26} {r2:6.3f}")


def tour(model: SeriesVAE, split: SeriesSplit) -> None:
    """Samples, reconstructions and an interpolation, as little pictures of the first channel."""
    print("\nFive series from the prior (temperature 0)")
    for series in model.sample(5, seed=0, temperature=0.0):
        print(f"  {picture(series)}")
    if not model.config.model.latent:
        return
    chosen = split.at_most(3).series()
    print("\nThree held-out series and their reconstructions")
    for original, again in zip(chosen, model.reconstruct(chosen), strict=True):
        print(f"  {picture(original)}\n  {picture(again)}\n")
    print("From the first of them to the last in 7 steps")
    for series in model.interpolate(chosen[0], chosen[-1], steps=7):
        print(f"  {picture(series)}")


def series(found: Unrolled) -> None:
    """One JSON object a line for each series."""
    for frames, ended, log_prob in zip(found.series, found.ended, found.log_prob.tolist(), strict=True):
        show.json({"frames": frames.tolist(), "ended": ended, "log_prob": log_prob})
