"""A sanitizer for gradients; importing this package loads neither torch nor a framework."""

__version__ = "0.1.0"
