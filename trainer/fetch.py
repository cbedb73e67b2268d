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
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from click import ClickException, UsageError

from trainer.shards import MANIFEST, DatasetError, counts, file_digest, record, shard_fault, shard_name

REPOSITORY = "willdepueoai/parameter-golf"
DATASET_PREFIX = "fineweb10B_"
DEFAULT_SHARDS = 80
WORKERS = 8
PAUSES_S = (2, 10)  # before the second and third try
PATIENCE = 3  # give a transfer up after so many times the file's size
STAGING = ".fetch"

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


class Published:
    """The repository at one commit, and the folder `output` for its files."""

    def __init__(self, output: Path, revision: str, say: Say) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from huggingface_hub import HfApi

        self.output, self.say, self.stop = output, say, threading.Event()
        self.api = HfApi(os.environ.get("HF_ENDPOINT"))
        self.where = f"{self.api.endpoint}/datasets/{REPOSITORY} at {revision!r}"
        ask = {"revision": revision, "files_metadata": True, "timeout": 60}
        info = self.patiently("the listing", lambda: self.api.dataset_info(REPOSITORY, **ask))
        self.commit, self.files = str(info.sha), {file.rfilename: file for file in info.siblings or ()}

    def wanted(self, name: str, sha256: str | None = None) -> Wanted:
        """Find the file with the local name `name` in any folder of the repository."""
        found = [file for path, file in self.files.items() if f"/{path}".endswith(f"/{name}") and file.size]
        if not found:
            raise ClickException(f"{self.where}: commit {self.commit} lists no {name}. Try another --revision.")
        file = min(found, key=lambda file: len(file.rfilename))
        digest = sha256 or (file.lfs.sha256 if file.lfs else str(file.blob_id))
        part = self.output / STAGING / f"{Path(name).name}.{digest}"
        return Wanted(self.output / name, part, file.rfilename, file.size, digest)

    def transfer(self, file: Wanted) -> Entry:
        """Complete the part of a published file and return its manifest entry."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(REPOSITORY, file.remote, repo_type="dataset", revision=self.commit, endpoint=self.api.endpoint)
        more = {"expected_size": file.size, "headers": build_hf_headers(), "tqdm_class": self.bounded_bar(file)}

        def bring() -> Entry:
            with open(file.part, "ab") as stream:
                if stream.tell() > file.size:
                    stream.truncate(stream.seek(0))
                http_get(url, stream, resume_size=stream.tell(), **more)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                return file.entry(file.part)
            except DatasetError:
                file.part.unlink()
                raise

        return self.patiently(file.remote, bring)

    def bounded_bar(self, file: Wanted) -> Any:
        """Return huggingface_hub's progress bar, which ends a transfer that is to stop, or that would never end.

        If a server cuts every answer and cannot continue one, huggingface_hub starts the file over and over.
        """
        from huggingface_hub.utils import tqdm

        class BoundedBar(tqdm):
            left = PATIENCE * file.size

            def update(bar, n: float | None = 1) -> bool | None:  # noqa: N805 - self is the repository
                BoundedBar.left -= max(0, int(n or 0))
                if self.stop.is_set() or BoundedBar.left < 0:
                    reason = "stopped" if self.stop.is_set() else "the connection keeps breaking"
                    raise ClickException(f"{self.where}: {file.remote}: {reason}. Run the same command again.")
                return super().update(n)

        return BoundedBar

    def patiently(self, what: str, call: Callable[[], T]) -> T:
        """Call up to three times and return the result. Raise ClickException if the server fails every time.

        Answers that would not change (not found, not allowed) and faults of the local disk are not retried.
        """
        from huggingface_hub import errors

        pauses = iter((*PAUSES_S, None))
        while True:
            pause, hint = next(pauses), "What arrived is kept; run the same command again."
            try:
                return call()
            except errors.RevisionNotFoundError:
                raise UsageError(f"{self.where}: no such revision. Name a branch, a tag or a commit.") from None
            except DatasetError as error:
                reason = f"it arrived damaged: {error}"
            except (errors.HTTPError, OSError, RuntimeError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise  # the local disk's
                code = getattr(getattr(error, "response", None), "status_code", None)
                reason = f"the server answered {code}" if code else (str(error) or repr(error)).splitlines()[0]
                if isinstance(error, errors.OfflineModeIsEnabled) or (code and code < 500 and code not in (408, 429)):
                    pause, hint = None, "Check HF_ENDPOINT, HF_TOKEN and --revision, or run the same command again."
            except (ValueError, KeyError, TypeError) as error:  # for example a proxy's page
                pause, reason, hint = None, f"the answer is not a Hub's: {error!r}", "Check HF_ENDPOINT."
            if pause is None or self.stop.is_set():
                raise ClickException(f"{self.where}: {what}: {reason.rstrip('.')}. {hint}")
            self.say(f"{self.where}: {what}: {reason.rstrip('.')}. Trying again in {pause} s.")
            self.stop.wait(pause)


def described(content: bytes, variant: str, where: str) -> tuple[Entry, Entry, dict[str, str]]:
    """Return the published manifest's entries of the variant's dataset and tokenizer, and its digests."""
    try:
        manifest = json.loads(content)
        datasets = {entry["name"].removeprefix(DATASET_PREFIX): entry for entry in manifest["datasets"]}
        known = ", ".join(sorted(datasets))
        if dataset := datasets.get(variant):
            tokenizer = {entry["name"]: entry for entry in manifest["tokenizers"]}[dataset["tokenizer_name"]]
            digests = {name: entry["sha256"] for name, entry in manifest.get("files", {}).items()}
            numbers = [dataset["stats"][key] for key in ("files_train", "files_val")]
            names = [dataset["name"], Path(tokenizer["model_path"]).name]
            if not all(isinstance(number, int) and number > 0 for number in numbers):
                raise ValueError(f"counts of shards {numbers}")
            if not all(re.fullmatch(r"\w[\w.-]*", name) for name in names):
                raise ValueError(f"names {names}")
            return dataset, {**tokenizer, "model_path": f"tokenizers/{names[1]}"}, digests
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        said = f"{where}: its {MANIFEST} does not describe {variant}: {error!r}. Try another --revision."
        raise ClickException(said) from None
    raise UsageError(f"{where} has no variant {variant!r}. It has: {known}.")


def fetch_published(output: Path, variant: str, shards: int | None, revision: str, say: Say) -> None:
    """Fetch the variant's tokenizer, its validation shards and at least `shards` training shards into `output`.

    Training shards beyond that number that are here are checked too: the trainer reads every shard it finds, and all
    must come from one commit.
    """
    published = Published(output, revision, say)
    with staged(output):
        manifest = published.wanted(MANIFEST)
        published.transfer(manifest)
        dataset, tokenizer, digests = described(manifest.part.read_bytes(), variant, published.where)
        name, of_train, of_val = dataset["name"], dataset["stats"]["files_train"], dataset["stats"]["files_val"]
        if shards and shards > of_train:
            raise UsageError(f"{name} has {of_train} training shards; got --shards {shards}.")
        say(f"{published.where}: commit {published.commit[:12]}, {of_train} training shards of {name}.")
        names = [tokenizer["model_path"], *(shard_name(name, "val", number) for number in range(of_val))]
        train = [shard_name(name, "train", number) for number in range(of_train)]
        count = shards or DEFAULT_SHARDS
        names += [each for number, each in enumerate(train) if number < count or (output / each).exists()]

        source = {"repository": REPOSITORY, "revision": revision, "commit": published.commit}
        here = fetch_files(
            published,
            {each: published.wanted(each, digests.get(each)) for each in names},
            lambda here: record(output, {**dataset, "source": source, "stats": counts(here)}, tokenizer, here),
        )
    held = counts(here)
    what = f"{held['files_train']} training and {held['files_val']} validation shards of {name}"
    say(f"{output} holds {what} ({held['tokens_train']:,} and {held['tokens_val']:,} tokens).")


def fetch_files(published: Published, wanted: dict[str, Wanted], enter: Callable[[Any], object]) -> dict[str, Entry]:
    """Bring the files that are not here, several at a time. `enter` those that are, after each; return all."""
    output, say = published.output, published.say
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(lambda file: file.entry_here(say), wanted.values())
        here = {name: entry for name, entry in zip(wanted, found, strict=True) if entry}
        missing = {name: file for name, file in wanted.items() if name not in here}
        parts = {file.part for file in missing.values()}
        for path in set((output / STAGING).iterdir()) - parts:  # such as those of another commit
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        need = sum(file.size for file in missing.values()) - sum(path.stat().st_size for path in parts if path.exists())
        if need > (free := shutil.disk_usage(output).free):
            lack = f"{need / 1e6:,.1f} MB for {len(missing)} files and has {free / 1e6:,.1f} MB free"
            raise ClickException(f"{output} needs {lack}. Make room, or ask for fewer --shards.")
        say(f"{len(here)} of {len(wanted)} files are here and whole; fetching {len(missing)}, {need / 1e6:,.1f} MB.")
        for file in missing.values():
            file.path.unlink(missing_ok=True)  # the trainer reads every shard it finds
        try:
            if here:
                enter(here)
            jobs = {pool.submit(published.transfer, file): name for name, file in missing.items()}
            for number, job in enumerate(as_completed(jobs), 1):
                entry, name, file = job.result(), jobs[job], missing[jobs[job]]
                file.path.parent.mkdir(parents=True, exist_ok=True)
                file.part.replace(file.path)
                here[name] = entry
                enter(here)
                say(f"[{number}/{len(missing)}] {name}: {file.size / 1e6:,.1f} MB")
        except Exception:
            published.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return here


@contextmanager
def staged(output: Path) -> Iterator[None]:
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
        with suppress(OSError):
            (output / STAGING).rmdir()  # if it is empty
        os.close(handle)
