"""Every option and its default, in one place, without importing torch.

The same names serve on the command line (`--model.latent 64`), in a TOML file (`[model]` / `latent = 64`), in
`TextVAE.fit(latent=64)` and in a model folder's config.json. A *part* is the name of an implementation and its options;
`seqvae.training.build` has the catalogues of the names.

The dataclasses check types and ranges, and keep what they are given. `resolve` completes it where a run begins.
"""

from seqvae.config.options import KINDS, Config, Data, Model, Objective, TargetBy, Training, describe_miss, meets_target
from seqvae.config.parts import OwnPart, OwnTokenizer, Part, complete, convert, get_import_path
from seqvae.config.resolve import (
    BY_SIZE,
    adapt_like,
    adapt_to_corpus,
    describe_adaptation,
    get_corpus_options,
    require_tokens,
    resolve,
    select_frames,
    to_toml,
)

__all__ = [
    "BY_SIZE",
    "KINDS",
    "Config",
    "Data",
    "Model",
    "Objective",
    "OwnPart",
    "OwnTokenizer",
    "Part",
    "TargetBy",
    "Training",
    "adapt_like",
    "adapt_to_corpus",
    "complete",
    "convert",
    "describe_adaptation",
    "describe_miss",
    "get_corpus_options",
    "get_import_path",
    "meets_target",
    "require_tokens",
    "resolve",
    "select_frames",
    "to_toml",
]
