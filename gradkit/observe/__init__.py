"""The observer: a live training process turned into records; needs torch."""
