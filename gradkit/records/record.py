"""What all kinds of records have in common."""


class Record:
    """A frozen value that an observer writes and rules read; every subclass is a kind of its own."""

    __slots__ = ()
