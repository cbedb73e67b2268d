"""Fetch published token shards and their tokenizer from the Hugging Face Hub.

The repository's own listing at one commit says where every file lies, how long it is and which digest it has. A file is
transferred into a staging folder beside its place, examined there, and moved to its name only when it is the published
one, so that a name never stands for half a file. What is here already is examined in the same way and kept. The manifest
is written again after every file: a fetch that was stopped leaves a smaller dataset that verifies.

The transfer is huggingface_hub's: mirrors (HF_ENDPOINT), tokens (HF_TOKEN), proxies, continuing a connection that breaks
in mid-file. What it does not do is done here: digests, the disk checked for all files first, server errors waited out.
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

from trainer.shards import MANIFEST, SHARD_HEADER_INTS, DatasetError, file_digest, record, shard_fault

REPOSITORY = "willdepueoai/parameter-golf"
DATASET_PREFIX = "fineweb10B_"
DEFAULT_SHARDS = 80
PAUSES_S = (2, 10)  # before the second and the third try
PATIENCE = 3  # times a file's size may arrive before its transfer is given up
STAGING = ".fetch"

Say = Callable[[str], object]
T = TypeVar("T")


class FetchError(Exception):
    """The server cannot be reached, or does not give what it lists, or there is no room for it: as full sentences."""


class NotPublishedError(ValueError):
    """A revision, a variant or a number of shards that is not published, as full sentences."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One published file: its name here, its path there, and what it must be."""

    name: str
    remote: str
    size: int
    sha256: str | None  # None: a small file that git itself keeps
    blob: str  # git's name of the content

    def entry(self, path: Path) -> dict[str, Any]:
        """The manifest's entry of a local file that is this one. DatasetError says in what it differs."""
        size = path.stat().st_size
        if size != self.size:
            raise DatasetError(f"it has {size} bytes, the published one {self.size}")
        sha256 = file_digest(path)
        if self.sha256 and sha256 != self.sha256:
            raise DatasetError(f"its SHA-256 is {sha256}, the published one's {self.sha256}")
        if not self.sha256 and git_blob(path.read_bytes()) != self.blob:
            raise DatasetError(f"its content is not git's {self.blob}")
        if path.suffix == ".bin" and (fault := shard_fault(path)):
            raise DatasetError(f"it is no shard: {fault.rstrip('.')}")
        return {"bytes": size, "sha256": sha256}


def git_blob(content: bytes) -> str:
    """The name git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


# -- the server --------------------------------------------------------------------------------------------------------


class Published:
    """The repository at one commit: its listing, and its files."""

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
        """The file that is called `name` here, in whatever folder of the repository it lies."""
        found = [path for path in self.listing if f"/{path}".endswith(f"/{name}")]
        if not found:
            raise FetchError(f"{self.where} at commit {self.commit} has no {name}. Try another --revision.")
        file = self.listing[min(found, key=len)]
        return Wanted(name, file.path, file.size, sha256 or (file.lfs.sha256 if file.lfs else None), file.blob_id)

    def transfer(self, file: Wanted, staging: Path) -> tuple[Path, dict[str, Any]]:
        """A published file as it lies in the staging folder, and its manifest entry."""
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
                f"{self.where}: {file.remote} arrived damaged: {error}. Nothing was kept of it; run the same command again."
            ) from None
        with open(path, "rb") as staged:
            os.fsync(staged.fileno())
        return Path(path), entry

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        """The call's result, after up to three tries; FetchError when the server fails at all of them.

        An answer that would be the same again (not found, not allowed) and a fault of this machine's disk are not
        tried again.
        """
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HTTPError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )  # fmt: skip

        for pause in (*PAUSES_S, None):
            try:
                return call()
            except RevisionNotFoundError:
                raise
            except RepositoryNotFoundError:
                raise FetchError(
                    f"{what}: no such repository, or not for you. Check HF_ENDPOINT and HF_TOKEN."
                ) from None
            except OfflineModeIsEnabled:
                raise FetchError(f"{what}: HF_HUB_OFFLINE forbids it. Unset it to fetch.") from None
            except LocalEntryNotFoundError as error:  # huggingface_hub has tried again by itself
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
            except (ValueError, KeyError, TypeError) as error:  # a proxy's page, say
                raise FetchError(f"{what}: this is no answer of a Hub: {error!r}. Check HF_ENDPOINT.") from None
            if not again or pause is None:
                break
            self.say(f"{what}: {reason}; trying again in {pause} s.")
            time.sleep(pause)
        raise FetchError(f"{what}: {reason}. What is complete is kept; run the same command again.")


def bounded_bar(what: str, limit: int) -> Any:
    """huggingface_hub's progress bar (on a terminal), which ends a transfer that does not come to an end.

    Against a server that cuts every answer and cannot continue one, huggingface_hub starts from the front for ever.
    """
    from huggingface_hub.utils import tqdm

    class BoundedBar(tqdm):
        arrived = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.arrived += max(0, n or 0)
            if self.arrived > limit:
                raise FetchError(
                    f"{what}: the connection breaks again and again, {self.arrived / 1e6:,.1f} MB arrived without a whole "
                    "file. What is complete is kept; run the same command again, or over another network."
                )
            return super().update(n)

    return BoundedBar


def in_words(error: BaseException) -> str:
    """An error of the transfer in a few words."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason_phrase}".rstrip()
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# -- what to fetch -----------------------------------------------------------------------------------------------------


def described(manifest: Any, variant: str, where: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """The published manifest's entries of the variant's dataset and of its tokenizer, and the digests it has.

    NotPublishedError for a variant that is not published, FetchError for a manifest that does not say what is needed.
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


def shard_name(dataset: str, split: str, number: int) -> str:
    return f"datasets/{dataset}/fineweb_{split}_{number:06d}.bin"


def fetch_published(output: Path, variant: str, shards: int | None, revision: str, say: Say) -> None:
    """Make `output` hold the variant's tokenizer, its validation shards and at least `shards` training shards.

    Training shards beyond that number which are here are examined as well: the trainer reads every shard it finds, and
    they must come from one commit.
    """
    published = Published(revision, say)
    output.mkdir(parents=True, exist_ok=True)
    with only_one(output), emptied(output / STAGING) as staging:
        path, _ = published.transfer(published.wanted(MANIFEST), staging)
        where = f"{published.where} at {revision}"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FetchError(f"{where}: its {MANIFEST} is no JSON: {error}. Try another --revision.") from None
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
        say(f"{len(here)} of {len(wanted)} files are here and whole; {len(missing)} to fetch, {need / 1e6:,.1f} MB.")
        for file in missing:
            (output / file.name).unlink(missing_ok=True)  # the trainer reads what it finds
        if here:
            record(output, counted(entry, here), tokenizer, here)
        for number, file in enumerate(missing, 1):
            start = time.monotonic()
            staged, found = published.transfer(file, staging)
            (output / file.name).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(output / file.name)
            here[file.name] = found
            record(output, counted(entry, here), tokenizer, here)
            took = time.monotonic() - start
            say(f"[{number}/{len(missing)}] {file.name}: {file.size / 1e6:,.1f} MB in {took:.1f} s")
    stats = counted(entry, here)["stats"]
    say(
        f"{output} holds {stats['files_train']} training and {stats['files_val']} validation shards of {name} "
        f"({stats['tokens_train']:,} and {stats['tokens_val']:,} tokens)."
    )


def whole(output: Path, file: Wanted, say: Say) -> dict[str, Any] | None:
    """The manifest's entry of a file that is here already; None when it is not, or not the published one."""
    path = output / file.name
    if not path.is_file():
        return None
    try:
        return file.entry(path)
    except DatasetError as error:
        say(f"{path} is fetched again: {error}.")
        return None


def counted(dataset: dict[str, Any], here: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The dataset's entry with the counts of what is here in place of the published ones."""
    stats = {}
    for split in ("train", "val"):
        sizes = [entry["bytes"] for name, entry in here.items() if f"/fineweb_{split}_" in name]
        stats[f"files_{split}"] = len(sizes)
        stats[f"tokens_{split}"] = sum((size - 4 * SHARD_HEADER_INTS) // 2 for size in sizes)
    return {**dataset, "stats": stats}


@contextmanager
def only_one(output: Path) -> Iterator[None]:
    """Hold the directory for one fetch; the lock ends with the process, however it ends."""
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
    """A folder that is empty at the start, whatever a killed fetch left there, and gone at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
