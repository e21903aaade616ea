"""`python -m seqvae ARGS` is `seqvae ARGS`."""

from seqvae.cli import main

if __name__ == "__main__":
    main()
