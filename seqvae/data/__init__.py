"""What comes before the model: corpora of text and of series, as batches. Nothing here knows a model."""
