"""What a submission's JSON claims, in whatever shape it says it.

Public submissions use some 140 keys: the headline as val_bpb, mean_val_bpb or a table with a mean, numbers as strings,
seeds as a list, as a table or as keys such as seed_42_val_bpb. The rule here is what a key means, not a list of keys: a
number whose key says bpb is a bpb, a table that names a seed is that seed's claim, and whatever a key calls a baseline,
a delta, a deviation or a threshold is no claim about this submission.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from analysis.untrusted.files import FileError, read_bounded

LIMIT = 2**20
LARGEST = 1_000_000
DEEPEST = 6
MOST_SEEDS = 100
MOST_DIGITS = 40
LONGEST_KEY = 100
SMALLEST = Decimal("1e-6")

_NUMBER = re.compile(
    r"\s{0,9}[~≈]?\s{0,9}([-+]?\d{1,18}(?:[_,]\d{3})*(?:\.\d{1,18})?(?:[eE][-+]?\d{1,3})?)\s*(?:$|[^\d\w.]|bpb|BPB|bytes|nats|\s)"
)
_ELSEWHERE = re.compile(
    r"baseline|control|previous|prior|sota|standing|threshold|compar|versus|(?:^|_)(?:vs|prev|old|before|ref|reference|target|goal"
    r"|delta|diff|gain|improvement|std|excluded|failed|planned|extra|not_run|parent|merged|leader|beat|naive|upstream|original|pr_?\d+|prequant|unquantized|fp32|bf16|float|ema|swa|train_end|last_step|step|sd|stdev|stddev|var|variance|sem|ci|stderr|error|range|spread|p_value|p|t|df|t_statistic"
    r"|z|max|min|best|worst|limit|cap|budget|notes?|roundtrip|no_ttt|without|pre|ablations?|int8_only|diagnostic|expected)(?:_|$)"
)  # fmt: skip
_BPB = re.compile(r"(?:^|_)bpb(?:_|$)|bits_per_byte")
_LOSS = re.compile(r"(?:^|_)(?:val|eval|validation|test)_(?:loss|nats)(?:_|$)|^loss$")
_TOTAL = re.compile(r"(?:^|_)(?:total|artifact|submission)(?:_|$).*bytes|bytes_(?:total|artifact|submission)")
_PART_OF_TOTAL = re.compile(
    r"(?:^|_)(?:code|model|weights?|script|mean|avg|raw|uncompressed|headroom|left|remaining|free|params|val|eval|train|slack|allowed|margin|under|compressed)(?:_|$)"
)
_SEED_KEY = re.compile(r"(?:^|_)seed_?(\d{1,18})(?:_|$)", re.IGNORECASE)
_SEEDS = re.compile(r"(?:^|_)seeds?(?:_|$)|^(?:runs|per_run|individual_runs|all_runs|run_results|results)$")


@dataclass(slots=True)
class SeedClaim:
    """What is claimed of one seed: every bpb and every loss that the JSON gives it, in the order of writing."""

    val_bpbs: list[Decimal] = field(default_factory=list)
    val_losses: list[Decimal] = field(default_factory=list)
    log: str | None = None


@dataclass(slots=True)
class Claim:
    """One submission JSON. Values keep the decimals that they are printed with; `keys` says under which key each stands.

    `other_bpbs` are further bpbs of the submission (value, key), for when the first is not the one that is meant.
    `fault` says why the file could not be understood at all; `schema` lists what is missing or oddly typed.
    """

    file: Path
    text: str = field(default="", repr=False)
    val_bpb: Decimal | None = None
    val_loss: Decimal | None = None
    other_bpbs: list[tuple[Decimal, str]] = field(default_factory=list)
    artifact_bytes: int | None = None
    seeds: dict[int, SeedClaim] = field(default_factory=dict)
    date: str | None = None
    keys: dict[str, str] = field(default_factory=dict)
    schema: list[tuple[str, str]] = field(default_factory=list)
    fault: str | None = None

    def line_of(self, what: str) -> int:
        """The line of the key that a fact stands under, or of a key of that name; 1 when it has none."""
        key = self.keys.get(what, what)
        found = re.search(rf'"{re.escape(key)}"\s*:', self.text)
        return self.text.count("\n", 0, found.start()) + 1 if found else 1


def submission_file(files: list[Path], folder: Path) -> Path | None:
    """The submission JSON at the top of a folder: submission.json, else the first submission*.json."""
    found = [path for path in files if path.parent == folder and re.fullmatch(r"submission.*\.json", path.name)]
    return min(found, key=lambda path: (path.name != "submission.json", path.name), default=None)


def read_claim(file: Path) -> Claim:
    """The claim of a submission JSON; one that cannot be read is a claim with a `fault`."""
    claim = Claim(file)
    try:
        claim.text = read_bounded(file, LIMIT).decode("utf-8-sig")
        table = json.loads(claim.text, parse_float=Decimal, parse_int=_whole, parse_constant=_constant)
    except FileError as error:
        claim.fault = str(error)
        return claim
    except (ValueError, ArithmeticError, RecursionError) as error:
        claim.fault = f"is not JSON: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        return claim
    if not isinstance(table, dict):
        claim.fault = "holds no JSON object"
        return claim
    _read_headline(claim, table)
    _read_seeds(claim, table)
    _read_labels(claim, table)
    return claim


def _whole(digits: str) -> Decimal:
    return Decimal(digits) if len(digits) < 40 else Decimal("Infinity")


def _constant(name: str) -> Decimal:
    return Decimal("NaN") if name == "NaN" else Decimal("Infinity")


def _number(value: Any) -> Decimal | None:
    """A number, or a string that begins with one ("1.0856 +- 0.0007", "15,940,380 bytes"), with its decimals."""
    if isinstance(value, str):
        match = _NUMBER.match(value[:LONGEST_KEY] + " ")
        try:
            value = Decimal(re.sub(r"[_,]", "", match[1])) if match else None
        except InvalidOperation:
            return None
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    if len(value.as_tuple().digits) > MOST_DIGITS:
        value = Context(prec=MOST_DIGITS).plus(value)
    return value if SMALLEST < value < 10**15 else None


def _normal(key: str) -> str:
    key = key[:LONGEST_KEY]
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()).strip("_")


def _leaves(table: dict[str, Any], depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """(normal key with its parents, key as written, value) of a claim about this submission, the shallow ones first."""
    deeper: list[tuple[str, dict[str, Any]]] = []
    for key, value in table.items():
        normal = _normal(key)
        of_seeds = "seed" in normal or normal.isdecimal() or (_SEEDS.search(normal) and not isinstance(value, dict))
        if of_seeds or _ELSEWHERE.search(normal) or _SEED_KEY.search(normal):
            continue
        if isinstance(value, dict):
            deeper.append((normal, value))
        else:
            yield normal, key, value
    if depth < DEEPEST:
        for parent, value in deeper:
            for normal, key, leaf in _leaves(value, depth + 1):
                yield f"{parent}_{normal}"[: 3 * LONGEST_KEY], key, leaf


def _read_headline(claim: Claim, table: dict[str, Any]) -> None:
    found: dict[str, list[tuple[int, Decimal, str]]] = {  # rank, value, key
        "val_bpb": [],
        "val_loss": [],
        "artifact_bytes": [],
        "code_bytes": [],
    }
    for normal, key, value in _leaves(table):
        number = _number(value)
        if number is None:
            continue
        mean = bool(re.search(r"(?:^|_)(?:mean|avg|average)(?:_|$)", normal))
        rank = 2 if normal in ("val_bpb", "val_loss") else int(mean)
        if _BPB.search(normal) and number < LARGEST:
            found["val_bpb"].append((rank, number, key))
        elif _LOSS.search(normal) and number < LARGEST:
            found["val_loss"].append((rank, number, key))
        elif _TOTAL.search(normal) and not _PART_OF_TOTAL.search(normal) and number == number.to_integral_value():
            found["artifact_bytes"].append(("total" in normal, number, key))
    for what, values in found.items():
        if values:
            chosen = max(values, key=lambda one: one[0])  # the first of the highest rank: what the leaderboard shows
            if (
                what == "val_loss" and claim.val_bpb is not None
            ):  # only the loss of the same line says anything of the bpb
                partner = _normal(claim.keys["val_bpb"]).replace("bpb", "loss")
                chosen = next((one for one in values if _normal(one[2]) == partner), (0, Decimal(0), ""))
            if chosen[1]:
                setattr(claim, what, int(chosen[1]) if what.endswith("_bytes") else chosen[1])
                claim.keys[what] = chosen[2]
            if what == "val_bpb" and not chosen[0]:
                claim.other_bpbs = [(number, key) for _, number, key in values if key != chosen[2]]


def _read_seeds(claim: Claim, table: dict[str, Any]) -> None:
    """Every seed that the JSON names as one of its own, with what it says of it."""
    for key, value in table.items():
        normal = _normal(key)
        if _ELSEWHERE.search(normal) and not _SEED_KEY.search(normal):
            continue
        if match := _SEED_KEY.search(normal):  # seed_42_val_bpb: 1.08, or seed_42: {...}
            _say(claim, int(match[1]), key, value)
        elif normal == "seed":
            if (seed := _seed(value)) is not None:
                _say(claim, seed, key, None)
        elif _SEEDS.search(normal) or _BPB.search(normal) or normal in ("metrics", "evaluation", "evidence"):
            _walk_seeds(claim, normal, value, 0)
    for key, value in table.items():  # val_bpbs: [1.08, 1.09] beside seeds: [42, 7]
        if isinstance(value, list) and re.search(r"bpbs?(?:_|$)", _normal(key)) and len(value) == len(claim.seeds):
            for seed, item in zip(list(claim.seeds), value, strict=True):
                _say(claim, seed, key, {"val_bpb": item})


def _walk_seeds(claim: Claim, key: str, value: Any, depth: int) -> None:
    """Seeds in a list or a table. Bare numbers are seeds only where a key above says so: a stride of 64 is none."""
    if depth > DEEPEST or len(claim.seeds) >= MOST_SEEDS:
        return
    of_seeds = re.search(r"(?:^|_)seeds?(?:_|$)", key) is not None
    if isinstance(value, list):
        for item in value[:MOST_SEEDS]:
            if isinstance(item, dict):
                _walk_seeds(claim, key, item, depth + 1)
            elif of_seeds and not _BPB.search(key) and (seed := _seed(item)) is not None:
                _say(claim, seed, key, None)
    elif isinstance(value, dict):
        if (seed := _seed(value.get("seed"))) is not None:
            _say(claim, seed, key, value)
            return
        for name, item in value.items():
            normal = _normal(name)
            match = re.fullmatch(r"(?:seed_?|s_?)?(\d{1,18})", normal)
            named = match is not None and (of_seeds or normal.startswith("seed"))
            whole = isinstance(item, Decimal) and item == item.to_integral_value()
            if isinstance(item, dict) and _seed(item.get("seed")) is not None:
                _walk_seeds(claim, key, item, depth + 1)
            elif named and whole and (seed := _seed(item)) is not None:  # "seed1": 42
                _say(claim, seed, name, None)
            elif named and match and (isinstance(item, dict) or _number(item) is not None):
                _say(claim, int(match[1]), name, item if isinstance(item, dict) else {_named(key): item})
            elif isinstance(item, (dict, list)) and not _ELSEWHERE.search(normal):
                below = normal if _SEEDS.search(normal) else key
                _walk_seeds(
                    claim, f"{below}_seed" if of_seeds and not _SEEDS.search(normal) else below, item, depth + 1
                )


def _named(key: str) -> str:
    """What a bare number in a table of seeds is: a loss where the table says so, else a bpb."""
    return "val_loss" if _LOSS.search(key) and not _BPB.search(key) else "val_bpb"


def _seed(value: Any) -> int | None:
    number = _number(value)
    if number is None and value in (0, Decimal(0), "0") and not isinstance(value, bool):
        return 0
    return int(number) if number is not None and number == number.to_integral_value() else None


def _say(claim: Claim, seed: int, key: str, said: Any) -> None:
    """Add what one place says of one seed."""
    if seed not in claim.seeds and len(claim.seeds) >= MOST_SEEDS:
        return
    about = claim.seeds.setdefault(seed, SeedClaim())
    claim.keys.setdefault(f"seed {seed}", key)
    entries = (
        _leaves_of_seed(said) if isinstance(said, dict) else [(_normal(_SEED_KEY.sub("_", key)) or "val_bpb", said)]
    )
    for normal, value in entries:
        number = _number(value)
        if isinstance(value, str) and re.fullmatch(r"log(?:_?file|_path)?|train_log", normal):
            about.log = value
        elif number is None or _ELSEWHERE.search(normal):
            continue
        elif _BPB.search(normal) and number < LARGEST:
            about.val_bpbs.append(number)
        elif _LOSS.search(normal) and number < LARGEST:
            about.val_losses.append(number)


def _leaves_of_seed(table: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(_normal(name), value) for name, value in table.items() if not isinstance(value, (dict, list))]


def _read_labels(claim: Claim, table: dict[str, Any]) -> None:
    """Name, date and what a reader misses or finds in another type than everybody else's."""
    if isinstance(table.get("date"), str) and table["date"].strip():
        claim.date = table["date"].strip()[:200]
    for key in ("name", "author", "date"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            claim.schema.append((key, f"{key} is missing or no text"))
    if claim.val_bpb is None and claim.val_loss is None:
        claim.schema.append(("val_bpb", "no key holds the headline val_bpb as a number"))
    for key in ("val_bpb", "val_loss", "bytes_total"):
        if isinstance(table.get(key), str):
            claim.schema.append((key, f"{key} is a text; a number is expected"))
    if claim.date is not None and not re.match(r"\d{4}-\d\d-\d\d", claim.date):
        claim.schema.append(("date", f"date is {claim.date!r}; expected as YYYY-MM-DD"))
