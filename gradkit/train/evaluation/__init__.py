"""Metrics of a model, and what inference costs in each of the five modes."""
