"""The options of `sweep run` and `sweep resume`, as tables: what is computed and claimed, and how it is looked after."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from analysis.cli import Number, rulesets
from analysis.sweepdir.plan import BOUNDARIES, MAX_ATTEMPTS, MOST_LOOKS
from orchestration.driver.care import Care

Option = Callable[[Callable[..., None]], Callable[..., None]]
USUAL = Care()

FILE = click.Path(path_type=Path)
FROM_1, SECONDS = click.IntRange(min=1), click.FloatRange(min=1)
option = partial(click.option, show_default=True)
CARE_OPTIONS = (
    option(
        "--stall-timeout",
        type=SECONDS,
        metavar="SECONDS",
        default=USUAL.stall_timeout,
        help="A run whose log is silent for this long is hung: it is ended and retried.",
    ),
    option(
        "--deadline",
        type=SECONDS,
        metavar="SECONDS",
        help="A run that takes longer has failed.  [default on GPUs: the rules' cap + 2400]",
    ),
    option(
        "--wait-for-nodes",
        type=click.FloatRange(min=0),
        metavar="MINUTES",
        default=USUAL.wait_for_nodes,
        help="Wait this long for a large enough node, on a cluster that grows on demand.",
    ),
    option(
        "--storage",
        metavar="URL",
        help="Keep a copy of the sweep at s3://, gs:// or file://, so that it survives this machine.",
    ),
    option(
        "--parallel",
        type=FROM_1,
        metavar="SEEDS",
        default=USUAL.parallel,
        help="Sequential: run this many seeds at a time after the first look. Those that the verdict spares are cancelled.",
    ),
    option("--dashboard", is_flag=True, help="Start Ray with its dashboard, and print its address."),
    option("--keep-going", is_flag=True, help="Fixed: run all seeds even if one fails, which loses the claim."),
    option(
        "--smoke",
        is_flag=True,
        help="First run a few steps of each recipe, outside the plan. If they fail, no run starts.",
    ),
    option(
        "--max-gpu-hours",
        type=click.FloatRange(min=0, min_open=True),
        metavar="H",
        help="Spend at most this, over all attempts of the sweep; without GPUs, core-hours.",
    ),
    option(
        "--notify",
        metavar="CMD",
        help="Call this command at the start, at each lost or failed run and at the end, with JSON on its stdin.",
    ),
    option(
        "--registry",
        metavar="URL",
        help="Enter the plan and each attempt there before it starts: file://, s3://, gs://, git+https://...#branch.",
    ),
)
ASKED_OPTIONS = (
    option("--script", required=True, type=FILE, help="Any program that torchrun can start and that reads SEED."),
    option(
        "--recipe", type=FILE, help="TOML file with an [env] table for the candidate, or the name of a shipped one."
    ),
    option(
        "--control", type=FILE, help="The recipe to beat, a file or a name, run with the same seeds on the same nodes."
    ),
    option("--seeds", help="1337,1338,1339, or how many to derive from the plan.  [default: 3; sequential: 10]"),
    option(
        "--design",
        type=click.Choice(["fixed", "sequential"]),
        default="fixed",
        help="Fixed: all seeds, one test. Sequential: a look after every seed from the third on, until the verdict is in.",
    ),
    option("--max-seeds", type=click.IntRange(3, MOST_LOOKS), help="Sequential: derive this many seeds; fewer may do."),
    option(
        "--boundary",
        type=click.Choice(BOUNDARIES),
        help=f"Sequential: how the level is shared among the looks.  [default: {BOUNDARIES[0]}]",
    ),
    option(
        "--unpaired",
        is_flag=True,
        help="Test the two arms as independent samples: any node may get any run.  [default: pairs, a seed on one node]",
    ),
    option("--sota", type=Number(), help="The standing record's metric, if it is not rerun as --control."),
    option("--rules", default="parameter-golf", shell_complete=rulesets, help="Ruleset: a name or a TOML file."),
    option("--margin", type=Number(), help="How much better the mean must be, in --unit.  [default: the ruleset's]"),
    option("--unit", type=click.Choice(["bpb", "nats"]), help="Unit of the margin.  [default: the ruleset's]"),
    option("--alpha", type=Number(), help="Level of the test.  [default: the ruleset's]"),
    option("--env", "pairs", multiple=True, metavar="KEY=VALUE", help="Add to both recipes; may be repeated."),
    option(
        "--gpus-per-run", type=click.IntRange(min=0), default=0, help="GPUs and ranks of one run; with 0 it uses CPUs."
    ),
    option(
        "--cpus-per-run", type=FROM_1, help="CPUs of one run; without GPUs, ranks too.  [default: one per GPU, else 1]"
    ),
    option(
        "--max-attempts",
        type=FROM_1,
        default=MAX_ATTEMPTS,
        help="How many attempts of a seed may be lost. Each lost one is listed with the claim.",
    ),
    option("--accelerator-type", metavar="H100", help="Use only nodes whose GPUs have this name in Ray."),
)
