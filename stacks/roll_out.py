"""How a new version of the endpoint takes over, and what makes it go back.

SageMaker's default, blue/green all at once, starts the new instances beside the old ones: twice the quota
for as long. `rolling` replaces half of a variant's instances at a time, so it needs two.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.settings import DeploySettings

NAMESPACE = "AWS/SageMaker"
BAKE_S = 300
"""How long the new version is watched before the old one goes."""
MARGIN_S = 1800
"""For instances to be found and taken away, beside start-up and watching."""
MAX_TOTAL_S = 28_800
"""SageMaker's bound on a whole roll-out."""
CANARY_PERCENT = 20
BATCH_PERCENT = 50
MINUTES = 2
"""That a variant must fail in for a roll-out to go back; the alarms of Monitoring look at longer times."""


class RollbackAlarms(Construct):
    """One alarm a variant: answers with a status from 500 on. They notify nobody."""

    def __init__(self, scope: Construct, identifier: str, *, settings: DeploySettings) -> None:
        super().__init__(scope, identifier)
        self.names = [
            cloudwatch.Alarm(
                self,
                role.title(),
                alarm_description=f"{settings.endpoint_name}/{role} fails: a roll-out goes back",
                metric=cloudwatch.Metric(
                    namespace=NAMESPACE,
                    metric_name="Invocation5XXErrors",
                    dimensions_map={"EndpointName": settings.endpoint_name, "VariantName": role},
                    statistic="Sum",
                    period=Duration.minutes(1),
                ),
                threshold=settings.alarm_errors_5xx,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                evaluation_periods=MINUTES,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            ).alarm_name
            for role in settings.roles
        ]


def deployment_config(
    settings: DeploySettings, alarm_names: Sequence[str]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """Return how an update of the endpoint goes."""
    endpoint = sagemaker.CfnEndpoint
    limit = min(MAX_TOTAL_S, settings.startup_timeout_s + settings.download_timeout_s + BAKE_S + MARGIN_S)
    rollback = endpoint.AutoRollbackConfigProperty(
        alarms=[endpoint.AlarmProperty(alarm_name=name) for name in alarm_names]
    )
    if settings.update_policy == "rolling":
        half = endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=BATCH_PERCENT)
        return endpoint.DeploymentConfigProperty(
            auto_rollback_configuration=rollback,
            rolling_update_policy=endpoint.RollingUpdatePolicyProperty(
                maximum_batch_size=half,
                wait_interval_in_seconds=BAKE_S,
                # Two batches, one after the other.
                maximum_execution_timeout_in_seconds=min(MAX_TOTAL_S, 2 * limit),
            ),
        )
    canary = settings.update_policy == "canary"
    return endpoint.DeploymentConfigProperty(
        auto_rollback_configuration=rollback,
        blue_green_update_policy=endpoint.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=endpoint.TrafficRoutingConfigProperty(
                type="CANARY" if canary else "ALL_AT_ONCE",
                wait_interval_in_seconds=BAKE_S,
                canary_size=endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=CANARY_PERCENT)
                if canary
                else None,
            ),
            termination_wait_in_seconds=0,
            maximum_execution_timeout_in_seconds=limit,
        ),
    )
