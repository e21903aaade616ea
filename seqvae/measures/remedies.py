"""Remedies: options of `seqvae train` against each thing that a model can suffer from, the likeliest to help first."""

from dataclasses import dataclass

from seqvae.config import Config
from seqvae.measures.scores import Scores

Remedy = tuple[str, str]  # options of `seqvae train`, and why they help


@dataclass(frozen=True)
class Case:
    """What the doctor looks at.

    Attributes:
        scores: of held-out sentences.
        config: of the run.
        unigram: -log p(x) of a unigram model on the same sentences (of series: of a Gaussian independent of time), nats
            per sentence; None if not known.
        settled: whether the kept model is from after the weight's schedule had reached its end.
        folder: the model folder, to name in the command; its recipe.toml is used.
    """

    scores: Scores
    config: Config
    unigram: float | None = None
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
    if end > 0.1:
        found.append(
            (f"--objective.weight.end {end / 2:.3g}", "a smaller final weight of the KL, so that z may cost more")
        )
    if not (model.decoder.get("skip", True) and model.decoder.get("every_step", True)):
        options = "--model.decoder.every_step true --model.decoder.skip true"
        found.append((options, "z at every step and in the decoder's output, where it cannot be overheard"))
    option = "rate" if model.noise["name"] == "word-dropout" else "word_dropout"
    rate = float(model.noise.get(option, 0.0))
    if rate < 0.7 and not case.series:
        options = f"--model.noise.{option} {rate + 0.2:.2g}"
        found.append((options, "more word dropout, so that the decoder has to ask z for what it does not see"))
    if floor == 0:
        options = "--objective.divergence.name kl --objective.divergence.free_bits 8"
        found.append((options, "8 nats of KL for nothing"))
    return [*found, (f"--model.latent {2 * model.latent}", "more dimensions")]


def inform(case: Case) -> list[Remedy]:
    """Exchange nats that say nothing for such that do."""
    floor = float(case.config.objective.divergence.get("free_bits", 0.0))
    lift = [("--objective.divergence.free_bits 0", "no floor, which is being met by the variance of q alone")]
    return [*(lift if floor else []), *(r for r in listen(case) if "free_bits" not in r[0])]


def hurry(case: Case) -> list[Remedy]:
    """Let the encoder catch up."""
    updates = case.config.objective.weight.get("updates")
    slow = [(f"--objective.weight.updates {2 * int(updates)}", "a slower rise of the KL weight")] if updates else []
    return [*slow, longer(case), ("--model.encoder.pooling max", "an encoder that pools all of its outputs")]


def fill(case: Case) -> list[Remedy]:
    """Bring the posteriors together until they cover the prior."""
    end, latent = float(case.config.objective.weight.get("end", 1.0)), case.config.model.latent
    if case.config.kind == "ae":
        rise = "--objective.weight.name linear --objective.weight.end 0.5 --objective.weight.updates 1500"
        return [(f"--kind vae {rise}", "a KL weight above 0: an autoencoder is not made for draws of the prior")]
    found = [(f"--objective.weight.end {min(1.0, 2 * end):.3g}", "a larger final weight of the KL")] if end < 1 else []
    return [*found, (f"--model.latent {max(2, latent // 2)}", "fewer dimensions"), longer(case)]


def train(case: Case) -> list[Remedy]:
    """Train on."""
    updates = case.config.objective.weight.get("updates")
    if case.settled or not updates:
        return [longer(case), ("--learning-rate 0.004 --warm-up 200", "the default learning rate")]
    return [
        longer(case),
        (f"--objective.weight.updates {max(1, int(updates) // 2)}", "a quicker rise of the KL weight"),
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
