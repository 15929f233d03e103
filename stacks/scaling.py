"""Scaling a variant between its fewest and its most instances.

It follows the requests that an instance has at once (`METRIC`, which real-time endpoints emit every ten
seconds and target tracking reads as it comes). Requests a minute
would mislead: an answer takes seconds to minutes, so few requests can fill an instance for long.
"""

from __future__ import annotations

from aws_cdk import CfnCondition
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.models import Role
from stacks.settings import DeploySettings

METRIC = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
NAMESPACE = "sagemaker"
OUT_COOLDOWN_S = 300
"""A new instance takes about that long to load its weights; asking again before would overshoot."""
IN_COOLDOWN_S = 900


def scale(
    scope: Construct,
    role: Role,
    *,
    settings: DeploySettings,
    endpoint: sagemaker.CfnEndpoint,
    enabled: CfnCondition,
) -> None:
    """Let a role's variant scale, where its settings leave room; it goes off with the endpoint."""
    least, most = settings.instances(role)
    if most == least:
        return
    target = scaling.CfnScalableTarget(
        scope,
        f"{role.title()}Target",
        service_namespace=NAMESPACE,
        scalable_dimension=DIMENSION,
        resource_id=f"endpoint/{settings.endpoint_name}/variant/{role}",
        min_capacity=least,
        max_capacity=most,
    )
    policy = scaling.CfnScalingPolicy(
        scope,
        f"{role.title()}Scaling",
        policy_name=f"{settings.endpoint_name}-{role}-concurrency",
        policy_type="TargetTrackingScaling",
        scaling_target_id=target.ref,
        target_tracking_scaling_policy_configuration=scaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
            target_value=settings.chat_concurrency if role == "chat" else settings.moderation_concurrency,
            predefined_metric_specification=scaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                predefined_metric_type=METRIC
            ),
            scale_out_cooldown=OUT_COOLDOWN_S,
            scale_in_cooldown=IN_COOLDOWN_S,
        ),
    )
    target.add_resource_dependency(endpoint)
    for resource in (target, policy):
        resource.cfn_options.condition = enabled
