"""Fetch published token shards and their tokenizer from the Hugging Face Hub.

The repository's listing at one commit gives the path, size and digest of every file. A file grows in a staging folder
and moves to its final name only after it was checked. A stopped fetch keeps the parts, and the same command continues
them. The manifest is written after every file.

huggingface_hub does the transfers, with its mirrors (HF_ENDPOINT), tokens (HF_TOKEN) and proxies. Its hf_hub_download
starts a file over in every process (its issue 4196). The function below it, http_get, continues one.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from click import ClickException, UsageError
from huggingface_hub import HfApi, constants, errors, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from trainer.shards import MANIFEST, DatasetError, counts, file_digest, record, shard_fault

REPOSITORY = "willdepueoai/parameter-golf"
SHARD = re.compile(r"(?:^|/)(datasets/fineweb10B_([\w.-]+)/fineweb_(train|val)_\d+\.bin)$")
DEFAULT_SHARDS = 80
WORKERS = 8
PAUSES_S = (2, 10)  # before the second and third try
STAGING = ".fetch"
HINT = "Check HF_ENDPOINT and HF_TOKEN, or run the same command again: it continues what arrived."

constants.HF_HUB_DISABLE_TELEMETRY = True  # it would tell the server which packages are installed

Entry = dict[str, Any]  # of the manifest
Say = Callable[[str], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One published file: its local path, where it grows, its path in the repository, its size and its digest."""

    path: Path
    part: Path
    remote: str
    size: int
    digest: str  # SHA-256, or git's SHA-1 of a small file that git itself stores

    @property
    def arrived(self) -> int:
        """Return the bytes of the part."""
        return self.part.stat().st_size if self.part.exists() else 0

    def entry(self, path: Path) -> Entry:
        """Return the manifest entry of a copy. Raise DatasetError if it differs from the published file."""
        if (size := path.stat().st_size) != self.size:
            raise DatasetError(f"it has {size} bytes, the published file has {self.size}")
        found = sha256 = file_digest(path)
        if len(self.digest) == 40:
            found = hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False).hexdigest()
        if found != self.digest:
            raise DatasetError(f"its digest is {found}, that of the published file is {self.digest}")
        if self.path.suffix == ".bin" and (fault := shard_fault(path)):
            raise DatasetError(f"it is not a shard: {fault.rstrip('.')}")
        return {"bytes": size, "sha256": sha256}

    def entry_here(self, say: Say) -> Entry | None:
        """Return the manifest entry if the published file is here already, else None."""
        try:
            return self.entry(self.path) if self.path.is_file() else None
        except DatasetError as error:
            say(f"{self.path} is fetched again: {error}.")
            return None


class Part(io.BufferedWriter):
    """A growing file that http_get cannot start over: if a server cut every answer, it would do so for ever."""

    def truncate(self, size: int | None = None) -> int:
        raise DatasetError("the server does not continue it")


class Published:
    """The repository at one commit, and the folder `output` for its files."""

    def __init__(self, output: Path, revision: str, say: Say) -> None:
        self.output, self.say, self.api = output, say, HfApi(os.environ.get("HF_ENDPOINT"))
        self.where = f"{self.api.endpoint}/datasets/{REPOSITORY} at {revision!r}"
        ask = {"revision": revision, "files_metadata": True, "timeout": 60}
        info = self.patiently("the listing", lambda: self.api.dataset_info(REPOSITORY, **ask))
        self.commit, self.files = str(info.sha), {file.rfilename: file for file in info.siblings or () if file.size}

    def wanted(self, name: str) -> Wanted:
        """Find the file with the local name `name` in any folder of the repository."""
        remote = min((path for path in self.files if f"/{path}".endswith(f"/{name}")), key=len, default=None)
        if remote is None:
            raise ClickException(f"{self.where}: commit {self.commit} lists no {name}. Try another --revision.")
        file = self.files[remote]
        digest = file.lfs.sha256 if file.lfs else str(file.blob_id)
        part = self.output / STAGING / f"{Path(name).name}.{digest}"
        return Wanted(self.output / name, part, remote, file.size, digest)

    def shards(self, variant: str, split: str) -> list[str]:
        """Return the local names of a split's shards, in order."""
        found = [match.groups() for match in map(SHARD.search, sorted(self.files)) if match]
        if variant not in (known := {each for _, each, _ in found}):
            raise UsageError(f"{self.where} has no variant {variant!r}. It has: {', '.join(sorted(known)) or 'none'}.")
        return [name for name, *rest in found if rest == [variant, split]]

    def described(self, dataset_name: str) -> tuple[Entry, Entry]:
        """Return the published manifest's entries of the dataset and of its tokenizer."""
        self.transfer(file := self.wanted(MANIFEST))
        try:
            manifest = json.loads(file.part.read_bytes())
            dataset = {entry["name"]: entry for entry in manifest["datasets"]}[dataset_name]
            tokenizer = {entry["name"]: entry for entry in manifest["tokenizers"]}[dataset["tokenizer_name"]]
            return dataset, {**tokenizer, "model_path": f"tokenizers/{Path(tokenizer['model_path']).name}"}
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            said = f"{self.where}: its {MANIFEST} does not describe {dataset_name}: {error!r}. Try another --revision."
            raise ClickException(said) from None

    def transfer(self, file: Wanted) -> Entry:
        """Complete the part of a published file and return its manifest entry."""
        url = hf_hub_url(REPOSITORY, file.remote, repo_type="dataset", revision=self.commit, endpoint=self.api.endpoint)

        def bring() -> Entry:
            try:
                with Part(io.FileIO(file.part, "ab" if file.arrived <= file.size else "wb")) as part:
                    http_get(url, part, resume_size=part.tell(), expected_size=file.size, headers=build_hf_headers())
                    part.flush()
                    os.fsync(part.fileno())
                return file.entry(file.part)
            except DatasetError as error:
                file.part.unlink()
                raise DatasetError(f"it arrived damaged: {error}") from None

        return self.patiently(file.remote, bring)

    def patiently(self, what: str, call: Callable[[], T]) -> T:
        """Call up to three times and return the result. Raise ClickException if the server fails every time.

        Answers that would not change (not found, not allowed) and faults of the local disk are not retried.
        """
        pauses = iter(PAUSES_S)
        while True:
            lasting = False
            try:
                return call()
            except errors.RevisionNotFoundError:
                raise UsageError(f"{self.where}: no such revision. Name a branch, a tag or a commit.") from None
            except (DatasetError, errors.HTTPError, OSError, RuntimeError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise  # the local disk's
                code = getattr(getattr(error, "response", None), "status_code", 0)
                lasting = isinstance(error, errors.OfflineModeIsEnabled) or (0 < code < 500 and code not in (408, 429))
                said = (str(error) or repr(error)).splitlines()[0].rstrip(".")
                reason = f"the server answered {code}" if code else said
            except (ValueError, KeyError, TypeError) as error:  # for example a proxy's page
                reason, lasting = f"the answer is not a Hub's: {error!r}", True
            if lasting or (pause := next(pauses, None)) is None:
                raise ClickException(f"{self.where}: {what}: {reason}. {HINT}")
            self.say(f"{self.where}: {what}: {reason}. Trying again in {pause} s.")
            time.sleep(pause)


def fetch_published(output: Path, variant: str, shards: int | None, revision: str, say: Say) -> None:
    """Fetch the variant's tokenizer, its validation shards and at least `shards` training shards into `output`.

    Training shards beyond that number that are here are checked too: the trainer reads every shard it finds, and all
    must come from one commit.
    """
    published = Published(output, revision, say)
    train, val = (published.shards(variant, split) for split in ("train", "val"))
    if shards and shards > len(train):
        raise UsageError(f"{variant} has {len(train)} training shards; got --shards {shards}.")
    with locked(output):
        dataset, tokenizer = published.described(f"fineweb10B_{variant}")
        say(f"{published.where}: commit {published.commit[:12]}, {len(train)} training shards of {dataset['name']}.")
        count, source = shards or DEFAULT_SHARDS, {"repository": REPOSITORY, "revision": revision}
        train = [name for number, name in enumerate(train) if number < count or (output / name).exists()]
        wanted = {name: published.wanted(name) for name in (tokenizer["model_path"], *val, *train)}
        for here in fetch_files(published, wanted):
            held = counts(here)
            about = {**dataset, "source": {**source, "commit": published.commit}, "stats": held}
            record(output, about, tokenizer, here)
    what = f"{held['files_train']} training and {held['files_val']} validation shards of {dataset['name']}"
    say(f"{output} holds {what} ({held['tokens_train']:,} and {held['tokens_val']:,} tokens).")


def fetch_files(published: Published, wanted: dict[str, Wanted]) -> Iterator[dict[str, Entry]]:
    """Bring the files that are not here, several at a time. Yield the entries of all that are, after each."""
    output, say = published.output, published.say
    pool = ThreadPoolExecutor(WORKERS)
    try:
        found = pool.map(lambda file: file.entry_here(say), wanted.values())
        here = {name: entry for name, entry in zip(wanted, found, strict=True) if entry}
        missing = {name: file for name, file in wanted.items() if name not in here}
        need = sum(file.size - file.arrived for file in missing.values())
        if need > (free := shutil.disk_usage(output).free):
            lack = f"{need / 1e6:,.1f} MB for {len(missing)} files and has {free / 1e6:,.1f} MB free"
            raise ClickException(f"{output} needs {lack}. Make room, or ask for fewer --shards.")
        say(f"{len(here)} of {len(wanted)} files are here and whole; fetching {len(missing)}, {need / 1e6:,.1f} MB.")
        for file in missing.values():
            file.path.unlink(missing_ok=True)  # the trainer reads every shard it finds
        if here:
            yield here
        jobs = {pool.submit(published.transfer, file): name for name, file in missing.items()}
        for number, job in enumerate(as_completed(jobs), 1):
            entry, name, file = job.result(), jobs[job], missing[jobs[job]]
            file.path.parent.mkdir(parents=True, exist_ok=True)
            file.part.replace(file.path)
            here[name] = entry
            yield here
            say(f"[{number}/{len(missing)}] {name}: {file.size / 1e6:,.1f} MB")
    finally:
        pool.shutdown(cancel_futures=True)  # after a failure, waits for the transfers that run: their parts are kept


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Lock the directory for one fetch, and make the folder of the parts, which only a failed fetch leaves."""
    (output / STAGING).mkdir(parents=True, exist_ok=True)
    handle = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        yield
        shutil.rmtree(output / STAGING)
    except BlockingIOError:
        raise ClickException(f"Another fetch is writing to {output}. Wait for it, or name another --output.") from None
    finally:
        os.close(handle)
