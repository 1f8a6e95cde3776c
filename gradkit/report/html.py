"""HTML reports: one file each that opens offline; Jinja with autoescape, charts embedded through `tojson`."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradkit
from gradkit.report.charts import Specification, check_installed
from gradkit.report.excerpts import excerpt

LONGEST_NAME = 200
"""Characters of a name or value that a page shows; a longer one is cut in its middle."""
MOST_FINDINGS = 200
MOST_PARAMETERS = 40
IN_FULL = ("clearing", "traceback", "where")
"""Evidence that stands elsewhere in the card."""
LARGEST_ROWS = 2_000
"""Rows of one table; what is beyond is counted in the note below it."""


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        id: Of its element, made of letters, digits and hyphens.
        alt: What it shows, for those who do not see it.
        specification: Vega-Lite, with `width` `container`.
    """

    id: str
    alt: str
    specification: Specification


@dataclass(frozen=True)
class Grid:
    """A table of a page; the first column names the rows.

    Attributes:
        caption: Above it.
        headings: One per column.
        rows: Cells as text.
        note: Below it.
        id: Of its section, where it has one of its own.
        heading: Of that section.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    id: str = ""
    heading: str = ""


def grid(
    caption: str,
    headings: Iterable[Any],
    rows: Iterable[Iterable[Any]],
    note: str = "",
    *,
    id: str = "",
    heading: str = "",
) -> Grid:
    """A table with every cell as text, names cut and rows limited."""
    lines = [[cut(str(cell)) for cell in row] for row in rows]
    if len(lines) > LARGEST_ROWS:
        note = f"{note} {len(lines) - LARGEST_ROWS:,} further rows are in the JSON output.".strip()
    return Grid(caption, [cut(str(each)) for each in headings], lines[:LARGEST_ROWS], note, id, heading or caption)


def cut(text: str, limit: int = LONGEST_NAME) -> str:
    r"""The text, cut in its middle when it is long; control characters become visible escapes.

    Direction marks stay: the page isolates every name, so that they cannot turn their surroundings round.

    Example:
        >>> cut("a\x00b"), cut("x" * 1000, 11)
        ('a\\x00b', 'xxxx...xxxx')
    """
    if len(text) > limit:
        text = f"{text[: (limit - 3) // 2]}...{text[-((limit - 3) // 2) :]}"
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", lambda found: ascii(found[0])[1:-1], text)


@functools.cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, some 0.9 MB, safe inside a script element."""
    import vl_convert

    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg,unused-ignore]  # its stub forgets the default
    # The only texts that end a script element or change how one is read; inside JavaScript strings `\/` is `/`.
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def render(
    template: str, *, title: str, sections: Sequence[tuple[str, str]], charts: Sequence[Chart] = (), **values: Any
) -> str:
    """A page.

    Args:
        template: File in `templates/`.
        title: Of the page; any text.
        sections: Id and heading of each, for the navigation.
        charts: Drawn by the page itself; needs `gradkit[report]`.
        **values: What the template shows; escaped, whatever it is.

    Raises:
        ConfigError: There are charts, and vl-convert is not installed.
    """
    if charts:
        check_installed("A report with charts")
    page: str = (
        _environment()
        .get_template(template)
        .render(
            title=cut(title),
            version=gradkit.__version__,
            made=time.strftime("%Y-%m-%d %H:%M"),
            sections=sections,
            charts=charts,
            specifications={chart.id: chart.specification for chart in charts},
            bundle=_bundle() if charts else "",
            **values,
        )
    )
    return page


def cards(findings: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Findings as a page shows them, worst first, and how many were left out.

    Args:
        findings: As in a manifest or a JSON report; from anywhere, so nothing in them is trusted.
    """
    order = {"error": 0, "warning": 1, "note": 2}
    ranked = sorted(findings, key=lambda each: order.get(str(each.get("severity")), 3))
    return [_card(each) for each in ranked[:MOST_FINDINGS]], max(0, len(ranked) - MOST_FINDINGS)


def _card(finding: Mapping[str, Any]) -> dict[str, Any]:
    severity = str(finding.get("severity"))
    place = finding.get("location")
    rows: list[tuple[str, str]] = []
    if isinstance(finding.get("count"), int) and finding["count"] > 1:
        rows.append(
            ("seen", f"{finding['count']:,} times, steps {finding.get('first_step')} to {finding.get('last_step')}")
        )
    for name in ("parameters", "modules"):
        named = finding.get(name)
        if isinstance(named, list) and named:
            shown = ", ".join(cut(str(each), 80) for each in named[:MOST_PARAMETERS])
            more = len(named) - MOST_PARAMETERS
            rows.append((name, f"{shown} and {more:,} more" if more > 0 else shown))
    evidence = finding.get("evidence")
    if isinstance(evidence, dict) and evidence:
        told = [
            f"{cut(str(key), 60).replace('_', ' ')} {_number(value)}"
            for key, value in [*evidence.items()][:30]
            if key not in IN_FULL
        ]
        rows.append(("evidence", ", ".join(told)))
        if isinstance(evidence.get("traceback"), str):
            rows.append(("traceback", cut(evidence["traceback"], 4000)))
    labels = finding.get("labels")
    for label in labels[:10] if isinstance(labels, list) else []:
        if isinstance(label, dict):
            rows.append(("also", f"{cut(str(label.get('note', '')), 400)}: {_where(label)}"))
    rows += [(name, cut(str(finding[name]), 1000)) for name in ("cost", "remedy", "docs") if finding.get(name)]
    return {
        "severity": severity if severity in ("error", "warning", "note") else "note",
        "rule": cut(str(finding.get("rule", "?")), 40),
        "name": cut(str(finding.get("name", "")), 80),
        "message": cut(str(finding.get("message", "")), 2000),
        "place": _where(place) if isinstance(place, dict) else "",
        "excerpt": excerpt(place) if isinstance(place, dict) else [],
        "rows": rows,
    }


def _where(place: Mapping[str, Any]) -> str:
    function = place.get("function")
    text = f"{place.get('file')}:{place.get('line')}"
    return cut(f"{text} in {function}" if function else text, 300)


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return cut(value if isinstance(value, str) else json.dumps(value, default=str), 300)


def watch_page(document: Mapping[str, Any], *, title: str = "gradkit report") -> str:
    """The page of one watched program, from its JSON report (`gradkit.report.json_report.to_json`).

    Args:
        document: Of schema version 1.
        title: Such as the script's name.
    """
    run: Mapping[str, Any] = document.get("run") or {}
    found = [each for each in document.get("findings") or [] if isinstance(each, dict)]
    shown, left_out = cards(found)
    counts = {word: sum(each.get("severity") == word for each in found) for word in ("error", "warning", "note")}
    summary = [(f"{word}s", f"{count:,}") for word, count in counts.items()]
    summary += [(key.replace("_", " "), _number(value)) for key, value in run.items()]
    suppressed = [each for each in document.get("suppressed") or [] if isinstance(each, dict)]
    tables = []
    if suppressed:
        tables.append(
            grid(
                "Findings the user asked not to see",
                ["rule", "message"],
                [(each.get("rule"), each.get("message")) for each in suppressed],
                id="suppressed",
                heading="Suppressed",
            )
        )
    rules = [rule for rule in document.get("rules") or [] if isinstance(rule, dict)]
    lists = [
        ("environment", "Environment", plain_rows(document.get("environment") or {})),
        ("rules", "Active rules", [(str(rule.get("code")), str(rule.get("name"))) for rule in rules]),
    ]
    return render(
        "run.html.j2",
        title=title,
        subtitle=f"watched by gradkit {document.get('gradkit', '')}",
        status="",
        summary=summary,
        watched="",
        cards=shown,
        left_out=left_out + int(document.get("dropped") or 0),
        thinned="",
        tables=tables,
        lists=lists,
        sections=[
            ("findings", "Findings"),
            *((each.id, each.heading) for each in tables),
            *((i, h) for i, h, _ in lists),
        ],
    )


def plain_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Key and value of a flat mapping as text."""
    return [
        (cut(str(key)), cut(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)))
        for key, value in [*values.items()][:LARGEST_ROWS]
    ]
