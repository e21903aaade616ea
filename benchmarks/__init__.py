"""Measurements of this package; each module is a command that prints its own table."""
