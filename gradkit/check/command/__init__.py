"""What `python -m gradkit.check` does: its targets, its configuration keys, its answer and its chart."""
