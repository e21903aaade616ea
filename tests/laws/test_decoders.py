"""Laws of decoders: (inputs, z, state) -> (features, state)."""

from itertools import cycle, product

import pytest
import torch
from torch.nn import functional as F

from seqvae.errors import ConfigError
from seqvae.model.decoders import DECODERS, RecurrentDecoder
from seqvae.model.layers import CausalBlock

ROUTES = ("initial_state", "every_step", "skip")
SWITCHES = [dict(zip(ROUTES, on, strict=True)) for on in product((True, False), repeat=3) if any(on)]
# All routes at every depth, each choice of routes at one depth, two layers where z sets their states.
SHAPES = [(layers, SWITCHES[0]) for layers in (1, 2, 3)] + [(1 + s["initial_state"], s) for s in SWITCHES[1:]]
VARIANTS = {
    "recurrent": [
        {"cell": cell, "layers": layers, **switches}
        for cell, (layers, switches) in zip(cycle(("lstm", "gru", "gru", "lstm")), SHAPES, strict=False)
    ]
    + [
        {"cell": cell, "layers": layers, "every_layer": True, "initial_state": False, "every_step": False, "skip": skip}
        for cell, layers, skip in (("lstm", 1, True), ("lstm", 3, False), ("gru", 2, False))
    ]
    + [{"cell": cell, "layers": layers, "scale": True} for cell, layers in (("lstm", 1), ("gru", 2))],
    "transformer": [
        {"layers": layers, "width": 8, "heads": heads, "hidden": 10, "prefix": s["initial_state"]}
        | {name: s[name] for name in ("every_step", "skip")}
        for layers, heads, s in [
            (3, 4, SWITCHES[0]),
            *((1 + i % 2, 1 + i % 2, s) for i, s in enumerate(SWITCHES[1::2])),
        ]
    ],
    "convolutional": [
        {"layers": layers, "kernel": kernel, "width": 8, "hidden": 10, "every_step": every_step, "skip": skip}
        for layers, kernel, every_step, skip in (
            (1, 1, True, True),
            (2, 3, True, False),
            (3, 2, False, True),
            (3, 3, True, True),
        )
    ],
}
CASES = [{"name": name, **options} for name in DECODERS for options in VARIANTS.get(name, [{}])]
ROWS, STEPS, EMBEDDING, LATENT = 4, 6, 6, 3


def names(part):
    return "-".join(str(v) if v not in (True, False) or k == "layers" else f"{k[0]}{v:d}" for k, v in part.items())


@pytest.fixture(params=CASES, ids=names)
def decoder(request, small_model):
    return small_model(decoder=request.param, seed=1).decoder


def fed(seed=0):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(ROWS, STEPS, EMBEDDING, dtype=torch.float64, generator=g),
        torch.randn(ROWS, LATENT, dtype=torch.float64, generator=g),
    )


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_one_vector_of_the_promised_size_for_each_step(decoder):
    features, _ = decoder(*fed())
    assert features.shape == (ROWS, STEPS, decoder.features) and features.isfinite().all()


def test_changing_what_is_fed_at_a_step_changes_that_step_and_none_before(decoder):
    x, z = fed()
    before, _ = decoder(x, z)
    for t in range(STEPS):
        changed = x.clone()
        changed[:, t] += 1
        after, _ = decoder(changed, z)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any(-1).all()


def test_step_by_step_is_all_at_once(decoder):
    x, z = fed()
    state, steps = None, []
    for t in range(STEPS):
        features, state = decoder(x[:, t : t + 1], z, state)
        steps.append(features)
    whole, last = decoder(x, z)
    close(torch.cat(steps, dim=1), whole)
    for a, b in zip(state, last, strict=True):
        close(a, b)


@pytest.mark.parametrize("part", CASES, ids=names)
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_half_precision_gives_about_the_same_features_at_once_and_step_by_step(weights, part, small_model, request):
    if weights == torch.float32 and part.get("cell", "lstm") == "lstm":
        request.getfixturevalue("half")
    decoder, (x, z) = small_model(decoder=part, spread=0.2).decoder, fed()
    before, _ = decoder(x, z)
    x, z, decoder = x.to(weights), z.to(weights), decoder.to(weights)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=weights == torch.float32):
        first, state = decoder(x[:, :2], z)
        rest, _ = decoder(x[:, 2:], z, state)
        for after in (decoder(x, z)[0], torch.cat([first, rest], dim=1)):
            assert after.isfinite().all() and (after - before).abs().max() < 0.05


def test_the_state_has_one_row_for_each_sentence(decoder):
    _, state = decoder(*fed())
    assert len(state) and all(len(part) == ROWS for part in state)


def test_rows_can_be_reordered_repeated_and_dropped_between_steps(decoder):
    x, z = fed()
    order = torch.tensor([2, 2, 0])
    _, state = decoder(x[:, :3], z)
    after, _ = decoder(x[order, 3:], z[order], tuple(part.index_select(0, order) for part in state))
    close(after, decoder(x, z)[0][order, 3:])


def test_a_batch_is_its_rows_one_by_one(decoder):
    x, z = fed()
    alone = torch.cat([decoder(x[row : row + 1], z[row : row + 1])[0] for row in range(ROWS)])
    close(decoder(x, z)[0], alone)


def test_z_matters_at_every_step(decoder):
    x, z = fed()
    z.requires_grad_()
    features, _ = decoder(x, z)
    for t in range(STEPS):
        (gradient,) = torch.autograd.grad((features[:, t] ** 2).sum(), z, retain_graph=True)
        assert (gradient.abs().sum(1) > 0).all(), t


def test_every_parameter_receives_a_finite_gradient(decoder):
    x, z = fed()
    (decoder(x, z)[0] ** 2).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("part", CASES, ids=names)
def test_a_saved_and_loaded_decoder_gives_the_same_features(part, small_model):
    one, other = (small_model(decoder=part, seed=seed).decoder for seed in (1, 2))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(*fed())[0], one(*fed())[0])


@pytest.mark.parametrize("part", CASES, ids=names)
def test_padding_changes_no_score(part, small_model, random_batch, lengthen):
    model, batch = small_model(decoder=part), random_batch()
    z = torch.randn(len(batch), LATENT, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores, wider = model.log_prob(batch, z), model.log_prob(lengthen(batch, 3, fill=7), z)
    close(wider[:, : scores.shape[1]], scores)
    assert not wider[:, scores.shape[1] :].any() and not scores[~batch.mask].any()


@pytest.mark.parametrize("part", CASES, ids=names)
def test_changing_a_word_changes_no_logits_at_or_before_it(part, small_model, random_batch):
    model, batch = small_model(decoder=part), random_batch((7, 7, 7))
    z = torch.zeros(3, LATENT, dtype=torch.float64)

    def logits(inputs):
        return model.observation.logits(model.decoder(model.observation.embed(inputs), z)[0])

    before = logits(batch.inputs)
    for t in range(6):  # the word generated at step t is the input of step t + 1
        inputs = batch.inputs.clone()
        inputs[:, t + 1] = (inputs[:, t + 1] + 1) % 11
        after = logits(inputs)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        assert (after[:, t + 1] != before[:, t + 1]).any(-1).all()


# -- the three routes of z --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "".join(str(int(v)) for v in s.values()))
def test_once_there_is_a_state_z_matters_exactly_through_the_inputs_of_each_step(cell, switches, small_model):
    decoder = small_model(decoder={"cell": cell, **switches}).decoder
    x, z = fed()
    _, state = decoder(x[:, :1], z)
    one, other = decoder(x[:, 1:], z, state)[0], decoder(x[:, 1:], -z, state)[0]
    assert torch.equal(one, other) is not (switches["every_step"] or switches["skip"])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "".join(str(int(v)) for v in s.values()))
def test_the_first_state_is_zero_exactly_where_z_does_not_set_it(cell, switches, small_model):
    decoder = small_model(decoder={"cell": cell, "layers": 2, **switches}).decoder
    x, z = fed()
    features, state = decoder(x, z)
    zero = tuple(torch.zeros_like(part) for part in state)
    assert torch.equal(decoder(x, z, zero)[0], features) is not switches["initial_state"]


@pytest.mark.parametrize("name", DECODERS)
def test_skip_hands_z_on_untouched_even_under_dropout(name, small_model):
    decoder = small_model(decoder={"name": name, "skip": True, "dropout": 0.9}).decoder.train()
    x, z = fed()
    assert torch.equal(decoder(x, z)[0][..., -LATENT:], z[:, None].expand(-1, STEPS, -1))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_layer_depends_on_the_initial_state(cell, small_model):
    decoder = small_model(decoder={"cell": cell, "layers": 3, "every_step": False, "skip": False}).decoder
    for parameter in decoder.rnn.parameters():
        torch.nn.init.zeros_(parameter)  # now each layer only lets its own state fade
    x, z = fed()
    _, (h, *_) = decoder(x[:1, :1], z[:1])
    rows = {tuple(row) for row in h[0].tolist()}
    assert len(rows) == 3 and all(any(row) for row in rows)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "".join(str(int(v)) for v in s.values()))
def test_a_transformer_remembers_z_exactly_where_it_is_the_prefix(switches, small_model):
    prefix, *rest = switches.values()
    options = {"name": "transformer", "prefix": prefix, **dict(zip(ROUTES[1:], rest, strict=True))}
    decoder = small_model(decoder=options | {"width": 8, "heads": 2, "hidden": 10}).decoder
    x, z = fed()
    state, other = decoder(x[:, :1], z)[1], decoder(x[:, :1], -z)[1]
    assert state[0].shape[2] == 1 + prefix
    same = all(torch.equal(a, b) for a, b in zip(state, other, strict=True))
    assert same is not (prefix or switches["every_step"])
    # From a given state on, z matters through the inputs of each step only.
    one, two = decoder(x[:, 1:], z, state)[0], decoder(x[:, 1:], -z, state)[0]
    assert torch.equal(one, two) is not any(rest)


def test_a_transformer_without_any_route_of_z_is_refused(small_model):
    with pytest.raises(ConfigError, match="prefix, every_step and skip"):
        small_model(decoder={"name": "transformer", "prefix": False, "every_step": False, "skip": False})


@pytest.mark.parametrize("kernel, layers, reach", [(1, 2, 1), (2, 2, 4), (3, 1, 3), (2, 3, 8)])
def test_convolutions_depend_on_as_many_words_as_they_reach(kernel, layers, reach, small_model):
    part = {"name": "convolutional", "kernel": kernel, "layers": layers, "width": 8, "hidden": 10}
    decoder = small_model(decoder=part).decoder
    x = torch.randn(1, 12, EMBEDDING, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((decoder(x, torch.ones(1, LATENT).double())[0][:, 9] ** 2).sum(), x)
    assert decoder.reach == reach
    assert gradient[0].any(-1).tolist() == [9 - reach < t <= 9 for t in range(12)]


def test_a_block_of_convolution_is_that_of_torch():
    block = CausalBlock(4, hidden=5, kernel=3, dilation=2, dropout=0.0, locked=True).double()
    x = torch.randn(2, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = block.convolution.weight.view(5, 3, 4).transpose(1, 2)  # (hidden, W, K)
    padded = F.pad(block.norm(x).transpose(1, 2), (4, 0))
    expected = F.conv1d(padded, weight, block.convolution.bias, dilation=2).transpose(1, 2)
    close(block(x)[0], x + block.join(F.gelu(expected)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"every_step": False, "skip": False}, "every_step and skip"),
        ({"layers": 13}, r"kernel = 3 with layers = 13: expected them to reach 4,096 words at most"),
        ({"kernel": 0}, "kernel = 0: expected 1 to"),
    ],
)
def test_convolutions_of_no_use_are_refused(options, message, small_model):
    with pytest.raises(ConfigError, match=message):
        small_model(decoder={"name": "convolutional"} | options)


def test_a_decoder_without_any_route_of_z_is_refused(small_model):
    with pytest.raises(ConfigError, match="initial_state, every_step and skip"):
        small_model(decoder=dict.fromkeys(ROUTES, False))


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("part", CASES[::5], ids=names)
def test_dropout_acts_while_training_alone(part, locked, small_model):
    decoder = small_model(decoder=part | {"dropout": 0.5, "locked": locked}).decoder
    assert torch.equal(decoder(*fed())[0], decoder(*fed())[0])
    decoder.train()
    assert not torch.equal(decoder(*fed())[0], decoder(*fed())[0])


def test_z_stands_beside_the_input_of_every_layer_exactly_if_asked(small_model):
    for every_layer in (True, False):
        decoder = small_model(decoder={"layers": 2, "skip": False, "every_layer": every_layer}).decoder
        with torch.no_grad():  # the second layer no longer depends on the first
            second = decoder.rnn[1].weight_ih_l0 if every_layer else decoder.rnn.weight_ih_l1
            second[:, : decoder.hidden] = 0
        x, z = fed()
        state = decoder(x, z)[1]
        assert torch.equal(decoder(x, z, state)[0], decoder(x, -z, state)[0]) is not every_layer


def test_z_scales_inputs_and_outputs_once_that_is_learnt(small_model):
    plain, scaled = (small_model(decoder={"scale": on}, seed=1).decoder for on in (False, True))
    assert not any(part.any() for part in RecurrentDecoder(embedding=2, latent=3, scale=True).scale.parameters())
    scaled.load_state_dict(plain.state_dict() | {k: 0 * v for k, v in scaled.scale.state_dict(prefix="scale.").items()})
    x, z = fed()
    assert torch.equal(scaled(x, z)[0], plain(x, z)[0])
    with torch.no_grad():
        scaled.scale.weight[EMBEDDING:, 0] = 1.0
        scaled.scale.bias[:EMBEDDING] = -1.0  # inputs times 0
    expected = plain(0 * x, z)[0]
    expected[..., : plain.hidden] *= 1 + z[:, None, :1]
    close(scaled(x, z)[0], expected)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_stack_without_a_latent_is_the_stack_of_torch(cell, small_model):
    options = {"embedding": EMBEDDING, "latent": 0, "cell": cell, "hidden": 5, "layers": 2, "initial_state": False}
    one, other = (RecurrentDecoder(every_layer=on, **options).double().eval() for on in (True, False))
    other.rnn.load_state_dict({k.replace("l0", f"l{i}"): v for i in (0, 1) for k, v in one.rnn[i].state_dict().items()})
    x, z = fed()
    close(one(x, z[:, :0])[0], other(x, z[:, :0])[0])
    for a, b in zip(one(x, z[:, :0])[1], other(x, z[:, :0])[1], strict=True):
        close(a, b)


@pytest.mark.parametrize("every_layer", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weight_dropout_acts_while_training_alone_and_once_for_all_steps(cell, every_layer, small_model):
    options = {"cell": cell, "layers": 2, "every_layer": every_layer, "dropout": 0.0}
    decoder = small_model(decoder=options | {"weight_dropout": 0.5}).decoder
    whole = small_model(decoder=options).decoder
    x, z = fed()
    assert torch.equal(decoder(x, z)[0], whole(x, z)[0])
    decoder.train()
    features, _ = decoder(x, z)
    assert not torch.equal(features, decoder(x, z)[0])
    (features**2).sum().backward()
    weights = dict(decoder.rnn.named_parameters())
    # A weight that was dropped has had no gradient, at whatever step: with a mask for each step all would have one.
    unused = [float((w.grad == 0).double().mean()) for name, w in weights.items() if "weight_hh" in name]
    assert all(0.2 < fraction < 0.8 for fraction in unused), unused
    assert all(w.grad.all() for name, w in weights.items() if "weight_ih" in name)
    decoder.eval()
    assert torch.equal(decoder(x, z)[0], whole(x, z)[0])


def test_outputs_may_be_dropped_at_another_rate_than_inputs(small_model):
    # 4 sentences of 200 outputs, dropped together at all steps, at 5 standard errors: once in 1.7 million seeds.
    torch.manual_seed(0)
    options = {"hidden": 200, "skip": False, "dropout": 0.0}
    decoder = small_model(decoder=options | {"output_dropout": 0.3}).decoder.train()
    features, _ = decoder(*fed())
    dropped = (features == 0).double()
    assert abs(float(dropped.mean()) - 0.3) < 5 * (0.3 * 0.7 / 800) ** 0.5
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    decoder = small_model(decoder=options | {"dropout": 0.3, "output_dropout": 0.0}).decoder.train()
    assert decoder(*fed())[0].all()


@pytest.mark.parametrize("option", ["dropout", "output_dropout", "weight_dropout"])
def test_a_dropout_that_leaves_nothing_is_refused(option, small_model):
    with pytest.raises(ConfigError, match=rf"{option} = 1\.0: expected a probability"):
        small_model(decoder={"layers": 2, option: 1.0})
