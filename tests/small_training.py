"""A corpus and a training of a second or two, for tests that start processes."""

LINES = [
    f"a {animal} {verb} {place} ."
    for animal in ("cat", "dog", "bird", "cow")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there", "in a house", "on the old mat")
]
SIZE = "--model.latent 2 --model.embedding 8 --model.encoder.hidden 8 --model.decoder.hidden 8"
TRAIN = f"{SIZE} --batch-size 4 --validate-every 4 --precision fp32 --max-epochs".split()
