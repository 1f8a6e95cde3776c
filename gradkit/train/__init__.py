"""Configurable training runs; importing this package loads neither torch, Lightning nor Hydra."""
