"""Remedies: options of `seqvae train` against each thing that a model can suffer from, the likeliest to help first."""

import inspect
from dataclasses import dataclass
from typing import Any

from seqvae.config import Config
from seqvae.evaluation.scores import Scores
from seqvae.model.decoders import DECODERS

Remedy = tuple[str, str]  # options of `seqvae train`, and why they help


@dataclass(frozen=True)
class Case:
    """What the doctor looks at.

    Attributes:
        scores: of held-out sentences.
        config: of the run.
        unigram: -log p(x) of a unigram model on the same sentences (of series: of a Gaussian independent of time), nats
            per sentence; None if not known.
        train_unigram: the same on the training sentences that `scores.train_reconstruction` is of.
        settled: whether the kept model is from after the weight's schedule had reached its end.
        folder: the model folder, to name in the command; its recipe.toml is used.
    """

    scores: Scores
    config: Config
    unigram: float | None = None
    train_unigram: float | None = None
    settled: bool = True
    folder: str | None = None

    @property
    def series(self) -> bool:
        """Whether the model is one of real-valued series."""
        return self.config.model.observation["name"] == "frames"

    @property
    def floor(self) -> str:
        """What `unigram` is of, in words."""
        return "a Gaussian" if self.series else "a unigram model"

    @property
    def fixed_rate(self) -> bool:
        """Whether the KL is a constant, a function of kappa alone: neither its weight nor a floor moves anything."""
        model = self.config.model
        return model.posterior["name"] == "vmf" and model.prior["name"] == "sphere"

    def comparable(self, cost: float) -> float:
        """What a fraction of a cost is taken of, nats per sentence.

        Of text the cost itself. That of series depends on the unit of the data, and may be negative; what is gained
        over the Gaussian does not: 0 if there is no gain, or none is known.
        """
        if not self.series:
            return cost
        return 0.0 if self.unigram is None else max(0.0, self.unigram - cost)


def read(case: Case) -> list[Remedy]:
    """Have tokens that the text is made of."""
    if case.config.data.tokenizer == "word":
        return [("--tokenizer char", "characters as tokens, of which few are unknown")]
    return [("--tokenizer bpe", "byte pairs as tokens, which can write any text")]


def listen(case: Case) -> list[Remedy]:
    """Make the decoder listen to z."""
    model, objective, found = case.config.model, case.config.objective, []
    end = float(objective.weight.get("end", 1.0))
    floor = float(objective.divergence.get("free_bits", 0.0))
    if case.fixed_rate:
        found.append(sharpen(case))
    elif end > 0.1:
        found.append(
            (f"--objective.weight.end {end / 2:.3g}", "a smaller final weight of the KL, so that z may cost more")
        )
    found += expose(case)
    if floor == 0 and not case.fixed_rate:
        options = "--objective.divergence.name kl --objective.divergence.free_bits 8"
        found.append((options, "8 nats of KL for nothing"))
    return [*found, (f"--model.latent {2 * model.latent}", "more dimensions")]


def expose(case: Case) -> list[Remedy]:
    """Bring z nearer to the decoder, and hide words from it."""
    decoder, noise, found = case.config.model.decoder, case.config.model.noise, []
    if not (decoder.get("skip", True) and decoder.get("every_step", True)):
        options = "--model.decoder.every_step true --model.decoder.skip true"
        found.append((options, "z at every step and in the decoder's output, where it cannot be overheard"))
    option = "rate" if noise["name"] == "word-dropout" else "word_dropout"
    rate = float(noise.get(option, 0.0))
    if rate < 0.7 and not case.series:
        options = f"--model.noise.{option} {rate + 0.2:.2g}"
        found.append((options, "more word dropout, so that the decoder has to ask z for what it does not see"))
    return found


def attend(case: Case) -> list[Remedy]:
    """Make the decoder use a z that tells sentences apart already."""
    pretrain = ("--objective.update.name pretrain", "first an autoencoder, whose decoder has to use z")
    later = [] if case.config.objective.update["name"] == "pretrain" else [pretrain]
    return [*expose(case), *later, smaller(case)]


def sharpen(case: Case, factor: float = 2.0) -> Remedy:
    """Move kappa, which alone decides the KL of a von Mises-Fisher posterior to the sphere."""
    kappa = factor * float(case.config.model.posterior.get("kappa", 80.0))
    how = "a narrower q, so that z says more" if factor > 1 else "a wider q, so that sentences cover the sphere"
    return f"--model.posterior.kappa {kappa:.4g}", how


def generalize(case: Case) -> list[Remedy]:
    """Leave less room to memorise the training sentences."""
    found = [(options, "more word dropout") for options, _ in expose(case) if "noise" in options]
    dropout = float(_decoder_option(case, "dropout"))
    if dropout < 0.5:
        found.append((f"--model.decoder.dropout {min(0.5, dropout + 0.2):.2g}", "more dropout"))
    if case.config.training.patience == 0:
        found.append(("--patience 5", "an end once held-out sentences gain no more"))
    return [*found, smaller(case)]


def smaller(case: Case) -> Remedy:
    """Halve the decoder."""
    return f"--model.decoder.hidden {max(8, int(_decoder_option(case, 'hidden')) // 2)}", "a smaller decoder"


def _decoder_option(case: Case, name: str) -> Any:
    """An option of the decoder, as given or by default."""
    given = case.config.model.decoder
    return given.get(name, inspect.signature(DECODERS[given["name"]]).parameters[name].default)


def inform(case: Case) -> list[Remedy]:
    """Exchange nats that say nothing for such that do."""
    floor = float(case.config.objective.divergence.get("free_bits", 0.0))
    lift = [("--objective.divergence.free_bits 0", "no floor, which is being met by the variance of q alone")]
    return [*(lift if floor and not case.fixed_rate else []), *(r for r in listen(case) if "free_bits" not in r[0])]


def hurry(case: Case) -> list[Remedy]:
    """Let the encoder catch up."""
    steps = None if case.fixed_rate else case.config.objective.weight.get("steps")
    slow = [(f"--objective.weight.steps {2 * int(steps)}", "a slower rise of the KL weight")] if steps else []
    return [*slow, longer(case), ("--model.encoder.pooling max", "an encoder that pools all of its outputs")]


def fill(case: Case) -> list[Remedy]:
    """Bring the posteriors together until they cover the prior."""
    end, latent = float(case.config.objective.weight.get("end", 1.0)), case.config.model.latent
    if case.config.kind == "ae":
        rise = "--objective.weight.name linear --objective.weight.end 0.5 --objective.weight.steps 1500"
        return [(f"--kind vae {rise}", "a KL weight above 0: an autoencoder is not made for draws of the prior")]
    found = [(f"--objective.weight.end {min(1.0, 2 * end):.3g}", "a larger final weight of the KL")] if end < 1 else []
    if case.fixed_rate:
        found = [sharpen(case, 0.5)]
    return [*found, (f"--model.latent {max(2, latent // 2)}", "fewer dimensions"), longer(case)]


def train(case: Case) -> list[Remedy]:
    """Train on."""
    steps = case.config.objective.weight.get("steps")
    if case.settled or not steps:
        return [longer(case), ("--learning-rate 0.004 --warmup 200", "the default learning rate")]
    return [
        longer(case),
        (f"--objective.weight.steps {max(1, int(steps) // 2)}", "a quicker rise of the KL weight"),
    ]


def longer(case: Case) -> Remedy:
    """Train twice as long."""
    t = case.config.training
    if t.max_minutes is None and t.max_epochs is not None:
        return f"--max-epochs {2 * t.max_epochs}", "a longer training"
    return f"--max-minutes {2 * (t.max_minutes or 5):g}", "a longer training"


def nothing(case: Case) -> list[Remedy]:
    """What a healthy model needs."""
    return []
