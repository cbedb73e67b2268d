"""Print a benchmark's table, and append it to its file in benchmarks/results/."""

from __future__ import annotations

from pathlib import Path


def publish(lines: list[str], results: Path) -> None:
    """Print the lines and append them to the file of results."""
    print("\n".join(lines))
    results.parent.mkdir(exist_ok=True)
    with open(results, "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")
