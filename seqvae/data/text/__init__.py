"""Words and numbers: tokenizer, corpus, batching. Knows nothing of models."""
