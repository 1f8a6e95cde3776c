"""Turn the two labels of a target column, whatever they are, into 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from gradkit.errors import DataError, did_you_mean
from gradkit.train.data.files import quoted
from gradkit.train.data.samples import Array

Label = bool | int | float | str

REGRESSION_VALUES = 20
"""More different numbers than this in a target column are taken for a quantity, not for classes."""


@dataclass(frozen=True)
class LabelPair:
    """The two labels of a source and what they become.

    Attributes:
        positive: The label that becomes 1.
        mapping: Label, as text, to target.
        note: A sentence that states the conversion; None when the labels were the integers 0 and 1 already.
    """

    positive: Label
    mapping: dict[str, int]
    note: str | None


def choose_labels(classes: Sequence[Label], count: int, positive: str | None, where: str, name: str) -> LabelPair:
    """Which label becomes 1: the one asked for, else the larger, or later in the alphabet, of the two.

    Args:
        classes: Different labels found, at least the first few of them.
        count: How many different labels there are.
        positive: The user's choice (`data.positive`), compared as text, as a number, or as true and false.
        where: The source in words, to open an error message.
        name: The target column or array in words.

    Raises:
        DataError: There are not exactly two labels, or `positive` is neither.
    """
    ordered = sorted(classes)
    if count != 2:
        raise DataError(f"{where}: {name} {_not_two(ordered, count)}")
    chosen = ordered[1] if positive is None else _match(positive, ordered, where, name)
    other = ordered[0] if chosen == ordered[1] else ordered[1]
    already = chosen == 1 and other == 0 and type(chosen) is int and type(other) is int
    note = None if already else f"Labels of {name}: {_shown(other)} became 0 and {_shown(chosen)} became 1."
    return LabelPair(chosen, {label_text(other): 0, label_text(chosen): 1}, note)


def map_array(values: Array, positive: str | None, where: str, name: str) -> tuple[Array, LabelPair]:
    """Targets from an array of labels.

    Args:
        values: (samples,), booleans, integers, floats or text.
        positive: As for `choose_labels`.
        where: As for `choose_labels`.
        name: As for `choose_labels`.

    Returns:
        Targets, (samples,), float32, 0 or 1; and how they came about.

    Raises:
        DataError: As `choose_labels`, or a label is NaN, infinite or an empty text.
    """
    if values.dtype.kind == "f":
        unusable = ~np.isfinite(values)
    elif values.dtype.kind in "US":
        unusable = np.char.str_len(values) == 0
    else:
        unusable = np.zeros(len(values), dtype=bool)
    if unusable.any():
        raise DataError(missing_labels(where, name, int(unusable.sum()), int(unusable.argmax()), len(values)))
    unique = np.unique(values)
    if unique.dtype.kind == "S":
        classes = [label.decode("utf-8", "backslashreplace") for label in unique[:6].tolist()]
    elif unique.dtype.type is np.longdouble:  # `tolist` keeps NumPy's numbers, as Python has none so long
        exact = bool((unique.astype(np.float64) == unique).all())
        classes = unique[:6].astype(np.float64).tolist() if exact else [str(label) for label in unique[:6]]
    else:
        classes = unique[:6].tolist()
    pair = choose_labels(classes, len(unique), positive, where, name)
    return (values == unique[classes.index(pair.positive)]).astype(np.float32), pair


def missing_labels(where: str, name: str, count: int, first: int, samples: int) -> str:
    """The message for labels that are not there; `first` counts from 0."""
    return (
        f"{where}: {name} has {count} missing or non-finite {'label' if count == 1 else 'labels'}, "
        f"the first at sample {first + 1} of {samples}."
    )


def label_text(label: Label) -> str:
    """A label as the text it is known by: `true`, `2`, `0.5`, `benign`."""
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def _shown(label: Label) -> str:
    return label_text(label) if isinstance(label, bool) else repr(label)


def _match(positive: str, classes: Sequence[Label], where: str, name: str) -> Label:
    texts = [label_text(label) for label in classes]
    if str(positive) in texts:
        return classes[texts.index(str(positive))]
    for label in classes:
        if _same(positive, label):
            return label
    raise DataError(
        f"{where}: data.positive={positive!r} is not a label of {name}, which holds {quoted(texts)}."
        f"{did_you_mean(positive, texts)}"
    )


def _same(positive: str, label: Label) -> bool:
    if isinstance(label, bool):
        return str(positive).strip().lower() == label_text(label)
    if isinstance(label, str):
        return False
    try:
        # As a decimal, 2**53 + 1 is not 2**53.
        return Decimal(positive) == label if isinstance(label, int) else float(positive) == label
    except (ValueError, ArithmeticError):
        return False


def _not_two(classes: Sequence[Label], count: int) -> str:
    if count == 1:
        return f"holds one class only ({quoted(classes)}); training needs two."
    if not isinstance(classes[0], (str, bool)) and (
        count > REGRESSION_VALUES or any(not float(label).is_integer() for label in classes)
    ):
        return (
            f"holds {count} different numbers (such as {quoted(classes[:3])}), like the target of a regression; "
            "binary classification needs exactly two labels."
        )
    shown = quoted(classes[:6])
    return f"holds {count} classes (such as {shown}); binary classification needs exactly two{_alike(classes)}."


def _alike(classes: Sequence[Label]) -> str:
    """The labels that differ only in case or blanks, probably one label written in two ways."""
    same: dict[str, list[Label]] = {}
    for label in classes:
        same.setdefault(" ".join(str(label).casefold().split()), []).append(label)
    pairs = [quoted(labels) for labels in same.values() if len(labels) > 1]
    return f"; only case or blanks tell apart {'; '.join(pairs)}" if pairs else ""
