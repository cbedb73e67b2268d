"""A verdict in Python and in a notebook: its card, its runs and curves as DataFrames, its plot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.reading.result import Result
from analysis.report.html.improvement import improvement_plot
from analysis.report.notebook.frames import frame_of_curves, frame_of_runs
from analysis.report.said.headline import headline
from analysis.report.text import text
from analysis.untrusted.escape import printable
from analysis.untrusted.refusal import UsageError
from analysis.verdict import verdict as base

if TYPE_CHECKING:
    import pandas as pd

VERIFIER = "verifier"
FILE_PX, PAPER = 900, "background:#fff;color:#1b1b1b"


class Verdict(base.Verdict):
    """The answer and all its numbers. `gate` is the answer in a word.

    It is true where `seedproof check` would exit with 0: `if judge(...)` asks whether the claim is supported and nothing
    refuses it.
    """

    __slots__ = ()

    @classmethod
    def of(cls, verdict: base.Verdict) -> Verdict:
        return cls(**{key.name: getattr(verdict, key.name) for key in fields(verdict)})

    @property
    def gate(self) -> str:
        """Return supported, refused, not_supported, continue or unusable; without a test, evidence_fits or its opposite."""
        return str(super().gate)

    def __bool__(self) -> bool:
        return self.gate_code == 0

    def __repr__(self) -> str:
        return f"<Verdict {printable(headline(self))}>"

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        """Return the decision card; without the extra `report`, its first line."""
        if find_spec("jinja2") is None:
            return f"<pre>{escape(printable(headline(self)))}</pre>"
        from analysis.report.html.page import card

        return card(self)

    def to_frame(self) -> pd.DataFrame:
        """Return every run: those that count, the control's, a verifier's, and those that do not count, with the reason.

        Raises UsageError where pandas is not installed.
        """
        found = list(self._every_run())
        frame = frame_of_runs([one.result for one in found])
        counts, why = [one.why is None for one in found], [one.why or "" for one in found]
        return frame.assign(counts=counts, why=why)

    def curves(self) -> pd.DataFrame:
        """Return every logged step of the runs that count, by arm and seed. Raises UsageError where pandas is not installed."""
        return frame_of_curves([one.result for one in self._every_run() if one.why is None])

    def plot(self) -> Plot:
        """Draw how much better than what must be beaten each run is. Raises UsageError where nothing was compared."""
        drawn = improvement_plot(self)
        if drawn is None:
            raise UsageError(f"There is nothing to draw, because nothing was compared: {self.reason}")
        return Plot(svg=drawn)

    def _every_run(self) -> Iterator[_Counted]:
        """Yield each run once, those that count first."""
        why = {id(one.result): str(one.why) for one in self.left_out}
        second = self.verification.runs if self.verification is not None else ()
        known = {id(run) for run in (*self.runs, *self.control, *second)}
        yield from (_Counted(result=run, why=why.get(id(run))) for run in (*self.runs, *self.control))
        yield from (_Counted(result=replace(run, arm=VERIFIER)) for run in second)
        others = (one for one in self.left_out if id(one.result) not in known)
        yield from (_Counted(result=one.result, why=str(one.why)) for one in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A run, and why it does not count: None where it does."""

    result: Result
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawing that a notebook shows."""

    svg: str

    def _repr_svg_(self) -> str:
        """Return the drawing as a file of its own, which has no page to fill."""
        head, rest = self.svg.split(">", 1)
        head = head.replace('width="100%"', f'width="{FILE_PX}"').replace('style="', f'style="{PAPER};')
        return f'{head} xmlns="http://www.w3.org/2000/svg">{rest}'

    def _repr_html_(self) -> str:
        """Return the drawing on paper of its own: a notebook's dark theme may not say what its background is."""
        return f'<div style="{PAPER}">{self.svg}</div>'

    def __repr__(self) -> str:
        return f"<Plot of {len(self.svg):,} bytes of SVG>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the SVG to a file."""
        Path(path).write_text(self._repr_svg_(), encoding="utf-8")
