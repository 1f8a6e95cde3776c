"""Puts the reports of several processes together: each writes its own file, and whoever comes last reads them all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypedDict

from gradkit.findings import Finding
from gradkit.reading import read_json
from gradkit.records import RunInfo
from gradkit.report.contents import Contents
from gradkit.report.json_report import from_json, to_json
from gradkit.report.report import Report
from gradkit.run.ranks import Rank
from gradkit.store import write_atomically

Part = tuple[Contents, Rank]


class _Part(TypedDict):
    rank: int
    world_size: int
    report: dict[str, Any]


def write_part(report: Report, folder: Path, rank: Rank) -> None:
    """Write the report of this process into the folder of its run, in place of an earlier one of its own.

    Raises:
        OSError: The folder cannot be written.
    """
    import multiprocessing.process

    folder.mkdir(mode=0o700, exist_ok=True)
    # Names sort as ranks and then as Python numbers its processes, so that a run gives the same report twice.
    name = "".join(letter if letter.isalnum() else "_" for letter in multiprocessing.process.current_process().name)
    number = f"{int(digits):06d}" if (digits := name.rpartition("_")[2]).isdecimal() else "000000"
    _write(folder / f"{rank.number:06d}-{number}-{os.getpid()}.json", report, rank)


def _write(path: Path, report: Report, rank: Rank) -> None:
    data = {"rank": rank.number, "world_size": rank.count, "report": to_json(report)}
    write_atomically(path, json.dumps(data, allow_nan=False).encode("utf-8", "backslashreplace"))


def read_parts(folder: Path) -> list[Part]:
    """The reports in the folder of a run, in order of their names; a file cut off by a killed process is left out."""
    found: list[Part] = []
    for path in sorted(folder.glob("[0-9]*.json")):
        try:
            data = read_json(path, _Part)
            found.append((from_json(data["report"]), Rank(data["rank"], data["world_size"])))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return found


def whole(own: Report | None, folder: Path) -> Report | None:
    """The report of a process and its children; None when none of them saw anything."""
    parts: list[Part] = [(own, Rank())] if own is not None else []
    parts += read_parts(folder)
    return merge(parts) if parts else None


def merge(parts: Sequence[Part]) -> Report:
    """One report of several processes.

    Processes of one distributed run count as one: their numbers of steps and repeats are the largest of them, not the
    sum. Those of independent processes add up.
    """
    ranks = [(report, rank) for report, rank in parts if rank.count > 1]
    alone = [report for report, rank in parts if rank.count <= 1]
    marked = [
        replace(report, findings=_marked(report.findings, rank), suppressed=_marked(report.suppressed, rank))
        for report, rank in ranks
    ]
    together = [replace(_joined(marked, max), ranks=len({rank.number for _, rank in ranks}))] if marked else []
    return _joined([*alone, *together], sum)


def _marked(findings: Iterable[Finding], rank: Rank) -> tuple[Finding, ...]:
    return tuple(replace(finding, ranks=(rank.number,)) for finding in findings)


def _joined(reports: Sequence[Contents], total: Callable[[list[int]], int]) -> Report:
    def findings(name: str) -> tuple[Finding, ...]:
        known: dict[object, Finding] = {}
        for finding in (finding for report in reports for finding in getattr(report, name)):
            before = known.get(_key(finding))
            known[_key(finding)] = finding if before is None else _combined(before, finding, total)
        return tuple(sorted(known.values(), key=lambda finding: -finding.severity.rank))

    numbers: dict[str, Any] = {
        each.name: total([getattr(report.info, each.name) for report in reports]) for each in fields(RunInfo)
    }
    numbers["seconds"] = max(report.info.seconds for report in reports)
    return Report(
        findings=findings("findings"),
        suppressed=findings("suppressed"),
        info=RunInfo(**numbers),
        rules=tuple(dict.fromkeys(rule for report in reports for rule in report.rules)),
        dropped=sum(report.dropped for report in reports),
        ranks=max(report.ranks for report in reports),
    )


def _key(finding: Finding) -> object:
    return (*finding.key, finding.message if finding.rule.startswith("GK9") else "")


def _combined(first: Finding, second: Finding, total: Callable[[list[int]], int]) -> Finding:
    first_steps = [step for step in (first.first_step, second.first_step) if step is not None]
    last_steps = [step for step in (first.last_step, second.last_step) if step is not None]
    return replace(
        first,
        count=total([first.count, second.count]),
        first_step=min(first_steps, default=None),
        last_step=max(last_steps, default=None),
        severity=max(first.severity, second.severity, key=lambda severity: severity.rank),
        ranks=tuple(sorted({*first.ranks, *second.ranks})),
    )


def difference(report: Report, earlier: Report) -> Report:
    """What came after `earlier`, of the same process before it forked."""
    before = {_key(finding): finding.count for finding in (*earlier.findings, *earlier.suppressed)}

    def later(findings: Iterable[Finding]) -> tuple[Finding, ...]:
        counted = [replace(finding, count=finding.count - before.get(_key(finding), 0)) for finding in findings]
        return tuple(finding for finding in counted if finding.count > 0)

    steps = replace(
        report.info,
        **{
            name: getattr(report.info, name) - getattr(earlier.info, name)
            for name in ("steps", "backwards", "reads", "overhead_seconds", "seconds")
        },
    )
    return replace(report, findings=later(report.findings), suppressed=later(report.suppressed), info=steps)


def own_file(path: str, rank: Rank) -> str:
    """Where a process writes: the path itself alone, with the rank before its ending in a distributed run."""
    if rank.count <= 1:
        return path
    whole_path = Path(path)
    return str(whole_path.with_name(f"{whole_path.stem}.rank{rank.number}{whole_path.suffix}"))


def merged_ranks(path: str, rank: Rank, write: Callable[[Report], None]) -> None:
    """Write what all ranks of this run have reported so far; whoever ends last writes the whole.

    No process waits for another. One that finds more files after writing than before it writes again, so the last
    write holds every file.
    """
    files = [own_file(path, Rank(number, rank.count)) for number in range(rank.count)]
    while True:
        there = [number for number, file in enumerate(files) if Path(file).exists()]
        parts = []
        for number in there:
            try:
                document = read_json(Path(files[number]), dict[str, Any])
                parts.append((from_json(document), Rank(number, rank.count)))
            except (
                OSError,
                ValueError,
                LookupError,
                TypeError,
                AttributeError,
            ):  # not a report: somebody else's file of that name
                continue
        if parts:
            write(merge(parts))
        if [number for number, file in enumerate(files) if Path(file).exists()] == there:
            return
