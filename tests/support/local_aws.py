"""AWS on 127.0.0.1 for tests: moto behind HTTP, in a process of its own.

A process of its own, because pytest turns every warning into an error, in all threads, and moto
warns. `LocalAws` starts it, gives sessions and environments for it, and empties it.

Where moto's CloudFormation differs from AWS's in what the tests look at, `mended_moto` changes it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ACCOUNT = "123456789012"
"""Moto's account."""
REGION = "us-east-1"
ROOT = Path(__file__).resolve().parents[2]
READY = "port "


class LocalAws:
    """A running server."""

    def __init__(self, port: int) -> None:
        # Not 127.0.0.1: moto tells a template's URL from others by this very name.
        self.url = f"http://localhost:{port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes boto3 and the CDK speak to this server and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_S3_FOR_CLOUDFORMATION": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "localhost,127.0.0.1",
        }

    def reset(self) -> None:
        """Empty every service."""
        self.control("reset")

    def take_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Empty every service, and make the environment one in which boto3 knows nothing else."""
        self.reset()
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def enforce_permissions(self) -> None:
        """From now on look at who calls: only keys that IAM knows may, and only what their policies say."""
        self.control("reset-auth", b"0")

    def ignore_permissions(self) -> None:
        """Take any key for any call, as at the start."""
        self.control("reset-auth", b"inf")

    def control(self, verb: str, body: bytes = b"") -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/{verb}", data=body, method="POST")
        request.add_header("Content-Type", "text/plain")
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


@contextlib.contextmanager
def serve_aws() -> Iterator[LocalAws]:
    """Run a server for the time of the block."""
    command = [sys.executable, "-m", "tests.support.local_aws"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(READY):
                    yield LocalAws(int(line.removeprefix(READY)))
                    break
            else:
                raise RuntimeError("moto did not start")
        finally:
            process.kill()


def main() -> None:
    """Serve until standard input ends or the process is killed."""
    import threading

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    from tests.support.mended_moto import mend

    mend()
    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{READY}{server.server_port}", flush=True)  # noqa: T201 - read by `serve_aws`
    sys.stdin.read()


if __name__ == "__main__":
    main()
