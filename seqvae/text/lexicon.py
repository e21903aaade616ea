"""The words of the grammar, in all their forms. No form belongs to two columns, so no sentence has two readings."""

DETERMINERS = {
    "singular": ["the", "a", "this", "that", "every", "my", "your"],
    "plural": ["the", "these", "those", "some", "many", "my", "your"],
}


def _words(words: str) -> list[str]:
    return words.split()


def _nouns(words: str) -> list[tuple[str, str]]:
    """Singular and plural, which adds an s unless written out after a slash."""
    pairs = [word.partition("/") for word in words.split()]
    return [(singular, plural or singular + "s") for singular, _, plural in pairs]


def _verbs(words: str) -> list[tuple[str, str, str]]:
    """Base, third person and past; a third person is given where it is not base and s."""
    forms = [word.split("/") for word in words.split()]
    return [(base, *(rest if len(rest) == 2 else (base + "s", rest[0]))) for base, *rest in forms]


PEOPLE = _nouns(
    "doctor teacher farmer student soldier woman/women man/men child/children girl boy king queen nurse lawyer "
    "painter writer singer sailor driver baker thief/thieves judge guard priest actor pilot mother father brother "
    "sister friend neighbor stranger tourist dancer hunter engineer artist officer uncle"
)
THINGS = _nouns(
    "book chair letter ball cup lamp box/boxes bag hat coat key ring clock mirror guitar camera bicycle basket "
    "bottle map picture pencil phone bell blanket candle cake apple egg umbrella knife/knives watch/watches flower "
    "stone table carpet piano boat drum engine"
)
TRANSITIVE = _verbs(
    "find/found carry/carries/carried lose/lost paint/painted buy/bought sell/sold clean/cleaned hide/hid "
    "steal/stole break/broke throw/threw drop/dropped bring/brought forget/forgot notice/noticed draw/drew "
    "keep/kept take/took want/wanted need/needed like/liked love/loved hate/hated see/saw move/moved "
    "describe/described choose/chose wash/washes/washed return/returned touch/touches/touched fix/fixes/fixed "
    "borrow/borrowed"
)
INTRANSITIVE = _verbs(
    "sleep/slept wait/waited laugh/laughed cry/cries/cried dance/danced work/worked sing/sang arrive/arrived "
    "leave/left fall/fell smile/smiled swim/swam walk/walked sit/sat stand/stood talk/talked shout/shouted "
    "pray/prayed rest/rested disappear/disappeared eat/ate drink/drank listen/listened kneel/knelt "
    "whisper/whispered stay/stayed wander/wandered suffer/suffered lie/lay appear/appeared"
)

TRAITS = _words(
    "old young small big tall rich poor clever lazy lucky happy sad famous strange beautiful ugly quiet hungry "
    "tired angry friendly polite brave kind wise proud strong shy gentle curious"
)
QUALITIES = _words(
    "new clean dirty heavy light lovely secret black white red green blue brown tiny odd elegant expensive cheap "
    "old small big strange broken wooden"
)
PREPOSITIONS = _words("in near behind outside beside opposite")
PLACES = _words(
    "garden kitchen park house school library market church office hotel station museum theater forest village "
    "hospital castle bank tower factory"
)
