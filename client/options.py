"""Options that every command of the chatbot takes: which one to speak to, and as whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import click
from click.core import ParameterSource

from client.transport import DEFAULT_URL, Endpoint

_Options = ParamSpec("_Options")


@dataclass(frozen=True)
class Target:
    """A chatbot and the user who speaks to it."""

    endpoint: Endpoint
    user: str | None

    def request(self, **fields: object) -> dict[str, Any]:
        """Return a request's fields, with the user where one is named and without what is None."""
        named = {**fields, "user_id": self.user}
        return {name: value for name, value in named.items() if value is not None}


def target_options(command: Callable[Concatenate[Target, _Options], None]) -> Callable[..., None]:
    """Decorate a command that takes a `Target` as its first argument."""

    @click.option("--endpoint", metavar="NAME", help="A SageMaker endpoint, instead of the local host.")
    @click.option("--region", help="AWS region of the endpoint.")
    @click.option("--profile", help="AWS profile to call the endpoint with.")
    @click.option(
        "--url",
        default=DEFAULT_URL,
        show_default=True,
        envvar="OCK_URL",
        show_envvar=True,
        help="Address of the local host.",
    )
    @click.option(
        "--user",
        metavar="ID",
        envvar="OCK_USER",
        show_envvar=True,
        help="Whose conversations these are; without it, those of no one in particular.",
    )
    @wraps(command)
    def with_target(*args: _Options.args, **options: _Options.kwargs) -> None:
        chosen: dict[str, Any] = {
            name: options.pop(name) for name in ("endpoint", "region", "profile", "url", "user")
        }
        command(_target(**chosen), *args, **options)

    return with_target


def _target(
    *, endpoint: str | None, region: str | None, profile: str | None, url: str, user: str | None
) -> Target:
    source = click.get_current_context().get_parameter_source("url")
    if endpoint is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--endpoint and --url exclude each other")
    if endpoint is None and (region or profile):
        raise click.UsageError("--region and --profile go with --endpoint")
    if endpoint is None:
        return Target(Endpoint.local(url), user)
    return Target(Endpoint.sagemaker(endpoint, region=region, profile=profile), user)
