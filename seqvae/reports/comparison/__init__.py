"""Several models beside each other: tables, plots and a report. Knows outcomes, not models."""
