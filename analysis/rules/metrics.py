"""What is known of a metric by its name: its unit, and whether lower or higher is better.

A ruleset says both for its own metric. This is what holds where it does not, and for a metric that `--metric` names.
"""

from __future__ import annotations

LOWER, HIGHER = "lower", "higher"
VAL_BPB, VAL_LOSS, TRAIN_TIME, STEPS = "val_bpb", "val_loss", "train_time_s", "steps"
UNITS = {VAL_BPB: "bpb", VAL_LOSS: "nats", TRAIN_TIME: "s", STEPS: "steps"}
CONVERTIBLE = {"bpb": VAL_BPB, "nats": VAL_LOSS}  # units of one quantity: a run that prints both metrics says the ratio
_HIGHER = frozenset(
    ("accuracy", "acc", "core", "score", "f1", "bleu", "rouge", "reward", "match", "em", "auc", "mfu", "tps")
)


def unit_of(metric: str) -> str:
    """Return the unit of a metric: its own name where no unit is known."""
    return UNITS.get(metric, metric)


def usual_direction(metric: str) -> str:
    """Return `higher` for a name with a word such as accuracy or score, else `lower`."""
    return HIGHER if _HIGHER & set(metric.split("_")) else LOWER
