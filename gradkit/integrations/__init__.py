"""Adapters to other programs and frameworks, one file each; nothing below this folder knows that they exist."""
