"""Remedies: options of `seqvae train` for each state of a model, the likeliest to help first."""

import inspect
from typing import Any

from seqvae.config import adapt_to_corpus
from seqvae.model.decoders import DECODERS, RecurrentDecoder
from seqvae.reports.case import Case

Remedy = tuple[str, str]  # options of `seqvae train`, and why they help


def suggest_nothing(case: Case) -> list[Remedy]:
    """Suggest nothing, for models that need nothing."""
    return []


def change_tokenizer(case: Case) -> list[Remedy]:
    """Use tokens that can write all of the text."""
    if case.config.data.tokenizer == "word":
        return [("--tokenizer char", "characters as tokens, of which few are unknown")]
    return [("--tokenizer bpe", "byte pairs as tokens, which can write any text")]


def encourage_use(case: Case) -> list[Remedy]:
    """Make z cheaper, and the decoder depend on it."""
    objective, found = case.config.objective, []
    end = _get_final_weight(case)
    free_bits = float(objective.divergence.get("free_bits", 0.0))
    if case.has_fixed_kl:
        found.append(scale_kappa(case, 2.0))
    elif end > 0.1:
        found.append(
            (f"--objective.weight.end {end / 2:.3g}", "a smaller final weight of the KL, so that z may cost more")
        )
    found += strengthen_conditioning(case)
    if free_bits == 0 and not case.has_fixed_kl:
        options = "--objective.divergence.name kl --objective.divergence.free_bits 8"
        found.append((options, "free bits: 8 nats of KL without a penalty"))
    return [*found, (f"--model.latent {2 * case.latent}", "more dimensions")]


def strengthen_conditioning(case: Case) -> list[Remedy]:
    """Condition the decoder on z more directly, and hide words from it."""
    decoder, noise, found = case.config.model.decoder, case.config.model.noise, []
    if not (decoder.get("skip", True) and decoder.get("every_step", True)):
        options = "--model.decoder.every_step true --model.decoder.skip true"
        found.append((options, "z as an input of every step and of the decoder's output"))
    option = "rate" if noise["name"] == "word-dropout" else "word_dropout"
    rate = float(noise.get(option, 0.0))
    if rate < 0.7 and not case.domain.density:
        options = f"--model.noise.{option} {rate + 0.2:.2g}"
        found.append((options, "more word dropout, so that the decoder needs z for the words that are hidden"))
    return found


def enforce_use(case: Case) -> list[Remedy]:
    """Make the decoder use a z that differs between sentences already."""
    pretrain = ("--objective.update.name pretrain", "an autoencoder first, whose decoder has to use z")
    later = [] if case.config.objective.update["name"] == "pretrain" else [pretrain]
    return [*strengthen_conditioning(case), *later, shrink_decoder(case)]


def make_informative(case: Case) -> list[Remedy]:
    """Exchange KL without information for KL with it."""
    free_bits = float(case.config.objective.divergence.get("free_bits", 0.0))
    reason = "no free bits, which the variance of q alone uses up"
    fewer = [("--objective.divergence.free_bits 0", reason)] if free_bits and not case.has_fixed_kl else []
    return [*fewer, *(remedy for remedy in encourage_use(case) if "free_bits" not in remedy[0])]


def scale_kappa(case: Case, factor: float) -> Remedy:
    """Change kappa, which alone decides the KL of a von Mises-Fisher posterior to the uniform prior on the sphere."""
    kappa = factor * float(case.config.model.posterior.get("kappa", 80.0))
    reason = "a narrower q, so that z carries more" if factor > 1 else "a wider q, so that sentences cover the sphere"
    return f"--model.posterior.kappa {kappa:.4g}", reason


def regularize(case: Case) -> list[Remedy]:
    """Make it harder to memorise the training sentences."""
    found = [(options, "more word dropout") for options, _ in strengthen_conditioning(case) if "noise" in options]
    dropout = float(_get_decoder_option(case, "dropout"))
    if dropout < 0.5:
        found.append((f"--model.decoder.dropout {min(0.5, dropout + 0.2):.2g}", "more dropout"))
    if case.config.training.patience == 0:
        found.append(("--patience 5", "an end once held-out sentences gain no more"))
    return [*found, shrink_decoder(case)]


def shrink_decoder(case: Case) -> Remedy:
    """Halve the decoder."""
    return f"--model.decoder.hidden {max(8, int(_get_decoder_option(case, 'hidden')) // 2)}", "a smaller decoder"


def _get_decoder_option(case: Case, name: str) -> Any:
    """Return an option of the decoder, as given or by default."""
    given = adapt_to_corpus(case.config).model.decoder
    return given.get(name, inspect.signature(DECODERS.get(given["name"], RecurrentDecoder)).parameters[name].default)


def _get_final_weight(case: Case) -> float:
    return float(adapt_to_corpus(case.config).objective.weight.get("end", 1.0))


def speed_up_encoder(case: Case) -> list[Remedy]:
    """Give the encoder time and means to catch up with the decoder."""
    weight = {} if case.has_fixed_kl else case.config.objective.weight
    longer = {"fraction": lambda value: f"{min(1.0, 2 * value):g}", "steps": lambda value: 2 * int(value)}
    given = next((name for name in longer if weight.get(name)), None)
    why = "a slower rise of the KL weight"
    slower = [] if given is None else [(f"--objective.weight.{given} {longer[given](weight[given])}", why)]
    return [*slower, double_budget(case), ("--model.encoder.pooling max", "an encoder that pools all of its outputs")]


def cover_prior(case: Case) -> list[Remedy]:
    """Lower the rate until the posteriors cover the prior."""
    end = _get_final_weight(case)
    if case.config.kind == "ae":
        rise = "--objective.weight.name linear --objective.weight.end 0.5 --objective.weight.fraction 0.3"
        return [(f"--kind vae {rise}", "a KL weight above 0: an autoencoder is not made for samples of the prior")]
    found = [(f"--objective.weight.end {min(1.0, 2 * end):.3g}", "a larger final weight of the KL")] if end < 1 else []
    if case.has_fixed_kl:
        found = [scale_kappa(case, 0.5)]
    return [*found, (f"--model.latent {max(2, case.latent // 2)}", "fewer dimensions"), double_budget(case)]


def train_longer(case: Case) -> list[Remedy]:
    """Train longer, and until the KL weight has reached its end."""
    steps = case.config.objective.weight.get("steps")
    if case.stationary or not steps:
        return [double_budget(case), ("--learning-rate 0.004 --warmup 200", "a moderate learning rate")]
    quicker = (f"--objective.weight.steps {max(1, int(steps) // 2)}", "a quicker rise of the KL weight")
    return [double_budget(case), quicker]


def double_budget(case: Case) -> Remedy:
    """Double the length of the training."""
    t = case.config.training
    if t.max_minutes is None and t.max_epochs is not None:
        return f"--max-epochs {2 * t.max_epochs}", "a longer training"
    return f"--max-minutes {2 * (t.max_minutes or 5):g}", "a longer training"
