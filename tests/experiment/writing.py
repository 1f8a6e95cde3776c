"""Writes small experiments for tests; the program `saturation` takes milliseconds per run."""

from pathlib import Path
from typing import Any

import yaml

SMALL: dict[str, Any] = {
    "question": "Which form of the gradient stays finite?",
    "program": "saturation",
    "common": ["dimensions=4", "batch=32"],
    "arms": {"textbook": ["form=textbook"], "fused": ["form=fused"]},
    "vary": {"scale": {"1": ["scale=1"], "100": ["scale=100"]}},
    "seeds": 3,
    "metrics": {"non_finite": "non_finite", "error": "relative_error"},
    "claims": [
        {"say": "The textbook form breaks.", "arm": "textbook/100", "metric": "non_finite", "above": 0},
        {"say": "The other does not.", "arm": "fused/*", "metric": "non_finite", "equals": 0},
    ],
    "figures": [{"name": "share", "title": "Share", "metric": "non_finite", "x": "scale", "log_x": True}],
}


def write(folder: Path, **changes: Any) -> Path:
    """An experiment in a folder: `SMALL` with keys replaced, or removed where they are None."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in (SMALL | changes).items() if value is not None}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
