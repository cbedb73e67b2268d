"""What a line of a training log may say.

Every repetition here is bounded or unambiguous, so that no line takes quadratic time, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.reading.metric import Metric, Step

LONGEST = 2**14  # bytes of a line that are read; of a metric or a step line, LONGEST_METRIC
LONGEST_METRIC = 2**11
LONGEST_LABEL = 200

# -- prefixes, steps and numbers

NUMBER = rb"[-+]?(?:\d++(?:\.\d*+)?(?:[eE][-+]?\d++)?|\.\d++|nan|inf(?:inity)?)"
ANSI = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
PREFIX = re.compile(
    rb"(?:\[(?:rank|default)\d+\]:\s*|\[\w{1,20}\] (?=\d{4}-\d\d-\d\d )|\(\w+ pid=\d+[^)]*\)\s*|\d{10,13}(?:\.\d+)?[:\s]\s*|\[\d\d:\d\d:\d\d(?:[.,]\d+)?\]\s*"
    rb"|\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?[:\s-]*(?:[\w.]{1,40} - (?=INFO|DEBUG))?"
    rb"(?:\[?(?:INFO|DEBUG)\]?[:\s-]+)?|(?:train|worker|main)\w{0,20} \| )+"
)
MAY_BE_PREFIXED = frozenset(b"[(\x1b0123456789twm")
STEPS_FAST = re.compile(rb"(?:step:\d+/[^\n]*+(?:\n|\Z))++")  # the usual shape
STEPS = re.compile(
    rb"(?:(?:(?:[Ss]tep|[Ii]ter(?:ation)?)[:= \t][ \t]*\d+[/ \t:,|]|\d+/\d+[ \t:,|]+(?:train_|val_)?loss|s:\d+ t[re]l:)[^\n]*+(?:\n|\Z))++"
)
STEP = re.compile(rb"(?:(?:[Ss]tep|[Ii]ter(?:ation)?)[:= \t][ \t]*|s:)?(\d{1,12})(?:/(\d{1,12}))?(?=[\s:,|]|$)")
STEP_NUMBERS = re.compile(rb"^(?:(?:[Ss]tep|[Ii]ter(?:ation)?)[:= \t][ \t]*|s:)?(\d{1,12})", re.MULTILINE)
STEP_NUMBERS_FAST = re.compile(rb"step:(\d{1,12})/")
WARMUP = re.compile(rb"warmup(?:_step)?[:=]\s*1/")
PAIR = re.compile(
    rb"(?<![\w])([A-Za-z_]\w*+)(?:\s*[:=]\s*|(?<=val_loss)\s+|(?<=val_bpb)\s+|(?<=train_loss)\s+)"
    rb"(" + NUMBER + rb")(?:[ \t]?(ms|s|m)(?![\w.:=]))?(?![\w.])",
    re.IGNORECASE,
)

# -- final metrics

LABEL = re.compile(rb"[A-Za-z][\w.+/-]*(?:[ \t]+[\w.+/-]+)*")
PROGRESS = re.compile(
    rb"(?i:step|iter|epoch|chunk|batch|progress|sliding_eval)\b|(?i:running_|\w{0,40}_chunk)|tt[a-z]{1,2}:"
)
PART = re.compile(rb"(\d{1,9})\s{0,3}/\s{0,3}(\d{1,9})|(\d{1,3}(?:\.\d)?)\s?%|\bstep\s?[:=]", re.IGNORECASE)
BRACKETS = re.compile(rb"\([^()]{0,80}\)|\[[^\[\]]{0,80}\]")  # may be next to a label's words
ASIDE = re.compile(rb"[@:,|][^\s]{0,80}")
DIAGNOSTIC = re.compile(rb"diagnostic|pre[-_ ]?quant", re.IGNORECASE)
PREQUANT = re.compile(r"pre[-_ ]?quant", re.IGNORECASE)  # in a final's label: a diagnostic if a quantized final follows
DECIMALS = re.compile(rb"val_(?:bpb|loss)\s{0,9}[:=\s]\s{0,9}[-+]?\d{1,9}\.(\d+)", re.IGNORECASE)

# -- facts about a run

SEED = re.compile(
    rb"(?:(?:run|random|global|using|training|torch|manual|set|setting|rng|deterministic) ){0,3}(?<![\w-])seed\s{0,9}(?:[:=]|\bis\b|\bto\b|\s)\s{0,9}(\d{1,18})\.?(?:[\s,;]|$)",
    re.IGNORECASE,
)
SEED_IN_STEP = re.compile(rb"(?<![\w-])(?:random_)?seed[:=](\d{1,18})(?![\w.])", re.IGNORECASE)
SEED_WITHIN = re.compile(rb".{0,200}?(?<![\w-])(?:random_)?seed\s?[:=]\s?(\d{1,18})(?![\w.])", re.IGNORECASE)
SEED_AND_RANKS = re.compile(rb"params:\d+ .{0,400}?\bws:(\d{1,6})\b.{0,400}?\bs:(\d{1,18})\b")
GPU = re.compile(rb"\|\s+\d+\s+((?:NVIDIA|AMD|Tesla|GeForce)\b[\w .-]*?)\s{2,}")
CODE = re.compile(
    rb"([\w+]{1,40} )?code size([^:=\n]{0,40})[:=]\s{0,9}(\d[\d,]{0,14})\s?bytes(?: \(([^()\n]{1,40})\))?"
    rb"|artifact:.{0,400}?\bcode:(\d{1,12})\b",
    re.IGNORECASE,
)
UNPACKED = re.compile(rb"un(?:compressed|packed|zipped)|raw|original|plain", re.IGNORECASE)
PACKED = re.compile(rb"compress|pack|zip|zlib|lzma|zstd|brotli|minif", re.IGNORECASE)
SIZES_END = re.compile(rb"\s{0,9}[|;]\s{0,9}|,\s{1,9}")  # of one size in a line of several
SIZE = re.compile(  # in such a line
    rb"(?:[\w+-]{1,40}[ _]){0,3}?(?:(code|script)|(model|weights)|(total|submission|artifact))\b([^:=\n]{0,60})[:=]\s{0,9}(\d[\d,_]{3,14})\s?(?:bytes|B)\b",
    re.IGNORECASE,
)
MODEL = re.compile(rb"Serialized model ([\w+-]{1,40}+)[^:\n]{0,80}:\s{0,9}(\d[\d,]{0,14})\s?bytes")
TOTAL = re.compile(
    rb"(?:(?:total[ _])?(?:submission|artifact)[ _](?:size|bytes)|total (?=[\w+-]{1,40} size))([^:=\n]{0,40})[:=]\s*(\d[\d,_]{4,14})(?:\s?(bytes|B)\b|\s|$)"
    rb"|budget:(\d{5,12})/\d+",
    re.IGNORECASE,
)
NO_TOTAL = re.compile(rb"limit|\bcap\b|budget|remain|before|unpruned|max|allowed", re.IGNORECASE)
END_TIME = re.compile(
    rb"stopping_early.{0,200}?train_time\s?:\s*(\d{1,15}(?:\.\d{1,9})?)(ms|s|m)\b(?:.{0,200}?\bstep:\s*(\d{1,12})/(\d{1,12}))?"
)
EVAL_TIME = re.compile(
    rb"(?:^|[^A-Za-z])eval(?:uation)?[_ ]?(?:time|took|elapsed|duration|seconds|secs)(?:_(?:total|in))?(?:_(ms|s|secs?|seconds|min|minutes))?"
    rb"\s{0,9}[:=]?\s{0,9}(\d{1,15}(?:\.\d{1,9})?)\s?([A-Za-z]{1,12})?",
    re.IGNORECASE,
)
HEADERS = (b"val_bpb:enabled", b"Hyperparameters:", b"train_loader:dataset")  # the first lines of a run
BLOCK = re.compile(rb"(?:-+\s*)?hyper-?parameters\b[\s:-]*$", re.IGNORECASE)
BLOCK_ENTRY = re.compile(rb"\s+([A-Za-z_]\w*)\s*[:=]\s?(.*)$")
TOKEN = re.compile(rb"([A-Za-z_]\w*)[:=](\S+)")
TOKENS = re.compile(rb"(?:[A-Za-z_]\w*+[:=]\S++(?:\s++|$))+")
FACTS: tuple[tuple[bytes, str, type, re.Pattern[bytes]], ...] = (
    # a word that the line must hold, the fact, its type, its pattern
    (b"world_size", "world_size", int, re.compile(rb".{0,200}?\bworld_size\s?[:=]\s?(\d{1,6})\b")),
    (b"params", "model_params", int, re.compile(rb"(?:model_)?params\s?[:=]\s?(\d{1,15})\b")),
    (b"val_tokens", "val_tokens", int, re.compile(rb"\s*val_tokens\s?[:=]\s?(\d{1,15})\b")),
    (b"val_loader:", "val_tokens", int, re.compile(rb"val_loader:.{0,900}?\btokens:(\d{1,15})")),
    (b"DataLoader:", "val_tokens", int, re.compile(rb"Validation DataLoader: .{0,80}?tokens: (\d{1,15})")),
    (b"DataLoader:", "train_shards", int, re.compile(rb"Training DataLoader: .{0,80}? across (\d{1,9}) files")),
    (b"train_shards", "train_shards", int, re.compile(rb".{0,200}?\btrain_shards\s?[:=]\s?(\d{1,9})\b")),
    (b"ython", "python", str, re.compile(rb"(?:Running )?[Pp]ython[ :=]+(\d[\w.+]*)")),
    (b"orch", "torch", str, re.compile(rb"(?:Running )?(?:[Pp]y)?[Tt]orch(?:[_ ]version)?[ :=]+(\d[\w.+]*)")),
    (b"device_name", "gpu", str, re.compile(rb".{0,80}?device_name=([\w .-]{1,80}?)(?= with |$|,)")),
    (b"train_loader:", "dataset", str, re.compile(rb"train_loader:dataset:(\S+)")),
    (b"train_loader:", "train_files", str, re.compile(rb"train_loader:.{0,400}?\bpattern\s?[:=]\s?(\S+)")),
    (b"train_", "train_files", str, re.compile(rb".{0,400}?\btrain_(?:files?|pattern|glob|bin)\s?[:=]\s?(\S+)")),
    (b"data", "dataset", str, re.compile(rb"\s*(?:datasets_dir|data_path)\s?[:=]\s?(\S+)")),
    (b"tokenizer_path", "tokenizer", str, re.compile(rb".{0,400}?\btokenizer_path\s?[:=]\s?(\S+)")),
)
SAYS_SOMETHING = re.compile(
    rb"[Ss](?:eed|ize)|SEED| ws:|_bytes|\d bytes|budget:|artifact|" + b"|".join({word for word, *_ in FACTS})
)
MS = {b"ms": 1.0, b"s": 1000.0, b"m": 60_000.0}
MS_IN_WORDS = MS | {
    b"milliseconds": 1.0,
    **dict.fromkeys((b"sec", b"secs", b"second", b"seconds"), 1000.0),
    **dict.fromkeys((b"min", b"mins", b"minute", b"minutes"), 60_000.0),
}


def as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def as_integer(digits: bytes) -> int:
    return int(digits.replace(b",", b"").replace(b"_", b""))


def line_around(text: bytes, position: int) -> bytes:
    start = text.rfind(b"\n", 0, position) + 1
    end = text.find(b"\n", position)
    return text[start : len(text) if end < 0 else end]


def normalised(raw: bytes) -> bytes:
    """Return the line without terminal codes, prefixes and blanks around it: the same object where it has none."""
    line = raw.strip()
    if b"\r" in line:
        line = line.rsplit(b"\r", 1)[1]
    if b"\x1b" in line:
        line = ANSI.sub(b"", line).strip()
    if line and line[0] in MAY_BE_PREFIXED and (prefix := PREFIX.match(line)):
        line = line[prefix.end() :].strip()
    return raw if line == raw else line


def read_pairs(line: bytes) -> dict[bytes, tuple[float, bytes]]:
    """Return every name:number of a line with its unit (ms, s, m or none). Of a name printed twice, the first counts."""
    return {name.lower(): (float(value), unit or b"") for name, value, unit in reversed(PAIR.findall(line))}


LOSSES = (  # the names of a Step's numbers; of several, the first that a line prints counts
    (b"train_loss", b"loss", b"trl"),
    (b"val_loss", b"tel"),
    (b"val_bpb",),
)


TIMES = (  # likewise; the unit is behind the number or at the end of the name
    (b"train_time", b"t", b"train_time_ms", b"train_time_s"),
    (b"step_avg", b"avg", b"step_avg_ms", b"step_avg_s"),
)


def _unit(name: bytes, printed: bytes) -> bytes:
    return printed.lower() or name.rpartition(b"_")[2]


def read_steps(first: int, text: bytes) -> Iterator[Step]:
    """Yield the steps of lines that begin on line `first`."""
    for number, line in enumerate(text.split(b"\n"), start=first):
        step = read_step(line, number)
        if step is not None:
            yield step


def read_step(line: bytes, number: int) -> Step | None:
    """Read a step line, which is line `number` of its log; None for any other line."""
    match = STEP.match(line)
    if match is None:
        return None
    pairs = read_pairs(line[match.end() : LONGEST_METRIC])
    train_loss, val_loss, val_bpb = (next((pairs[n][0] for n in names if n in pairs), None) for names in LOSSES)
    time, average = (
        next((pairs[n][0] * MS[unit] for n in names if n in pairs and (unit := _unit(n, pairs[n][1])) in MS), None)
        for names in TIMES
    )
    return Step(
        step=int(match[1]),
        line=number,
        train_loss=train_loss,
        val_loss=val_loss,
        val_bpb=val_bpb,
        train_time_ms=time,
        step_avg_ms=average,
    )


def read_eval_times(line: bytes) -> list[float]:
    """Return in ms how long evaluations took that a line speaks of. A time without a unit is unknown."""
    units = (
        (found[2], found[3] or found[1] or (b"s" if b"sec" in found[0].lower() else b""))
        for found in EVAL_TIME.finditer(line[:LONGEST_METRIC])
    )
    return [float(time) * MS_IN_WORDS[unit.lower()] for time, unit in units if unit.lower() in MS_IN_WORDS]


def read_metric(line: bytes) -> Metric | None:
    """Read a final-metric line; None for any other line. The caller sets the metric's line."""
    line = line.lstrip(b"=>*-# ")
    if len(line) > LONGEST_METRIC or b"val_bpb" not in line or b"val_loss" not in line or PROGRESS.match(line):
        return None
    between = line[: min(line.index(b"val_loss"), line.index(b"val_bpb"))]
    words = BRACKETS.sub(b" ", between).strip() or between.replace(b"[", b" ").replace(b"]", b" ")
    first = PAIR.search(words)
    words = ASIDE.sub(b" ", words[: first.start()] if first else words)
    label = b" ".join(words.strip(b" \t:|-").split())
    pairs = read_pairs(line)
    if len(label) > LONGEST_LABEL or not LABEL.fullmatch(label) or b"val_loss" not in pairs or b"val_bpb" not in pairs:
        return None
    is_final = label.lower().startswith(b"final")
    if any(_is_part(part, is_final) for part in PART.finditer(between)):
        return None
    printed = [len(decimals) for decimals in DECIMALS.findall(line)]
    return Metric(
        label=as_text(label),
        val_loss=pairs[b"val_loss"][0],
        val_bpb=pairs[b"val_bpb"][0],
        decimals=max(printed, default=0),
        fewest_decimals=min(printed, default=0),
        line=0,
        diagnostic=not is_final and bool(DIAGNOSTIC.search(between)),
        others={as_text(name): number for name, (number, _) in pairs.items() if name not in (b"val_loss", b"val_bpb")},
    )


def _is_part(part: re.Match[bytes], is_final: bool) -> bool:
    """Whether a fraction or a step shows an evaluation still under way; 12/12 and 100 % do not."""
    if part[1] is not None:
        return int(part[1]) != int(part[2])
    return float(part[3]) < 100 if part[3] is not None else not is_final
