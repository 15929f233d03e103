"""The whole app: which stacks there are, which one needs which, what all of them carry."""

from __future__ import annotations

from aws_cdk import App, Tags

from stacks.endpoint import EndpointStack
from stacks.image import ImageStack
from stacks.monitoring import MonitoringStack
from stacks.settings import DeploySettings
from stacks.storage import StorageStack
from stacks.weights import WeightsStack

APP_TAG = "openchatkit:app"
"""By which `ock sweep` and a bill find what belongs to a deployment; the value is its name."""


def build(app: App, settings: DeploySettings) -> None:
    """Put the stacks of a deployment into an app."""
    storage = StorageStack(app, settings)
    image = ImageStack(app, settings, storage)
    weights = WeightsStack(app, settings, storage)
    endpoint = EndpointStack(app, settings, storage, image)
    MonitoringStack(app, settings, storage, endpoint)
    # Containers load their weights as they start, and no reference says so.
    endpoint.add_stack_dependency(weights, "the weights are in the bucket before a container starts")
    endpoint.add_stack_dependency(image, "the image is in its repository before a container starts")
    Tags.of(app).add(APP_TAG, settings.name)
