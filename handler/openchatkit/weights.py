"""Weights that a container brings itself: the judge's, beside a chat model in the same process.

DJL Serving downloads one model, that of `model_id`. A second one is fetched here from where `staging`
put it, by the manifest beside it: in parts, several at a time, resumed after a kill, and checked
against its SHA-256 sums before it is used for the first time. Blocking; one process at a time.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path

from openchatkit.origins import OriginUnusable, RemoteFile, S3Origin, matches, parse_origin
from openchatkit.settings import SettingsError

DOWNLOADS = Path(tempfile.gettempdir()) / "openchatkit-weights"
COMPLETE = ".complete"
"""Written when all files are there and right."""

_logger = logging.getLogger(__name__)


def local_weights(model: str, downloads: Path = DOWNLOADS) -> str:
    """Return `model`, or the folder with its files where it is an `s3://` prefix.

    Raises:
        SettingsError: the prefix cannot be read, or holds other bytes than its manifest says.
    """
    if not model.startswith("s3://"):
        return model
    try:
        origin = parse_origin(model)
        assert isinstance(origin, S3Origin)
        folder = downloads / hashlib.sha256(origin.identity.encode()).hexdigest()[:24]
        if not (folder / COMPLETE).exists():
            _logger.info("event=weights_download from=%s", model)
            for file in origin.files():
                _fetch_checked(origin, file, folder)
            (folder / COMPLETE).touch()
    except OriginUnusable as error:
        raise SettingsError(f"moderation_model: {error}") from error
    return str(folder)


def _fetch_checked(origin: S3Origin, file: RemoteFile, folder: Path) -> None:
    path = origin.fetch(file, folder, lambda name, done, size: None)
    if matches(path, file):
        return
    path.unlink()
    raise OriginUnusable(f"{file.name} does not match its checksum")
