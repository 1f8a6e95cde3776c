"""Watches any training script without an edit: `python -m gradkit.run script.py`."""
