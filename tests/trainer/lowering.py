"""Compile the trainer for an H100 without a GPU, and count what comes out: `python -m tests.trainer.lowering`.

It changes torch for its whole process (see fake_cuda), so tests start it as a program of its own. The words `halves` and
`muon` choose a part, --json prints everything instead of tables. Where triton is installed, each Triton kernel is compiled
for sm_90 too.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.trainer import fake_cuda
from tests.trainer.conftest import matrices_of
from trainer import train_gpt
from trainer.train_gpt import GPT, MICRO_BATCHES, Gradients, Muon, Settings

RECIPES = {"seq4096": (4096, 393216), "seq2048": (2048, 524288), "baseline": (1024, 524288)}
HAS_TRITON = importlib.util.find_spec("triton") is not None


@dataclass(frozen=True, slots=True)
class Case:
    """What is compiled, on one rank of eight."""

    recipe: str
    attention: str
    layers: int = 9
    tied: bool = True
    deterministic: bool = False

    @property
    def settings(self) -> Settings:
        length, batch = RECIPES[self.recipe]
        return replace(
            Settings(),
            train_seq_len=length,
            train_batch_tokens=batch,
            num_layers=self.layers,
            tie_embeddings=self.tied,
            deterministic=self.deterministic,
        )

    def __str__(self) -> str:
        extra = ("" if self.tied else ", untied") + (", deterministic" if self.deterministic else "")
        return f"{self.recipe}, {self.layers} layers, {self.attention}{extra}"


WORLD_SIZES = (1, 8)  # at which Muon updates
CASES = (
    Case("seq4096", "flash"),
    Case("seq4096", "cudnn", layers=3),
    Case("seq4096", "flash", layers=2, deterministic=True),
    Case("seq2048", "cudnn", layers=2, tied=False),
    Case("baseline", "flash", layers=2),
)


@dataclass(frozen=True, slots=True)
class Graph:
    """One compiled graph, as its source says."""

    name: str
    launches: int  # of Triton kernels
    kernels: int  # different ones
    products: dict[str, int]  # matrix products by name
    attention: dict[str, int]
    float32_logits: int  # float32 buffers of tokens x vocabulary, or as large
    atomics: int  # kernels that add in random order
    moved_mb: int  # read and written by the Triton kernels

    @classmethod
    def of(cls, name: str, lowered: Any, source: str, s: Settings) -> Graph:
        calls = source[source.index("def call(") :]
        wide = re.findall(rf"empty_strided_cuda\(\(([\d, ]+), {s.vocab_size}\), [^)]*\), torch\.float32\)", calls)
        rows = [math.prod(map(int, shape.split(", "))) for shape in wide]
        return cls(
            name,
            launches=len(re.findall(r"triton_\w+\.run\(", calls)),
            kernels=len(kernels_of(source)),
            products=dict(Counter(re.findall(r"extern_kernels\.(\w+)\(", calls))),
            attention=dict(Counter(re.findall(r"ops\.aten\.(_scaled_dot_product_\w+)\.default\(", calls))),
            float32_logits=sum(count >= s.train_seq_len for count in rows),
            atomics=source.count("tl.atomic_add("),
            moved_mb=round(lowered.moved_bytes / 1e6),
        )


@dataclass(slots=True)
class Outcome:
    """What compiling one case showed."""

    case: Case
    graphs: list[Graph] = field(default_factory=list)
    breaks: int = 0
    surprises: list[str] = field(default_factory=list)  # phases that compiled more or fewer graphs than was due
    seams: int = 0  # calls at the seam, one for each backward pass
    misaligned: list[str] = field(default_factory=list)  # parameters that each call would copy to an aligned place
    versions: dict[str, int] = field(default_factory=dict)  # compiled versions of a function, as recompile_limit counts


def kernels_of(source: str) -> dict[str, str]:
    """Return the names of a graph's Triton kernels by their source."""
    found = re.findall(r"^(\w+) = async_compile\.triton\('\w+', '''(.*?)'''", source, re.S | re.M)
    return {kernel: name for name, kernel in found}


class Observer:
    """Makes the trainer's calls of one case, and notes what each of them compiled."""

    def __init__(self, case: Case, model: GPT) -> None:
        self.settings, self.model, self.outcome = case.settings, model, Outcome(case)
        fake_cuda.move(self.model)
        self.model.compile_halves()
        self.gradients = Gradients(self.model)
        for name, p in model.named_parameters():
            if p.storage_offset() * p.element_size() % 16:
                self.outcome.misaligned.append(name)

    def note(self, phase: str, call: Callable[[], None], names: Sequence[str] | None = ()) -> None:
        """Make a call that is to compile one graph for each name, in this order; None names them by their input."""
        del fake_cuda.graphs[:]
        call()
        if names is None:
            shapes = [next(iter(lowered.graph_inputs.values())).get_size() for lowered, _ in fake_cuda.graphs]
            names = [f"{phase}, {tuple(map(int, shape))}" for shape in shapes]
        if len(fake_cuda.graphs) != len(names):
            self.outcome.surprises.append(f"{phase} compiled {len(fake_cuda.graphs)} graphs, not {len(names)}")
        for name, (lowered, source) in zip(names, fake_cuda.graphs, strict=False):
            self.outcome.graphs.append(Graph.of(name, lowered, source, self.settings))
            sources.update(kernels_of(source))

    def inputs(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = count // MICRO_BATCHES // self.settings.train_seq_len, self.settings.train_seq_len
        x = torch.empty(shape, dtype=torch.long, device="cuda")
        return x, torch.empty_like(x)

    def train(self) -> None:
        self.model(*self.inputs(self.settings.train_batch_tokens), self.at_seam).mean().backward()
        self.gradients.add()

    def at_seam(self) -> None:
        self.outcome.seams += 1

    @torch.no_grad()
    def validate(self) -> None:
        self.model(*self.inputs(self.settings.val_batch_size))

    def halves(self) -> None:
        """Train, validate, and train on, as a run does."""
        names = ("front, forward", "back, forward", "back, backward", "front, backward")
        self.note("the first step", self.train, names)
        self.note("the second step", self.train)
        self.note("validation", self.validate, ("front, validation", "back, validation"))
        self.note("validation again", self.validate)
        self.note("the step after it", self.train)
        self.count(front=GPT.front, back=GPT.back)

    def muon(self, world_size: int) -> None:
        """Update twice as rank 0, without the exchange between the ranks. Each shape of a batch is one graph."""
        torch._dynamo.reset()
        self.gradients.reduce(0.0)
        optimizer = Muon(matrices_of(self.model), self.settings.muon_backend_steps, 0, world_size, torch.bfloat16)
        where = f"Muon at world size {world_size}"
        self.note(where, lambda: optimizer.step(0.02, 0.95), None)
        self.note(f"{where}, the second update", lambda: optimizer.step(0.02, 0.95))
        self.count(**{where: train_gpt.orthogonalise})

    def count(self, **functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            self.outcome.versions[name] = len(_debug_get_cache_entry_list(function.__code__))


def lower(case: Case, mode: FakeTensorMode, part: Callable[[Observer], None]) -> Outcome:
    torch._dynamo.reset()
    counters.clear()
    fake_cuda.attention = case.attention
    torch.use_deterministic_algorithms(case.deterministic)
    model = GPT(case.settings)
    with mode:
        observer = Observer(case, model)
        part(observer)
    torch.use_deterministic_algorithms(False)
    observer.outcome.breaks = sum(counters["graph_break"].values())
    return observer.outcome


def muon(observer: Observer) -> None:
    for world_size in WORLD_SIZES:
        observer.muon(world_size)


def compile_kernels() -> dict[str, Any]:
    """Compile every kernel for sm_90 with every configuration that Inductor would try on a GPU."""
    import triton
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.runtime import triton_helpers

    triton_helpers.set_driver_to_gpu = lambda: None
    real, architectures, failed = triton.compile, Counter(), []

    def compile_and_note(*args: Any, target: Any, **named: Any) -> Any:
        binary = real(*args, target=target, **named)
        assert binary.asm["cubin"].startswith(b"\x7fELF")
        architectures[f"sm_{target.arch}"] += 1
        return binary

    triton.compile = compile_and_note
    for source, name in sources.items():
        try:
            getattr(PyCodeCache.load(source), name)._precompile_worker()
        except Exception as error:
            failed.append(f"{name}: {error!r}")
    return {"version": triton.__version__, "kernels": len(sources), "binaries": dict(architectures), "failed": failed}


sources: dict[str, str] = {}  # of all cases: a kernel's name by its source


def table(found: dict[str, Any]) -> str:
    lines = [f"torch {found['torch']}, triton {found['triton'] or 'not installed'}"]
    for outcome in found["cases"]:
        versions = ", ".join(f"{name} {count}" for name, count in outcome["versions"].items())
        said = f"{outcome['breaks']} graph breaks, {len(outcome['surprises'])} recompilations, versions: {versions}"
        lines += ["", f"**{Case(**outcome['case'])}**: {said}", ""]
        lines += [
            "| graph | Triton kernels | launches | they move | matrix products | attention | float32 logits | atomic adds |"
        ]
        lines += ["|---|---:|---:|---:|---|---|---:|---:|"]
        for g in outcome["graphs"]:
            counts = f"{g['kernels']} | {g['launches']} | {g['moved_mb']:,} MB"
            called = [", ".join(f"{count} {name}" for name, count in g[of].items()) for of in ("products", "attention")]
            lines += [f"| {g['name']} | {counts} | {' | '.join(called)} | {g['float32_logits']} | {g['atomics']} |"]
    return "\n".join([*lines, *[f"- {surprise}" for outcome in found["cases"] for surprise in outcome["surprises"]]])


def main() -> None:
    mode, parts = fake_cuda.pretend(), [word for word in sys.argv[1:] if word != "--json"] or ["halves", "muon"]
    train_gpt.all_gather = lambda *_: None
    found: dict[str, Any] = {"torch": torch.__version__, "recompile_limit": torch._dynamo.config.recompile_limit}
    outcomes = [lower(case, mode, Observer.halves) for case in CASES] if "halves" in parts else []
    outcomes += [lower(CASES[0], mode, muon)] if "muon" in parts else []
    found["cases"] = [asdict(outcome) for outcome in outcomes]
    found["triton"] = compile_kernels() if HAS_TRITON else None
    print(json.dumps(found) if "--json" in sys.argv else table(found))


if __name__ == "__main__":
    main()
