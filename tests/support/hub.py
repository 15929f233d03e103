"""A Hugging Face Hub on 127.0.0.1 that speaks the part of the protocol which huggingface_hub uses to read.

Model and dataset info, the paged tree, paths-info, and `resolve` with commit, etag and size headers, HTTP
Range and the redirect of large files to a content-addressed address. Gated and missing repositories,
revisions and files answer as the real hub does, by status and `X-Error-Code`. It can cut, hold and corrupt
downloads, and notes every request. Not here: writing, search, Xet storage.

    with serve_hub() as hub:
        repo = hub.add_repo("org/model", {"config.json": b"{}"})
        snapshot_download("org/model", endpoint=hub.endpoint, revision=repo.commit)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

RepoType = Literal["model", "dataset"]

LFS_THRESHOLD_BYTES = 4096
"""Files from this size on, and those whose name says so, are stored as the hub stores large files."""
LFS_SUFFIXES = (".bin", ".safetensors", ".parquet", ".faiss", ".index", ".npy")
PIECE_BYTES = 64 * 1024
HOLD_S = 120
"""A held download waits so long at most, so that a test that fails leaves no thread behind."""


@dataclass(frozen=True)
class HubFile:
    """One file at one commit. `oid` is git's blob id, `sha256` is set where it is stored as a large file."""

    path: str
    content: bytes
    oid: str
    sha256: str | None

    @property
    def etag(self) -> str:
        """What a reader compares: the sha256 of a large file, else git's blob id."""
        return self.sha256 or self.oid

    def entry(self) -> dict[str, Any]:
        """The file's line in a tree listing."""
        entry: dict[str, Any] = {
            "type": "file",
            "oid": self.oid,
            "size": len(self.content),
            "path": self.path,
        }
        if self.sha256:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}
        return entry


@dataclass
class HubRepo:
    """A repository with one commit; `refs` names it."""

    repo_id: str
    repo_type: RepoType
    commit: str
    files: dict[str, HubFile]
    refs: dict[str, str]
    tokens: frozenset[str] | None
    """Who may read a gated repository; None: everybody."""


@dataclass(frozen=True)
class Request:
    """What the hub was asked."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Faults:
    """What goes wrong, by the path of a file in its repository."""

    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """The connection breaks after so many bytes; one number is used up by each download."""
    hold_after: dict[str, int] = field(default_factory=dict)
    """The download stops after so many bytes until `released` is set."""
    corrupt: set[str] = field(default_factory=set)
    """The first byte arrives changed; the size is right."""
    sizes: dict[str, int] = field(default_factory=dict)
    """The size that the tree listing claims."""
    status: list[int] = field(default_factory=list)
    """Answers to the next requests, whatever they ask."""
    released: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    """Set once a download is held."""


class FakeHub:
    """The repositories, what went wrong and what was asked."""

    def __init__(self) -> None:
        self.repos: dict[tuple[RepoType, str], HubRepo] = {}
        self.blobs: dict[str, HubFile] = {}
        self.requests: list[Request] = []
        self.faults = Faults()
        self.page_size = 50
        self.endpoint = ""

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        *,
        repo_type: RepoType = "model",
        tokens: frozenset[str] | None = None,
        refs: tuple[str, ...] = ("main",),
    ) -> HubRepo:
        """Put a repository onto the hub, or a new commit in place of the old one."""
        stored = {path: _stored(path, content) for path, content in files.items()}
        digest = hashlib.sha1("".join(f"{f.path}\0{f.oid}\n" for f in stored.values()).encode())
        commit = digest.hexdigest()
        repo = HubRepo(repo_id, repo_type, commit, stored, dict.fromkeys(refs, commit), tokens)
        self.repos[repo_type, repo_id] = repo
        self.blobs.update({file.sha256: file for file in stored.values() if file.sha256})
        return repo

    def environment(self) -> dict[str, str]:
        """What points a program's huggingface_hub here and keeps it from everything else."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def downloads(self, path: str | None = None) -> list[Request]:
        """The downloads so far, of one file or of all; one that a redirect answered does not count."""
        blobs = {f"/cdn/{file.sha256}": file.path for file in self.blobs.values()}
        found = []
        for request in self.requests:
            resolved = re.match(r"^(?:/datasets)?/.+?/resolve/[^/]+/(.+)$", request.path)
            name = blobs.get(request.path) or (unquote(resolved[1]) if resolved else None)
            redirected = resolved and any(f.path == name for f in self.blobs.values())
            if request.method == "GET" and name and not redirected and path in (None, name):
                found.append(request)
        return found


@contextlib.contextmanager
def serve_hub() -> Iterator[FakeHub]:
    """Serve a hub with no repositories on a free port."""
    hub = FakeHub()

    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.faults.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _stored(path: str, content: bytes) -> HubFile:
    large = len(content) >= LFS_THRESHOLD_BYTES or path.endswith(LFS_SUFFIXES)
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return HubFile(path, content, oid, hashlib.sha256(content).hexdigest() if large else None)


class _Refused(Exception):
    """An answer other than what was asked for."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    """One request. The routes are the hub's own."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"
    ROUTES = (
        (re.compile(r"^/api/(models|datasets)/(.+)/tree/([^/]+)(?:/(.+))?$"), "_tree"),
        (re.compile(r"^/api/(models|datasets)/(.+)/paths-info/([^/]+)$"), "_paths_info"),
        (re.compile(r"^/api/(models|datasets)/(.+)/revision/([^/]+)$"), "_info"),
        (re.compile(r"^/api/(models|datasets)/([^/]+(?:/[^/]+)?)$"), "_info"),
        (re.compile(r"^/cdn/([0-9a-f]{64})$"), "_blob"),
        (re.compile(r"^(?:/(datasets))?/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)$"), "_resolve"),
    )

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Tests read `hub.requests`."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.url = urlsplit(self.path)
        self.query = parse_qs(self.url.query)
        self.form = parse_qs(body.decode())
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.token = token
        self.hub.requests.append(Request(self.command, self.url.path, self.headers.get("Range"), token))
        try:
            if self.hub.faults.status:
                raise _Refused(self.hub.faults.status.pop(0), None, "trouble")
            for pattern, name in self.ROUTES:
                if match := pattern.match(self.url.path):
                    getattr(self, name)(*(unquote(part) if part else "" for part in match.groups()))
                    return
            raise _Refused(404, None, "Not Found")
        except _Refused as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._send(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _repo(self, kind: str, repo_id: str, revision: str, *, content: bool) -> HubRepo:
        repo = self.hub.repos.get(("dataset" if kind == "datasets" else "model", repo_id))
        if repo is None:
            raise _Refused(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
        if content and repo.tokens is not None and self.token not in repo.tokens:
            status = 401 if self.token is None else 403
            raise _Refused(status, "GatedRepo", f"Access to {repo_id} is restricted.")
        if revision and revision != repo.commit and revision not in repo.refs:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo

    def _info(self, kind: str, repo_id: str, revision: str = "") -> None:
        repo = self._repo(kind, repo_id, revision, content=False)
        info = {
            "_id": repo.commit[:24],
            "id": repo_id,
            "sha": repo.commit,
            "private": False,
            "gated": "auto" if repo.tokens is not None else False,
            "siblings": [{"rfilename": path} for path in repo.files],
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        self._send_json(info)

    def _tree(self, kind: str, repo_id: str, revision: str, folder: str) -> None:
        repo = self._repo(kind, repo_id, revision, content=False)
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = _listing(repo, folder, recursive=recursive)
        for entry in entries:
            claimed = self.hub.faults.sizes.get(entry["path"])
            if claimed is not None:
                entry["size"] = claimed
                if "lfs" in entry:
                    entry["lfs"]["size"] = claimed
        if not entries:
            raise _Refused(404, "EntryNotFound", f"{folder} does not exist")
        start = int(self.query.get("cursor", ["0"])[0])
        page = entries[start : start + self.hub.page_size]
        headers = {}
        if start + len(page) < len(entries):
            following = f"recursive={recursive}&cursor={start + len(page)}"
            headers["Link"] = f'<{self.hub.endpoint}{self.url.path}?{following}>; rel="next"'
        self._send_json(page, headers)

    def _paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        repo = self._repo(kind, repo_id, revision, content=False)
        found: list[dict[str, Any]] = []
        for path in self.form.get("paths", []):
            if path in repo.files:
                found.append(repo.files[path].entry())
            elif any(name.startswith(f"{path}/") for name in repo.files):
                found.append(_folder(repo, path))
        self._send_json(found)

    def _resolve(self, kind: str, repo_id: str, revision: str, path: str) -> None:
        repo = self._repo(kind, repo_id, revision, content=True)
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        file = repo.files.get(path)
        if file is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        if file.sha256:
            headers |= {
                "X-Linked-Etag": f'"{file.sha256}"',
                "X-Linked-Size": str(len(file.content)),
                "Location": f"/cdn/{file.sha256}",
            }
            self._send(HTTPStatus.FOUND, b"", headers)
        else:
            self._send_file(file, headers)

    def _blob(self, sha256: str) -> None:
        file = self.hub.blobs.get(sha256)
        if file is None:
            raise _Refused(404, None, "no such blob")
        # The real address is on another host and carries its own authority; the etag and the commit
        # were told by `resolve`. Reached by HEAD (a redirect that stays here is followed), it repeats them.
        owner = next(repo for repo in self.hub.repos.values() if file in repo.files.values())
        self._send_file(file, {"X-Repo-Commit": owner.commit, "Accept-Ranges": "bytes"})

    def _send_file(self, file: HubFile, headers: dict[str, str]) -> None:
        content, status = file.content, HTTPStatus.OK
        if file.path in self.hub.faults.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first = int(wanted[1])
            last = min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], HTTPStatus.PARTIAL_CONTENT
        headers["ETag"] = f'"{file.etag}"'
        self._send(status, content, headers, path=file.path)

    def _send_json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(
            HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str], *, path: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value if name != "Location" else quote(value, safe="/:?=&"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.hub.faults.cut_after.get(path or "", [])
        limit = cuts.pop(0) if cuts else None
        hold = self.hub.faults.hold_after.get(path or "")
        sent = 0
        while sent < len(content):
            stops = [stop for stop in (limit, hold) if stop is not None and stop > sent]
            piece = content[sent : min([sent + PIECE_BYTES, *stops])]
            self.wfile.write(piece)
            sent += len(piece)
            if sent == limit:
                self.close_connection = True
                return
            if sent == hold and not self.hub.faults.released.is_set():
                self.wfile.flush()
                self.hub.faults.held.set()
                self.hub.faults.released.wait(HOLD_S)


def _folder(repo: HubRepo, path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}


def _listing(repo: HubRepo, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The entries below a folder; its folders come with them, as on the real hub."""
    start = f"{folder}/" if folder else ""
    folders: set[str] = set()
    files = []
    for path, file in sorted(repo.files.items()):
        if not path.startswith(start):
            continue
        inner = path[len(start) :].split("/")[:-1]
        folders |= {start + "/".join(inner[: depth + 1]) for depth in range(len(inner))}
        if recursive or not inner:
            files.append(file.entry())
    if not recursive:
        folders = {name for name in folders if "/" not in name[len(start) :]}
    return [_folder(repo, name) for name in sorted(folders)] + files
