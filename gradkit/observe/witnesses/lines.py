"""Writes the user's line of each operation of one window into its node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.taps.witness import Witness
from gradkit.observe.tensors.arguments import tensors_in

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


class Lines(Witness):
    """Writes the user's line of each operation of one window into the metadata of its node."""

    def __init__(self, monitor: Watching, key: str) -> None:
        super().__init__(monitor)
        self.key = key

    def called(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, before: Any) -> None:
        """Remember the line of each new node; a view or an in-place result keeps the line it has."""
        site: Site | None = None
        for tensor in tensors_in(result, 2):
            node: Any = tensor.grad_fn  # torch's stubs know no metadata
            if node is not None and self.key not in node.metadata:
                site = site or find_site()
                node.metadata[self.key] = site
