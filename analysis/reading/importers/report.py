"""nanochat's report.md: sections with a line `- name: number` each."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.reading.importers.made import Row, Told, number_of, run_of, seed_in_name, whole
from analysis.reading.names import normal
from analysis.reading.run import Origin, Run
from analysis.untrusted.files import read_small, spend

TITLE = b"# nanochat training report"
LARGEST = 2**20
_ENTRY = re.compile(r"- ([^:\n]{1,100}): ([-+]?[\d.,]{1,30}(?:e[-+]?\d{1,3})?)(m|s|%)?\s*$", re.IGNORECASE)
TIME, STEPS = "total_training_time", "calculated_number_of_iterations"
BPB = ("final_validation_bpb", "val_bpb", "minimum_validation_bpb")


def read_report(path: Path) -> list[Run]:
    """Return the run of a report. Of a name in several sections the first counts: that of the base model."""
    content = read_small(path, LARGEST)
    if not content.lstrip().startswith(TITLE):
        return []
    spend(16 * len(content))
    section = ""
    rows: list[Row] = []
    known: dict[str, Row] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if line.startswith("## "):
            section = normal(line)
        elif (found := _ENTRY.match(line)) and (value := number_of(found[2].replace(",", ""))) is not None:
            name = normal(found[1])
            named = {f"{section}_{name}": value} | ({} if name in known else {name: value})
            if name == TIME and name not in known and found[3] == "m":
                named[f"{TIME}_s"] = 60 * named.pop(TIME)
            rows.append(Row(numbers=named, line=number))
            known.setdefault(name, rows[-1])
    if bpb := next((name for name in BPB if name in known), None):
        rows.append(Row(numbers={"val_bpb": known[bpb].numbers[bpb]}, line=known[bpb].line))
    steps = whole(known[STEPS].numbers[STEPS]) if STEPS in known else None
    return [run_of(Told(log=path, origin=Origin.TRACKER, seed=seed_in_name(path), total_steps=steps), rows)]
