"""Synthesizes the app in this process: real constructs, the real CDK library, no CLI, no account."""

import atexit
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The library runs on the Node that is here; an old one is the machine's matter, not the templates'.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
# The CDK's own linter takes seconds to start; cfn-lint looks at the same templates.
os.environ.setdefault("CDK_VALIDATION", "false")

import aws_cdk
from cdk_nag import AwsSolutionsChecks

from stacks.deployment import build
from stacks.settings import DeploySettings

REVISION = "0123456789abcdef0123456789abcdef01234567"
PINS = {"chat_revision": REVISION, "moderation_revision": REVISION}
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/openchatkit:1"
PLAIN = {"image": IMAGE, "weights": "staged", "empty_on_destroy": "false"}
"""Nothing that CloudFormation would have to run."""

Resource = Mapping[str, Any]


@dataclass(frozen=True)
class Synthesis:
    """What came out."""

    settings: DeploySettings
    folder: Path

    def template(self, part: str) -> Mapping[str, Any]:
        name = self.settings.stack_names[part]
        template: Mapping[str, Any] = json.loads((self.folder / f"{name}.template.json").read_text())
        return template

    def templates(self) -> dict[str, str]:
        return {
            part: (self.folder / f"{name}.template.json").read_text()
            for part, name in self.settings.stack_names.items()
        }

    def resources(self, part: str, kind: str) -> list[Resource]:
        return [one for one in self.template(part)["Resources"].values() if one["Type"] == kind]

    def only(self, part: str, kind: str) -> Resource:
        found = self.resources(part, kind)
        assert len(found) == 1, f"{len(found)} of {kind} in {part}"
        return found[0]

    def all_resources(self) -> Iterator[tuple[str, str, Resource]]:
        for part in self.settings.stack_names:
            for name, resource in self.template(part)["Resources"].items():
                yield part, name, resource

    def manifest(self) -> Mapping[str, Any]:
        manifest: Mapping[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return manifest


def synthesize(**context: object) -> Synthesis:
    """Synthesize with the given settings; the same ones are synthesized once in a process."""
    return _synthesize(False, json.dumps(context, sort_keys=True))


def synthesize_checked(**context: object) -> Synthesis:
    """Do the same, and raise where cdk-nag finds something that is not acknowledged."""
    return _synthesize(True, json.dumps(context, sort_keys=True))


@functools.lru_cache
def _synthesize(nag: bool, context: str) -> Synthesis:
    folder = Path(tempfile.mkdtemp(prefix="synthesis-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = DeploySettings.from_context({**PINS, **json.loads(context)})
    app = aws_cdk.App(outdir=str(folder), analytics_reporting=False)
    build(app, settings)
    if nag:
        aws_cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return Synthesis(settings, folder)
