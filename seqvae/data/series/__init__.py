"""Real-valued series: where they come from, how they are divided and cut; knows nothing of models."""
