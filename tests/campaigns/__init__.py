"""Campaigns of faults, seeded and replayable: minutes long each, a small part of which the suite runs."""
