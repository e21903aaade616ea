"""A comparison: recipes are trained, models are scored on the same sentences, and table, plots and report written.

What is finished is kept: a training, and the outcome of each run that was scored. An interrupted comparison continues.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from seqvae.auto import choose_class, has_same_content
from seqvae.config import Config, adapt_like
from seqvae.data.text.corpus import TextCorpus, TextSplit
from seqvae.data.text.sources import holds_splits, locate
from seqvae.errors import ConfigError, CorpusError
from seqvae.reports.comparison import outcomes as outcomes_
from seqvae.reports.comparison.figures import draw_all
from seqvae.reports.comparison.outcomes import Outcome
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.reports.comparison.report import to_html
from seqvae.reports.comparison.tables import Table, to_csv, to_json, to_markdown, to_text
from seqvae.reports.examine import examine, score_n_grams
from seqvae.reports.text_quality import check_packages, evaluate_text
from seqvae.text_vae import TextVAE
from seqvae.training import runs
from seqvae.training.checkpoint import METRICS, read_metrics, write
from seqvae.training.loop import Run
from seqvae.training.machine import keep_freed_memory
from seqvae.training.own_parts import Handed, get_own_parts

COMPARISONS = Path("comparisons")
OUTCOME = "outcome.json"
EXAMPLES = 5  # samples and reconstructions of each run that the report shows
PER_TOKEN = ("forward_perplexity", "reverse_perplexity")
GENERATED = 500  # samples and reconstructions that are scored as text


@dataclass(frozen=True)
class Scoring:
    """How each run is scored.

    Attributes:
        samples: of z for each sentence.
        limit: number of sentences, at most.
        text: whether generated text is scored too.
    """

    samples: int
    limit: int
    text: bool


class Comparison:
    """Runs that are trained and scored, all on the same sentences.

    Attributes:
        places: other places where the corpus of a model can be, if it has moved.
        first: the model that was scored first; the others have to agree with it.
    """

    def __init__(
        self,
        scoring: Scoring,
        *,
        train: Callable[..., Run] | None = None,
        log: Callable[[str], None] = lambda line: None,
        places: Sequence[str] = (),
    ) -> None:
        """Prepare a comparison.

        Args:
            scoring: how runs are scored.
            train: trains a config into a folder, `train(config, folder, resume=False)`; only needed for recipes.
            log: is called with lines on what is done.
            places: see above.
        """
        self.scoring, self.train, self.log, self.places = scoring, train, log, list(places)
        self.corpora: dict[str, TextCorpus] = {}  # by tokenizer and labels
        self.first: TextVAE | None = None
        self.sentences: tuple[list[str], list[int]] | None = None  # that all are scored on, and their bytes

    def run(self, folder: Path, name: str, config: Config) -> Outcome:
        """Return the outcome of a training: stored, or scored after the training has begun or continued."""
        config = keep_choices(folder, config)
        stored, resume = folder / OUTCOME, check_begun(folder, config)
        if resume and stored.is_file():
            values = json.loads(stored.read_text(encoding="utf-8"))
            if values.pop("scoring") == asdict(self.scoring):
                corpus = self.load_corpus(TextVAE.from_pretrained(folder, parts=get_own_parts(config)))
                self.check_sentences(self.choose_split(corpus), corpus, name)
                return Outcome(**values | {"nll": np.array(values["nll"])})
        self.log(f"{name}, seed {config.training.seed}: {'continues' if resume else 'begins'} in {folder}")
        assert self.train is not None
        if self.train(config, folder, resume=resume).interrupted:
            raise KeyboardInterrupt
        outcome = self.score(folder, name, get_own_parts(config))
        values = vars(outcome) | {"nll": outcome.nll.tolist(), "scoring": asdict(self.scoring)}
        write(stored, lambda path: path.write_text(json.dumps(values), encoding="utf-8"))
        return outcome

    def score(self, folder: Path, name: str, parts: Handed = ()) -> Outcome:
        """Score the model in `folder`, made of these `parts` of the user's own."""
        model = TextVAE.from_pretrained(folder, parts=parts)
        corpus = self.load_corpus(model)
        split = self.choose_split(corpus)
        self.check_sentences(split, corpus, name)
        self.log(f"{name}, seed {model.config.training.seed}: scoring {len(split):,} sentences")
        found = examine(model, split, corpus.train, samples=self.scoring.samples, folder=str(folder))
        scores: dict[str, Any] = vars(found.scores)
        if self.scoring.text:
            scores = vars(evaluate_text(model, split, corpus.train, number=GENERATED)) | scores
            tokenizers = {known.tokenizer.to_json() for known in self.corpora.values()}
            if len(tokenizers) > 1:  # these scores are per token, and the tokens not those of the first model
                scores |= dict.fromkeys(PER_TOKEN)
        curve = read_validations(folder)
        return Outcome(
            name=name,
            seed=model.config.training.seed,
            kind=model.config.kind,
            scores=scores,
            nll=found.table.nll.numpy(),
            curve=curve,
            sentences=write_examples(model, split),
            minutes=curve[-1].get("seconds", 0.0) / 60 if curve else 0.0,
            diagnosis=found.diagnosis.state,
        )

    def load_corpus(self, model: TextVAE) -> TextCorpus:
        """Load the corpus that a model was trained on, in its tokens, from where it was or has moved to.

        Raises:
            CorpusError: if it is in none of these places, or has changed.
        """
        self.first = self.first or model
        data = model.config.data
        key = f"{model.tokenizer.to_json()} {data.max_length} {data.label_column} {model.labels}"
        if key in self.corpora and has_fingerprint(model, self.corpora[key]):
            return self.corpora[key]
        errors: list[CorpusError] = []
        for place in dict.fromkeys([model.config.corpus, *self.places]):
            try:
                corpus = model.load_corpus(place, column=data.column, whole=False)
            except CorpusError as error:
                errors.append(error)
                continue
            if has_fingerprint(model, corpus):
                self.corpora[key] = corpus
                return corpus
            errors.append(CorpusError(f"{place} has changed since a model was trained on it: train it again"))
        raise errors[0]

    def check_sentences(self, split: TextSplit, corpus: TextCorpus, name: str) -> None:
        """Refuse a model whose sentences are not those of the first, word for word: their scores are not comparable."""
        sentences = [corpus.tokenizer.normalize(text) for text in split.texts()], split.bytes.tolist()
        self.sentences = self.sentences or sentences
        if sentences != self.sentences:
            raise ConfigError(
                f"{name} reads other sentences than the first model, or more of them, or in another case: "
                "compare models that agree in lowercase, column, label_column and max_length"
            )

    def choose_split(self, corpus: TextCorpus) -> TextSplit:
        """Choose the sentences that all are scored on."""
        split = corpus.test or corpus.valid
        if split is None:
            raise CorpusError(f"{corpus.name} has no held-out sentences")
        return split.at_most(self.scoring.limit)

    def score_baselines(self) -> dict[str, dict[str, float]]:
        """Score n-gram models of the training sentences, in the tokens of the first model."""
        assert self.first is not None
        corpus = self.load_corpus(self.first)
        return score_n_grams(self.choose_split(corpus), corpus.train, len(corpus.tokenizer))

    def publish(self, folder: Path, outcomes: Sequence[Outcome], command: str) -> str:
        """Write table, plots and report into `folder`, and return the table as plain text."""
        table = outcomes_.compare(outcomes, baselines=self.score_baselines())
        figures = draw_all(outcomes, folder)
        assert self.first is not None
        corpus = self.load_corpus(self.first)
        notes = [f"Corpus {corpus.name}.", *(f"{note}." for note in corpus.notes)]
        page = to_html(f"Models of {corpus.name}", table, outcomes, figures, notes, command=command)
        for name, text in {**format_table(table), "report.html": page}.items():
            write(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        return to_text(table)


def compare(
    sources: Sequence[str], comparison: Comparison, *, budget: Budget, output: Path | None, command: str
) -> tuple[str, Path]:
    """Score the runs, after training them if recipes are given, and write table, plots and report.

    Args:
        sources: model folders; or TOML files of recipes and the corpus to train them on.
        comparison: what trains and scores.
        budget: of the recipes.
        output: the folder of the comparison.
        command: the command that the report names as its origin.

    Returns:
        the table as plain text, and the folder.

    Raises:
        ConfigError: before any work, where a package is missing.
    """
    for package in ("matplotlib", "scipy"):
        if find_spec(package) is None:
            raise ConfigError(f'comparisons need {package}: install it with pip install "seqvae[plot]"')
    recipes = [source for source in sources if source.endswith(".toml")]
    if comparison.scoring.text:
        check_packages()  # before any training
    keep_freed_memory()
    if recipes:
        folder, outcomes = run_recipes(sources, recipes, comparison, budget, output)
    else:
        folder, outcomes = score_models(sources, comparison, output)
    return comparison.publish(folder, outcomes, command), folder


def run_recipes(
    sources: Sequence[str], recipes: Sequence[str], comparison: Comparison, budget: Budget, output: Path | None
) -> tuple[Path, list[Outcome]]:
    """Train and score each recipe with each seed; all are checked before the first is trained."""
    rest = [source for source in sources if source not in recipes]
    if len(rest) > 1:
        raise ConfigError(f"{shlex.join(rest)}: expected one corpus beside {shlex.join(recipes)}")
    corpus = locate((*rest, "chitchat")[0])
    if (units := choose_class(corpus).units) != TextVAE.units:
        raise ConfigError(f"{corpus} holds {units}: `compare` is for sentences; train and evaluate models one by one")
    comparison.places.append(corpus)
    folder = output or runs.name_folder(recipes[0], COMPARISONS)
    planned = plan([Path(recipe) for recipe in recipes], corpus, budget)
    work = [(folder / name / f"seed-{config.training.seed}", name, config) for name, config in planned]
    for place, _, config in work:
        check_begun(place, keep_choices(place, config))
    return folder, [comparison.run(*item) for item in work]


def score_models(sources: Sequence[str], comparison: Comparison, output: Path | None) -> tuple[Path, list[Outcome]]:
    """Score trained models."""
    corpora = [source for source in sources if Path(source).is_file() or holds_splits(Path(source))]
    folders = [source for source in sources if source not in corpora]
    if len(folders) < 2 or len(corpora) > 1:
        raise ConfigError(
            f"{shlex.join(sources)}: expected two or more model folders, and their corpus if it has moved, "
            "or a TOML file of recipes"
        )
    comparison.places += [locate(source) for source in corpora]
    folder = output or runs.name_folder("models", COMPARISONS)
    models = [TextVAE.from_pretrained(source) for source in folders]
    check_same_text(models)
    comparison.places += [model.config.corpus for model in models]
    pairs = zip(folders, name_folders(folders), strict=True)
    return folder, [comparison.score(Path(source), name) for source, name in pairs]


def keep_choices(folder: Path, config: Config) -> Config:
    """Return the configuration with what it leaves open, precision and dropout, as the training in `folder` chose."""
    if not (folder / runs.RESOLVED).is_file():
        return config
    begun = runs.read_options(folder)
    config = adapt_like(config, begun)
    if config.training.precision != "auto":
        return config
    return replace(config, training=replace(config.training, precision=begun.training.precision))


def check_begun(folder: Path, config: Config) -> bool:
    """Tell whether a training has begun in `folder`.

    Raises:
        ConfigError: if it has other options, or another corpus.
    """
    if not (folder / runs.RESOLVED).is_file():
        return False
    different = find_differences(runs.read_options(folder).to_dict(), config.to_dict())
    if different and not (different == {"corpus"} and has_same_content(folder, config)):
        raise ConfigError(f"{folder} was trained with another {', '.join(sorted(different))}: name another --output")
    return True


def check_same_text(models: Sequence[TextVAE]) -> None:
    """Refuse models of which two were trained on different text: under different names, and not the same content."""
    contents = [model.checkpoint.facts.get("content") for model in models]
    for model, content in zip(models, contents, strict=True):
        ours, theirs = ((one.config.corpus, one.config.data.split_seed) for one in (model, models[0]))
        if ours != theirs and (content is None or content != contents[0]):
            both = " and ".join(f"{corpus} (split seed {seed})" for corpus, seed in (theirs, ours))
            raise ConfigError(f"the models were trained on different text, {both}: compare models of one corpus")


def has_fingerprint(model: TextVAE, corpus: TextCorpus) -> bool:
    """Tell whether a corpus is that of a model by its content."""
    return model.checkpoint.facts.get("fingerprint", "") in ("", corpus.fingerprint)


def format_table(table: Table) -> dict[str, str]:
    """Format the table as files."""
    return {"table.md": to_markdown(table), "table.csv": to_csv(table), "table.json": to_json(table)}


def write_examples(model: TextVAE, split: TextSplit) -> dict[str, list[str]]:
    """Write the sentences of a model that the report shows: samples, reconstructions, an interpolation."""
    found = {"samples": model.sample(EXAMPLES, seed=0, temperature=0.5)}
    if not model.config.model.latent:
        return found
    chosen, labels = model.choose_examples(split, EXAMPLES)
    found |= {"originals": chosen, "reconstructions": model.reconstruct(chosen, labels=labels)}
    label = None if labels is None else labels[0]
    return found | {"interpolation": model.interpolate(chosen[0], chosen[-1], label=label, steps=7)}


def read_validations(folder: Path) -> list[dict[str, Any]]:
    """Read the validations in metrics.jsonl; none if there is no such file, as in a model from the hub."""
    return [line for line in read_metrics(folder / METRICS) if line["kind"] == "valid"]


def name_folders(sources: Sequence[str]) -> list[str]:
    """Return a short name for each folder: its last part, or all of it where that is not unique."""
    last = [Path(source).name for source in sources]
    return [name if last.count(name) == 1 else source for name, source in zip(last, sources, strict=True)]


def find_differences(one: dict[str, Any], other: dict[str, Any], place: str = "") -> set[str]:
    """Find the dotted names of the values in which two nested dictionaries differ."""
    found: set[str] = set()
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= find_differences(a, b, f"{place}{name}.")
        elif a != b:
            found.add(place + name)
    return found
