"""A part of each kind from outside the package, by instance, by class and by import path: trained, saved, loaded."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqvae import TextVAE, testing
from seqvae.cli import main
from seqvae.config import Config, get_import_path
from seqvae.errors import CheckpointError, ConfigError, SeqVAEError
from seqvae.series_vae import SeriesVAE
from seqvae.training.build import BASES, build_model, resolve_all
from seqvae.training.own_parts import SIZES as FILLED

SENTENCES = [f"{who} {does} ." for who in ("a cat", "the dog", "one bird") for does in ("sat", "ran", "ate", "slept")]
SIZES = {"latent": 4, "embedding": 8, "max_epochs": 2, "batch_size": 4, "precision": "fp32"}

MODULE = '''
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.distributions import Distribution, Independent, Laplace, StudentT

from seqvae.model.decoders import Decoder
from seqvae.model.encoders import Encoder
from seqvae.model.noise import Noise
from seqvae.model.posteriors import Posterior
from seqvae.model.priors import Prior
from seqvae.objective.term import Term
from seqvae.schedules import Schedule
from seqvae.training.trainer import Update


class MeanEncoder(Encoder):
    """The mean of the embeddings."""

    def __init__(self, *, embed: nn.Module | None = None, embedding: int, power: float = 1.0) -> None:
        super().__init__()
        self.embed, self.features, self.power = embed, embedding, power

    def encode_embeddings(self, embedded, lengths):
        within = torch.arange(embedded.shape[1]) < lengths[:, None]
        return torch.where(within[..., None], embedded, 0).sum(1) / lengths[:, None] ** self.power


class Window(Decoder):
    """A layer on the current input and z."""

    def __init__(self, *, embedding: int, latent: int, hidden: int = 12) -> None:
        super().__init__()
        self.features = self.hidden = hidden
        self.linear = nn.Linear(embedding + latent, hidden)

    def forward(self, inputs, z, state=None):
        z_steps = z[:, None].expand(-1, inputs.shape[1], -1)
        return torch.tanh(self.linear(torch.cat([inputs, z_steps], -1))), (z,)


class LaplacePosterior(Posterior):
    """q(z|x) = Laplace(m, b), both linear in h."""

    def __init__(self, *, features: int, latent: int, narrowest: float = 0.01) -> None:
        super().__init__()
        self.narrowest = narrowest
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h) -> Distribution:
        with torch.autocast(h.device.type, enabled=False):
            loc, log_scale = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        return Independent(Laplace(loc, self.narrowest + log_scale.clamp(-8, 8).exp()), 1)


class HeavyPrior(Prior):
    """p(z) = Student-t."""

    def __init__(self, *, latent: int, freedom: float = 4.0) -> None:
        super().__init__()
        self.freedom = freedom
        self.loc = nn.Parameter(torch.zeros(latent))

    def forward(self) -> Distribution:
        return Independent(StudentT(self.freedom, self.loc, torch.ones_like(self.loc)), 1)


class Repeats(Noise):
    """Now and then the decoder reads the word before once more."""

    def __init__(self, *, rate: float = 0.2) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, batch):
        if not self.training:
            return batch
        before = torch.cat([batch.inputs[:, :1], batch.inputs[:, :-1]], 1)
        chosen = (torch.rand(batch.inputs.shape) < self.rate) & batch.mask
        return replace(batch, inputs=torch.where(chosen, before, batch.inputs))


class Power(Term):
    """(KL + 1)^power - 1."""

    def __init__(self, *, power: float = 0.9) -> None:
        super().__init__()
        self.power = power

    def forward(self, trace):
        return (trace.kl.clamp_min(0) + 1) ** self.power - 1


class Length(Term):
    """How badly a layer on z guesses the number of tokens."""

    def __init__(self, *, latent: int, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight
        self.guess = nn.Linear(latent, 1)

    def forward(self, trace):
        return self.weight * (self.guess(trace.z)[:, 0] - trace.batch.lengths).square()


@dataclass(frozen=True, kw_only=True)
class Stairs(Schedule):
    """A weight that rises in steps."""

    end: float = 1.0
    stairs: int = 2

    def __call__(self, step: int) -> float:
        return self.end * min(1.0, (step // 2) / self.stairs)

    @property
    def annealing_steps(self) -> int:
        return 2 * self.stairs


class Twice(Update):
    """Two steps of the optimizer on each batch."""

    def __init__(self, *, times: int = 2) -> None:
        super().__init__()
        self.times = times

    def forward(self, trainer, batch):
        for _ in range(self.times):
            loss, report = trainer.objective(trainer.trace(batch), trainer.schedule_step)
            norm = trainer.descend(loss, report)
        return report, norm
'''

# The place of each part: its class, an option of it, and what an instance is made with.
PARTS = {
    "encoder": ("MeanEncoder", {"power": 0.5}, {"embedding": 8}),
    "posterior": ("LaplacePosterior", {"narrowest": 0.02}, {"features": 8, "latent": 4}),
    "prior": ("HeavyPrior", {"freedom": 3.0}, {"latent": 4}),
    "decoder": ("Window", {"hidden": 10}, {"embedding": 8, "latent": 4}),
    "noise": ("Repeats", {"rate": 0.5}, {}),
    "divergence": ("Power", {"power": 0.8}, {}),
    "auxiliary": ("Length", {"weight": 0.2}, {"latent": 4}),
    "weight": ("Stairs", {"stairs": 3}, {}),
    "update": ("Twice", {"times": 3}, {}),
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module outside the package, in a folder on Python's path."""
    (tmp_path / "somebodys_parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    importlib.invalidate_caches()
    yield importlib.import_module("somebodys_parts")
    sys.modules.pop("somebodys_parts", None)


def as_given(how, module, place):
    """A part as a user gives it, and the options that it then has."""
    name, options, sizes = PARTS[place]
    cls, path = getattr(module, name), f"somebodys_parts:{name}"
    return {
        "a class": (cls, {}),
        "a table with the class": ({"name": cls, **options}, options),
        "an instance": (cls(**sizes, **options), options),
        "a text": (path, {}),
        "a table with the path": ({"name": path, **options}, options),
    }[how]


HOW = ("a class", "a table with the class", "an instance", "a text", "a table with the path")


def parts_of(module):
    return [getattr(module, name) for name, _, _ in PARTS.values()]


@pytest.mark.parametrize("how", HOW)
def test_parts_of_each_kind_train_are_stored_and_come_back(how, module, tmp_path):
    given = {place: as_given(how, module, place)[0] for place in PARTS}
    model = TextVAE.fit(SENTENCES, **SIZES, **given, output=tmp_path / "model")
    stored = json.loads((tmp_path / "model" / "config.json").read_text())["config"]
    for place, (name, _, _) in PARTS.items():
        group = "model" if place in stored["model"] else "objective"
        part, (_, options) = stored[group][place], as_given(how, module, place)
        assert part["name"] == f"somebodys_parts:{name}" and options.items() <= part.items()
    for place in ("encoder", "posterior", "prior", "decoder", "noise"):
        assert type(getattr(model.model, place)) is getattr(module, PARTS[place][0])
    again = TextVAE.from_pretrained(tmp_path / "model", parts=parts_of(module))
    assert again.sample(3, seed=1) == model.sample(3, seed=1)
    assert torch.equal(again.encode(SENTENCES).mode, model.encode(SENTENCES).mode)
    again.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "config.json").read_bytes() == (tmp_path / "model" / "config.json").read_bytes()


@pytest.mark.parametrize("place", PARTS)
def test_a_part_alone_beside_the_package_s_own_takes_a_step(place, module):
    _, _, sizes = PARTS[place]
    beside = {"encoder": {"hidden": 4}} if "features" in sizes else {}
    for how in HOW:
        config = resolve_all(build_config(SIZES | beside | {place: as_given(how, module, place)[0]}))
        assert Config.from_dict(config.to_dict()) == config


def build_config(options):
    from seqvae.pretrained import build_config

    return build_config(options)


# -- a folder's code is never imported ---------------------------------------------------------------------------------


def test_a_folder_is_not_believed_what_it_wants_imported(module, tmp_path):
    TextVAE.fit(SENTENCES, **SIZES, prior="somebodys_parts:HeavyPrior", output=tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')")
    config.write_text(config.read_text().replace("somebodys_parts:HeavyPrior", "hostile:HeavyPrior"))
    for load in (TextVAE.from_pretrained, SeriesVAE.from_pretrained):
        with pytest.raises(CheckpointError, match=r"from hostile import HeavyPrior.*parts=\[HeavyPrior\]") as caught:
            load(tmp_path / "model")
        assert "\n" not in str(caught.value)
    assert "hostile" not in sys.modules
    # The class by its own name, by its import path, or by its place: each is the user's word.
    for parts in ([module.HeavyPrior], module.HeavyPrior, {"model.prior": module.HeavyPrior}):
        assert TextVAE.from_pretrained(tmp_path / "model", parts=parts).sample(1, seed=0)
    assert TextVAE.from_pretrained(tmp_path / "model", parts={"model.prior": "somebodys_parts:HeavyPrior"})
    with pytest.raises(CheckpointError, match="hostile"):
        TextVAE.from_pretrained(tmp_path / "model", parts=[module.Stairs])
    with pytest.raises(SeqVAEError, match=r"expected a seqvae\.model\.priors\.Prior"):
        TextVAE.from_pretrained(tmp_path / "model", parts={"model.prior": module.Stairs})


def test_a_command_names_the_part_that_a_folder_lacks(module, tmp_path, refused):
    TextVAE.fit(SENTENCES, **SIZES, prior=module.HeavyPrior, output=tmp_path / "model")
    assert "parts=[HeavyPrior]" in refused("sample", tmp_path / "model")


@pytest.mark.slow
def test_the_command_line_takes_an_import_path_from_the_current_folder(tmp_path):
    (tmp_path / "somebodys_parts.py").write_text(MODULE)
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES * 3))
    words = ["train", "text.txt", "--model.prior.name", "somebodys_parts:HeavyPrior", "--model.prior.freedom", "3"]
    words += ["--model.decoder.name", "somebodys_parts:Window", "--objective.update.name", "somebodys_parts:Twice"]
    words += ["--model.encoder.hidden", "8", "--output", "model"]
    program = "import sys; sys.path = [p for p in sys.path if p]; from seqvae.cli import main; main(sys.argv[1:])"

    def run(*words):
        return subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True)

    done = run(*words, "--max-epochs", "1")
    assert done.returncode == 0, done.stderr
    resumed = run(*words, "--max-epochs", "2", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    done = run("train", "--max-epochs", "3", "--resume", "--output", "model")
    assert done.returncode == 2 and re.search("--model.(prior|decoder).name somebodys_parts:.* again", done.stderr)
    stored = json.loads((tmp_path / "model" / "config.json").read_text())["config"]["model"]["prior"]
    assert stored == {"name": "somebodys_parts:HeavyPrior", "freedom": 3.0}


# -- instances ---------------------------------------------------------------------------------------------------------


def test_an_instance_is_copied_with_its_weights_and_stays_as_it_was(module):
    prior = module.HeavyPrior(latent=4)
    torch.nn.init.constant_(prior.loc, 0.25)
    config = resolve_all(build_config(SIZES | {"prior": prior}))
    one, other = build_model(config, 9).prior, build_model(config, 9).prior
    assert one is not prior and one is not other and one.loc.tolist() == [0.25] * 4
    model = TextVAE.fit(SENTENCES, **SIZES, prior=prior)
    assert prior.loc.tolist() == [0.25] * 4 and model.model.prior.loc.tolist() != [0.25] * 4
    assert TextVAE.fit(SENTENCES, **SIZES, prior=prior).sample(3, seed=1) == model.sample(3, seed=1)


def test_an_encoder_reads_the_embedding_of_the_model(module):
    config = resolve_all(build_config(SIZES | {"encoder": module.MeanEncoder(embedding=8)}))
    model = build_model(config, 9)
    assert model.encoder.embed is model.observation.embedding


def test_an_instance_or_class_of_the_package_is_stored_by_its_name():
    from seqvae.model.priors import LearntGaussian, Mixture

    for prior, stored in ((LearntGaussian(latent=4), {"name": "gaussian"}), (LearntGaussian, {"name": "gaussian"})):
        assert resolve_all(build_config(SIZES | {"prior": prior})).to_dict()["model"]["prior"] == stored
    config = resolve_all(build_config(SIZES | {"prior": {"name": Mixture, "components": 3}}))
    assert config.model.prior == {"name": "mixture", "components": 3, "spread": 0.5, "refit": 0}
    stored = {"name": "mixture", "components": 100, "spread": 0.5, "refit": 1000}  # as by default
    assert resolve_all(build_config(SIZES | {"prior": "mixture"})).model.prior == stored


def test_a_kind_without_a_latent_ignores_the_parts_of_z(module):
    model = TextVAE.fit(SENTENCES, **SIZES, kind="lm", prior=module.HeavyPrior(latent=4), divergence=module.Power())
    assert model.config.model.prior == {"name": "normal"} and model.sample(1, seed=0)


# -- what cannot be stored or trained is refused before any work -------------------------------------------------------


def test_what_cannot_be_refused_later_is_refused_at_once(module, tmp_path):
    class Forgetful(module.HeavyPrior):
        def __init__(self, *, latent, shape=1.0):
            super().__init__(latent=latent)

    class Tensors(module.HeavyPrior):
        def __init__(self, *, latent, centers):
            super().__init__(latent=latent)
            self.centers = centers

    class Kept(Forgetful):
        def __init__(self, *, latent, shape=1.0):
            super().__init__(latent=latent)
            self.options = {"shape": shape}

    refusals = [
        (Forgetful(latent=4), "does not keep its argument 'shape'"),
        (Tensors(latent=4, centers=torch.zeros(3)), "argument 'centers' as a plain value"),
        (Tensors, "needs its option centers"),
        ({"name": Tensors, "centers": torch.zeros(3)}, "which can be stored"),
        (module.HeavyPrior(latent=5), r"weight prior.loc is \(5,\), and \(4,\)"),
        (module.Stairs(), r"an instance of Stairs: expected a seqvae\.model\.priors\.Prior"),
        (int, r"int: expected a seqvae\.model\.priors\.Prior"),
        ("somebodys_parts:Nobody", "cannot be imported"),
        ("nobodys_parts:HeavyPrior", "cannot be imported"),
        ({"name": module.HeavyPrior, "fredom": 3}, "did you mean 'freedom'"),
        ({"name": module.HeavyPrior, "freedom": "many"}, "expected a number"),
        (lambda latent: None, "expected a table"),
    ]
    for prior, words in refusals:
        with pytest.raises(ConfigError, match=words) as caught:
            TextVAE.fit(SENTENCES, **SIZES, prior=prior, output=tmp_path / "model")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()
    assert resolve_all(build_config(SIZES | {"prior": Kept(latent=4, shape=2.0)})).model.prior["shape"] == 2.0


def test_a_part_that_fails_in_a_step_is_named_with_what_mends_it(module):
    class Broken(module.HeavyPrior):
        def forward(self):
            raise RuntimeError("no distribution today")

    for prior in (Broken, Broken(latent=4)):
        with pytest.raises(ConfigError, match=r"no distribution today.*--model\.prior\.name mixture"):
            resolve_all(build_config(SIZES | {"prior": prior}))


def test_the_parts_of_this_page_keep_the_laws(module):
    testing.check_encoder(module.MeanEncoder)
    testing.check_posterior(module.LaplacePosterior)
    testing.check_prior(module.HeavyPrior)
    testing.check_decoder(module.Window)
    testing.check_noise(module.Repeats)
    testing.check_term(module.Power)
    testing.check_term(module.Length)
    testing.check_schedule(module.Stairs)


# -- the page for those who write one ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_of_the_page_runs_as_it_is_written(tmp_path):
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tmp_path / "my_parts.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    done = subprocess.run([sys.executable, "my_parts.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    stored = json.loads((tmp_path / "my-model" / "config.json").read_text())["config"]["model"]["prior"]
    assert stored == {"name": "__main__:StudentPrior", "freedom": 3.0}


def test_the_page_names_what_is_filled_in_and_what_checks():
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| `")]
    for _, base, _, filled, check in table:
        place, cls = base.strip("` ").rpartition(".")[::2]
        assert any(get_import_path(known) == f"{place}:{cls}" for known in BASES.values())
        assert set(re.findall(r"`(\w+)`", filled)) <= FILLED
        assert all(hasattr(testing, name) for name in re.findall(r"`(check_\w+)`", check))
    assert {name for row in table for name in re.findall(r"`(\w+)`", row[0])} == {*PARTS}


# -- commands ---------------------------------------------------------------------------------------------------------

WRONG = """
from seqvae.model.priors import StandardNormal
from seqvae.objective.term import Term
from seqvae.training.trainer import Update


class PerDimension(Term):
    def forward(self, trace):
        return trace.q.mean.square()


class Mistaken(StandardNormal):
    def forward(self):
        return {}["k"]


class Forgetful(Update):
    def forward(self, trainer, batch):
        return None
"""


@pytest.mark.parametrize(
    ("option", "name", "expected"),
    [
        (
            "--objective.divergence",
            "PerDimension",
            "PerDimension returns (B,), one value for each sentence; found (2",
        ),
        ("--model.prior", "Mistaken", "KeyError: 'k', wrong_parts.py line 14"),
        ("--objective.update", "Forgetful", "an update returns a Report and the norm of the gradient, found NoneType"),
        ("--model.prior", "Missing", "cannot be imported (AttributeError: "),
    ],
)
def test_a_part_that_is_wrong_is_one_line_with_its_place(option, name, expected, tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong_parts.py").write_text(WRONG)
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES * 3))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["train", "text.txt", option, f"wrong_parts:{name}", "--output", "model"])
    sys.modules.pop("wrong_parts", None)
    line = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and expected in line and len(line.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_a_command_opens_a_folder_whose_parts_it_is_given(module, tmp_path, capsys):
    prior = module.HeavyPrior(latent=4)
    TextVAE.fit(SENTENCES, **SIZES, prior=prior, output=tmp_path / "model")
    with pytest.raises(SystemExit):
        main(["sample", str(tmp_path / "model")])
    assert "--part somebodys_parts:HeavyPrior" in capsys.readouterr().err
    main(["sample", str(tmp_path / "model"), "-n", "3", "--part", "somebodys_parts:HeavyPrior"])
    assert len(capsys.readouterr().out.splitlines()) == 3
