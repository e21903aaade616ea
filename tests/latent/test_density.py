"""A density of the aggregate posterior: what is fitted, how sure it is of draws, and the command that samples it."""

import json
import math
import re
import sys

import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.errors import ConfigError, TrainingError
from seqvae.latent.density import AggregateDensity, fit_aggregate, fit_flow, fit_mixture

SENTENCES = [f"{s} {v} {p} ." for s in ("a cat", "the dog", "one bird") for v in ("sat", "ran") for p in "uvwxyz"]
SIZE = ["--model.latent", "2", "--model.embedding", "4", "--model.decoder.hidden", "4", "--max-epochs", "2"]


def points(*centres, each=400, scale=1.0, seed=0):
    """Gaussian clouds around the centres, with a covariance that is not diagonal."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.tensor(centres, dtype=torch.float64)
    turn = torch.eye(centres.shape[1], dtype=torch.float64).cumsum(0)
    noise = torch.randn(len(centres), each, centres.shape[1], generator=g, dtype=torch.float64) @ turn
    return (centres[:, None] + scale * noise).flatten(0, 1)


def aggregate_of(z, **options):
    """An aggregate with the mixture of some points, and others held out."""
    density = fit_mixture(z, **options)
    return AggregateDensity(density, density.log_prob(points([0.0, 0.0], seed=9)).sort().values, 0.0, None, len(z))


# -- the mixture ------------------------------------------------------------------------------------------------------


def test_one_component_has_the_mean_and_the_covariance_of_the_points():
    z = points([1.0, -2.0, 0.5], scale=3.0)
    density = fit_mixture(z, 1)
    torch.testing.assert_close(density.mean, z.mean(0))
    covariance = density.component_distribution.covariance_matrix[0]
    torch.testing.assert_close(covariance, z.T.cov(correction=0), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_two_clusters_are_found_and_are_likelier_than_under_one_gaussian(seed):
    z, fresh = points([-6.0, 0.0], [6.0, 1.0]), points([-6.0, 0.0], [6.0, 1.0], seed=1)
    density = fit_mixture(z, 2, seed=seed)
    found = density.component_distribution
    order = found.mean[:, 0].argsort()
    # The weights are equal to 800 points' precision; a mean is known to 0.07 in the wider direction, of 400 points.
    torch.testing.assert_close(density.mixture_distribution.probs, torch.full((2,), 0.5).double(), rtol=0, atol=0.01)
    torch.testing.assert_close(found.mean[order], torch.tensor([[-6.0, 0.0], [6.0, 1.0]]).double(), rtol=0, atol=0.4)
    true = torch.tensor([[2.0, 1.0], [1.0, 1.0]]).double()
    torch.testing.assert_close(found.covariance_matrix, true.expand(2, 2, 2), rtol=0, atol=0.8)
    assert density.log_prob(fresh).mean() > fit_mixture(z, 1).log_prob(fresh).mean() + 0.5


def test_another_iteration_does_not_change_a_converged_mixture():
    """With the responsibilities of the fitted density the equations of the docstring give its parameters back."""
    z = points([-6.0, 0.0], [6.0, 1.0])
    density = fit_mixture(z, 2)
    parts, weights = density.component_distribution, density.mixture_distribution.probs
    responsibilities = (parts.log_prob(z[:, None]) + weights.log() - density.log_prob(z)[:, None]).exp()
    counts = responsibilities.sum(0)
    means = responsibilities.T @ z / counts[:, None]
    apart = z[:, None] - means  # (N, K, D)
    scatter = torch.einsum("nk,nki,nkj->kij", responsibilities, apart, apart)
    extra = 4 * z.T.cov(correction=0) / 2
    covariances = (scatter + extra) / (counts + 4)[:, None, None]
    torch.testing.assert_close(counts / len(z), weights, rtol=0, atol=1e-3)
    torch.testing.assert_close(means, parts.mean, rtol=0, atol=1e-2)
    torch.testing.assert_close(covariances, parts.covariance_matrix, rtol=0, atol=1e-2)


@pytest.mark.parametrize("components", [1, 3])
def test_the_density_integrates_to_one(components):
    density = fit_mixture(points([-4.0], [1.0], [5.0], scale=0.3), components)
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    total = torch.trapezoid(density.log_prob(grid[:, None]).exp(), grid)
    assert float(total) == pytest.approx(1.0, abs=1e-9)


def test_no_component_shrinks_to_a_point_or_fails_where_points_are_equal():
    far = torch.cat([points([0.0, 0.0], each=200), torch.tensor([[50.0, 50.0]]).double()])
    assert fit_mixture(far, 2).component_distribution.covariance_matrix.diagonal(dim1=1, dim2=2).min() > 0.5
    for same in (torch.ones(9, 2).double(), torch.ones(9, 2).double().cumsum(0)):  # a point, a line
        assert fit_mixture(same, 3).log_prob(same).isfinite().all()


def test_the_same_seed_starts_the_same_fit():
    z = points([0.0, 0.0], [1.0, 1.0])
    first, again, other = (fit_mixture(z, 4, seed=seed).log_prob(z) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


# -- the flow ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ring():
    """A flow fitted to a ring, which no Gaussian is like, with other points of it to evaluate it."""
    angle, noise = (
        torch.rand(1200, generator=torch.Generator().manual_seed(0)).double() * 2 * math.pi,
        points([0.0, 0.0]),
    )
    z = 3 * torch.stack([angle.cos(), 2 * angle.sin()], dim=1) + 0.3 * noise.repeat(3, 1) + 5
    fitted, valid, fresh = z.split(400)
    return fit_flow(fitted, valid), fitted, fresh


def test_a_flow_fits_what_no_gaussian_does_and_integrates_to_one(ring):
    density, fitted, fresh = ring
    assert density.log_prob(fresh).mean() > fit_mixture(fitted, 1).log_prob(fresh).mean() + 0.2
    grid = torch.linspace(-6, 16, 401, dtype=torch.float64)
    mass = density.log_prob(torch.cartesian_prod(grid, grid)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert float(mass) == pytest.approx(1.0, abs=0.01)  # bent sharply by splines, on a grid of steps of 0.055


def test_draws_of_a_flow_are_where_its_density_is(ring):
    # The mean log density of 2,000 draws and of as many of a grid: 5 standard errors (the seed is fixed).
    density, _, _ = ring
    torch.manual_seed(0)
    drawn = density.log_prob(density.sample((2_000,)))
    grid = torch.cartesian_prod(*[torch.linspace(-6, 16, 401, dtype=torch.float64)] * 2)
    log_prob = density.log_prob(grid)
    exact = float((log_prob.exp() * log_prob).sum() / log_prob.exp().sum())
    assert float(drawn.mean()) == pytest.approx(exact, abs=5 * float(drawn.std()) / 2_000**0.5)


def test_a_flow_is_never_worse_on_validation_points_than_its_initial_gaussian():
    z, valid = points([0.0, 0.0], each=40), points([0.0, 0.0], each=40, seed=1)
    gaussian = torch.distributions.MultivariateNormal(z.mean(0), z.T.cov(correction=0))
    found = fit_flow(z, valid)
    assert found.log_prob(valid).mean() >= gaussian.log_prob(valid).mean() - 1e-4  # it is fitted in single precision
    again = fit_flow(z, valid)
    assert torch.equal(found.log_prob(z), again.log_prob(z)) and not found.log_prob(z).requires_grad


# -- draws of it ------------------------------------------------------------------------------------------------------


def test_draws_repeat_with_their_seed_and_leave_the_global_random_state_alone():
    found, before = aggregate_of(points([0.0, 0.0], [3.0, 3.0]), components=2), torch.get_rng_state()
    first, again, other = (found.sample(5, seed=seed).z for seed in (1, 1, 2))
    assert first.shape == (5, 2) and torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(found.sample(5).z, found.sample(5).z)


def test_the_confidence_is_the_log_density_and_its_quantile_the_share_of_held_out_points_below():
    found = aggregate_of(points([0.0, 0.0]), components=1)
    drawn = found.sample(50, seed=0)
    assert torch.equal(drawn.log_prob, found.density.log_prob(drawn.z))
    below = (found.held_out < drawn.log_prob[:, None]).double().mean(1)
    torch.testing.assert_close(drawn.quantile, below)


def test_a_higher_confidence_raises_the_lowest_density():
    found = aggregate_of(points([0.0, 0.0]), components=1)
    lowest = [float(found.sample(200, seed=0, min_confidence=c).log_prob.min()) for c in (0.0, 0.3, 0.9)]
    assert lowest == sorted(set(lowest))
    for confidence in (0.3, 0.9):
        drawn = found.sample(200, seed=0, min_confidence=confidence)
        assert len(drawn.z) == 200 and drawn.log_prob.min() >= found.held_out.quantile(confidence)


def test_a_confidence_that_no_draw_reaches_ends_in_an_error():
    found = aggregate_of(points([0.0, 0.0]), components=1)
    high = AggregateDensity(found.density, torch.tensor([0.0, 99.0]).double(), 0.0, None, 9)
    with pytest.raises(ConfigError, match=r"min_confidence 1.0: only 0 of 100,000 samples") as caught:
        high.sample(3, seed=0, min_confidence=1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 1, "min_confidence": -0.1}, {"n": 1, "min_confidence": math.nan}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        aggregate_of(points([0.0, 0.0]), components=1).sample(**options)


# -- fitted to a model ------------------------------------------------------------------------------------------------


def test_the_gain_is_the_closed_form_where_the_posteriors_are_one_gaussian(small_model, random_batch):
    """With q = N(m, s^2) for every sentence the gain is KL(q || p), up to the noise of 10,000 draws."""
    model = small_model()
    with torch.no_grad():
        model.posterior.linear.weight.zero_()
        model.posterior.linear.bias.copy_(torch.tensor([1.0, -2.0, 0.0, 0.0, -1.0, 1.0]))
    found = fit_aggregate(model, [random_batch((5,) * 40)], components=1)
    q = Independent(Normal(torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.0, -0.5, 0.5]).exp()), 1)
    exact = float(torch.distributions.kl_divergence(q, Independent(Normal(torch.zeros(3), torch.ones(3)), 1)))
    # 1,000 held-out draws, whose log q - log p has a standard deviation below 4: 6 standard errors (the seed is fixed).
    assert found.sentences == 36 and found.gain == pytest.approx(exact, abs=6 * 4 / math.sqrt(1000))
    assert len(found.held_out) == 4 * 250


@pytest.mark.slow
def test_holes_are_the_closed_form_where_the_posteriors_are_one_gaussian(small_model, random_batch):
    """Of the prior KL(p || q); of one Gaussian fitted to its draws next to nothing."""
    model = small_model()
    with torch.no_grad():
        model.posterior.linear.weight.zero_()
        model.posterior.linear.bias.copy_(torch.tensor([0.5, -1.0, 0.0, 0.0, -0.5, 0.5]))
    q = Independent(Normal(torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.0, -0.25, 0.25]).exp()), 1)
    exact = float(torch.distributions.kl_divergence(Independent(Normal(torch.zeros(3), torch.ones(3)), 1), q))
    # 1,000 draws at 5 standard errors: a false alarm once in a million seeds; this seed is fixed.
    for density in ("gaussian", "mixture", "flow"):
        found = fit_aggregate(model, [random_batch((5,) * 40)], density=density)
        assert found.holes_prior == pytest.approx(exact, abs=5 * found.holes_prior_standard_error)
        assert abs(found.holes) < 0.05 and found.holes_standard_error < 0.05


def test_the_same_seed_fits_the_same_density_and_the_model_keeps_its_mode(small_model, random_batch):
    model, z = small_model().train(), torch.zeros(1, 3).double()
    batches = [random_batch(), random_batch(seed=1)]
    state = torch.get_rng_state()
    first, again, other = (fit_aggregate(model, batches, seed=seed).density.log_prob(z) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert model.training and torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_fitted_is_refused(small_model, random_batch):
    model = small_model()
    with pytest.raises(ConfigError, match="components = 5: expected 1 to 4"):
        fit_aggregate(model, [random_batch()], components=5)
    with pytest.raises(ConfigError, match=r"1 sentences.*2 or more"):
        fit_aggregate(model, [random_batch((4,))])
    with torch.no_grad():
        model.posterior.linear.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="not finite"):
        fit_aggregate(model, [random_batch()])


def test_a_text_model_gives_points_that_it_can_decode():
    model = TextVAE.fit(SENTENCES, latent=2, max_epochs=1, encoder={"hidden": 4}, decoder={"hidden": 4}, seed=0)
    drawn = model.aggregate(SENTENCES, components=2).sample(3, seed=1)
    assert len(model.decode(drawn.z)) == 3


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aggregated")
    (folder / "corpus.txt").write_text("\n".join(SENTENCES) + "\n")
    main(["train", str(folder / "corpus.txt"), *SIZE, "--seed", "1", "--output", str(folder / "model")])
    main(["train", str(folder / "corpus.txt"), *SIZE, "--kind", "lm", "--output", str(folder / "lm")])
    return folder


@pytest.fixture
def run(trained, capsys):
    def run_once(*arguments):
        capsys.readouterr()
        main(["sample", str(trained / "model"), *map(str, arguments)])
        out, err = capsys.readouterr()
        assert err.count("\n") == (1 if "aggregate" in arguments else 0)
        return out.splitlines()

    return run_once


AGGREGATE = ("--from", "aggregate", "-n", 4, "--seed", 1)


def test_sampling_the_aggregate_repeats_with_its_seed_and_is_not_sampling_the_prior(run):
    first = run(*AGGREGATE)
    assert len(first) == 4 and run(*AGGREGATE) == first
    assert run("--from", "prior", "-n", 4, "--seed", 1) == run("-n", 4, "--seed", 1)


def test_json_has_the_confidence_of_each_sentence(run):
    free, sure = (
        [json.loads(line) for line in run(*AGGREGATE, "--json", "--min-confidence", c, "--components", 2)]
        for c in (0.0, 0.8)
    )
    assert [one["text"] for one in free] == run(*AGGREGATE, "--components", 2)
    assert set(free[0]) == {"text", "log_prob", "tokens", "confidence", "confidence_quantile"}
    assert min(one["confidence_quantile"] for one in sure) >= 0.75  # between two held-out samples
    assert min(one["confidence"] for one in sure) > min(one["confidence"] for one in free)


@pytest.mark.parametrize("density", ["gaussian", "mixture", "flow"])
def test_each_density_samples_and_tells_of_the_holes_before_and_after(trained, capsys, density):
    capsys.readouterr()
    main(["sample", str(trained / "model"), "--from", "aggregate", "--density", density, "-n", "3", "--seed", "1"])
    out, err = capsys.readouterr()
    assert out.count("\n") == 3
    assert re.search(r"; holes: -?[\d.]+ ± [\d.]+ nats, those of the prior -?[\d.]+ ± [\d.]+\n$", err)


def test_a_flow_without_zuko_is_refused_in_one_line(refused, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    assert "seqvae[flows]" in refused("sample", trained / "model", "--from", "aggregate", "--density", "flow")


def test_other_sentences_may_be_fitted_to(run, trained):
    (trained / "mine.txt").write_text("a cat ran u .\na cat ran v .\nthe dog sat u .\n")
    own = run(*AGGREGATE, "--json")
    assert run(*AGGREGATE, "--json", "--corpus", trained / "mine.txt") != own
    assert run(*AGGREGATE, "--json", "--corpus", trained / "corpus.txt") == own  # its training sentences, as ever


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("model --components 3", ["--components", "--from aggregate"]),
        ("model --density flow", ["--density", "--from aggregate"]),
        ("model --from aggregate --density flow --components 2", ["--components", "--density mixture", "flow"]),
        ("model --from aggregate --density spline", ["--density", "spline", "flow"]),
        ("model --min-confidence 0.5", ["--min-confidence", "--from aggregate"]),
        ("model --from posterior", ["--from", "posterior", "aggregate"]),
        ("model --from aggregate --min-confidence 1.5", ["min_confidence", "1.5"]),
        ("model --from aggregate --components 0", ["--components", "0"]),
        ("model --from aggregate --components 999", ["components = 999", "1 to 2"]),
        ("model --from aggregate --corpus nowhere.txt", ["nowhere.txt"]),
        ("lm --from aggregate", ["kind lm", "latent"]),
    ],
)
def test_what_cannot_be_sampled_is_refused_in_one_line(refused, trained, arguments, words):
    name, *options = arguments.split()
    line = refused("sample", trained / name, *options)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(("corpus", "reason"), [("moved.txt", "moved.txt"), ("-", "standard input")])
def test_a_model_whose_corpus_cannot_be_read_asks_for_another(refused, run, trained, tmp_path, corpus, reason):
    for path in (trained / "model").glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    values["config"]["corpus"] = corpus
    (tmp_path / "config.json").write_text(json.dumps(values))
    line = refused("sample", tmp_path, "--from", "aggregate")
    assert reason in line and "--corpus FILE" in line
    main(["sample", str(tmp_path), "--from", "aggregate", "--corpus", str(trained / "corpus.txt")])
