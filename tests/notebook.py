"""The notebook docs/notebook.ipynb: run its cells without Jupyter, in the folder of the documents' examples.

python -m tests.notebook        # write what its cells give into it again
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from tests import examples
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "notebook.ipynb"
MIMES = {"text/html": "_repr_html_", "image/svg+xml": "_repr_svg_", "text/plain": "__repr__"}


def run(notebook: dict[str, Any]) -> None:
    """Run the cells in order in the working directory, and put into each what it gives."""
    names: dict[str, Any] = {}
    for count, cell in enumerate((one for one in notebook["cells"] if one["cell_type"] == "code"), start=1):
        cell["execution_count"] = count
        cell["outputs"] = outputs("".join(cell["source"]), names, count)


def outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell, and return what it prints and the value of its last line."""
    *body, last = ast.parse(source).body
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(body, []), "cell", "exec"), names)  # noqa: S102
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
        else:
            exec(compile(source, "cell", "exec"), names)  # noqa: S102
    said = (
        [{"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())}] if printed.getvalue() else []
    )
    return said + ([shown(value, count)] if value is not None else [])


def shown(value: Any, count: int) -> dict[str, Any]:
    """Return a value in the forms that a notebook stores."""
    forms = {mime: getattr(value, name)() for mime, name in MIMES.items() if hasattr(value, name)}
    data = {mime: lines(form) for mime, form in forms.items() if form is not None}
    if "image/svg+xml" in data:
        del data["text/html"]
    return {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def text_of(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    content = json.loads(PAGE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        examples.write(Path())
        run(content)
    PAGE.write_text(text_of(content), encoding="utf-8")
