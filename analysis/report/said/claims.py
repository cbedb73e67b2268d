"""Show what the JSON and README claim, as counts, as lines and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.checks.claim import in_the_logs
from analysis.record.stated.said import Holds, Statement
from analysis.rules.findings import Finding
from analysis.untrusted.escape import printable

WORDS = {Holds.YES: "fits", Holds.NO: "does not fit", Holds.UNKNOWN: "no evidence"}


def claims_counted(claims: Sequence[Statement]) -> list[str]:
    """Return one line that counts the claims that fit the logs, that do not, and that no log confirms or contradicts."""
    if not claims:
        return []
    count = {holds: sum(one.holds is holds for one in claims) for holds in Holds}
    said = {
        Holds.YES: "fits" if count[Holds.YES] == 1 else "fit",
        Holds.NO: "does not" if count[Holds.NO] == 1 else "do not",
        Holds.UNKNOWN: "without evidence",
    }
    counted = ", ".join(f"{count[holds]} {words}" for holds, words in said.items() if count[holds])
    return [f"claims in the JSON and README: {counted}"]


def claims_that_do_not_fit(claims: Sequence[Statement], findings: Sequence[Finding]) -> list[str]:
    """Return a line for each claim that the logs contradict and no finding is about, with its place and the log line's."""
    said = {(one.file, one.line) for one in findings}
    return [
        printable(f"{row['place']}: {row['claim']} {row['said']}; expected {in_the_logs(one)}")
        for one, row in zip(claims, claim_table(claims), strict=True)
        if one.holds is Holds.NO and (one.claim.at.file, one.claim.at.line) not in said
    ]


def claim_table(claims: Sequence[Statement]) -> list[dict[str, str]]:
    """Return every claim with what the logs say."""
    return [
        {
            "claim": one.claim.what,
            "said": printable(one.row()["said"]),
            "place": printable(f"{one.claim.at.file}:{one.claim.at.line}"),
            "": WORDS[one.holds],
            "logs": printable(in_the_logs(one)) if one.evidence is not None else "-",
        }
        for one in claims
    ]
