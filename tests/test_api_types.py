"""What users of Python lists, NumPy and pandas hand over: taken as it is meant, or refused in one line."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch

from seqvae import SeqVAEError, SeriesVAE, TextVAE
from seqvae.config import Data
from seqvae.data.text.corpus import load
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.training.checkpoint import Checkpoint

WAVES = [np.sin(np.arange(n) / 2 + n)[:, None] for n in range(8, 28)]
SPHERE = {"posterior": {"name": "vmf"}, "prior": {"name": "sphere"}}
SMALL = {"latent": 3, "embedding": 6, "encoder": {"hidden": 4}, "decoder": {"hidden": 5}, "precision": "fp32"}

# what was handed over -> what the error names
NO_TEXT = {
    "None": (None, "None"),
    "nan": (float("nan"), "nan"),
    "a number": (5, "int 5"),
    "bytes": (b"a b", "bytes"),
    "tokens": (["a", "b"], "a list of 2 texts"),
    "a dict": ({"text": "a b"}, "dict"),
}
NO_POINTS = {
    "one point": (np.zeros(3), r"shape \(3,\).*z\[None\]"),
    "other size": (np.zeros((2, 4)), r"shape \(2, 4\)"),
    "three axes": (torch.zeros(1, 2, 3), r"shape \(1, 2, 3\)"),
    "nan": ([[0.0, 0.0, 0.0], [0.0, float("nan"), 0.0]], "row 1.*not finite"),
    "infinite": (torch.tensor([[0.0, float("inf"), 0.0]]), "row 0.*not finite"),
    "texts": ([["a", "b", "c"]], "numbers"),
    "ragged": ([[0.0, 1.0], [0.0]], "numbers"),
    "truth values": (torch.ones(1, 3, dtype=torch.bool), "bool"),
    "complex": (np.ones((1, 3)) * 1j, "numbers"),
    "None": (None, "None"),
    "a number": (3, "int|shape|numbers"),
}
NO_OPTIONS = [
    {"n": 2.5},
    {"n": "2"},
    {"n": 0},
    {"n": None},
    {"seed": -1},
    {"seed": 1.5},
    {"seed": "1"},
    {"seed": 2**63},
    {"temperature": "1"},
    {"temperature": -1.0},
    {"temperature": float("nan")},
    {"max_length": 2.5},
    {"max_length": "9"},
    {"max_length": 0},
]
OF_TEXT = [{"top_k": 1.5}, {"top_k": -1}, {"top_p": "1"}, {"beam": 2.0}, {"beam": -1}]


@pytest.fixture(scope="module")
def model(small_model, small_config):
    tokenizer = Tokenizer.train(["a b c d e f g"])
    return TextVAE(Checkpoint(small_config(), small_model(vocabulary=len(tokenizer)), tokenizer))


@pytest.fixture(scope="module")
def series():
    return SeriesVAE.fit(WAVES, max_epochs=1, **SMALL)


@pytest.fixture
def line():
    """The error of a call that is refused, in one line."""

    def refuse(call, *given, match=None, **options):
        with pytest.raises(SeqVAEError, match=match) as caught:
            call(*given, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refuse


@pytest.mark.parametrize("wrong", NO_TEXT)
@pytest.mark.parametrize("call", ["encode", "score", "reconstruct", "aggregate", "tokenize"])
def test_what_is_no_sentence_is_named_with_its_place_and_type(call, wrong, model, line):
    given, what = NO_TEXT[wrong]
    message = line(getattr(model, call), ["a b", "c", given])
    assert message.startswith(f"sentences[2] is {what}")


@pytest.mark.parametrize("wrong", NO_TEXT)
def test_an_end_of_an_interpolation_that_is_no_sentence_is_named(wrong, model, line):
    given, what = NO_TEXT[wrong]
    assert line(model.interpolate, given, "a").startswith(f"start is {what}")
    assert line(model.interpolate, "a", given).startswith(f"end is {what}")


def test_a_list_of_one_sentence_as_an_end_is_refused_with_what_to_write(model, line):
    assert "write the text alone" in line(model.interpolate, ["a"], ["b"])


@pytest.mark.parametrize("given", [None, 5, b"a b", "a b"], ids=repr)
@pytest.mark.parametrize("call", ["encode", "score", "reconstruct", "aggregate"])
def test_what_is_no_list_of_sentences_is_refused(call, given, model, line):
    assert "list of sentences" in line(getattr(model, call), given)


def test_texts_of_numpy_and_generators_are_sentences(model):
    means = model.encode(["a b", "c"]).mean
    assert torch.equal(model.encode(np.array(["a b", "c"])).mean, means)
    assert torch.equal(model.encode(text for text in ("a b", "c")).mean, means)


@pytest.mark.parametrize(
    "make",
    [
        lambda z: z.float(),
        lambda z: z.clone().requires_grad_(),
        lambda z: z.numpy(),
        lambda z: z.numpy().astype(">f4"),
        lambda z: z.tolist(),
        lambda z: list(z.requires_grad_()),
        lambda z: list(z.numpy()),
    ],
    ids=["float32", "gradient", "array", "big-endian", "lists", "list of tensors", "list of arrays"],
)
def test_points_in_any_container_of_numbers_are_those_numbers(make, model, series):
    z = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, 0.0]], dtype=torch.float64)
    expected = model.decode(z.clone()), series.decode(z.clone())
    given = make(z)
    assert model.decode(given) == expected[0]
    assert all(map(np.array_equal, series.decode(given), expected[1]))
    ends = given if not isinstance(given, list) or not isinstance(given[0], list) else z
    assert model.interpolate_points(*ends).shape == (7, 3)


@pytest.mark.parametrize("wrong", NO_POINTS)
def test_what_are_no_points_of_the_latent_space_are_refused(wrong, model, series, line):
    given, match = NO_POINTS[wrong]
    line(model.decode, given, match=match)
    line(series.decode, given, match=match)


def test_a_distribution_in_place_of_points_is_refused_with_its_mode(model, line):
    line(model.decode, model.encode(["a b"]), match="mode")


@pytest.mark.parametrize("options", NO_OPTIONS + OF_TEXT, ids=str)
def test_an_option_of_another_kind_or_range_is_named_with_its_value(options, model, series, line):
    ((name, value),) = options.items()
    shown = "nan" if value != value else repr(value)
    for one in (model,) if options in OF_TEXT else (model, series):
        message = line(one.sample, **options)
        assert name in message and shown in message


@pytest.mark.parametrize("options", [{"temperature": None}, {"min_p": None}, {"top_k": None}], ids=str)
def test_none_is_an_option_that_is_not_given_where_sentences_are_sampled_and_no_value_where_they_are_decoded(
    options, model, line
):
    (name,) = options
    assert model.sample(5, seed=1, **options) == model.sample(5, seed=1)
    assert name in line(model.decode, torch.zeros(1, 3), **{"temperature": 1.0} | options)


@pytest.mark.parametrize("steps", [2.5, "7", None, 1, -3], ids=repr)
def test_steps_that_are_no_whole_number_from_2_are_refused(steps, model, series, line):
    line(model.interpolate, "a", "b", steps=steps, match=f"steps = {steps!r}")
    line(series.interpolate, WAVES[0], WAVES[1], steps=steps, match=f"steps = {steps!r}")


@pytest.mark.parametrize("options", [{"seed": "1"}, {"seed": -1}, {"samples": "9"}, {"samples": 0}], ids=str)
def test_options_of_scores_are_checked(options, model, series, line):
    (name,) = options
    line(model.score, ["a b"], match=name, **options)
    line(series.score, WAVES[:1], match=name, **options)


@pytest.mark.parametrize(
    "options", [{"components": 1.5}, {"components": 0}, {"seed": "1"}, {"density": "flaw"}], ids=str
)
def test_options_of_an_aggregate_are_checked(options, model, line):
    line(model.aggregate, ["a b", "c d", "e"], match=next(iter(options)), **options)


@pytest.mark.parametrize("options", [{"n": "3"}, {"n": 0}, {"seed": 0.5}, {"min_confidence": "1"}], ids=str)
def test_options_of_samples_of_an_aggregate_are_checked(options, model, line):
    found = model.aggregate(["a b", "c d", "e"], components=1)
    line(found.sample, match=next(iter(options)), **{"n": 1} | options)


def test_whole_numbers_of_numpy_count_as_whole_numbers(model, series):
    assert model.sample(np.int64(3), seed=np.int64(1), top_k=np.int32(2)) == model.sample(3, seed=1, top_k=2)
    assert len(series.sample(np.int64(2), seed=np.int64(1), temperature=np.float32(0.5))) == 2


def test_an_evaluation_of_what_is_no_split_says_how_to_make_one(model, series, line):
    line(model.evaluate, ["a b"], match="a list was given where a split is expected")
    line(series.evaluate, WAVES, match=r"write model.load_corpus\(series, whole=True\).test")


@pytest.mark.parametrize(
    "given", [None, 5, "a", [None], ["a"], [[["a"]]], [[1.0, [2.0]]], [np.ones((3, 2))], [[1.0, np.nan]]], ids=str
)
@pytest.mark.parametrize("call", ["encode", "score", "reconstruct"])
def test_what_are_no_series_of_the_model_is_refused(call, given, series, line):
    line(getattr(series, call), given)


@pytest.mark.parametrize("name", [None, 5, ["m"]], ids=repr)
def test_what_is_no_name_of_a_model_is_refused(name, line):
    line(TextVAE.from_pretrained, name, match="folder")
    line(SeriesVAE.from_pretrained, name, match="folder")


def test_an_interpolation_of_series_stays_on_the_sphere():
    model = SeriesVAE.fit(WAVES, max_epochs=1, **SMALL | SPHERE)
    z = model.encode(WAVES[:2]).mode
    found = model.interpolate(WAVES[0], WAVES[1], steps=5)
    assert all(map(np.array_equal, found, model.decode(model.interpolate_points(*z, steps=5, path="slerp"))))
    assert torch.allclose(
        model.interpolate_points(*z, steps=5, path=model.default_path).norm(dim=1), torch.ones(5), atol=1e-5
    )


def test_what_config_and_python_both_have_a_default_for_is_the_same_in_both():
    ours = {name: value.default for name, value in inspect.signature(load).parameters.items()}
    ours |= {name: value.default for name, value in inspect.signature(Tokenizer.train).parameters.items()}
    shared = set(ours) & {field.name for field in dataclasses.fields(Data)}
    assert {"vocabulary_size", "max_length", "lowercase", "split_punctuation"} <= shared
    assert {name: ours[name] for name in shared} == {name: getattr(Data(), name) for name in shared}


def test_text_and_series_have_one_protocol():
    """The same methods with the same arguments, but for the name of what is handed over."""

    def arguments(method):
        names = list(inspect.signature(method).parameters)
        return ["items" if name in ("sentences", "series", "sentence") else name for name in names]

    def protocol(cls):
        methods = {name: value for name, value in vars(cls).items() if not name.startswith("_")}
        methods = {name: getattr(cls, name) for name, value in methods.items() if callable(value) or name in FACTORIES}
        return {name: arguments(method) for name, method in methods.items()}

    FACTORIES = {name for name, value in vars(TextVAE).items() if isinstance(value, classmethod)}
    text, series = protocol(TextVAE), protocol(SeriesVAE)
    own = {"aggregate", "tokenize", "training"}, {"check_channels", "score_reconstructions"}
    assert (text.keys() - series.keys(), series.keys() - text.keys()) == own
    data = ("valid", "test", "labels", "weights")  # a corpus of series brings its splits
    text["fit"] = [name for name in text["fit"] if name not in data]
    for name in text.keys() & series.keys():
        one, other = ([word for word in names if word not in DECODING] for names in (text[name], series[name]))
        assert one == other, name
    assert {cls.unit for cls in (TextVAE, SeriesVAE)} == {"sentence", "series"}


DECODING = {"beam"}  # what only words have
