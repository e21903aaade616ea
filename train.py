"""The front door of the repository: `python train.py ARGS` is `seqvae train ARGS`."""

import sys

from seqvae.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
