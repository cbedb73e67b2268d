"""The answers that a claim can get, and the exit code of each."""

from __future__ import annotations

from enum import StrEnum


class Answer(StrEnum):
    """What the numbers say of the claim; findings are not part of it.

    Where the rules have no test, whether the evidence fits the claim: then errors among the findings do count.
    """

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not_supported"
    CONTINUE = "continue"
    UNUSABLE = "unusable"
    FITS = "evidence_fits"
    DOES_NOT_FIT = "evidence_does_not_fit"

    @classmethod
    def of(cls, *, passed: bool) -> Answer:
        return cls.SUPPORTED if passed else cls.NOT_SUPPORTED


SUPPORTED, NOT_SUPPORTED, CONTINUE, UNUSABLE, FITS, DOES_NOT_FIT = Answer
EXIT_CODES = {SUPPORTED: 0, NOT_SUPPORTED: 1, CONTINUE: 1, UNUSABLE: 3, FITS: 0, DOES_NOT_FIT: 1}
REFUSED = "refused"
