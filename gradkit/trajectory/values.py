"""What is kept of a training run: one row of numbers per optimizer step and a print of every parameter; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from gradkit.errors import DataError, did_you_mean
from gradkit.reading import UnreadableError, mismatch, read_json
from gradkit.store import number, plain, write_atomically

SCHEMA_VERSION = 1

COMPARED = (
    *("samples", "batch_signature", "lr", "weight_norm_l2", "weight_projection", "loss"),
    *("grad_norm_l2", "grad_weight_cosine", "update_norm_l2", "update_weight_cosine", "update_grad_cosine"),
)
"""Columns that are compared, in the order in which one causes the next within a step."""
COLUMNS = (*COMPARED, "grad_previous_cosine", "update_previous_cosine")
"""All columns; the further ones only explain a difference."""
SIZES = {
    "weight_projection": ("weight_norm_l2",),
    "grad_weight_cosine": ("grad_norm_l2", "weight_norm_l2"),
    "update_weight_cosine": ("update_norm_l2", "weight_norm_l2"),
    "update_grad_cosine": ("update_norm_l2", "grad_norm_l2"),
}
"""Columns that may cancel to nothing, and the norms whose rounding they carry."""

_DIGITS = {"float64": 17}
"""Significant digits kept; 9 give back every float32 exactly, 17 every float64 (IEEE 754)."""


@dataclass(frozen=True)
class ParameterPrint:
    """One parameter as a few numbers; each moment is its 2-norm and its projection on fixed pseudo-random numbers.

    Attributes:
        shape: Of the tensor.
        initial: Before the first step.
        final: After the last step.
        first_gradient: The gradient the first step consumed; None when it had none or was not seen.
    """

    shape: tuple[int, ...]
    initial: tuple[float, float] | None = None
    final: tuple[float, float] | None = None
    first_gradient: tuple[float, float] | None = None


class _Print(TypedDict, total=False):
    shape: list[int]
    initial: list[Any] | None
    final: list[Any] | None
    first_gradient: list[Any] | None


class _Golden(TypedDict):
    columns: list[str]
    steps: list[list[Any]]
    parameters: dict[str, _Print]
    settings: dict[str, Any]
    dtype: str | None


@dataclass(frozen=True)
class Trajectory:
    """One recorded run.

    Attributes:
        rows: One mapping per optimizer step, from step 0: names of `COLUMNS` to numbers; what was not seen is absent.
            `samples` is the number of samples of the step's window, `batch_signature` the sum over them of the square
            of their projection on fixed pseudo-random numbers: equal for the same samples in any order, and additive
            over batches. `loss` is the sum over the window's backward calls. Norms and cosines are over all parameters
            of the optimizer: `weight` before the step, `grad` as consumed, `update` as made; `previous` is the same
            quantity of this optimizer's step before. `weight_projection` is on fixed pseudo-random numbers.
        parameters: Name to print.
        settings: What is known of the optimizer or configuration, as plain data.
        dtype: Of the first parameter, such as `float32`; None when it is unknown.
    """

    rows: Sequence[Mapping[str, float]]
    parameters: Mapping[str, ParameterPrint] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None

    @classmethod
    def of_records(cls, records: Iterable[Mapping[str, Any]], dtype: str | None = None) -> Trajectory:
        """A trajectory of records a loop wrote by itself, such as `{"loss": 0.69, "grad_norm_l2": 1.2}` per step.

        Args:
            records: One mapping per step; names of `COLUMNS`, and `step`, which must count from 0.
            dtype: What the run computed in; None for float32's tolerances.

        Raises:
            DataError: A name is unknown, a value is no number, or a step is missing.
        """
        rows = []
        for position, record in enumerate(records):
            row = {}
            for name, value in record.items():
                if name != "step" and name not in COLUMNS:
                    raise DataError(
                        f"Record {position} has an unknown name {name!r}.{did_you_mean(name, COLUMNS)} "
                        f"The names are step, {', '.join(COLUMNS)}."
                    )
                if value is None:
                    continue
                try:
                    row[name] = float(value)
                except (TypeError, ValueError):
                    raise DataError(f"Record {position}: {name} is {value!r}, expected a number.") from None
            if row.pop("step", position) != position:
                raise DataError(f"Record {position} is of step {record['step']}; expected every step from 0 on.")
            if not row:
                raise DataError(f"Record {position} holds no number; expected a loss at least.")
            rows.append(row)
        return cls(rows, dtype=dtype)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that some step has, in order."""
        present = {name for row in self.rows for name in row}
        return tuple(name for name in COLUMNS if name in present)

    def to_text(self) -> str:
        """The golden file: JSON with one line per step and per parameter, so that a change reads as a small diff."""
        digits = _DIGITS.get(self.dtype or "", 9)
        head = {"schema_version": SCHEMA_VERSION, "dtype": self.dtype, "settings": dict(self.settings)}
        lines = [f"  {json.dumps(name)}: {_compact(value)}" for name, value in head.items()]
        prints = [
            f"    {json.dumps(name)}: {_compact(_rounded(_as_data(each), digits))}"
            for name, each in self.parameters.items()
        ]
        lines.append('  "parameters": ' + ("{\n" + ",\n".join(prints) + "\n  }" if prints else "{}"))
        lines.append(f'  "columns": {_compact(["step", *self.columns])}')
        rows = [
            "    " + _compact(_rounded([step, *(row.get(name) for name in self.columns)], digits))
            for step, row in enumerate(self.rows)
        ]
        lines.append('  "steps": [\n' + ",\n".join(rows) + "\n  ]")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def write(self, path: Path) -> None:
        """Write the golden file.

        Raises:
            OSError: The folder cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.to_text().encode("utf-8"))

    @classmethod
    def read(cls, path: Path) -> Trajectory:
        """The trajectory in a golden file.

        Raises:
            DataError: It cannot be read, is no golden file, or is of another schema version.
        """
        try:
            data = read_json(path)
        except (OSError, UnreadableError) as error:
            raise DataError(f"The golden file {path} cannot be read: {error}.") from None
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise DataError(f"{path} has schema version {version!r}; this gradkit reads version {SCHEMA_VERSION}.")
        if wrong := mismatch(data, _Golden):
            raise DataError(f"{path} is no golden file of a trajectory: {wrong}.")
        try:
            columns = data["columns"]
            rows = [
                {
                    name: float(number(value))
                    for name, value in zip(columns, row, strict=True)
                    if value is not None and name != "step"
                }
                for row in data["steps"]
            ]
            prints = {
                name: ParameterPrint(
                    shape=tuple(each["shape"]),
                    **{
                        moment: (float(number(each[moment][0])), float(number(each[moment][1])))
                        for moment in ("initial", "final", "first_gradient")
                        if each.get(moment) is not None
                    },
                )
                for name, each in data["parameters"].items()
            }
            return cls(rows, prints, data["settings"], data["dtype"])
        except (KeyError, TypeError, ValueError, IndexError) as error:  # values within a row or a pair
            raise DataError(f"{path} is no golden file of a trajectory: {type(error).__name__} {error}.") from None


def _as_data(each: ParameterPrint) -> dict[str, Any]:
    moments = {name: getattr(each, name) for name in ("initial", "first_gradient", "final")}
    return {"shape": list(each.shape), **{name: list(value) for name, value in moments.items() if value is not None}}


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return value
        short = float(f"{value:.{digits}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    if isinstance(value, dict):
        return {name: _rounded(entry, digits) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry, digits) for entry in value]
    return value


def _compact(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
