"""The living program: the user's line, names, what belongs to which module, who holds what."""
