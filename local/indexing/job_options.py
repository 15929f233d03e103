"""The options of `ock index build --on sagemaker`: how many machines, of which kind, in whose account."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

MAX_INSTANCES = 100
"""Of a processing job; an account's quota is less at first."""
DEFAULT_INSTANCES = 1
DEFAULT_TYPE = "ml.g5.xlarge"
INSTANCE_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")

_Options = ParamSpec("_Options")


@dataclass(frozen=True)
class JobOptions:
    """What was asked for; what is None comes from the deployment."""

    instances: int = DEFAULT_INSTANCES
    instance_type: str = DEFAULT_TYPE
    volume_gb: int | None = None
    bucket: str | None = None
    image: str | None = None
    role: str | None = None
    context: tuple[str, ...] = ()
    """`KEY=VALUE`: settings of the deployment, as for `cdk`."""
    app_dir: Path | None = None
    region: str | None = None
    profile: str | None = None


def job_options(
    command: Callable[Concatenate[JobOptions | None, _Options], None],
) -> Callable[..., None]:
    """Decorate a command whose first argument is `JobOptions`, or None where all is done here."""

    @click.option("--on", type=click.Choice(["sagemaker"]), help="Read and embed on SageMaker, not here.")
    @click.option("--instances", type=click.IntRange(1, MAX_INSTANCES),
                  help=f"Instances on SageMaker.  [default: {DEFAULT_INSTANCES}]")  # fmt: skip
    @click.option("--instance-type", metavar="TYPE", help=f"Their type.  [default: {DEFAULT_TYPE}]")
    @click.option("--volume-gb", type=click.IntRange(1, 16384),
                  help="Disk of each. The default is made from the size of the files.")  # fmt: skip
    @click.option("--bucket", metavar="NAME", help="Bucket to work in; the deployment's by default.")
    @click.option("--image", metavar="URI", help="Image of the job; the deployment's by default.")
    @click.option("--role", metavar="ARN", help="Role of the job; the deployment's by default.")
    @click.option("-c", "--context", multiple=True, metavar="KEY=VALUE",
                  help="A setting of the deployment, as for `cdk`; repeatable.")  # fmt: skip
    @click.option("--app-dir", type=click.Path(exists=True, file_okay=False, path_type=Path),
                  help="Folder of the CDK app.")  # fmt: skip
    @click.option("--region", help="AWS region.")
    @click.option("--profile", help="AWS profile.")
    @wraps(command)
    def with_job(*args: _Options.args, **options: _Options.kwargs) -> None:
        on = options.pop("on")
        names = JobOptions.__dataclass_fields__
        chosen: dict[str, Any] = {name: options.pop(name) for name in names}
        given = {name: value for name, value in chosen.items() if value not in (None, ())}
        if on is None and given:
            raise click.UsageError(f"--{next(iter(given)).replace('_', '-')} goes with --on sagemaker")
        command(_checked(JobOptions(**given)) if on else None, *args, **options)

    return with_job


def _checked(options: JobOptions) -> JobOptions:
    if not INSTANCE_TYPE.fullmatch(options.instance_type):
        raise click.UsageError(f"--instance-type: {options.instance_type!r} is none, {DEFAULT_TYPE} is one")
    return options
