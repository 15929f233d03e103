"""The CDK app: settings from the context, stacks into `cdk.out`.

`cdk` runs this file (`cdk.json`). By itself it synthesizes as well, without the CLI and without an account:

    python app.py [--offline] [-c KEY=VALUE ...]

It then reads `cdk.json` and `cdk.context.json` beside it, as the CLI would. The settings are those of
`stacks/settings.py`. With `--offline` a model that is not pinned gets a commit that does not exist: templates
to look at, not to deploy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from stacks.bundle import BundleError
from stacks.deployment import build
from stacks.pins import CONTEXT_FILE, pinned
from stacks.settings import DeploySettings, SettingsError

HERE = Path(__file__).resolve().parent
CONFIG_FILE = "cdk.json"
CLI_ENV = "CDK_CONTEXT_JSON"
"""How the CLI passes the whole context on; without it nobody has read the files."""
PATH_METADATA = "aws:cdk:enable-path-metadata"
NO_COMMIT = "0" * 40


def main() -> int:
    """Synthesize and return the exit status: 1 where a setting or a file is at fault, said in one line."""
    arguments = _parser().parse_args()
    try:
        app = cdk.App(outdir=os.environ.get("CDK_OUTDIR", str(HERE / "cdk.out")), context=_files())
        context = {**app.node.get_all_context(), **_given(arguments.context)}
        build(app, _settings(context, offline=arguments.offline))
        app.synth()
    except SettingsError as error:
        return _say(f"setting {error}")
    except (BundleError, OSError, ValueError) as error:
        return _say(str(error))
    return 0


def _settings(context: Mapping[str, Any], *, offline: bool) -> DeploySettings:
    settings = DeploySettings.from_context(context)
    if not offline:
        return pinned(settings, context, HERE)
    commits = {f"{role}_revision": settings.revision(role) or NO_COMMIT for role in ("chat", "moderation")}
    return settings.model_copy(update=commits)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Synthesize the stacks into cdk.out.")
    parser.add_argument("-c", "--context", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    parser.add_argument(
        "--offline", action="store_true", help="do not ask the hub; templates to look at, not to deploy"
    )
    return parser


def _given(pairs: list[str]) -> dict[str, str]:
    given = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"-c takes KEY=VALUE, not {pair!r}")
        given[key] = value
    return given


def _files() -> dict[str, Any] | None:
    """Return the context of the files beside this one, None where the CLI has read them."""
    if CLI_ENV in os.environ:
        return None
    config = _object(HERE / CONFIG_FILE)
    # The CLI makes this of its setting, and warns of a configuration that holds the key itself.
    metadata = {PATH_METADATA: config.get("pathMetadata", True)}
    return {**metadata, **_object(HERE / CONTEXT_FILE), **config.get("context", {})}


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ValueError(f"{path} is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")  # noqa: TRY004 - one kind of error for the caller
    return value


def _say(line: str) -> int:
    sys.stderr.write(f"{line}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
