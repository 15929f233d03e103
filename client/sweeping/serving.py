"""SageMaker: endpoints, which cost by the hour, their configurations and models, which are free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from client.prices import HOURS_A_MONTH
from client.sweeping.leftover import Leftover, Scope

if TYPE_CHECKING:
    from types_boto3_sagemaker.type_defs import TagTypeDef

REMOVAL_POLL_S = 5
REMOVAL_POLLS = 240
"""Twenty minutes: an endpoint that is being made is deleted only after it has been."""


class _Tagged:
    """What the three kinds share."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("sagemaker")

    def _tags(self, arn: str) -> Sequence[TagTypeDef]:
        pages = self._client.get_paginator("list_tags").paginate(ResourceArn=arn)
        return [tag for page in pages for tag in page["Tags"]]


class Endpoints(_Tagged):
    """Real-time endpoints."""

    title = "endpoint"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's endpoints."""
        pages = self._client.get_paginator("list_endpoints").paginate()
        listed = [endpoint for page in pages for endpoint in page["Endpoints"]]
        for endpoint in self._scope.owned(listed, lambda found: self._tags(found["EndpointArn"])):
            name = endpoint["EndpointName"]
            instances = self._instances(name)
            shown = ", ".join(f"{count} x {kind}" for kind, count in instances.items())
            yield Leftover(
                self.title, name, f"{endpoint['EndpointStatus']}, {shown}", usd_month=self._month(instances)
            )

    def remove(self, leftover: Leftover) -> None:
        """Delete an endpoint and wait until its instances are gone."""
        self._client.delete_endpoint(EndpointName=leftover.name)
        self._client.get_waiter("endpoint_deleted").wait(
            EndpointName=leftover.name,
            WaiterConfig={"Delay": REMOVAL_POLL_S, "MaxAttempts": REMOVAL_POLLS},
        )

    def _instances(self, name: str) -> dict[str, int]:
        """Return how many instances of which type run now."""
        endpoint = self._client.describe_endpoint(EndpointName=name)
        config = self._client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        running = {
            variant["VariantName"]: variant.get("CurrentInstanceCount")
            for variant in endpoint.get("ProductionVariants", [])
        }
        instances: dict[str, int] = {}
        for variant in config["ProductionVariants"]:
            count = running.get(variant["VariantName"])
            if count is None:
                count = variant.get("InitialInstanceCount", 0)
            kind = variant.get("InstanceType", "serverless")
            instances[kind] = instances.get(kind, 0) + count
        return instances

    def _month(self, instances: dict[str, int]) -> float | None:
        hours = [self._scope.prices.instance_hour(kind) for kind in instances]
        total = 0.0
        for hour, count in zip(hours, instances.values(), strict=True):
            if hour is None:
                return None
            total += hour * count * HOURS_A_MONTH
        return total


class EndpointConfigs(_Tagged):
    """Endpoint configurations."""

    title = "endpoint configuration"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's configurations."""
        pages = self._client.get_paginator("list_endpoint_configs").paginate()
        listed = [config for page in pages for config in page["EndpointConfigs"]]
        for config in self._scope.owned(listed, lambda found: self._tags(found["EndpointConfigArn"])):
            yield Leftover(self.title, config["EndpointConfigName"])

    def remove(self, leftover: Leftover) -> None:
        """Delete a configuration."""
        self._client.delete_endpoint_config(EndpointConfigName=leftover.name)


class Models(_Tagged):
    """Models: an image, a bundle and an environment."""

    title = "model"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's models."""
        pages = self._client.get_paginator("list_models").paginate()
        listed = [model for page in pages for model in page["Models"]]
        for model in self._scope.owned(listed, lambda found: self._tags(found["ModelArn"])):
            yield Leftover(self.title, model["ModelName"])

    def remove(self, leftover: Leftover) -> None:
        """Delete a model; what it points at stays."""
        self._client.delete_model(ModelName=leftover.name)
