"""The CDK app: settings from the context, stacks into `cdk.out`.

`cdk` runs this file (`cdk.json`); `python app.py` synthesizes as well, with `cdk.json` read here, since only
the CLI would pass it on. The settings: `stacks/settings.py`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from stacks.bundle import BundleError
from stacks.deployment import build
from stacks.pins import CONTEXT_FILE, pinned
from stacks.settings import DeploySettings, SettingsError

HERE = Path(__file__).resolve().parent
CLI_ENV = "CDK_CONTEXT_JSON"
"""How the CLI passes the whole context on; without it nobody has read the files."""


def main() -> int:
    """Synthesize and return the exit status: 1 where a setting or a file is at fault, said in one line."""
    app = cdk.App(outdir=os.environ.get("CDK_OUTDIR", str(HERE / "cdk.out")), context=_files())
    try:
        context = app.node.get_all_context()
        build(app, pinned(DeploySettings.from_context(context), context, HERE))
        app.synth()
    except (SettingsError, BundleError) as error:
        sys.stderr.write(f"setting {error}\n" if isinstance(error, SettingsError) else f"{error}\n")
        return 1
    return 0


def _files() -> dict[str, Any] | None:
    """Return the context of the files beside this one, None where the CLI has read them."""
    if CLI_ENV in os.environ:
        return None
    kept = HERE / CONTEXT_FILE
    return {
        **(json.loads(kept.read_text()) if kept.exists() else {}),
        **json.loads((HERE / "cdk.json").read_text())["context"],
    }


if __name__ == "__main__":
    sys.exit(main())
