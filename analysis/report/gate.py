"""What `check` prints and exits with. Error-level findings refuse a claim whose numbers would pass."""

from __future__ import annotations

from analysis.report.claims import claims_counted
from analysis.report.findings import checks_made, finding_lines, github_annotations
from analysis.report.statements import WORDS, not_counted, rules_in_words
from analysis.untrusted.escape import printable, workflow_command
from analysis.verdict.verdict import SUPPORTED, Verdict

REFUSED = "refused"


def outcome(verdict: Verdict) -> str:
    """Return the verdict's answer, or `refused` where error-level findings overrule one that would pass."""
    return REFUSED if verdict.verdict is SUPPORTED and verdict.errors else verdict.verdict


def word(verdict: Verdict) -> str:
    """Return the same for a reader."""
    if outcome(verdict) != REFUSED:
        return WORDS[verdict.verdict]
    plural = "s" if verdict.errors > 1 else ""
    return f"REFUSED for {verdict.errors} error-level finding{plural}, though the numbers are SUPPORTED"


def exit_code(verdict: Verdict) -> int:
    """Return the exit code of `check`: the verdict's, but 1 instead of 0 where a finding is an error."""
    return verdict.exit_code or min(verdict.errors, 1)


def gate(verdict: Verdict) -> str:
    """Return the few lines of `check`."""
    lines = [f"{word(verdict)}: {verdict.reason}", f"  rules: {rules_in_words(verdict)}"]
    plan = (
        [verdict.plan.sentence()] if verdict.plan is not None and verdict.plan.exact else []
    )  # else a finding says it
    said = (*verdict.notes, *plan, *not_counted(verdict), *finding_lines(verdict.findings))
    said += (*claims_counted(verdict.claims),)
    lines += [f"  {line}" for line in (*said, *checks_made(verdict.checks, verdict.not_checked), *_not_proven(verdict))]
    return "".join(f"{printable(line)}\n" for line in lines)


def _not_proven(verdict: Verdict) -> list[str]:
    unknown = verdict.test is None or verdict.verification is not None
    return (
        []
        if unknown
        else ["not proven: that real runs printed these logs, and no others; only a rerun shows it (--verify)"]
    )


def workflow_commands(verdict: Verdict, folder: str) -> str:
    """Return GitHub workflow commands: the verdict, then each finding at its file, a path below `folder`, and line."""
    kind = "error" if exit_code(verdict) else "notice"
    first = workflow_command(kind, f"{word(verdict)}: {verdict.reason}", title="seedproof")
    return f"{first}\n{github_annotations(verdict.findings, folder)}"
