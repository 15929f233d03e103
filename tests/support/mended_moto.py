"""Moto's CloudFormation where it differs from AWS's in what the tests look at.

- An update evaluates the template's conditions anew: what is switched off is deleted, what is switched on
  is created (moto compares templates only).
- What moto cannot update stays as it was (moto loses it); log groups get their new retention.
- A parameter that was left to its default has a previous value too: that default.
- A deleted stack stays deleted when it is described (moto makes anew what its outputs refer to).
- Keys and parameters of a template may carry tags, keys a policy (moto reads them in another form).
- Buckets get their public access block and versioning, tables their expiry and recovery.
- Alarms and CodeBuild projects are made (`moto_resources`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.table import Table
from moto.kms.models import Key
from moto.logs.models import LogGroup, logs_backends
from moto.s3.models import FakeBucket, s3_backends
from moto.ssm.models import SimpleSystemManagerBackend

import tests.support.moto_resources  # noqa: F401 - makes its types known

Properties = dict[str, Any]


def mend() -> None:
    """Change moto, for the whole process."""
    _mend_updates()
    _mend_parameter_tags()
    _wrap(Key, before=_key_as_moto_reads_it)
    _wrap(FakeBucket, after=_finish_bucket)
    _wrap(Table, after=_finish_table)


def _mend_updates() -> None:
    update_as_it_was = ResourceMap.update
    resolve_as_it_was = CloudFormationBackend._resolve_update_parameters

    def update(self: Any, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
        before = _active(self._resource_json_map, self.lazy_condition_map)
        conditions = _conditions(self, template, parameters or self.input_parameters)
        after = _active(template["Resources"], conditions)
        self._resource_json_map = before
        update_as_it_was(self, {**template, "Resources": after}, parameters)
        for name in before.keys() - after.keys():
            self._parsed_resources.pop(name, None)

    def resolve(self: Any, instance: Any, incoming_params: list[dict[str, Any]]) -> dict[str, str]:
        slots = getattr(instance, "template_dict", {}).get("Parameters", {})
        defaults = {name: str(slot["Default"]) for name, slot in slots.items() if "Default" in slot}
        instance.parameters = {**defaults, **instance.parameters}
        return resolve_as_it_was(self, instance, incoming_params)

    def delete(self: Any) -> None:
        delete_as_it_was(self)
        self.output_map._output_json_map = {}
        self.resource_map._resource_json_map = {}

    delete_as_it_was = Stack.delete
    Stack.delete = delete  # type: ignore[method-assign]

    def update_one(logical_id: str, resource: Any, resources: Any, account_id: str, region_name: str) -> Any:
        made = update_one_as_it_was(logical_id, resource, resources, account_id, region_name)
        return resources[logical_id] if made is None else made

    update_one_as_it_was = parsing.parse_and_update_resource
    parsing.parse_and_update_resource = update_one  # type: ignore[assignment]
    LogGroup.update_from_cloudformation_json = classmethod(_update_log_group)  # type: ignore[assignment]
    ResourceMap.update = update  # type: ignore[method-assign]
    CloudFormationBackend._resolve_update_parameters = resolve  # type: ignore[method-assign]


def _update_log_group(
    cls: Any,
    original_resource: Any,
    new_resource_name: str,
    cloudformation_json: Any,
    account_id: str,
    region_name: str,
) -> Any:
    days = cloudformation_json["Properties"].get("RetentionInDays")
    logs_backends[account_id][region_name].put_retention_policy(original_resource.name, days)
    return original_resource


def _active(resources: Mapping[str, Any], conditions: Mapping[str, bool]) -> dict[str, Any]:
    """Return the resources whose condition holds."""
    return {
        name: resource
        for name, resource in resources.items()
        if "Condition" not in resource or conditions[resource["Condition"]]
    }


def _conditions(before: Any, template: dict[str, Any], parameters: dict[str, Any]) -> Mapping[str, bool]:
    """Return the conditions of a template with the values that an update brings."""
    coming = ResourceMap(
        before.stack_id,
        before._parsed_resources["AWS::StackName"],
        parameters,
        {},
        before._region_name,
        before._account_id,
        template,
        before.cross_stack_resources,
    )
    coming.load_mapping()
    coming.load_parameters()
    coming.load_conditions()
    return coming.lazy_condition_map


def _mend_parameter_tags() -> None:
    put_as_it_was: Any = SimpleSystemManagerBackend.put_parameter

    def put_parameter(self: Any, *values: Any, **named: Any) -> Any:
        if isinstance(named.get("tags"), dict):
            named["tags"] = [{"Key": key, "Value": value} for key, value in named["tags"].items()]
        return put_as_it_was(self, *values, **named)

    SimpleSystemManagerBackend.put_parameter = put_parameter  # type: ignore[method-assign]


def _wrap(
    kind: Any,
    *,
    before: Callable[[Properties], Properties] = lambda properties: properties,
    after: Callable[[Any, str, Properties, str, str], None] = lambda *_: None,
) -> None:
    """Change what a template's properties are before a resource is made, or the resource afterwards."""
    create_as_it_was = kind.create_from_cloudformation_json.__func__

    def create(cls: Any, resource_name: str, cloudformation_json: Any, *args: Any, **named: Any) -> Any:
        properties = before(dict(cloudformation_json.get("Properties", {})))
        template = {**cloudformation_json, "Properties": properties}
        made = create_as_it_was(cls, resource_name, template, *args, **named)
        account, region = args or (named["account_id"], named["region_name"])
        after(made, resource_name, properties, account, region)
        return made

    kind.create_from_cloudformation_json = classmethod(create)


def _key_as_moto_reads_it(properties: Properties) -> Properties:
    tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in properties.get("Tags", [])]
    return {**properties, "Tags": tags, "KeyPolicy": json.dumps(properties["KeyPolicy"])}


def _finish_bucket(bucket: Any, name: str, properties: Properties, account: str, region: str) -> None:
    blocked = properties.get("PublicAccessBlockConfiguration")
    if blocked:
        s3_backends[account]["aws"].put_public_access_block(name, blocked)
    bucket.versioning_status = properties.get("VersioningConfiguration", {}).get("Status")


def _finish_table(table: Any, name: str, properties: Properties, account: str, region: str) -> None:
    backend = dynamodb_backends[account][region]
    if "TimeToLiveSpecification" in properties:
        backend.update_time_to_live(table.name, properties["TimeToLiveSpecification"])
    if "PointInTimeRecoverySpecification" in properties:
        backend.update_continuous_backups(table.name, properties["PointInTimeRecoverySpecification"])
