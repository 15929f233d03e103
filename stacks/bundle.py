"""The handler bundle of a SageMaker model: a tar.gz that is byte for byte the same from the same files.

A bundle holds, at the archive's root, the role's `serving.properties`, `model.py` and the package
`openchatkit` with its data. Equal files give an equal archive (names sorted; times, owners and modes
fixed; no name or time in the gzip header), so a deployment replaces a model only when its code changed.

Not in it: weights (S3), third-party packages (the image), the client and the local host. Caches and
hidden files are left out; a file of a kind that the handler does not read is an error, so that nothing
is shipped or dropped by accident.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from stacks.models import Role

HANDLER = Path(__file__).resolve().parent.parent / "handler"
"""Where the handler's files lie in this checkout."""
PACKAGE = "openchatkit"
ENTRY = "model.py"
SOURCES = "sources.yaml"
"""Name of the sources file in a chat bundle; the handler starts in the bundle's folder."""
PROPERTIES = "serving.properties"
KINDS = frozenset({".py", ".json", ".jsonl", ".yaml", ".tsv", ".txt", ".jinja", ".safetensors"})
"""Suffixes of what the handler imports or reads; any other file in the package is refused."""
FILE_MODE = 0o644
COMPRESSION_LEVEL = 6


class BundleError(Exception):
    """A bundle cannot be made; the message names the file."""


def write_bundle(
    role: Role, destination: Path, *, handler: Path = HANDLER, more: Mapping[str, Path] | None = None
) -> Path:
    """Write the bundle of a role to the file `destination`, whole or not at all, and return that path.

    Args:
        role: whose.
        destination: the archive.
        handler: where the handler's files lie.
        more: further files of this deployment, by their names in the archive.

    Raises:
        BundleError: a file is missing, or the package holds one that the handler does not read.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    files = {**bundle_files(role, handler=handler), **(more or {})}
    for path in files.values():
        if not path.is_file():
            raise BundleError(f"the bundle of {role} needs {path}, which is not there")
    archive = _archive(dict(sorted(files.items())))
    with tempfile.NamedTemporaryFile(dir=destination.parent, prefix=".bundle-", delete=False) as part:
        part.write(archive)
    Path(part.name).chmod(FILE_MODE)
    os.replace(part.name, destination)  # noqa: PTH105 - the name of a file object is text
    return destination


def write_program(destination: Path, *, handler: Path = HANDLER) -> Path:
    """Write an archive of the package alone, for programs that run beside an endpoint; return its path.

    Raises:
        BundleError: as `write_bundle`.
    """
    destination.write_bytes(_archive(_package(handler)))
    return destination


def bundle_files(role: Role, *, handler: Path = HANDLER) -> dict[str, Path]:
    """Return the files of a role's bundle by their names in the archive, sorted by name.

    Raises:
        BundleError: as `write_bundle`.
    """
    files = {PROPERTIES: handler / role / PROPERTIES, ENTRY: handler / ENTRY}
    for path in files.values():
        if not path.is_file():
            raise BundleError(f"the bundle of {role} needs {path}, which is not there")
    return dict(sorted({**files, **_package(handler)}.items()))


def _package(handler: Path) -> dict[str, Path]:
    """Return the files of the package by their names in an archive, sorted by name."""
    package = handler / PACKAGE
    if not (package / "__init__.py").is_file():
        raise BundleError(f"the bundle needs the package {package}, which is not there")
    files = {path.relative_to(handler).as_posix(): path for path in _package_files(package)}
    return dict(sorted(files.items()))


def _package_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_symlink():
            raise BundleError(f"{path} is a link; a bundle holds files only")
        if path.is_dir():
            yield from _package_files(path)
        elif path.suffix in KINDS:
            yield path
        elif path.suffix != ".pyc":
            raise BundleError(
                f"{path} is of a kind that the handler does not read ({', '.join(sorted(KINDS))})"
            )


def _archive(files: dict[str, Path]) -> bytes:
    packed = io.BytesIO()
    # The gzip header would hold a time and a name; both would change with the machine.
    with (
        gzip.GzipFile(
            filename="", fileobj=packed, mode="wb", compresslevel=COMPRESSION_LEVEL, mtime=0
        ) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, path in files.items():
            content = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = FILE_MODE
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
