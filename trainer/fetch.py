"""Fetch published token shards and their tokenizer from the Hugging Face Hub.

The repository's listing at one commit gives the path, size and digest of every file. A file arrives in a staging folder
and moves to its final name only after it was checked, so that no name ever holds half a file. Files that are here already
are checked in the same way and kept. The manifest is written after every file: a stopped fetch leaves a smaller dataset
that verifies.

huggingface_hub transfers the files: it knows mirrors (HF_ENDPOINT), tokens (HF_TOKEN) and proxies, and continues a file
after a broken connection. This module adds what it lacks: digests, disk space checked first, waiting out server errors.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainer.shards import MANIFEST, DatasetError, counts, file_digest, record, shard_fault, shard_name

REPOSITORY = "willdepueoai/parameter-golf"
DATASET_PREFIX = "fineweb10B_"
DEFAULT_SHARDS = 80
PAUSES_S = (2, 10)  # before the second and third try
PATIENCE = 3  # give a transfer up after so many times the file's size
STAGING = ".fetch"

Say = Callable[[str], object]
T = TypeVar("T")


class FetchError(Exception):
    """The server cannot be reached or does not deliver what it lists, or the disk is too small: full sentences."""


class NotPublishedError(ValueError):
    """A revision, a variant or a number of shards that is not published: full sentences."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One published file: its local name, its path in the repository, and its expected content."""

    name: str
    remote: str
    size: int
    sha256: str | None  # None for a small file, which git itself stores
    blob: str  # git's hash of the content

    def entry(self, path: Path) -> dict[str, Any]:
        """Return the manifest entry of a local copy. Raise DatasetError if it differs from the published file."""
        size = path.stat().st_size
        if size != self.size:
            raise DatasetError(f"it has {size} bytes, the published file has {self.size}")
        sha256 = file_digest(path)
        if self.sha256 and sha256 != self.sha256:
            raise DatasetError(f"its SHA-256 is {sha256}, that of the published file is {self.sha256}")
        if not self.sha256 and git_blob(path.read_bytes()) != self.blob:
            raise DatasetError(f"its content is not git's blob {self.blob}")
        if path.suffix == ".bin" and (fault := shard_fault(path)):
            raise DatasetError(f"it is not a shard: {fault.rstrip('.')}")
        return {"bytes": size, "sha256": sha256}


def git_blob(content: bytes) -> str:
    """Return git's hash of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


# -- the server --------------------------------------------------------------------------------------------------------


class Published:
    """The repository at one commit: its listing and its files."""

    def __init__(self, revision: str, say: Say) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RevisionNotFoundError

        self.say = say
        self.api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        self.where = f"{self.api.endpoint}/datasets/{REPOSITORY}"
        try:
            info = self._patiently(
                f"{self.where} at {revision}", lambda: self.api.dataset_info(REPOSITORY, revision=revision)
            )
        except RevisionNotFoundError:
            raise NotPublishedError(
                f"{self.where} has no revision {revision!r}. Name a branch, a tag or a commit."
            ) from None
        self.commit = str(info.sha)
        self.listing = {
            file.path: file
            for file in self._patiently(f"the listing of {self.where}", self._list)
            if hasattr(file, "size")
        }

    def _list(self) -> list[Any]:
        return list(self.api.list_repo_tree(REPOSITORY, recursive=True, revision=self.commit, repo_type="dataset"))

    def wanted(self, name: str, sha256: str | None = None) -> Wanted:
        """Find the file with the local name `name` in any folder of the repository."""
        found = [path for path in self.listing if f"/{path}".endswith(f"/{name}")]
        if not found:
            raise FetchError(f"{self.where} at commit {self.commit} has no {name}. Try another --revision.")
        file = self.listing[min(found, key=len)]
        return Wanted(name, file.path, file.size, sha256 or (file.lfs.sha256 if file.lfs else None), file.blob_id)

    def transfer(self, file: Wanted, staging: Path) -> tuple[Path, dict[str, Any]]:
        """Bring a published file into the staging folder; return its path there and its manifest entry."""
        path = self._patiently(
            f"{self.where}: {file.remote}",
            lambda: self.api.hf_hub_download(
                REPOSITORY,
                file.remote,
                repo_type="dataset",
                revision=self.commit,
                local_dir=staging,
                tqdm_class=bounded_bar(f"{self.where}: {file.remote}", PATIENCE * file.size),
            ),
        )
        try:
            entry = file.entry(Path(path))
        except DatasetError as error:
            raise FetchError(
                f"{self.where}: {file.remote} arrived damaged: {error}. It was not kept; run the same command again."
            ) from None
        with open(path, "rb") as staged:
            os.fsync(staged.fileno())
        return Path(path), entry

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        """Call up to three times and return the result. Raise FetchError if the server fails every time.

        Answers that would not change (not found, not allowed) and faults of the local disk are not retried.
        """
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HTTPError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        for pause in (*PAUSES_S, None):
            try:
                return call()
            except RevisionNotFoundError:
                raise
            except RepositoryNotFoundError:
                raise FetchError(
                    f"{what}: the repository does not exist, or you may not read it. Check HF_ENDPOINT and HF_TOKEN."
                ) from None
            except OfflineModeIsEnabled:
                raise FetchError(f"{what}: HF_HUB_OFFLINE forbids it. Unset it to fetch.") from None
            except LocalEntryNotFoundError as error:  # huggingface_hub has retried already
                reason, again = in_words(error.__cause__ or error), False
            except HfHubHTTPError as error:
                reason, again = (
                    in_words(error),
                    error.response.status_code in (408, 429) or error.response.status_code >= 500,
                )
            except (HTTPError, OSError, RuntimeError) as error:
                if isinstance(error, OSError) and error.errno in (
                    errno.ENOSPC,
                    errno.EDQUOT,
                    errno.EACCES,
                    errno.EROFS,
                ):
                    raise
                reason, again = in_words(error), True
            except (ValueError, KeyError, TypeError) as error:  # for example a proxy's page
                raise FetchError(f"{what}: the answer is not a Hub's: {error!r}. Check HF_ENDPOINT.") from None
            if not again or pause is None:
                break
            self.say(f"{what}: {reason}; trying again in {pause} s.")
            time.sleep(pause)
        raise FetchError(f"{what}: {reason}. Complete files are kept; run the same command again.")


def bounded_bar(what: str, limit: int) -> Any:
    """Return huggingface_hub's progress bar with a limit: it ends a transfer that would never end.

    If a server cuts every answer and cannot continue one, huggingface_hub starts the file over and over.
    """
    from huggingface_hub.utils import tqdm

    class BoundedBar(tqdm):
        arrived = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.arrived += max(0, n or 0)
            if self.arrived > limit:
                raise FetchError(
                    f"{what}: the connection keeps breaking: {self.arrived / 1e6:,.1f} MB arrived, but no whole file. "
                    "Complete files are kept; run the same command again, or use another network."
                )
            return super().update(n)

    return BoundedBar


def in_words(error: BaseException) -> str:
    """Say in a few words why a transfer failed."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# -- what to fetch -----------------------------------------------------------------------------------------------------


def described(manifest: Any, variant: str, where: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Return the published manifest's entries of the variant's dataset and tokenizer, and its digests.

    Raise NotPublishedError if the manifest has no such variant, FetchError if it lacks what is needed.
    """
    try:
        datasets = {entry["name"]: entry for entry in manifest["datasets"]}
        dataset = datasets.get(DATASET_PREFIX + variant)
        if dataset is None:
            names = sorted(name.removeprefix(DATASET_PREFIX) for name in datasets)
            raise NotPublishedError(f"{where} has no variant {variant!r}. It has: {', '.join(names)}.")
        tokenizers = {entry["name"]: entry for entry in manifest["tokenizers"]}
        tokenizer = tokenizers[dataset["tokenizer_name"]]
        digests = {name: entry["sha256"] for name, entry in manifest.get("files", {}).items()}
        counts = [dataset["stats"][key] for key in ("files_train", "files_val")]
        names = [dataset["name"], Path(tokenizer["model_path"]).name]
        if not all(isinstance(count, int) and count > 0 for count in counts):
            raise ValueError(f"counts of shards {counts}")
        if not all(re.fullmatch(r"\w[\w.-]*", name) for name in names):
            raise ValueError(f"names {names}")
    except NotPublishedError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FetchError(
            f"{where}: its {MANIFEST} does not describe {variant}: {error!r}. Try another --revision."
        ) from None
    return dataset, tokenizer, digests


def fetch_published(output: Path, variant: str, shards: int | None, revision: str, say: Say) -> None:
    """Fetch the variant's tokenizer, its validation shards and at least `shards` training shards into `output`.

    Training shards beyond that number that are here are checked too: the trainer reads every shard it finds, and all
    must come from one commit.
    """
    published = Published(revision, say)
    output.mkdir(parents=True, exist_ok=True)
    with only_one(output), emptied(output / STAGING) as staging:
        path, _ = published.transfer(published.wanted(MANIFEST), staging)
        where = f"{published.where} at {revision}"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FetchError(f"{where}: its {MANIFEST} is not JSON: {error}. Try another --revision.") from None
        dataset, tokenizer, digests = described(manifest, variant, where)
        name, stats = dataset["name"], dataset["stats"]
        if shards and shards > stats["files_train"]:
            raise NotPublishedError(f"{name} has {stats['files_train']} training shards; got --shards {shards}.")
        say(f"{where}: commit {published.commit[:12]}, {stats['files_train']} training shards of {name}.")

        model = f"tokenizers/{Path(tokenizer['model_path']).name}"
        count = shards or min(DEFAULT_SHARDS, stats["files_train"])
        names = [model, *(shard_name(name, "val", number) for number in range(stats["files_val"]))]
        train = [shard_name(name, "train", number) for number in range(stats["files_train"])]
        names += [each for number, each in enumerate(train) if number < count or (output / each).exists()]
        wanted = [published.wanted(each, digests.get(each)) for each in names]

        source = {"repository": REPOSITORY, "revision": revision, "commit": published.commit}
        entry, tokenizer = {**dataset, "source": source}, {**tokenizer, "model_path": model}
        here = {file.name: found for file in wanted if (found := whole(output, file, say))}
        missing = [file for file in wanted if file.name not in here]
        need, free = sum(file.size for file in missing), shutil.disk_usage(output).free
        if need > free:
            raise FetchError(
                f"{output} needs {need / 1e6:,.1f} MB for {len(missing)} files and has {free / 1e6:,.1f} MB free. "
                "Make room, or ask for fewer --shards."
            )
        say(f"{len(here)} of {len(wanted)} files are here and whole; fetching {len(missing)}, {need / 1e6:,.1f} MB.")
        for file in missing:
            (output / file.name).unlink(missing_ok=True)  # the trainer reads every shard it finds
        if here:
            record(output, {**entry, "stats": counts(here)}, tokenizer, here)
        for number, file in enumerate(missing, 1):
            start = time.monotonic()
            staged, found = published.transfer(file, staging)
            (output / file.name).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(output / file.name)
            here[file.name] = found
            record(output, {**entry, "stats": counts(here)}, tokenizer, here)
            took = time.monotonic() - start
            say(f"[{number}/{len(missing)}] {file.name}: {file.size / 1e6:,.1f} MB in {took:.1f} s")
    stats = counts(here)
    say(
        f"{output} holds {stats['files_train']} training and {stats['files_val']} validation shards of {name} "
        f"({stats['tokens_train']:,} and {stats['tokens_val']:,} tokens)."
    )


def whole(output: Path, file: Wanted, say: Say) -> dict[str, Any] | None:
    """Return the manifest entry of a file that is here and is the published one, else None."""
    path = output / file.name
    if not path.is_file():
        return None
    try:
        return file.entry(path)
    except DatasetError as error:
        say(f"{path} is fetched again: {error}.")
        return None


@contextmanager
def only_one(output: Path) -> Iterator[None]:
    """Lock the directory for one fetch. The lock ends with the process."""
    handle = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"Another fetch is writing to {output}. Wait for it, or name another --output.") from None
        yield
    finally:
        os.close(handle)


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """Remove the folder, with what a killed fetch left there, before and after its use."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
