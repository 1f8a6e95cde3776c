"""The checks themselves and what they stand on: methods, references, error bounds, judgement."""
