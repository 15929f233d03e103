"""Types of CloudFormation resources that moto serves by their own APIs, but does not know in templates.

Importing this module before the first template makes moto's CloudFormation create them, so that the
dashboard that refers to alarms, and the commands that look for alarms and projects, find real ones.
"""

from __future__ import annotations

from typing import Any

from moto.cloudwatch.models import Dimension, Metric, MetricDataQuery, MetricStat, cloudwatch_backends
from moto.codebuild.models import codebuild_backends
from moto.core.common_models import CloudFormationModel


class _Shared:
    """What the types share: a physical name, an ARN, an update that replaces."""

    def __init__(self, name: str, arn: str) -> None:
        self.name, self.arn = name, arn

    @property
    def physical_resource_id(self) -> str:
        return self.name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.arn

    @classmethod
    def update_from_cloudformation_json(
        cls: Any, original_resource: Any, new_resource_name: str, cloudformation_json: Any, **place: str
    ) -> Any:
        cls.delete_from_cloudformation_json(original_resource.name, cloudformation_json, **place)
        return cls.create_from_cloudformation_json(original_resource.name, cloudformation_json, **place)


class AlarmResource(_Shared, CloudFormationModel):  # type: ignore[misc]
    """An alarm on metrics."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> AlarmResource:
        fields = cloudformation_json["Properties"]
        name = fields.get("AlarmName", resource_name)
        alarm = cloudwatch_backends[account_id][region_name].put_metric_alarm(
            name=name,
            namespace=fields.get("Namespace"),
            metric_name=fields.get("MetricName"),
            metric_data_queries=[_query(query) for query in fields["Metrics"]]
            if "Metrics" in fields
            else None,
            comparison_operator=fields["ComparisonOperator"],
            evaluation_periods=fields["EvaluationPeriods"],
            period=fields.get("Period"),
            threshold=fields.get("Threshold"),
            statistic=fields.get("Statistic"),
            description=fields.get("AlarmDescription", ""),
            dimensions=fields.get("Dimensions", []),
            alarm_actions=fields.get("AlarmActions", []),
            ok_actions=fields.get("OKActions", []),
            treat_missing_data=fields.get("TreatMissingData"),
            tags=fields.get("Tags", []),
        )
        return cls(name, alarm.alarm_arn)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        cloudwatch_backends[account_id][region_name].delete_alarms([resource_name])


class ProjectResource(_Shared, CloudFormationModel):  # type: ignore[misc]
    """A CodeBuild project."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CodeBuild::Project"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> ProjectResource:
        fields = cloudformation_json["Properties"]
        name = fields.get("Name", resource_name)
        made = codebuild_backends[account_id][region_name].create_project(
            project_name=name,
            description=fields.get("Description"),
            project_source=_lower(fields["Source"]),
            artifacts=_lower(fields["Artifacts"]),
            environment=_lower(fields["Environment"]),
            service_role=fields["ServiceRole"],
            tags=_lower(fields.get("Tags", [])),
            cache=None,
            timeout=fields.get("TimeoutInMinutes"),
            queued_timeout=None,
            source_version=None,
            logs_config=None,
            vpc_config=None,
        )
        return cls(name, made["arn"])

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
    ) -> None:
        codebuild_backends[account_id][region_name].delete_project(resource_name)


def _lower(value: Any) -> Any:
    """Return a template's fields as CodeBuild's own API spells them: with a small letter."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _lower(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_lower(inner) for inner in value]
    return value


def _query(fields: Any) -> MetricDataQuery:
    stat = None
    if "MetricStat" in fields:
        given = fields["MetricStat"]
        dimensions = [Dimension(one["Name"], one["Value"]) for one in given["Metric"].get("Dimensions", [])]
        metric = Metric(given["Metric"]["MetricName"], given["Metric"]["Namespace"], dimensions)
        stat = MetricStat(metric, given["Period"], given["Stat"], given.get("Unit"))
    return MetricDataQuery(
        query_id=fields["Id"],
        label=fields.get("Label"),
        period=fields.get("Period"),
        return_data=fields.get("ReturnData", True),
        expression=fields.get("Expression"),
        metric_stat=stat,
    )
