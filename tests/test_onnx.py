"""What leaves a model: ONNX graphs, tables of latents, files of the projector, features for scikit-learn, the card."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from seqvae import SentenceEncoder, TextVAE
from seqvae.cli import main
from seqvae.data.batch import END, START
from seqvae.errors import ConfigError
from seqvae.export import export_onnx
from seqvae.model.decoding import decode

SENTENCES = [
    f"{subject} {verb} {place} ."
    for subject in ("a cat", "the dog", "one bird", "no horse")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there now", "at home")
]
SMALL = {"latent": 4, "embedding": 8, "encoder": {"hidden": 8}, "batch_size": 8, "max_epochs": 2, "max_length": 12}


def fit(**options):
    return TextVAE.fit(SENTENCES, seed=0, **SMALL | {"decoder": {"hidden": 8}} | options)


@pytest.fixture(scope="module")
def model():
    return fit()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    return str(path)


# -- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lstm", "gru"])
def exported(request, tmp_path_factory):
    """A model whose sentences depend on z, and its folder of graphs."""
    pytest.importorskip("onnxruntime")
    model = fit(decoder={"hidden": 8, "cell": request.param, "layers": 2})
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.normal_(std=0.7, generator=torch.Generator().manual_seed(1))
        model.model.observation.output.bias[END] += 4
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(model, folder)
    return model, folder


def open_graph(folder, name):
    import onnxruntime

    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))


def test_the_encoder_graph_gives_the_posterior_of_sentences_of_any_length(exported):
    model, folder = exported
    graph = open_graph(folder, "encoder")
    for text in ("", "a cat", SENTENCES[1]):
        q = model.encode([text, text])
        mean, stddev = graph.run(None, {"ids": np.array(model.tokenize([text, text]))})
        np.testing.assert_allclose(mean, q.mode, atol=1e-5)
        np.testing.assert_allclose(stddev, q.stddev, atol=1e-5)


def test_the_decoder_graphs_give_log_p_of_each_step(exported):
    model, folder = exported
    z, ids = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([[5, 6, 4]] * 3)
    log_prob, *state = open_graph(folder, "decoder_start").run(None, {"z": z.numpy()})
    step, token, expected = open_graph(folder, "decoder_step"), torch.full((3,), START), None
    for following in ids.T:
        with torch.no_grad():
            features, expected = model.model.decode_step(token, z, expected)
            np.testing.assert_allclose(log_prob, model.model.observation.logits(features).log_softmax(-1), atol=1e-4)
        names = [one.name for one in step.get_inputs()]
        inputs = [following.numpy(), z.numpy(), *state]
        log_prob, *state = step.run(None, dict(zip(names, inputs, strict=True)))
        token = following


def test_one_graph_decodes_a_batch_greedily_as_the_model_does(exported):
    model, folder = exported
    z = 2 * torch.randn(60, 4, generator=torch.Generator().manual_seed(3))
    graph = open_graph(folder, "greedy")
    for longest in (1, 5, 40):
        expected = decode(model.model, z, temperature=0, max_length=longest).tokens
        (ids,) = graph.run(None, {"z": z.numpy(), "max_length": np.array(longest)})
        assert ids.shape == (60, max(map(len, expected)))
        assert [row[: len(one)] for row, one in zip(ids.tolist(), expected, strict=True)] == expected
        assert all(not any(row[len(one) :]) for row, one in zip(ids.tolist(), expected, strict=True))
    assert len({len(one) for one in expected}) > 1  # some end before others


def run_example(folder, *arguments):
    code = f"import sys, runpy; sys.argv = ['greedy.py', {str(folder)!r}, *{list(arguments)!r}]; "
    code += f"runpy.run_path({str(folder / 'greedy.py')!r}); assert not {{'torch', 'seqvae'}} & set(sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_example_decodes_greedily_as_the_model_does_without_torch(exported):
    model, folder = exported
    texts = [SENTENCES[0], SENTENCES[20]]
    assert run_example(folder, *texts).splitlines() == model.reconstruct(texts)


@pytest.mark.parametrize("options", [{"tokenizer": "char"}, {"encoder": {"name": "transformer", "width": 8}}], ids=str)
def test_other_tokenizers_and_encoders_are_exported_too(options, tmp_path):
    pytest.importorskip("onnxruntime")
    model = fit(**options)
    export_onnx(model, tmp_path)
    texts = ["a cat", SENTENCES[20]]
    mean = open_graph(tmp_path, "encoder").run(["mean"], {"ids": np.array(model.tokenize(texts[:1]))})[0]
    np.testing.assert_allclose(mean, model.encode(texts[:1]).mode, atol=1e-5)
    assert run_example(tmp_path, *texts).splitlines() == model.reconstruct(texts)


def test_a_model_of_labels_is_exported_with_them(tmp_path):
    pytest.importorskip("onnxruntime")
    rows = [{"text": text, "kind": text.split()[1]} for text in SENTENCES]
    model = TextVAE.fit(rows, column="text", label_column="kind", **SMALL)
    export_onnx(model, tmp_path)
    for label in ("cat", "horse"):
        expected = model.reconstruct(SENTENCES[:1], labels=label)
        assert run_example(tmp_path, label, SENTENCES[0]).splitlines() == expected


def test_the_command_exports_and_refuses_what_cannot_be(folder, refused, tmp_path):
    pytest.importorskip("onnx")
    main(["export", folder, str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "encoder.onnx", "decoder_start.onnx", "decoder_step.onnx", "greedy.onnx",
        "tokenizer.json", "labels.json", "greedy.py"
    }  # fmt: skip
    fit(kind="lm").save_pretrained(tmp_path / "lm")
    assert "kind lm" in refused("export", tmp_path / "lm", tmp_path / "none")
    assert not (tmp_path / "none").exists()


# -- tables, projector ------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(file):
    return file(
        "in.jsonl", '{"text": "a cat sat here .", "mood": "good"}\n{"text": "the dog, \\"ran\\"", "mood": "x"}\n'
    )


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "npy"])
def test_latents_are_written_as_the_ending_says(ending, model, folder, corpus, tmp_path):
    path = tmp_path / f"z.{ending}"
    main(["encode", folder, corpus, "--output", str(path)])
    texts = ["a cat sat here .", 'the dog, "ran"']
    expected = model.encode(texts).mode.numpy()
    if ending == "npy":
        np.testing.assert_array_equal(np.load(path), expected)
        return
    delimiter = pyarrow.csv.ParseOptions(delimiter="\t" if ending == "tsv" else ",")
    table = (
        pyarrow.parquet.read_table(path) if ending == "parquet" else pyarrow.csv.read_csv(path, parse_options=delimiter)
    )
    assert table.column_names == ["text", "z0", "z1", "z2", "z3"] and table["text"].to_pylist() == texts
    np.testing.assert_allclose(np.stack([table[f"z{i}"] for i in range(4)], 1), expected, rtol=1e-6)


def test_labels_stand_beside_the_texts(file, tmp_path):
    rows = [{"text": text, "kind": text.split()[1]} for text in SENTENCES]
    TextVAE.fit(rows, column="text", label_column="kind", **SMALL).save_pretrained(tmp_path / "m")
    source = file("two.tsv", "text\tkind\na cat sat here .\tcat\nthe dog ran here .\tdog\n")
    options = ["--label-column", "kind", "--output", str(tmp_path / "z.csv"), "--projector", str(tmp_path / "p")]
    main(["encode", str(tmp_path / "m"), source, *options])
    assert pyarrow.csv.read_csv(tmp_path / "z.csv")["label"].to_pylist() == ["cat", "dog"]
    assert (tmp_path / "p" / "metadata.tsv").read_text().splitlines()[:2] == ["text\tlabel", "a cat sat here .\tcat"]


def test_the_projector_gets_vectors_metadata_and_what_names_them(model, folder, corpus, tmp_path):
    main(["encode", folder, corpus, "--projector", str(tmp_path / "p")])
    vectors = np.loadtxt(tmp_path / "p" / "vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, model.encode(["a cat sat here .", 'the dog, "ran"']).mode, rtol=1e-4)
    assert (tmp_path / "p" / "metadata.tsv").read_text().splitlines() == ["a cat sat here .", 'the dog, "ran"']
    config = (tmp_path / "p" / "projector_config.pbtxt").read_text()
    assert "vectors.tsv" in config and "metadata.tsv" in config


def test_outputs_that_cannot_be_are_refused(folder, corpus, refused):
    assert ".parquet" in refused("encode", folder, corpus, "--output", "z.xlsx")
    assert "--projector" in refused("encode", folder, corpus)


# -- scikit-learn -----------------------------------------------------------------------------------------------------


def test_the_estimator_passes_the_checks_of_scikit_learn_for_text(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that most checks hand over arrays of numbers, and are skipped
        results = check_estimator(SentenceEncoder(folder), on_fail=None)
    assert results and all(result["status"] != "failed" for result in results)


def test_sentences_are_features_of_a_pipeline(model, folder):
    labels = [text.split()[1] == "cat" for text in SENTENCES]
    pipeline = make_pipeline(SentenceEncoder(folder), LogisticRegression()).fit(SENTENCES, labels)
    assert pipeline.predict(SENTENCES).shape == (36,)
    encoder = pipeline[0]
    np.testing.assert_array_equal(encoder.transform(SENTENCES), model.encode(SENTENCES).mode)
    assert encoder.get_feature_names_out().tolist() == ["z0", "z1", "z2", "z3"]


def test_the_estimator_is_searched_over_and_gives_tables(folder):
    labels = [text.split()[1] == "cat" for text in SENTENCES]
    pipeline = make_pipeline(SentenceEncoder(folder), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(SENTENCES, labels)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(SENTENCES), search.predict(SENTENCES))
    table = SentenceEncoder(folder).set_output(transform="pandas").fit_transform(SENTENCES[:3])
    assert list(table.columns) == ["z0", "z1", "z2", "z3"] and len(table) == 3


def test_the_estimator_is_cloned_and_pickled_by_the_name_of_its_model_or_with_it(model, folder):
    by_name = SentenceEncoder(folder).fit(SENTENCES)
    assert len(pickle.dumps(by_name)) < 1000 and clone(by_name).model == folder
    for encoder in (by_name, SentenceEncoder(model)):
        again = pickle.loads(pickle.dumps(clone(encoder)))
        np.testing.assert_array_equal(again.transform(SENTENCES[:3]), model.encode(SENTENCES[:3]).mode)


def test_one_string_is_refused_with_what_to_write(folder):
    with pytest.raises(ConfigError, match=r"\[sentence\]"):
        SentenceEncoder(folder).transform("a cat")


# -- the hub ----------------------------------------------------------------------------------------------------------


def test_the_card_is_one_that_the_hub_reads(folder):
    from huggingface_hub import ModelCard

    data = ModelCard.load(f"{folder}/README.md").data.to_dict()
    assert data["library_name"] == "seqvae" and data["pipeline_tag"] == "text-generation"
    assert "variational-autoencoder" in data["tags"]
