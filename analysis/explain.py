"""What a finding means, when it is raised, how severe it is by each ruleset, and what to do about it.

    python -m analysis.explain [CODE]

Exit codes: 0 explained, 2 usage.
"""

from __future__ import annotations

import sys

import click
from click.shell_completion import CompletionItem

from analysis import cli
from analysis.untrusted.refusal import UsageError, nearest


def codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a code in a shell."""
    from analysis.rules.findings import Code

    return [CompletionItem(code.value, help=code.do) for code in Code if code.value.startswith(incomplete)]


@click.command(cls=cli.Command, context_settings=cli.HELP)
@click.argument("code", required=False, metavar="[CODE]", shell_complete=codes)
def main(code: str | None) -> None:
    """Explain a finding: what it means, when it is raised, what to do. Without CODE, list all."""
    from analysis.report.said.explained import explanation, listing
    from analysis.rules.findings import Code

    if code is None:
        sys.stdout.write(listing(cli.width().table))
        return
    found = next((one for one in Code if one == code), None)
    if found is None:
        among = ", ".join(one for one in Code if code and code in one)
        hint = f" Codes with it: {among}." if among else nearest(code, map(str, Code)) or " `explain` alone lists all."
        raise UsageError(f"No finding has the code {code!r}.{hint}")
    sys.stdout.write(explanation(found, cli.width().prose))


if __name__ == "__main__":
    main()
