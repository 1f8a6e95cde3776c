"""Attaches to torch and tells what happens; knows no book."""
