"""A custom resource that may take longer than a function: the CDK's Provider around one of `functions/`.

Each adds functions and a state machine that exist for a deployment only; where `weights`, `image` and
`empty_on_destroy` ask for none, there is none. Logs have the deployment's retention and go with the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import custom_resources as cr
from constructs import Construct

from stacks.acknowledged import acknowledge, logical_id
from stacks.stack import stack_of

FUNCTIONS = Path(__file__).resolve().parent / "functions"
RUNTIME = lambda_.Runtime.PYTHON_3_14
MEMORY_MIB = 256
BASIC_POLICY = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


class Waiting(Construct):
    """Handlers `on_event` and `is_complete` of `functions/<code>/index.py`, called until they are done."""

    def __init__(
        self,
        scope: Construct,
        identifier: str,
        *,
        code: str,
        description: str,
        call_limit: Duration,
        total_limit: Duration,
        poll_every: Duration,
    ) -> None:
        super().__init__(scope, identifier)
        log = stack_of(self).log_group(self)
        source = lambda_.Code.from_asset(str(FUNCTIONS / code), exclude=["**/__pycache__", "**/*.pyc"])
        self._role = iam.Role(
            self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"), description=description
        )
        log.grant_write(self._role)

        def function(handler: str) -> lambda_.Function:
            return lambda_.Function(
                self,
                handler.title().replace("_", ""),
                runtime=RUNTIME,
                code=source,
                handler=f"index.{handler}",
                description=description,
                timeout=call_limit,
                memory_size=MEMORY_MIB,
                role=self._role,
                log_group=log,
            )

        handlers = [function("on_event"), function("is_complete")]
        provider = cr.Provider(
            self,
            "Provider",
            on_event_handler=handlers[0],
            is_complete_handler=handlers[1],
            query_interval=poll_every,
            total_timeout=total_limit,
            log_group=log,
            disable_waiter_state_machine_logging=True,
        )
        self.service_token = provider.service_token
        _acknowledge(provider, handlers)

    def allow(self, actions: Sequence[str], *resources: str) -> None:
        """Give the function rights."""
        self._role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources)))


def _acknowledge(provider: cr.Provider, handlers: Sequence[lambda_.Function]) -> None:
    """Acknowledge what the CDK's framework is like."""
    within = [provider.node.find_child(f"framework-{step}") for step in ("isComplete", "onTimeout")]
    any_version = "The framework may call any version of its own functions."
    acknowledge(
        provider,
        {
            f"IAM4[Policy::{BASIC_POLICY}]": "The framework's functions are the CDK's; this lets them log.",
            "SF1": "The state machine asks every few seconds whether a build is over; the function logs.",
            "SF2": "It runs for minutes of a deployment and calls one function; there is nothing to trace.",
            **{f"IAM5[Resource::<{logical_id(one)}.Arn>:*]": any_version for one in (*handlers, *within)},
        },
    )
