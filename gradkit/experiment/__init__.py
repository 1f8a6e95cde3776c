"""Experiments: a question, arms and seeds that answer it, claims that hold or fail; `python -m gradkit.experiment`."""
