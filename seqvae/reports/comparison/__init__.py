"""Comparisons of several runs: tables, figures and an HTML report, made from outcomes without a model."""
