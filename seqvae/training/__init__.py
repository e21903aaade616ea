"""From options to a trained model: build, step, validate, keep, save."""
