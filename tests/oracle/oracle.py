"""The loss of the whole model once more, by explicit loops over the raw weights: slow, plain, and written from the
equations alone. It shares no code with the package: numbers in Python floats, one sentence at a time.

    loss = 1/B sum_x [ -sum_t log softmax(o_t)[x_t] + weight * sum_d (mu_d^2 + s_d^2 - 1 - log s_d^2) / 2 ]
"""

from math import exp, log, tanh

END, START = 2, 1


def sigmoid(x):
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def affine(weight, bias, x):
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def lstm(w, x, h, c):
    """i, f, o = sigmoid, g = tanh of W x + b + U h + d; c' = f c + i g; h' = o tanh(c')."""
    a = [p + q for p, q in zip(affine(w["ih"], w["bih"], x), affine(w["hh"], w["bhh"], h), strict=True)]
    n = len(h)
    new_h, new_c = [], []
    for j in range(n):
        i, f, g, o = sigmoid(a[j]), sigmoid(a[n + j]), tanh(a[2 * n + j]), sigmoid(a[3 * n + j])
        new_c.append(f * c[j] + i * g)
        new_h.append(o * tanh(new_c[j]))
    return new_h, new_c


def gru(w, x, h, c):
    """r, u = sigmoid of W x + b + U h + d; n = tanh(W x + b + r (U h + d)); h' = (1 - u) n + u h."""
    a, b, n = affine(w["ih"], w["bih"], x), affine(w["hh"], w["bhh"], h), len(h)
    new_h = []
    for j in range(n):
        r, u = sigmoid(a[j] + b[j]), sigmoid(a[n + j] + b[n + j])
        new_h.append((1 - u) * tanh(a[2 * n + j] + r * b[2 * n + j]) + u * h[j])
    return new_h, c


def cell(weights, prefix, suffix):
    names = {"ih": "weight_ih", "hh": "weight_hh", "bih": "bias_ih", "bhh": "bias_hh"}
    return {short: weights[f"{prefix}.rnn.{name}_{suffix}"] for short, name in names.items()}


def run(step, w, xs, h, c):
    """The outputs of one layer in one direction over all steps."""
    outputs = []
    for x in xs:
        h, c = step(w, x, h, c)
        outputs.append(h)
    return outputs


def encode(weights, ids, options):
    """One sentence -> its pooled vector."""
    step = {"lstm": lstm, "gru": gru}[options["cell"]]
    zero = [0.0] * options["hidden"]
    xs = [weights["encoder.embed.weight"][i] for i in ids]
    for layer in range(options["layers"]):
        ahead = run(step, cell(weights, "encoder", f"l{layer}"), xs, zero, zero)
        if options["bidirectional"]:
            back = run(step, cell(weights, "encoder", f"l{layer}_reverse"), xs[::-1], zero, zero)[::-1]
            xs = [a + b for a, b in zip(ahead, back, strict=True)]
        else:
            xs = ahead
    if options["pooling"] == "last":
        return ahead[-1] + (back[0] if options["bidirectional"] else [])
    pool = {"max": max, "mean": lambda values: sum(values) / len(values)}[options["pooling"]]
    return [pool([x[j] for x in xs]) for j in range(len(xs[0]))]


def first_state(weights, z, options):
    """For each layer (h, c): tanh(W z) and W' z, or zeros."""
    n, layers = options["hidden"], options["layers"]
    if not options["initial_state"]:
        return [([0.0] * n, [0.0] * n)] * layers
    flat = affine(weights["decoder.initial.weight"], weights["decoder.initial.bias"], z)
    h = [[tanh(v) for v in flat[n * k : n * (k + 1)]] for k in range(layers)]
    c = [flat[n * k : n * (k + 1)] for k in range(layers, 2 * layers)]  # empty for a GRU, which has no c
    return list(zip(h, c, strict=True))


def reconstruct(weights, ids, z, options, tied):
    """-log p(x|z) of one sentence."""
    step = {"lstm": lstm, "gru": gru}[options["cell"]]
    xs = [weights["observation.embedding.weight"][i] + (z if options["every_step"] else []) for i in [START, *ids[:-1]]]
    for layer, (h, c) in enumerate(first_state(weights, z, options)):
        xs = run(step, cell(weights, "decoder", f"l{layer}"), xs, h, c)
    total = 0.0
    for x, target in zip(xs, ids, strict=True):
        f = x + (z if options["skip"] else [])
        if tied:
            f = affine(weights["observation.project.weight"], weights["observation.project.bias"], f)
        table = weights["observation.embedding.weight" if tied else "observation.output.weight"]
        logits = affine(table, weights["observation.output.bias"], f)
        total -= logits[target] - log(sum(exp(v - max(logits)) for v in logits)) - max(logits)
    return total


def loss(model, sentences, eps, *, encoder, decoder, tied, weight=1.0):
    """Return nats per sentence, given a model, ids (ending in END unless truncated) and eps (B, D)."""
    weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    total = 0.0
    for ids, noise in zip(sentences, eps, strict=True):
        out = affine(
            weights["posterior.linear.weight"], weights["posterior.linear.bias"], encode(weights, ids, encoder)
        )
        mu, log_variance = out[: len(noise)], out[len(noise) :]
        z = [m + exp(v / 2) * e for m, v, e in zip(mu, log_variance, noise, strict=True)]
        kl = sum(m * m + exp(v) - 1 - v for m, v in zip(mu, log_variance, strict=True)) / 2
        total += reconstruct(weights, ids, z, decoder, tied) + weight * kl
    return total / len(sentences)
