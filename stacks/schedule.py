"""Turns the endpoint on and off by the clock: EventBridge Scheduler updates the stack's parameter.

The scheduler's role may update this one stack and nothing else. It passes no role: CloudFormation goes on
with the role that the stack was last deployed with (the CDK's execution role), which a caller of UpdateStack
needs no right to pass. The template in place is used and it has no parameter that would have to be looked up,
so no right on S3 or SSM is needed either. An update that finds the stack in that state already fails with "No
updates are to be performed", which changes nothing.
"""

from __future__ import annotations

import json

from aws_cdk import Aws, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.acknowledged import acknowledge, resource_finding
from stacks.settings import DeploySettings

TARGET = "aws-sdk:cloudformation:updateStack"
MAX_TRIES = 10
MAX_AGE_S = 3600
"""A deployment may be in progress when the clock strikes; after an hour the moment has passed."""


class Schedule(Construct):
    """One or two schedules, for on and off."""

    def __init__(
        self, scope: Construct, identifier: str, *, settings: DeploySettings, parameter: str
    ) -> None:
        super().__init__(scope, identifier)
        stack = Stack.of(self)
        self._settings, self._parameter = settings, parameter
        self._role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            ),
            description=f"{settings.name}: turns the endpoint on and off by the clock",
        )
        # The id of a stack ends in a part that CloudFormation makes up.
        arn = stack.format_arn(
            service="cloudformation", resource="stack", resource_name=f"{stack.stack_name}/*"
        )
        self._role.add_to_policy(
            iam.PolicyStatement(
                actions=["cloudformation:UpdateStack"],
                resources=[arn],
            )
        )
        finding = f"{resource_finding(self, arn)}]"
        acknowledge(self, {finding: "One stack; the rest of its id is made up by CloudFormation."})
        for when, on in ((settings.schedule_up, True), (settings.schedule_down, False)):
            if when:
                self._at(when, on=on)

    def _at(self, when: str, *, on: bool) -> None:
        update = {
            "StackName": Stack.of(self).stack_name,
            "UsePreviousTemplate": True,
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
            "Parameters": [{"ParameterKey": self._parameter, "ParameterValue": "true" if on else "false"}],
        }
        schedule = scheduler.CfnSchedule(
            self,
            "Up" if on else "Down",
            description=f"Turns {self._settings.endpoint_name} {'on' if on else 'off'}",
            schedule_expression=when,
            schedule_expression_timezone=self._settings.schedule_timezone,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=f"arn:{Aws.PARTITION}:scheduler:::{TARGET}",
                role_arn=self._role.role_arn,
                input=json.dumps(update),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=MAX_TRIES, maximum_event_age_in_seconds=MAX_AGE_S
                ),
            ),
        )
        schedule.node.add_dependency(self._role)
