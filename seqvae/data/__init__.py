"""What comes before the model: text and series as batches. Nothing here knows a model."""
