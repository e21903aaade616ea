"""`seqvae compare`: trained models side by side, or recipes that it trains first; each run is kept once it is whole."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqvae import show
from seqvae.commands.reading import same_content
from seqvae.commands.training import trained
from seqvae.config import Config, loading
from seqvae.data.series.sources import is_series
from seqvae.data.text.corpus import Corpus, Split, load
from seqvae.data.text.sources import located
from seqvae.errors import ConfigError, CorpusError
from seqvae.reports.comparison.figures import draw_all
from seqvae.reports.comparison.outcomes import Outcome
from seqvae.reports.comparison.outcomes import compare as tabulated
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.reports.comparison.report import to_html
from seqvae.reports.comparison.tables import Table, to_csv, to_json, to_markdown, to_text
from seqvae.reports.examine import examine, floors
from seqvae.reports.text_quality import check_packages, evaluate_text
from seqvae.text_vae import TextVAE
from seqvae.training import runs
from seqvae.training.checkpoint import METRICS, write
from seqvae.training.machine import keep_freed_memory

COMPARISONS = Path("comparisons")
OUTCOME = "outcome.json"
SHOWN = 5  # samples and reconstructions of each run that the report shows
PER_TOKEN = ("forward_perplexity", "reverse_perplexity")
WRITTEN = 500  # samples and reconstructions that --text scores


@dataclass(frozen=True)
class Terms:
    """How each run is scored: draws of z a sentence, sentences at most, and whether its texts are scored too."""

    samples: int
    limit: int
    text: bool


def compare(sources: Sequence[str], *, budget: Budget, terms: Terms, output: Path | None, command: str) -> None:
    """Score the runs, after training them if recipes are given, and write tables, plots and report.

    Args:
        sources: model folders; or TOML files of recipes and the corpus to train them on.
        budget: of the recipes.
        terms: how they are scored.
        output: the folder of the comparison.
        command: what the report says made it.
    """
    recipes = [source for source in sources if source.endswith(".toml")]
    rest = [source for source in sources if source not in recipes]
    if recipes and len(rest) > 1:
        raise ConfigError(f"{shlex.join(rest)}: expected one corpus beside {shlex.join(recipes)}")
    files = [] if recipes else [source for source in sources if Path(source).is_file()]
    folders = [source for source in sources if source not in files]
    if not recipes and (len(folders) < 2 or len(files) > 1):
        raise ConfigError(
            f"{shlex.join(sources)}: expected two or more model folders, and the file of their corpus if it has moved, "
            "or a TOML file of recipes"
        )
    corpus = (*rest, "sotu")[0]
    if recipes and is_series(corpus):
        raise ConfigError(f"{corpus} holds series: `compare` is for models of text; train and evaluate one by one")
    if terms.text:
        check_packages()  # before any training
    bench = Bench(terms, [located(corpus)] if recipes else [located(source) for source in files])
    keep_freed_memory()
    if recipes:
        folder = output or runs.new(recipes[0], COMPARISONS)
        planned = plan([Path(recipe) for recipe in recipes], located(corpus), budget)
        work = [(folder / name / f"seed-{config.training.seed}", name, config) for name, config in planned]
        for place, _, config in work:
            begun(place, config)
        outcomes = [bench.run(*item) for item in work]
    else:
        folder = output or runs.new("models", COMPARISONS)
        models = [TextVAE.from_pretrained(source) for source in folders]
        alike(models)
        bench.places += [model.config.corpus for model in models]
        outcomes = [bench.score(Path(source), name) for source, name in zip(folders, named(folders), strict=True)]
    publish(folder, outcomes, bench, command)


def begun(folder: Path, config: Config) -> bool:
    """Whether a training has begun in `folder`, which must then be one with these options."""
    if not (folder / runs.RESOLVED).is_file():
        return False
    differ = different(runs.options_of(folder).to_dict(), config.to_dict())
    if differ and not (differ == {"corpus"} and same_content(folder, config)):
        raise ConfigError(f"{folder} was trained with another {', '.join(sorted(differ))}: name another --output")
    return True


def alike(models: Sequence[TextVAE]) -> None:
    """Refuse models of which two were trained on different text: under different names, and not the same content."""
    contents = [model.checkpoint.facts.get("content") for model in models]
    for model, content in zip(models, contents, strict=True):
        ours, theirs = ((one.config.corpus, one.config.data.split_seed) for one in (model, models[0]))
        if ours != theirs and (content is None or content != contents[0]):
            shown = " and ".join(f"{corpus} (split seed {seed})" for corpus, seed in (theirs, ours))
            raise ConfigError(f"the models were trained on different text, {shown}: compare models of one corpus")


class Bench:
    """Where runs are made and scored, all on the same sentences.

    Attributes:
        places: where the corpus of a model can be too, if it is not where it was.
    """

    def __init__(self, terms: Terms, places: Sequence[str] = ()) -> None:
        self.terms, self.places = terms, list(places)
        self.corpora: dict[str, Corpus] = {}  # by tokenizer and labels
        self.first: TextVAE | None = None
        self.told: tuple[list[str], list[int]] | None = None  # the text that all are scored on, and how much of it

    def run(self, folder: Path, name: str, config: Config) -> Outcome:
        """The outcome of a training: read if it was scored already, else trained, or trained on, and scored."""
        kept, resume = folder / OUTCOME, begun(folder, config)
        if resume and kept.is_file():
            stored = json.loads(kept.read_text(encoding="utf-8"))
            if stored.pop("terms") == asdict(self.terms):
                corpus = self.corpus(TextVAE.from_pretrained(folder))
                self.check(self.split(corpus), corpus, name)
                return Outcome(**stored | {"nll": np.array(stored["nll"])})
        show.remark(f"{name}, seed {config.training.seed}: {'goes on' if resume else 'begins'} in {folder}")
        if trained(config, folder, resume=resume).interrupted:
            raise KeyboardInterrupt
        outcome = self.score(folder, name)
        values = vars(outcome) | {"nll": outcome.nll.tolist(), "terms": asdict(self.terms)}
        write(kept, lambda path: path.write_text(json.dumps(values), encoding="utf-8"))
        return outcome

    def score(self, folder: Path, name: str) -> Outcome:
        """Examine the model in `folder`."""
        model = TextVAE.from_pretrained(folder)
        corpus = self.corpus(model)
        split = self.split(corpus)
        self.check(split, corpus, name)
        show.remark(f"{name}, seed {model.config.training.seed}: scoring {len(split):,} sentences")
        found = examine(model, split, corpus.train, samples=self.terms.samples, folder=str(folder))
        scores: dict[str, Any] = vars(found.scores)
        if self.terms.text:
            scores = vars(evaluate_text(model, split, corpus.train, number=WRITTEN)) | scores
            tokenizers = {read.tokenizer.to_json() for read in self.corpora.values()}
            if len(tokenizers) > 1:  # the figures are per token, and the tokens not those of the first model
                scores |= dict.fromkeys(PER_TOKEN)
        curve = validations(folder)
        return Outcome(
            name=name,
            seed=model.config.training.seed,
            kind=model.config.kind,
            scores=scores,
            nll=found.table.nll.numpy(),
            curve=curve,
            sentences=sentences(model, split),
            minutes=curve[-1].get("seconds", 0.0) / 60 if curve else 0.0,
            diagnosis=found.diagnosis.state,
        )

    def corpus(self, model: TextVAE) -> Corpus:
        """The corpus that a model was trained on, in its tokens."""
        self.first = self.first or model
        data = model.config.data
        key = f"{model.tokenizer.to_json()} {data.max_length} {data.label_column} {model.labels}"
        if key in self.corpora and self.known(model, self.corpora[key]):
            return self.corpora[key]
        options = loading(model.config) | {"tokenizer": model.tokenizer, "labels": model.labels or None}
        faults: list[CorpusError] = []
        for place in dict.fromkeys([model.config.corpus, *self.places]):
            try:
                corpus = load(place, **options)
            except CorpusError as error:
                faults.append(error)
                continue
            if self.known(model, corpus):
                self.corpora[key] = corpus
                return corpus
            faults.append(CorpusError(f"{place} has changed since a model was trained on it: train it again"))
        raise faults[0]

    def known(self, model: TextVAE, corpus: Corpus) -> bool:
        """Whether a corpus is that of a model by its content."""
        return model.checkpoint.facts.get("fingerprint", "") in ("", corpus.fingerprint)

    def check(self, split: Split, corpus: Corpus, name: str) -> None:
        """Refuse a model whose sentences are not those of the first, word for word: their scores cannot be compared."""
        told = [corpus.tokenizer.normalize(text) for text in split.texts()], split.bytes.tolist()
        self.told = self.told or told
        if told != self.told:
            raise ConfigError(
                f"{name} reads other sentences than the first model, or more of them, or in another case: "
                "compare models that agree in lowercase, column, label_column and max_length"
            )

    def split(self, corpus: Corpus) -> Split:
        """The sentences that all are scored on."""
        split = corpus.test or corpus.valid
        if split is None:
            raise CorpusError(f"{corpus.name} has no held-out sentences")
        return split.at_most(self.terms.limit)

    def floors(self) -> dict[str, dict[str, float]]:
        """What n-gram models of the training sentences score, cut into tokens as the first model does."""
        assert self.first is not None
        corpus = self.corpus(self.first)
        return floors(self.split(corpus), corpus.train, len(corpus.tokenizer))


def publish(folder: Path, outcomes: Sequence[Outcome], bench: Bench, command: str) -> None:
    """Print the table, and write it with plots and report."""
    table = tabulated(outcomes, floors=bench.floors())
    figures = draw_all(outcomes, folder)
    assert bench.first is not None
    corpus = bench.corpus(bench.first)
    notes = [f"Corpus {corpus.name}.", *(f"{note}." for note in corpus.notes)]
    page = to_html(f"Models of {corpus.name}", table, outcomes, figures, notes, command=command)
    for name, text in {**rendered(table), "report.html": page}.items():
        write(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    show.table(to_text(table), folder)


def rendered(table: Table) -> dict[str, str]:
    """The table as files."""
    return {"table.md": to_markdown(table), "table.csv": to_csv(table), "table.json": to_json(table)}


def sentences(model: TextVAE, split: Split) -> dict[str, list[str]]:
    """What the report shows of a model's texts."""
    found = {"samples": model.sample(SHOWN, seed=0, temperature=0.5)}
    if not model.config.model.latent:
        return found
    chosen, labels = show.examples(model, split, SHOWN)
    found |= {"originals": chosen, "reconstructions": model.reconstruct(chosen, labels=labels)}
    label = None if labels is None else labels[0]
    return found | {"interpolation": model.interpolate(chosen[0], chosen[-1], label=label, steps=7)}


def validations(folder: Path) -> list[dict[str, Any]]:
    """The lines on validations in metrics.jsonl; none if there is no such file, as in a model from the hub."""
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line for line in map(json.loads, lines) if line["kind"] == "valid"]


def named(sources: Sequence[str]) -> list[str]:
    """A short name for each folder: its last part, or all of it where that is not unique."""
    last = [Path(source).name for source in sources]
    return [name if last.count(name) == 1 else source for name, source in zip(last, sources, strict=True)]


def different(one: dict[str, Any], other: dict[str, Any], place: str = "") -> set[str]:
    """The dotted names of the values in which two nested dictionaries differ."""
    found: set[str] = set()
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= different(a, b, f"{place}{name}.")
        elif a != b:
            found.add(place + name)
    return found
