"""val_loss and val_bpb again, from an artifact alone: nothing is trained.

    python -m trainer.evaluate ARTIFACT --data data/datasets/demo_sp1024 --tokenizer data/tokenizers/demo_1024_bpe.model

The artifact carries the settings that rebuild the model; reading it never unpickles code.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("artifact", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", envvar="DATA_PATH", required=True, help="Folder with fineweb_val_*.bin.  [or DATA_PATH]")
@click.option("--tokenizer", envvar="TOKENIZER_PATH", required=True, help="SentencePiece model.  [or TOKENIZER_PATH]")
def main(artifact: Path, data: str, tokenizer: str) -> None:
    """Evaluate ARTIFACT on the validation split."""
    try:
        from trainer.train_gpt import SettingsError
    except ModuleNotFoundError as error:
        raise click.UsageError(f"This needs {error.name}: pip install 'seedproof[trainer]'.") from None

    try:
        val_loss, val_bpb = evaluate(artifact, data, tokenizer)
    except SettingsError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(f"evaluated val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")


def evaluate(artifact: Path, data: str, tokenizer: str) -> tuple[float, float]:
    """(val_loss in nats a token, val_bpb) of an artifact. Raises trainer.train_gpt.SettingsError."""
    import torch

    from trainer import train_gpt

    kept, state = train_gpt.load_artifact(artifact)
    try:
        paths = {"data_path": data, "tokenizer_path": tokenizer}
        settings = train_gpt.Settings(**kept, **paths, train_batch_tokens=train_gpt.SLOTS * kept["train_seq_len"])
        settings.check(world_size=1)
        model = train_gpt.GPT(settings)
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise train_gpt.SettingsError(f"{artifact} is not an artifact of this trainer: {reason}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    token_bytes = train_gpt.TokenBytes.of(train_gpt.load_tokenizer(settings), device)
    validation = train_gpt.Validation(settings, token_bytes, device, rank=0, world_size=1)
    return validation.run(model.to(device))


if __name__ == "__main__":
    main()
