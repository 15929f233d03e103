"""The Hugging Face Hub: which commit, which files, and their download.

huggingface_hub speaks the protocol; this module chooses one commit, translates its errors into one line
each, tries again what a busy network broke, and checks every file against the hub's own checksum.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from staging.errors import StagingError
from staging.manifest import Source, git_blob_id, sha256_of
from staging.progress import Progress
from staging.selection import RemoteFile

logger = logging.getLogger(__name__)
T = TypeVar("T")

COMMIT = re.compile(r"[0-9a-f]{40}")
ATTEMPTS = 4
"""How often a download is started; each goes on where the last one ended."""
FIRST_PAUSE_S = 2.0
UNFINISHED = "*.incomplete"
RETRIED = (httpx2.codes.REQUEST_TIMEOUT, httpx2.codes.TOO_MANY_REQUESTS)


class _Transient(Exception):
    """Worth another attempt."""


class Hub:
    """What may be read from the hub with one token.

    Args:
        token: None reads as whoever is logged in on this machine (`hf auth login`), or as nobody.
        endpoint: the hub's address; None takes huggingface_hub's own (HF_ENDPOINT).
        sleep: waits between attempts.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        endpoint: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._token, self._endpoint, self._sleep = token, endpoint, sleep
        self._api = HfApi(endpoint=endpoint, token=token)
        disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings quote signed addresses

    def resolve(self, source: Source, *, allow_moving: bool) -> Source:
        """Return the source at the commit that its revision names.

        Raises:
            StagingError: no such repository or revision, or a name that can move and may not be used.
        """
        if COMMIT.fullmatch(source.revision):
            return source
        info = self._retried(
            source,
            lambda: self._api.repo_info(source.id, repo_type=source.kind, revision=source.revision),
        )
        if not allow_moving:
            raise StagingError(
                f"{source.revision} is a name that can move; {source.id} is at {info.sha} now: "
                "give that as --revision, or add --allow-moving"
            )
        return Source(source.kind, source.id, str(info.sha))

    def files(self, source: Source) -> list[RemoteFile]:
        """Return every file of the repository at its commit."""

        def read() -> list[RemoteFile]:
            entries = self._api.list_repo_tree(
                source.id, recursive=True, repo_type=source.kind, revision=source.revision
            )
            return [
                RemoteFile(entry.path, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
                for entry in entries
                if isinstance(entry, RepoFile)
            ]

        return self._retried(source, read)

    def download(self, source: Source, files: Sequence[RemoteFile], folder: Path, *, workers: int) -> None:
        """Bring files into a folder under their own paths, several at once, and check them.

        Whole files of an earlier run are kept. What a killed run left unfinished is removed: nothing
        would read it again.

        Raises:
            StagingError: the hub, the network, a full disk, or a checksum that differs.
            OSError: the folder cannot be used.
        """
        if not files:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.rglob(UNFINISHED):
            unfinished.unlink(missing_ok=True)

        def fetch() -> None:
            snapshot_download(
                source.id,
                repo_type=source.kind,
                revision=source.revision,
                local_dir=folder,
                allow_patterns=[glob.escape(file.path) for file in files],
                max_workers=workers,
                token=self._token,
                endpoint=self._endpoint,
            )

        total = sum(file.size for file in files)
        with Progress("downloaded", total, lambda: _bytes_in(folder)):
            self._retried(source, fetch)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda file: _check(folder, file), files))

    def _retried(self, source: Source, call: Callable[[], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._translated(source):
                    return call()
            except _Transient as trouble:
                if attempt == ATTEMPTS:
                    raise StagingError(f"{trouble} ({ATTEMPTS} attempts)") from trouble.__cause__
                pause = FIRST_PAUSE_S * 2 ** (attempt - 1)
                logger.info("%s; attempt %d follows in %.0f s", trouble, attempt + 1, pause)
                self._sleep(pause)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _translated(self, source: Source) -> Iterator[None]:
        """Turn whatever huggingface_hub raises into a StagingError, or into `_Transient`."""
        try:
            yield
        except (LocalEntryNotFoundError, FileMetadataError) as error:
            if isinstance(error.__cause__, HfHubHTTPError):
                raise self._refused(source, error.__cause__) from error
            raise _Transient("the hub cannot be reached") from error
        except HfHubHTTPError as error:
            raise self._refused(source, error) from error
        except HFValidationError as error:
            raise StagingError(f"{source.id} is not the id of a repository (ORG/NAME)") from error
        except httpx2.TransportError as error:
            raise _Transient(f"the connection to the hub broke: {type(error).__name__}") from error
        except OSError as error:
            if error.errno is None:  # huggingface_hub's own: a file shorter than announced
                raise _Transient("a download broke off") from error
            raise disk_error(error) from error

    def _refused(self, source: Source, error: HfHubHTTPError) -> StagingError | _Transient:
        """Return what an answer of the hub other than 200 means."""
        name, status = f"{source.kind} {source.id}", error.response.status_code
        if isinstance(error, GatedRepoError):
            what = "the token may not read it yet" if self._token else "name a token with --token-secret"
            return StagingError(f"{name} is gated: accept its terms on the hub; {what}")
        if isinstance(error, RepositoryNotFoundError):
            return StagingError(f"the hub shows no {name}: wrong id, or private to others")
        if isinstance(error, RevisionNotFoundError):
            return StagingError(f"{name} has no revision {source.revision}")
        if status == httpx2.codes.UNAUTHORIZED:
            return StagingError("the hub refused the token")
        passing = status in RETRIED or status >= httpx2.codes.INTERNAL_SERVER_ERROR
        return (_Transient if passing else StagingError)(f"the hub answered {status} for {name}")


def disk_error(error: OSError) -> StagingError:
    """Return the one line for trouble with the disk."""
    where = error.filename or "the working directory"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StagingError(f"the disk is full: {where}")
    return StagingError(f"{where}: {errno.errorcode.get(error.errno or 0, type(error).__name__)}")


def _check(folder: Path, file: RemoteFile) -> None:
    """Compare a file with the hub's checksum; one that differs is removed, so that a new run fetches it."""
    path = folder / file.path
    same = sha256_of(path) == file.sha256 if file.sha256 else git_blob_id(path) == file.blob_id
    if not same:
        path.unlink()
        raise StagingError(
            f"{file.path} came with a wrong checksum and was removed; run again to fetch it anew"
        )


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may have been moved into place just now
            total += path.stat().st_size if path.is_file() else 0
    return total
