"""The reference of the measurements: an LSTM-VAE of sentences in plain PyTorch, written with care.

The common recipe of the literature: one LSTM layer for each part, the last hidden state to a Gaussian, z beside the
embedding at every step and in the first state, separate embeddings, dropout, one softmax over all words; SGD on batches
of 32 sentences of equal length, in single precision; -log p(x) sentence by sentence, 100 samples of z at a time;
sampling a batch step by step until all of its sentences have ended; beam search for one z at a time.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PADDING, START, END = range(3)


class Reference(nn.Module):
    """An encoder, a Gaussian posterior, the prior N(0, I), and a decoder."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, latent: int, dropout: float) -> None:
        super().__init__()
        self.latent, self.dropout = latent, dropout
        self.encoder_embedding = nn.Embedding(vocabulary, embedding)
        self.decoder_embedding = nn.Embedding(vocabulary, embedding)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True)
        self.posterior = nn.Linear(hidden, 2 * latent)
        self.first = nn.Linear(latent, hidden)
        self.decoder = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, T) ids of equal length, EOS included: means and log variances, (B, D) each."""
        _, (h, _) = self.encoder(self.encoder_embedding(x))
        mean, log_variance = self.posterior(h[0]).chunk(2, dim=-1)
        return mean, log_variance

    def start(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first state, (1, B, H) each."""
        c = self.first(z)[None]
        return torch.tanh(c), c

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z), (B,) nats, of ids (B, T) and z (B, D)."""
        inputs = torch.cat([torch.full_like(x[:, :1], START), x[:, :-1]], dim=1)
        embedded = F.dropout(self.decoder_embedding(inputs), self.dropout, self.training)
        steps = torch.cat([embedded, z[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        features, _ = self.decoder(steps, self.start(z))
        logits = self.output(F.dropout(features, self.dropout, self.training))
        return -F.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(x.shape).sum(1)

    def loss(self, x: Tensor, weight: float = 1.0) -> Tensor:
        """Return -log p(x|z) + weight * KL, nats, mean over the sentences."""
        mean, log_variance = self.encode(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return (weight * kl - self.log_prob(x, z)).mean()

    @torch.no_grad()
    def nll(self, x: Tensor, samples: int, chunk: int = 100) -> float:
        """Estimate -log p(x), nats, of one sentence (1, T), importance-weighted over `samples` samples."""
        mean, log_variance = self.encode(x)
        std, found = (log_variance / 2).exp(), []
        for begin in range(0, samples, chunk):
            noise = torch.randn(min(chunk, samples - begin), self.latent)
            z = mean + std * noise
            ratio = ((noise**2 - z**2) / 2 + log_variance / 2).sum(1)  # log p(z) - log q(z|x)
            found.append(self.log_prob(x.expand(len(z), -1), z) + ratio)
        return math.log(samples) - float(torch.cat(found).logsumexp(0))

    @torch.no_grad()
    def sample(self, z: Tensor, longest: int) -> Tensor:
        """Sample (B, steps) ids from z (B, D), until all of the batch have ended."""
        word, state, words = torch.full((len(z),), START), self.start(z), []
        ended = torch.zeros(len(z), dtype=torch.bool)
        while len(words) < longest and not ended.all():
            features, state = self.decoder(torch.cat([self.decoder_embedding(word), z], dim=-1)[:, None], state)
            logits = self.output(features[:, 0])
            logits[:, [PADDING, START]] = -math.inf
            word = torch.multinomial(logits.softmax(-1), 1)[:, 0]
            words.append(word)
            ended |= word == END
        return torch.stack(words, dim=1)

    @torch.no_grad()
    def beam(self, z: Tensor, width: int, longest: int) -> list[int]:
        """Search the likeliest ids of z (1, D) with a beam."""
        beams: list[tuple[float, list[int], tuple[Tensor, Tensor]]] = [(0.0, [START], self.start(z))]
        for _ in range(longest):
            found = []
            for score, prefix, state in beams:
                if prefix[-1] == END:
                    found.append((score, prefix, state))
                    continue
                step = torch.cat([self.decoder_embedding(torch.tensor([prefix[-1]])), z], dim=-1)[:, None]
                features, after = self.decoder(step, state)
                gains, words = self.output(features[0, 0]).log_softmax(-1).topk(width)
                found += [(score + g, [*prefix, w], after) for g, w in zip(gains.tolist(), words.tolist(), strict=True)]
            beams = sorted(found, key=lambda one: -one[0])[:width]
            if beams[0][1][-1] == END:
                break
        return beams[0][1][1:]


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Make plain SGD, as in that literature."""
    return torch.optim.SGD(model.parameters(), lr=1.0)


def step(model: Reference, optimizer: torch.optim.Optimizer, x: Tensor, weight: float = 1.0) -> float:
    """Make one step on (B, T) ids and return the loss."""
    optimizer.zero_grad()
    loss = model.loss(x, weight)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()
