"""Real-valued series: where they come from and how they are divided."""
