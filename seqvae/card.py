"""The model card: README.md of a model folder."""

from seqvae.checkpoint import Checkpoint
from seqvae.measures.scores import Scores, rows
from seqvae.text.labels import listed

KINDS = {"vae": "VAE", "ae": "autoencoder", "lm": "language model"}


def card(checkpoint: Checkpoint, samples: list[str], scores: Scores | None = None) -> str:
    """Markdown with what the model is, how to use it, its corpus, its scores and some samples from the prior."""
    config, model, tokenizer = checkpoint.config, checkpoint.model, checkpoint.tokenizer
    parameters = sum(p.numel() for p in model.parameters())
    label = f"label={next(iter(checkpoint.labels))!r}, " if checkpoint.labels else ""
    text = tokenizer is not None
    made_of = f"{len(tokenizer):,} {tokenizer.kind} tokens" if tokenizer else f"{model.observation.size:,} channels"
    name, unit = ("TextVAE", "sentence") if text else ("SeriesVAE", "series")
    use = f"{label}temperature=0.8, " if text else ""
    lines = [
        "---",
        "library_name: seqvae",
        f"tags: [variational-autoencoder, {'text-generation' if text else 'time-series'}]",
        "---",
        "",
        f"# A {unit} {KINDS[config.kind]} of {checkpoint.facts.get('corpus', config.corpus)}",
        "",
        f"{config.model.latent} latent dimensions, {parameters:,} parameters, {made_of}. "
        f"Trained with `seqvae` for {checkpoint.facts.get('update', 0):,} updates.",
        "",
        *([f"Conditioned on labels: {labels(checkpoint)}.", ""] if checkpoint.labels else []),
        "```python",
        f"from seqvae import {name}",
        f'model = {name}.from_pretrained("this/folder")',
        f"model.sample(5, {use}seed=1)",
        "```",
        "",
        "## Corpus",
        "",
        *[f"- {note}" for note in checkpoint.facts.get("notes", [])],
        "",
        "## Samples from the prior",
        "",
        *[f"- {text}" for text in samples],
    ]
    if scores is not None:
        lines += ["", "## Held-out scores", ""]
        if checkpoint.labels:
            lines += [given(config.data.label_column), ""]
        lines += ["| score | value | meaning |", "|---|---|---|"]
        lines += [f"| {row.name} | {row.value} | {escaped(row.definition)} |" for row in rows(scores)]
    return "\n".join(lines) + "\n"


def labels(checkpoint: Checkpoint) -> str:
    """The column of the labels, and the labels with their shares of the training sentences, the commonest first."""
    total = sum(checkpoint.labels.values())
    order = sorted(checkpoint.labels, key=checkpoint.labels.__getitem__, reverse=True)
    shares = listed(f"{name} ({checkpoint.labels[name] / total:.1%})" for name in order)
    return f"{checkpoint.config.data.label_column}: {shares}"


def given(column: str | None) -> str:
    """What the scores of a conditional model mean."""
    return (
        f"Each sentence is scored given its label y, the {column}: p(x) is p(x|y), q(z|x) is q(z|x, y), I(x; z) "
        "is the information of z about sentence and label together; the floors see no label."
    )


def escaped(text: str) -> str:
    """`text` as a cell of a Markdown table."""
    return text.replace("|", r"\|")
