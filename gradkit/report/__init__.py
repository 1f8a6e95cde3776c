"""Reports of findings: text, JSON."""
