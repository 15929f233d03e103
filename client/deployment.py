"""Options of the commands that operate a deployment: which settings, which account, which region.

The settings are those that `cdk` would take: `cdk.json` and `cdk.context.json` of the app's folder, and
`-c KEY=VALUE`, which wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import boto3
import click

import stacks
from client.aws import open_session
from client.errors import CallFailed
from client.stacks import Stack
from stacks.pins import KEY as REVISION_KEY
from stacks.settings import DeploySettings, SettingsError

CONFIG_FILE = "cdk.json"
CONTEXT_FILE = "cdk.context.json"
MAX_FILE_BYTES = 1_000_000
APP_TAG = "openchatkit:app"
"""Every resource of a deployment carries this tag, with the deployment's name."""
BUCKET_TYPE = "AWS::S3::Bucket"

_Options = ParamSpec("_Options")


@dataclass(frozen=True)
class Deployment:
    """What the options say; nothing is read before it is asked for."""

    given: Sequence[str]
    """`KEY=VALUE`, as on the command line."""
    app_dir: Path
    region: str | None = None
    profile: str | None = None

    def context(self) -> dict[str, Any]:
        """Return the context that `cdk` would have.

        Raises:
            CallFailed: a file is not JSON as the CDK writes it, or something given is not KEY=VALUE.
        """
        known = _read_object(self.app_dir / CONTEXT_FILE)
        configured = _read_object(self.app_dir / CONFIG_FILE).get("context", {})
        if not isinstance(configured, dict):
            raise CallFailed(f"{self.app_dir / CONFIG_FILE}: its context is not an object")
        return {**known, **configured, **dict(_pair(given) for given in self.given)}

    def settings(self) -> DeploySettings:
        """Return the settings, with the commits of the models that an earlier synthesis has kept.

        Raises:
            CallFailed: one of them is unknown or has a value that cannot work.
        """
        context = self.context()
        try:
            settings = DeploySettings.from_context(context)
            kept = {
                f"{role}_revision": context[key]
                for role in ("chat", "moderation")
                if not settings.revision(role)
                and (key := REVISION_KEY.format(model=settings.model(role))) in context
            }
            return DeploySettings.from_context({**settings.model_dump(), **kept}) if kept else settings
        except SettingsError as error:
            raise CallFailed(f"setting {error}") from error

    def session(self) -> boto3.Session:
        """Return a session with AWS.

        Raises:
            CallFailed: there is no such profile.
        """
        return open_session(region=self.region, profile=self.profile)


def deployment_options(
    command: Callable[Concatenate[Deployment, _Options], None],
) -> Callable[..., None]:
    """Decorate a command that takes a `Deployment` as its first argument."""

    @click.option(
        "-c",
        "--context",
        "given",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting, as for `cdk`; repeatable.",
    )
    @click.option(
        "--app-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of the CDK app; by default this one if it holds a cdk.json, else that of the program.",
    )
    @click.option("--region", help="AWS region.")
    @click.option("--profile", help="AWS profile.")
    @wraps(command)
    def with_deployment(*args: _Options.args, **options: _Options.kwargs) -> None:
        chosen: dict[str, Any] = {
            name: options.pop(name) for name in ("given", "app_dir", "region", "profile")
        }
        chosen["app_dir"] = chosen["app_dir"] or default_app_dir()
        command(Deployment(**chosen), *args, **options)

    return with_deployment


def default_app_dir() -> Path:
    """Return the current folder if it holds an app, else the one that this program is part of."""
    here = Path.cwd()
    return here if (here / CONFIG_FILE).is_file() else Path(stacks.__path__[0]).parent


def storage_bucket(session: boto3.Session, settings: DeploySettings) -> str | None:
    """Return the name of the deployment's bucket, None where the Storage stack is not deployed.

    Raises:
        CallFailed: CloudFormation cannot be asked, or the stack has no bucket of its own.
    """
    stack = Stack(session, settings.stack_names["Storage"])
    if stack.describe() is None:
        return None
    buckets = stack.resources(BUCKET_TYPE)
    if len(buckets) != 1:
        raise CallFailed(f"the stack {stack.name} has {len(buckets)} buckets, not one: deploy it again")
    return next(iter(buckets.values()))


def _pair(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise CallFailed(f"-c takes KEY=VALUE, not {given!r}")
    return key, value


def _read_object(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file, an empty one where there is no file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CallFailed(f"{path} is too large to be the CDK's")
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CallFailed(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CallFailed(f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise CallFailed(f"{path} is not a JSON object")
    return value
