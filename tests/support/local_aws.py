"""AWS on 127.0.0.1 for tests: moto behind HTTP, in a process of its own.

A process of its own, because pytest turns every warning into an error, in all threads, and moto
warns. `LocalAws` starts it, gives sessions and environments for it, and empties it.

Moto's CloudFormation differs from AWS's in what the tests look at, so `mend` changes moto:
- an update evaluates the template's conditions anew: what is switched off is deleted, what is
  switched on is created (moto compares templates only);
- a parameter that was left to its default has a previous value too: that default;
- keys and parameters of a template may carry tags, keys a policy (moto reads them in another form);
- alarms and CodeBuild projects of a template are made (`moto_resources`).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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


def mend() -> None:
    """Change moto where the module's docstring says so."""
    from moto.cloudformation.models import CloudFormationBackend
    from moto.cloudformation.parsing import ResourceMap
    from moto.kms.models import Key
    from moto.ssm.models import SimpleSystemManagerBackend

    import tests.support.moto_resources  # noqa: F401 - makes its types known

    update_as_it_was = ResourceMap.update
    resolve_as_it_was = CloudFormationBackend._resolve_update_parameters

    def active(resources: Mapping[str, Any], conditions: Mapping[str, bool]) -> dict[str, Any]:
        """Return the resources whose condition holds."""
        return {
            name: resource
            for name, resource in resources.items()
            if "Condition" not in resource or conditions[resource["Condition"]]
        }

    def conditions_of(self: Any, template: dict[str, Any], parameters: dict[str, Any]) -> Mapping[str, bool]:
        stack_name = self._parsed_resources["AWS::StackName"]
        coming = ResourceMap(
            self.stack_id,
            stack_name,
            parameters,
            {},
            self._region_name,
            self._account_id,
            template,
            self.cross_stack_resources,
        )
        coming.load_mapping()
        coming.load_parameters()
        coming.load_conditions()
        return coming.lazy_condition_map

    def update(self: Any, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
        before = active(self._resource_json_map, self.lazy_condition_map)
        conditions = conditions_of(self, template, parameters or self.input_parameters)
        after = active(template["Resources"], conditions)
        self._resource_json_map = before
        update_as_it_was(self, {**template, "Resources": after}, parameters)
        for name in before.keys() - after.keys():
            self._parsed_resources.pop(name, None)

    def resolve(self: Any, instance: Any, incoming_params: list[dict[str, Any]]) -> dict[str, str]:
        slots = getattr(instance, "template_dict", {}).get("Parameters", {})
        defaults = {name: str(slot["Default"]) for name, slot in slots.items() if "Default" in slot}
        instance.parameters = {**defaults, **instance.parameters}
        return resolve_as_it_was(self, instance, incoming_params)

    def create_key(cls: Any, resource_name: str, cloudformation_json: Any, *args: Any, **named: Any) -> Any:
        properties = dict(cloudformation_json["Properties"])
        tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in properties.get("Tags", [])]
        policy = json.dumps(properties["KeyPolicy"])
        template = {
            **cloudformation_json,
            "Properties": {**properties, "Tags": tags, "KeyPolicy": policy},
        }
        return create_key_as_it_was(cls, resource_name, template, *args, **named)

    def put_parameter(self: Any, **named: Any) -> Any:
        if isinstance(named.get("tags"), dict):
            named["tags"] = [{"Key": key, "Value": value} for key, value in named["tags"].items()]
        return put_parameter_as_it_was(self, **named)

    put_parameter_as_it_was: Any = SimpleSystemManagerBackend.put_parameter
    SimpleSystemManagerBackend.put_parameter = put_parameter  # type: ignore[assignment,method-assign]
    create_key_as_it_was = Key.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]
    Key.create_from_cloudformation_json = classmethod(create_key)  # type: ignore[assignment]
    ResourceMap.update = update  # type: ignore[method-assign]
    CloudFormationBackend._resolve_update_parameters = resolve  # type: ignore[method-assign]


def main() -> None:
    """Serve until standard input ends or the process is killed."""
    import threading

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

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
