"""Utterances: how messages that people typed become tidy sentences, and what is wrong with those that are left out.

Whatever is left out is named by `find_fault`, so that what each filter removes can be counted (data/README.md).
"""

import re
from collections.abc import Iterator
from functools import cache

FEWEST, MOST, MOST_OF_MESSAGE = 3, 16, 30  # words at least; tokens of a sentence and of a whole message at most
LONGEST = 20  # characters of a word

_TOKEN = re.compile(r"\w+(?:[.'-]\w+)*|\.+|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "`": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."})
_SIMPLE = re.compile(r"(?!.*[xX]D)[A-Za-z0-9']+(?: [A-Za-z0-9']+)*[.?!]?")  # most messages, whose marks are tidy
_EMOTICON = re.compile(r"(?<!\w)(?:[:;=]['-]?[()DPpOo3/\\|*]+|<3+|[xX]D+|\^_*\^)(?!\w)")
_MAYBE_LAUGH = re.compile("h[aeui]h")  # many times as fast as the next
_LAUGH = re.compile(r"\b[ab]?(?:h[aeui]){2,}h?\b|\bha(?:h+a*)+\b", re.IGNORECASE)
_REPEATED_MARKS = re.compile(r"([!?,])[!?,]+")
_DOTS = re.compile(r"\s*\.(?:\s?\.)+")
_LEADING = re.compile(r"^[\s.,;:!?*'\")/-]+")
_SPACE_BEFORE_MARK = re.compile(r"\s+(?=[.,!?;:](?:\s|$))")
_MISSING_SPACE = re.compile(r"(?<=[a-z])([,!?])(?=[A-Za-z])")
_CONTRACTION = re.compile(
    r"\b(?:(?:ai|are|ca|could|did|does|do|had|has|have|is|should|was|were|wo|would)nt|"
    r"(?:he|how|she|that|there|what|where|who)s|im|(?:i|you)ve|(?:they|you)re)\b"
)
_CONTRACTION_OF_ANY_CASE = re.compile(_CONTRACTION.pattern, re.IGNORECASE)  # many times as slow

_ALLOWED = re.compile(r"[A-Za-z0-9 .,?!'\":;()$%&/-]+")

# What follows is matched with sentences in lower case, which is several times as fast as to ignore case.
_ADDRESS = re.compile(r"https?:|www\.|\.(?:com|org|net|edu|gov)\b")  # with @ and #, which are none of those allowed
_NUMBER = re.compile(r"[0-9]{3}(?:[0-9]{2}|[-. ][0-9]{3}|[0-9]+[-.][0-9])")
_STRETCHED = re.compile(r"([a-z])\1\1")
_REPEATED = re.compile(r"\b(\w+)( \1){2,}\b")
_RUDE_WORD = re.compile(
    r"\b(?:f+u+c+k|shit|bullshit|bitch|ass(?:es|hole)?\b|dumbass|badass|bastard|cunt|dick|cock(?:s|y)?\b|pussy|penis|"
    r"vagina|porn|sex|rap(?:e|ed|ist|ing)\b|nigg|negro|fag|slut|whore|boob|tits?\b|piss|damn|dammit|crap|horny|nude|"
    r"naked|suicid|retard|douche|wtf|stfu|kys|nazi|hitler|terroris|masturbat|orgasm|stripper|hooker|prostitut|cocaine|"
    r"heroin|meth\b|weed\b|stoned\b|gay|lesbian|tranny|molest|hell\b|turd|butthole|fart|poop|pee(?:d|ing)?\b)"
)
_RUDE_PHRASE = re.compile(r"\b(?:kill (?:myself|yourself|me|you)|strip club)")
_ABOUT_THE_CHAT = re.compile(
    r"\b(?:any(?:one|body) (?:still )?(?:there|here|home|on)|chat(?:s|ted|ting|ter|ters)?\b|(?:my|your|last) messages?|"
    r"you (?:still )?(?:there|here)\b|(?:some|no)(?:one|body) there|"
    r"chat ?bots?|clever ?bot|bots?\b|chit-? ?chat|bubbles?|leader-? ?board|"
    r"(?:my|your|the|many|more|get|got|of|for) points?|profanity|typing|keyboard|this app|"
    r"the app|competition|prompt|conversation starter|hello world|lorem|ipsum|"
    r"quick (?:fox|brown)|lazy (?:dog|brown))\b|^(?:hi|hey|hello|yo)\b[ ,!]*(?:there|you|\w+)?[ ,!.]*$"
)
_OTHER_LANGUAGE = {
    "que", "como", "estas", "muy", "por", "para", "gusta", "bien", "hola", "usted", "donde", "soy", "eres", "tu", "mi",
    "el", "los", "las", "una", "uno", "ich", "bin", "ist", "und", "nicht", "du", "je", "suis", "est", "les", "vous",
    "nous", "pas", "moi", "voce", "muito", "eu", "obrigado", "ola", "tudo", "bem", "com", "ciao", "sono",
}  # fmt: skip
_FORBIDDEN = (
    ("address", _ADDRESS),
    ("number", _NUMBER),
    ("stretched", _STRETCHED),
    ("about the chat", _ABOUT_THE_CHAT),
)


def tidy(message: str) -> str:
    """Return a message with plain marks, without emoticons, with the apostrophes of contractions and one laughter.

    >>> tidy("im  from Utah!!  You ?  hahahaha yeah :)")
    "i'm from Utah! You? haha yeah"
    """
    text = message if _SIMPLE.fullmatch(message) else _tidy_marks(message)
    lower = text.lower()
    if _MAYBE_LAUGH.search(lower):
        text = _LAUGH.sub("haha", text)
    if _CONTRACTION.search(lower):
        text = _CONTRACTION_OF_ANY_CASE.sub(lambda found: _mend(found[0]), text)
    return text


def _tidy_marks(message: str) -> str:
    text = _EMOTICON.sub(" ", message.translate(_PLAIN))
    text = _MISSING_SPACE.sub(r"\1 ", _REPEATED_MARKS.sub(r"\1", _DOTS.sub("... ", text)))
    return _SPACE_BEFORE_MARK.sub("", " ".join(text.split()))


def _mend(word: str) -> str:
    """Put its apostrophe into a contraction.

    >>> _mend("DONT"), _mend("youre")
    ("Don't", "you're")
    """
    place = -2 if word.lower().endswith(("re", "ve")) else -1
    mended = f"{word[:place]}'{word[place:]}".lower()
    return mended.capitalize() if word[0].isupper() else mended


def split_sentences(text: str) -> Iterator[str]:
    """Split a tidy message after . ? and !, without marks before the sentences or loose ones after them.

    >>> list(split_sentences(", i'm from Utah! You? well -"))
    ["i'm from Utah!", 'You?', 'well']
    """
    for sentence in _SENTENCE_END.split(text):
        yield strip_marks(sentence)


def strip_marks(text: str) -> str:
    """Return the text without marks before it or loose ones after it."""
    return _LEADING.sub("", text).rstrip(" ,;:-/'")


def tokenize(sentence: str) -> list[str]:
    """Split into words and marks, in lower case.

    >>> tokenize("Yeah, I don't... you?")
    ['yeah', ',', 'i', "don't", '...', 'you', '?']
    """
    return _TOKEN.findall(sentence.lower())


def find_fault(sentence: str, tokens: list[str], *, most: int = MOST, rude: bool = False) -> str | None:
    """Name why this is no plain and polite English about something else than the chat; None where nothing is wrong.

    Args:
        sentence: a tidy sentence, or a whole message.
        tokens: its words and marks.
        most: tokens it may have.
        rude: whether it may be rude.

    >>> [find_fault(one, tokenize(one)) for one in ("Where are you from?", "yeah yeah yeah", "call me at 801-555-1234")]
    [None, 'stretched', 'number']
    """
    words = [token for token in tokens if token[0].isalnum()]
    if len(words) < FEWEST:
        return "short"
    if len(tokens) > most:
        return "long"
    if not _ALLOWED.fullmatch(sentence):
        return "signs"
    if _has_odd_form(sentence, words):
        return "form"
    lower = sentence.lower()
    for name, pattern in _FORBIDDEN:
        if pattern.search(lower):
            return name
    if len(set(tokens)) < len(tokens) and _REPEATED.search(lower):
        return "stretched"
    if len(_OTHER_LANGUAGE.intersection(words)) > 1:
        return "language"
    return "rude" if not rude and (any(map(_is_rude, words)) or _RUDE_PHRASE.search(lower)) else None


@cache
def _is_rude(word: str) -> bool:
    return bool(_RUDE_WORD.search(word))


def _has_odd_form(sentence: str, words: list[str]) -> bool:
    """Return whether it shouts, has several numbers, a very long word, or half a pair of marks."""
    return (
        sum(map(str.isdigit, words)) > 1
        or max(map(len, words)) > LONGEST
        or sentence.isupper()
        or sentence.count('"') not in (0, 2)
        or not sentence.count("(") == sentence.count(")") <= 1
    )
