"""Compile for an H100 on a machine without a GPU.

A fake tensor has a shape, a type and a device, but no memory. With fake tensors on "cuda" the compiler runs as on a GPU:
Dynamo, AOTAutograd, the partition into forward and backward, and Inductor down to the Triton source. Three things
need a GPU, so `pretend` replaces them for the rest of the process:

- what the device says of itself (`H100`), and the C++ objects that guard a device and name the accelerator;
- the choice of attention's kernel: `attention` says which;
- running a compiled graph: it returns fake outputs, and `graphs` keeps its source.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._functorch.aot_autograd as aot_autograd
import torch._guards as guards
import torch._inductor.graph as inductor_graph
import torch.utils._triton as triton_utils
from torch import Tensor, nn
from torch._C import DispatchKey
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import config
from torch._inductor.fx_passes.joint_graph import UniformValueConstantFolder
from torch._inductor.ir import NoneAsConstantBuffer
from torch._subclasses import fake_tensor

H100 = types.SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132, warp_size=32,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
    shared_memory_per_block=49152, shared_memory_per_block_optin=232448, shared_memory_per_multiprocessor=233472,
    L2_cache_size=50 << 20, gcnArchName="", is_integrated=0,
)  # fmt: skip

# torch's own fake of a device for its tests, and an answer to "is CUDA the accelerator?" (the object holds no data).
GUARD = """
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <cstring>
static c10::impl::FakeGuardImpl<c10::DeviceType::CUDA> guard;
struct Hooks : at::CUDAHooksInterface {
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};
static Hooks hooks;
static bool done = [] {
  c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)].store(&guard);
  std::memcpy((void*)&at::detail::getCUDAHooks(), (void*)&hooks, sizeof(void*));
  return true;
}();
"""

aten = torch.ops.aten
attention = "flash"  # or "cudnn"
graphs: list[tuple[Any, str]] = []  # of each compiled graph: Inductor's graph, and its Python and Triton source


def pretend() -> fake_tensor.FakeTensorMode:
    """Change this process as the module's docstring says, and return the mode that makes tensors fake."""
    load_guard()
    name_device()
    choose_attention()
    stop_before_running()
    accept_fake_inputs()
    return fake_tensor.FakeTensorMode(allow_non_fake_inputs=True)


def load_guard() -> None:
    """Without it, autograd aborts on a tensor of a device that is not there."""
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "guard.cpp"), Path(folder, "guard.so")
        source.write_text(GUARD)
        flags = ["-std=c++20", "-shared", "-fPIC", f"-I{root / 'include'}", f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
        subprocess.run(["c++", str(source), "-o", str(library), *flags], check=True)
        ctypes.CDLL(str(library))


def name_device() -> None:
    """Let torch see one H100."""
    answers = {"is_available": True, "device_count": 1, "current_device": 0, "get_device_properties": H100}
    answers |= {"get_device_capability": (9, 0), "get_device_name": H100.name, "_exchange_device": 0}
    answers |= {"_maybe_exchange_device": 0, "set_rng_state": None, "_lazy_init": None, "synchronize": None}
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.get_rng_state = lambda *_, **__: torch.zeros(1)
    for place in (CudaInterface, CudaInterface.Worker):
        for name in ("device_count", "current_device", "get_device_properties"):
            setattr(place, name, staticmethod(getattr(torch.cuda, name)))
    CudaInterface.get_compute_capability = staticmethod(lambda *_: 90)
    fake_tensor.FakeTensorMode.avoid_device_init = True
    fake_tensor.init_gpu_context = lambda *_: None


def choose_attention() -> None:
    """Call the kernel named by `attention`, with the arguments that torch's own choice gives it on CUDA."""

    @aten.scaled_dot_product_attention.default.py_impl(DispatchKey.CompositeImplicitAutograd)
    def attend(
        q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        if attention == "flash":
            scale = q.size(-1) ** -0.5 if scale is None else scale
            return aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal, scale=scale)[0]
        with_sums = torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v))
        call = aten._scaled_dot_product_cudnn_attention
        return call(q, k, v, attn_mask, with_sums, dropout_p, is_causal, scale=scale)[0]


def stop_before_running() -> None:
    """Keep each graph's source instead of loading it, compile in this process, and read no cache."""
    config.compile_threads, config.force_disable_caches = 1, True
    inductor_graph.GraphLowering._compile_to_module = keep
    torch._inductor.scheduler.has_triton = lambda: True
    triton_utils.triton_hash_with_backend = lambda: ""  # asks the driver
    fold = UniformValueConstantFolder._deduce_value

    def fold_on_cpu(self: Any, node: torch.fx.Node) -> Any:
        """Fold a constant of one element: the only real computation while compiling."""
        before = node.kwargs
        if "device" in before:
            node.kwargs = {**before, "device": torch.device("cpu")}
        try:
            return fold(self, node)
        finally:
            node.kwargs = before

    UniformValueConstantFolder._deduce_value = fold_on_cpu


def keep(self: Any) -> types.SimpleNamespace:
    """Replace GraphLowering._compile_to_module."""
    source = self.codegen()[0].value
    graphs.append((self, source))
    self.moved_bytes = sum(node.get_read_write_buffers_sizes() for node in self.scheduler.nodes if not node.is_extern())
    self.cache_key, self.cache_path, self.cache_linemap = "", "", []

    def fake(output: Any) -> Tensor | None:
        if isinstance(output, NoneAsConstantBuffer):
            return None
        shape, stride = ([int(n) for n in sizes] for sizes in (output.get_size(), output.get_stride()))
        return torch.empty_strided(shape, stride, dtype=output.get_dtype(), device=output.get_device())

    def call(arguments: list[Any]) -> list[Tensor | None]:
        arguments.clear()
        return [fake(output) for output in self.graph_outputs]

    return types.SimpleNamespace(call=call, __file__="")


def accept_fake_inputs() -> None:
    """Let torch before 2.13 copy fake inputs into the compiler's own mode, as later releases do."""
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13):
        return
    detect, process = guards.detect_fake_mode, aot_autograd.process_inputs
    guards._detect = types.FunctionType(detect.__code__, detect.__globals__, "_detect", detect.__defaults__)

    def detect_fake_mode(inputs: Any = None) -> Any:
        context = TracingContext.try_get()  # noqa: F821 - a name of torch._guards
        return context.fake_mode if context and context.fake_mode else _detect(inputs)  # noqa: F821

    detect.__code__ = detect_fake_mode.__code__  # other modules hold the function itself

    def process_inputs(inputs: list[Any], setup: Any, mode: Any, *rest: Any, **named: Any) -> Any:
        inputs = [
            mode.from_tensor(x) if isinstance(x, fake_tensor.FakeTensor) and x.fake_mode is not mode else x
            for x in inputs
        ]
        return process(inputs, setup, mode, *rest, **named)

    aot_autograd.process_inputs = process_inputs


def move(model: nn.Module) -> None:
    """Put a real model onto the device that is not there."""
    empty: Callable[[Tensor], Tensor] = partial(torch.empty_like, device="cuda")
    for module in model.modules():
        for name, p in module._parameters.items():
            module._parameters[name] = None if p is None else nn.Parameter(empty(p))
        for name, buffer in module._buffers.items():
            module._buffers[name] = empty(buffer)
