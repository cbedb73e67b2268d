"""Train once: `CPU_DTYPE=float32 TRAIN_SEQ_LEN=128 ... python -m benchmarks.plain`."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from benchmarks.plain.artifact import packed, unpacked
from benchmarks.plain.settings import Settings
from benchmarks.plain.training import Training, Validation, now


def timed(seconds: float, steps: int) -> str:
    return f"train_time:{seconds * 1000:.0f}ms step_avg:{seconds * 1000 / max(steps, 1):.2f}ms"


def train(training: Training, validation: Validation) -> None:
    """Do all steps and print their lines."""
    s, seconds, step = training.s, 0.0, 0
    while True:
        capped = 0 < s.max_wallclock_seconds <= seconds
        last = step == s.iterations or capped
        if last or (s.val_loss_every > 0 and step % s.val_loss_every == 0):
            nats, bits = validation(training.compiled)
            print(
                f"step:{step}/{s.iterations} val_loss:{nats:.4f} val_bpb:{bits:.4f} {timed(seconds, step)}", flush=True
            )
        if last:
            return
        began = now()
        loss = training.step(step, seconds)
        seconds += now() - began
        step += 1
        if step <= 10 or (s.train_log_every > 0 and step % s.train_log_every == 0):
            print(f"step:{step}/{s.iterations} train_loss:{loss.item():.4f} {timed(seconds, step)}", flush=True)


def main() -> None:
    s = Settings.of(os.environ)
    kind = "bfloat16" if torch.cuda.is_available() else os.environ.get("CPU_DTYPE", "float32")
    training, validation = Training(s, getattr(torch, kind)), Validation(s)
    if not torch.cuda.is_available():
        print(f"Running on CPU in {kind} on {torch.get_num_threads()} threads", flush=True)
    print(f"model_params:{sum(p.numel() for p in training.model.parameters())}", flush=True)
    training.warm_up()
    train(training, validation)
    path = Path(f"{s.run_id}.int8.ptz")
    path.write_bytes(packed(training.model.state_dict()))
    print(f"Serialized model int8+zlib: {path.stat().st_size} bytes", flush=True)
    training.model.load_state_dict(unpacked(path.read_bytes()))
    began = now()
    nats, bits = validation(training.compiled)
    milliseconds = 1000 * (now() - began)
    print(f"final_int8_zlib_roundtrip val_loss:{nats:.4f} val_bpb:{bits:.4f} eval_time:{milliseconds:.0f}ms")
    print(f"final_int8_zlib_roundtrip_exact val_loss:{nats:.8f} val_bpb:{bits:.8f}")


if __name__ == "__main__":
    main()
