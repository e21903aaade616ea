"""A small probabilistic grammar of English whose sentences have known factors and known probabilities.

The factors of `FACTORS` are sampled independently of each other and fix the shape of a sentence; its words are then
sampled uniformly. No two derivations give the same sentence, so the probability of a sentence is that of its
derivation, the entropy of the grammar follows from the entropies of its choices, and no model can expect a lower
negative log-likelihood. No form of a word belongs to two columns, so no sentence has two readings.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product

DETERMINERS = {
    "singular": ["the", "a", "this", "that", "every", "my", "your"],
    "plural": ["the", "these", "those", "some", "many", "my", "your"],
}


def _split_words(words: str) -> list[str]:
    return words.split()


def _inflect_nouns(words: str) -> list[tuple[str, str]]:
    """Return singulars and plurals; a plural adds an s unless written after a slash."""
    pairs = [word.partition("/") for word in words.split()]
    return [(singular, plural or singular + "s") for singular, _, plural in pairs]


def _inflect_verbs(words: str) -> list[tuple[str, str, str]]:
    """Return base, third person and past of each verb; a third person is written where it is not base and s."""
    forms = [word.split("/") for word in words.split()]
    return [(base, *(rest if len(rest) == 2 else (base + "s", rest[0]))) for base, *rest in forms]


PEOPLE = _inflect_nouns(
    "doctor teacher farmer student soldier woman/women man/men child/children girl boy king queen nurse lawyer "
    "painter writer singer sailor driver baker thief/thieves judge guard priest actor pilot mother father brother "
    "sister friend neighbor stranger tourist dancer hunter engineer artist officer uncle"
)
THINGS = _inflect_nouns(
    "book chair letter ball cup lamp box/boxes bag hat coat key ring clock mirror guitar camera bicycle basket "
    "bottle map picture pencil phone bell blanket candle cake apple egg umbrella knife/knives watch/watches flower "
    "stone table carpet piano boat drum engine"
)
TRANSITIVE = _inflect_verbs(
    "find/found carry/carries/carried lose/lost paint/painted buy/bought sell/sold clean/cleaned hide/hid "
    "steal/stole break/broke throw/threw drop/dropped bring/brought forget/forgot notice/noticed draw/drew "
    "keep/kept take/took want/wanted need/needed like/liked love/loved hate/hated see/saw move/moved "
    "describe/described choose/chose wash/washes/washed return/returned touch/touches/touched fix/fixes/fixed "
    "borrow/borrowed"
)
INTRANSITIVE = _inflect_verbs(
    "sleep/slept wait/waited laugh/laughed cry/cries/cried dance/danced work/worked sing/sang arrive/arrived "
    "leave/left fall/fell smile/smiled swim/swam walk/walked sit/sat stand/stood talk/talked shout/shouted "
    "pray/prayed rest/rested disappear/disappeared eat/ate drink/drank listen/listened kneel/knelt "
    "whisper/whispered stay/stayed wander/wandered suffer/suffered lie/lay appear/appeared"
)

TRAITS = _split_words(
    "old young small big tall rich poor clever lazy lucky happy sad famous strange beautiful ugly quiet hungry "
    "tired angry friendly polite brave kind wise proud strong shy gentle curious"
)
QUALITIES = _split_words(
    "new clean dirty heavy light lovely secret black white red green blue brown tiny odd elegant expensive cheap "
    "old small big strange broken wooden"
)
PREPOSITIONS = _split_words("in near behind outside beside opposite")
PLACES = _split_words(
    "garden kitchen park house school library market church office hotel station museum theater forest village "
    "hospital castle bank tower factory"
)


SIZE = 30_000  # sentences of the built-in corpus
SEED = 0

FACTORS: dict[str, dict[str, float]] = {
    "number": {"singular": 0.5, "plural": 0.5},
    "tense": {"present": 0.4, "past": 0.4, "future": 0.2},
    "negation": {"no": 0.7, "yes": 0.3},
    "question": {"no": 0.7, "yes": 0.3},
    "object": {"none": 0.3, "singular": 0.4, "plural": 0.3},
    "adjective": {"no": 0.5, "yes": 0.5},
    "place": {"no": 0.5, "yes": 0.5},
}

Rules = dict[str, list[tuple[float, tuple[str, ...]]]]


@dataclass(frozen=True)
class Sentence:
    """A sample: its text, its factors (`subject` and `verb` are lemmas), the natural logarithm of its probability."""

    text: str
    factors: dict[str, str]
    log_prob: float


def sample(n: int, seed: int = 0) -> list[Sentence]:
    """Sample `n` sentences independently of each other.

    >>> sentence = sample(1, seed=2)[0]
    >>> math.isclose(sentence.log_prob, log_prob(sentence.text))
    True
    """
    generator = random.Random(seed)
    return [_sample(generator) for _ in range(n)]


def log_prob(text: str) -> float:
    """Return the natural logarithm of the probability of a sentence, -inf for one outside the grammar.

    >>> log_prob("a old doctors sleeps .")
    -inf
    """
    words = tuple("a" if word == "an" else word for word in text.split())
    if _spell(words) != text:
        return -math.inf
    return max(find_derivations(words), default=-math.inf)


def entropy() -> float:
    """Return the exact entropy of a sentence in nats: the mean of -log_prob over all sentences."""
    return _compute_entropy("sentence")


def build_splits() -> dict[str, dict[str, list]]:
    """Build the corpus: 30,000 samples in train, valid and test, each with its text, factors and log_prob.

    All samples of one sentence are in the same split, and none is dropped, for then the frequent sentences would be too
    rare. As the split of a sentence does not depend on how often it was sampled, a held-out sentence is a sample of the
    grammar, and the mean of -log_prob over them, known exactly, is what the perfect model scores. A model that also
    knew that no training sentence is held out could score lower by -log(1 - their total probability) < 0.002 nats.
    """
    samples = sample(SIZE, SEED)
    distinct = list(dict.fromkeys(sentence.text for sentence in samples))
    random.Random(SEED).shuffle(distinct)
    size = len(distinct) // 20
    split_of = dict.fromkeys(distinct[:size], "valid") | dict.fromkeys(distinct[size : 2 * size], "test")
    parts: dict[str, list[Sentence]] = {"train": [], "valid": [], "test": []}
    for sentence in samples:
        parts[split_of.get(sentence.text, "train")].append(sentence)
    return {name: _to_columns(part) for name, part in parts.items()}


def find_derivations(words: tuple[str, ...], symbol: str = "sentence") -> list[float]:
    """Return the logarithm of the probability of each derivation of `words` from `symbol`."""

    @cache
    def find_spans(symbol: str, start: int) -> list[tuple[int, float]]:
        if symbol not in RULES:
            return [(start + 1, 0.0)] if words[start : start + 1] == (symbol,) else []
        return [(end, math.log(p) + log) for p, body in RULES[symbol] for end, log in find_ends(body, start)]

    def find_ends(body: tuple[str, ...], start: int) -> list[tuple[int, float]]:
        ends = [(start, 0.0)]
        for part in body:
            ends = [(after, log + more) for end, log in ends for after, more in find_spans(part, end)]
        return ends

    return [log for end, log in find_spans(symbol, 0) if end == len(words)]


def _to_columns(sentences: list[Sentence]) -> dict[str, list]:
    columns: dict[str, list] = {"text": [sentence.text for sentence in sentences]}
    columns |= {name: [sentence.factors[name] for sentence in sentences] for name in (*FACTORS, "subject", "verb")}
    return columns | {"log_prob": [sentence.log_prob for sentence in sentences]}


def _list_symbols(
    number: str, tense: str, negation: str, question: str, object: str, adjective: str, place: str
) -> tuple:
    """Return the symbols of a sentence, from its factors."""
    verb = "intransitive" if object == "none" else "transitive"
    auxiliary = {"present": "does" if number == "singular" else "do", "past": "did", "future": "will"}[tense]
    form = {"present": "third" if number == "singular" else "base", "past": "past", "future": "base"}[tense]
    subject = [f"determiner {number}", *["trait"] * (adjective == "yes"), f"subject {number}"]
    negator = ["not"] * (negation == "yes")
    if question == "yes":
        start = [auxiliary, *subject, *negator, f"{verb} base"]
    elif negator or tense == "future":
        start = [*subject, auxiliary, *negator, f"{verb} base"]
    else:
        start = [*subject, f"{verb} {form}"]
    rest = [f"object {object}"] * (object != "none") + ["place"] * (place == "yes")
    return (*start, *rest, "?" if question == "yes" else ".")


def _spread_evenly(words: list[str]) -> list[tuple[float, tuple[str, ...]]]:
    return [(1 / len(words), tuple(word.split())) for word in words]


def _build_rules() -> Rules:
    rules: Rules = {"sentence": []}
    for chosen in product(*(values.items() for values in FACTORS.values())):
        rules["sentence"].append((math.prod(p for _, p in chosen), _list_symbols(*(value for value, _ in chosen))))
    for column, number in enumerate(("singular", "plural")):
        rules[f"determiner {number}"] = _spread_evenly(DETERMINERS[number])
        rules[f"subject {number}"] = _spread_evenly([forms[column] for forms in PEOPLE])
        rules[f"thing {number}"] = _spread_evenly([forms[column] for forms in THINGS])
        thing = (f"determiner {number}", f"thing {number}")
        rules[f"object {number}"] = [(0.6, thing), (0.4, (thing[0], "quality", thing[1]))]
    for column, form in enumerate(("base", "third", "past")):
        rules[f"transitive {form}"] = _spread_evenly([forms[column] for forms in TRANSITIVE])
        rules[f"intransitive {form}"] = _spread_evenly([forms[column] for forms in INTRANSITIVE])
    rules["trait"] = _spread_evenly(TRAITS)
    rules["quality"] = _spread_evenly(QUALITIES)
    rules["place"] = [(1.0, ("preposition", "the", "where"))]
    return rules | {"preposition": _spread_evenly(PREPOSITIONS), "where": _spread_evenly(PLACES)}


RULES = _build_rules()
_WEIGHTS = {symbol: list(accumulate(p for p, _ in bodies)) for symbol, bodies in RULES.items()}
_SHAPES = [dict(zip(FACTORS, values, strict=True)) for values in product(*FACTORS.values())]
_LEMMAS: dict[str, list] = {"subject": PEOPLE, "transitive": TRANSITIVE, "intransitive": INTRANSITIVE}


def _sample(generator: random.Random) -> Sentence:
    words: list[str] = []
    factors: dict[str, str] = {}
    log = 0.0
    pending = ["sentence"]
    while pending:
        symbol = pending.pop()
        if symbol not in RULES:
            words.append(symbol)
            continue
        choice = generator.choices(range(len(RULES[symbol])), cum_weights=_WEIGHTS[symbol])[0]
        probability, body = RULES[symbol][choice]
        log += math.log(probability)
        pending.extend(reversed(body))
        kind = symbol.partition(" ")[0]
        if symbol == "sentence":
            factors |= _SHAPES[choice]
        elif kind in _LEMMAS:
            factors["subject" if kind == "subject" else "verb"] = _LEMMAS[kind][choice][0]
    return Sentence(_spell(words), factors, log)


def _spell(words: Sequence[str]) -> str:
    """Return the text, with `an` for `a` before a vowel."""
    following = (*words, "")[1:]
    return " ".join("an" if word == "a" and next.startswith(tuple("aeiou")) else word
                    for word, next in zip(words, following, strict=False))  # fmt: skip


@cache
def _compute_entropy(symbol: str) -> float:
    if symbol not in RULES:
        return 0.0
    return sum(p * (sum(map(_compute_entropy, body)) - math.log(p)) for p, body in RULES[symbol])
