"""Arguments and exit status: 0 staged (now or before), 1 one line says why not, 2 wrong usage.

    python -m staging --model ORG/NAME --revision COMMIT --bucket NAME [--prefix weights]
    python -m staging --dataset ORG/NAME --revision COMMIT --files 'GLOB' --bucket NAME [--prefix indexes]

The files end up at s3://BUCKET/PREFIX/ORG/NAME/COMMIT/. Progress goes to standard output, the reason of a
failure to standard error. A token is named by the ARN of its secret; it is never an argument, in the
environment or in the log.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from staging.bucket import Bucket
from staging.errors import StagingError
from staging.hub import Hub
from staging.manifest import Kind, Source
from staging.program import Job, Report, stage
from staging.progress import size_text
from staging.secret import read_token, region_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

PREFIXES: dict[Kind, str] = {"model": "weights", "dataset": "indexes"}
WORKERS = 16
MAX_WORKERS = 64
REPOSITORY_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"[\w][\w./-]{0,254}")
PREFIX = re.compile(r"[\w.-]+(/[\w.-]+)*")
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
AWS_ATTEMPTS = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    arguments = _parse(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("staging").setLevel(logging.INFO)
    started = time.monotonic()
    try:
        report = _run(arguments)
    except StagingError as error:
        sys.stderr.write(f"staging: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("staging: stopped; the next run goes on from here\n")
        return 130
    logger.info(
        "%d files, %s: %d uploaded, %d were there, %.0f s",
        report.files,
        size_text(report.total_size),
        report.uploaded,
        report.already_there,
        time.monotonic() - started,
    )
    return 0


def _run(arguments: argparse.Namespace) -> Report:
    kind: Kind = "dataset" if arguments.dataset else "model"
    workers: int = arguments.workers
    token = _token(arguments.token_secret) if arguments.token_secret else None
    hub = Hub(token=token)
    source = Source(kind, arguments.dataset or arguments.model, arguments.revision)
    source = hub.resolve(source, allow_moving=arguments.allow_moving)
    bucket = Bucket(
        _s3(workers),
        arguments.bucket,
        f"{arguments.prefix or PREFIXES[kind]}/{source.id}/{source.revision}",
        kms_key=arguments.kms_key,
        workers=workers,
    )
    bucket.check()
    return stage(Job(source, tuple(arguments.files or ()), arguments.work_dir, workers), hub, bucket)


def _token(arn: str) -> str:
    client = boto3.Session().client("secretsmanager", region_name=region_of(arn), config=_config(workers=1))
    return read_token(client, arn)


def _s3(workers: int) -> S3Client:
    try:
        return boto3.Session().client("s3", config=_config(workers))
    except BotoCoreError as error:
        raise StagingError(f"S3 cannot be used: {type(error).__name__}") from error


def _config(workers: int) -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": AWS_ATTEMPTS},
        max_pool_connections=workers + 2,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m staging",
        description="Bring a model or a dataset from the Hugging Face Hub into a bucket, once and checked.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="ID", type=_matching(REPOSITORY_ID, "ORG/NAME"))
    what.add_argument("--dataset", metavar="ID", type=_matching(REPOSITORY_ID, "ORG/NAME"))
    parser.add_argument(
        "--files", metavar="GLOB", action="append", help="files of a dataset; may be repeated"
    )
    parser.add_argument(
        "--revision",
        required=True,
        type=_matching(REVISION, "a commit"),
        help="commit, 40 hex digits; the name of a branch or tag is refused",
    )
    parser.add_argument(
        "--allow-moving", action="store_true", help="take a branch or tag as --revision, at its commit of now"
    )
    parser.add_argument("--bucket", required=True, metavar="NAME")
    parser.add_argument(
        "--prefix", type=_matching(PREFIX, "a path"), help="weights for models, indexes for datasets"
    )
    parser.add_argument(
        "--token-secret", metavar="ARN", help="secret with a hub token, for gated repositories"
    )
    parser.add_argument("--kms-key", metavar="ARN", help="key for the objects; else the bucket's default")
    parser.add_argument(
        "--workers", type=_workers, default=WORKERS, metavar="N", help="at once; default %(default)s"
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "openchatkit-staging",
        metavar="DIR",
        help="default %(default)s",
    )
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if bool(arguments.dataset) != bool(arguments.files):
        parser.error("--dataset needs --files, and --files goes with --dataset alone")
    return arguments


def _matching(pattern: re.Pattern[str], form: str) -> Callable[[str], str]:
    """Return an argument type: what does not match is wrong usage, and is not repeated."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text) or ".." in text:
            raise argparse.ArgumentTypeError(f"not {form}")
        return text

    return check


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_WORKERS}")
    return int(text)
