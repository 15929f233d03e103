"""What every stack of the app shares: name, removal policy, synthesizer, log groups, outputs."""

from __future__ import annotations

import os

from aws_cdk import CfnOutput, DefaultStackSynthesizer, Environment, RemovalPolicy, Stack
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.settings import DeploySettings


class AppStack(Stack):
    """A stack `<name>-<part>` of a deployment."""

    def __init__(self, scope: Construct, settings: DeploySettings, part: str, holds: str) -> None:
        # Without the rule the template has no parameter that an update from outside (`ock down`, the
        # schedule) would have to resolve again; `ock doctor` checks the bootstrap version instead.
        super().__init__(
            scope,
            settings.stack_names[part],
            description=f"OpenChatKit on SageMaker: {holds}",
            env=Environment(
                account=os.environ.get("CDK_DEFAULT_ACCOUNT"), region=os.environ.get("CDK_DEFAULT_REGION")
            ),
            synthesizer=DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
            termination_protection=settings.removal == "retain" and part == "Storage",
        )
        self.settings = settings
        self.removal_policy = RemovalPolicy.DESTROY if settings.removal == "destroy" else RemovalPolicy.RETAIN

    def output(self, name: str, value: str, description: str) -> None:
        """Show a value after a deployment, and to the operating commands."""
        CfnOutput(self, name, value=value, description=description)

    def log_group(
        self, scope: Construct, identifier: str = "Log", *, name: str | None = None
    ) -> logs.LogGroup:
        """Return a log group of the deployment's retention."""
        return logs.LogGroup(
            scope,
            identifier,
            log_group_name=name,
            retention=retention(self.settings.log_retention_days),
            removal_policy=self.removal_policy,
        )


def stack_of(scope: Construct) -> AppStack:
    """Return the stack that a construct is in."""
    stack = Stack.of(scope)
    if not isinstance(stack, AppStack):
        raise TypeError(f"{scope.node.path} is in no stack of this app")
    return stack


def retention(days: int) -> logs.RetentionDays:
    """Return CloudWatch's name of a number of days, which the settings have checked."""
    names = {
        1: "ONE_DAY",
        3: "THREE_DAYS",
        5: "FIVE_DAYS",
        7: "ONE_WEEK",
        14: "TWO_WEEKS",
        30: "ONE_MONTH",
        60: "TWO_MONTHS",
        90: "THREE_MONTHS",
        120: "FOUR_MONTHS",
        150: "FIVE_MONTHS",
        180: "SIX_MONTHS",
        365: "ONE_YEAR",
        400: "THIRTEEN_MONTHS",
        545: "EIGHTEEN_MONTHS",
        731: "TWO_YEARS",
        1096: "THREE_YEARS",
        1827: "FIVE_YEARS",
        2192: "SIX_YEARS",
        2557: "SEVEN_YEARS",
        2922: "EIGHT_YEARS",
        3288: "NINE_YEARS",
        3653: "TEN_YEARS",
    }
    return logs.RetentionDays[names[days]]
