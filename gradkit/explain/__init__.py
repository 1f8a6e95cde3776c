"""Explains rules: `python -m gradkit.explain GK101`; the pages in `docs/rules` are printed by the same."""
