"""The README for a package index, where links into the repository need its address. All else is in pyproject.toml."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def absolute(readme: str, project: dict) -> str:
    """Return the README with links to the files of this version, images as such."""
    source, tag = project["urls"]["Source"], f"v{project['version']}"
    pattern = r"(!?)(\[[^\]]*\])\((?!https://|#)([^)\s]+)\)"
    kinds = {"!": "raw", "": "blob"}
    return re.sub(pattern, lambda m: f"{m[1]}{m[2]}({source}/{kinds[m[1]]}/{tag}/{m[3]})", readme)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = absolute((ROOT / "README.md").read_text(encoding="utf-8"), project)
    setup(long_description=readme, long_description_content_type="text/markdown")
