"""Prove a training result across seeds.

    import seedproof

    verdict = seedproof.judge("records/mine", sota=1.2244)
    verdict.gate      # supported, refused, not_supported, continue or unusable

Each name is loaded when it is first used: `import seedproof` alone loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.api import audit as audit
    from analysis.api import board as board
    from analysis.api import judge as judge
    from analysis.api import plan as plan
    from analysis.api import read_logs as read_logs
    from analysis.report.notebook.verdict import Verdict as Verdict
    from analysis.untrusted.refusal import SeedproofError as SeedproofError

__version__ = "0.2.0"
__all__ = ["SeedproofError", "Verdict", "__version__", "audit", "board", "judge", "plan", "read_logs"]
_FROM = {"Verdict": "analysis.report.notebook.verdict", "SeedproofError": "analysis.untrusted.refusal"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'seedproof' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_FROM.get(name, "analysis.api")), name)
    return found


def __dir__() -> list[str]:
    return __all__
