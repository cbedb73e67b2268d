"""The training side: one standalone trainer, its recipes and its data. Imports nothing from the other packages."""

import re
import sys
from importlib.util import find_spec

COMMANDS = ("dataset", "evaluate", "train_gpt")
NEAREST = {"corpus": ["dataset build"], "fetch": ["dataset fetch"], "shards": ["dataset verify"]}


def _refuse_non_commands() -> None:
    """Exit with 2 if `python -m trainer.NAME` names a module that does nothing when run; Python would exit with 0.

    While Python looks for the module, argv[0] is "-m", and NAME is the word before the arguments in orig_argv.
    """
    word = sys.orig_argv[-len(sys.argv) :][:1] if sys.argv[:1] == ["-m"] else []
    named = re.fullmatch(r"(?:-\w*?m)?trainer\.(.+)", "".join(word))  # `-mtrainer.NAME` is one word
    if named and named[1] not in COMMANDS:
        uses = " or ".join(f"`python -m trainer.{use}`" for use in NEAREST.get(named[1], COMMANDS))
        print(f"trainer.{named[1]} is not a command: use {uses}.", file=sys.stderr)
        raise SystemExit(2)
    for package in ("torch", "sentencepiece") if named and named[1] == "train_gpt" else ():
        if find_spec(package) is None:
            print(f"trainer.train_gpt needs {package}: pip install 'seedproof[trainer]'.", file=sys.stderr)
            raise SystemExit(2)


_refuse_non_commands()
