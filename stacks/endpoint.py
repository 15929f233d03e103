"""The endpoint: models, variants, roll-out, scaling, and the switch that turns it on and off.

The parameter `EndpointEnabled` is the switch: with `false` the endpoint and its scaling are not there, all
else stays. `ock down` and the schedule update this stack with the template that is deployed; a later
`cdk deploy` keeps the parameter's value, as the CDK does.
"""

from __future__ import annotations

from aws_cdk import CfnCondition, CfnParameter, Fn
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.container import Surroundings
from stacks.handler_model import HandlerModel
from stacks.image import ImageStack
from stacks.models import Role
from stacks.roll_out import RollbackAlarms, deployment_config
from stacks.scaling import scale
from stacks.schedule import Schedule
from stacks.settings import DeploySettings
from stacks.stack import AppStack
from stacks.storage import StorageStack

ENABLED_PARAMETER = "EndpointEnabled"
ENDPOINT_ID = "Endpoint"
INDEXES_PREFIX = "indexes/"
"""Where the bucket keeps indexes that a sources file names."""


class EndpointStack(AppStack):
    """One endpoint with a variant for each container."""

    def __init__(
        self, scope: Construct, settings: DeploySettings, storage: StorageStack, image: ImageStack
    ) -> None:
        super().__init__(scope, settings, "Endpoint", "models, endpoint, scaling")
        self._storage, self._image = storage, image
        self.enabled = _switch(self)
        # Before the endpoint: SageMaker would make it, without an end of its retention.
        self.log = self.log_group(self, "Log", name=settings.log_group_name)
        models = {role: self._model(role) for role in settings.roles}
        self._grant(models)
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[self._variant(role, model) for role, model in models.items()],
        )
        alarms = RollbackAlarms(self, "Rollback", settings=settings)
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            ENDPOINT_ID,
            endpoint_name=settings.endpoint_name,
            endpoint_config_name=config.attr_endpoint_config_name,
            deployment_config=deployment_config(settings, alarms.names),
            # Instances that scaling added stay when a new version takes over.
            retain_all_variant_properties=any(
                most > least for least, most in map(settings.instances, settings.roles)
            )
            or None,
        )
        self.endpoint.cfn_options.condition = self.enabled
        self.endpoint.node.add_dependency(self.log, alarms, *(model.rights for model in models.values()))
        for role in settings.roles:
            scale(self, role, settings=settings, endpoint=self.endpoint, enabled=self.enabled)
        if settings.schedule_down:
            Schedule(self, "Schedule", settings=settings, parameter=ENABLED_PARAMETER)
        self.output("EndpointName", settings.endpoint_name, "What clients invoke")

    def _model(self, role: Role) -> HandlerModel:
        return HandlerModel(
            self,
            role.title(),
            role=role,
            settings=self.settings,
            image_uri=self._image.uri,
            repository=self._image.repository,
            log=self.log,
            network=self._storage.network,
            around=Surroundings(
                region=self.region,
                endpoint_name=self.settings.endpoint_name,
                table_name=self._storage.table.table_name,
                weights={
                    "chat": self._weights("chat"),
                    "moderation": self._weights("moderation"),
                },
            ),
        )

    def _weights(self, role: Role) -> str:
        return f"s3://{self._storage.bucket.bucket_name}/{self.settings.weights_prefix(role)}"

    def _grant(self, models: dict[Role, HandlerModel]) -> None:
        """Give each container the rights that the settings make it need."""
        storage, settings = self._storage, self.settings
        for role, model in models.items():
            model.rights.allow_weights(storage.bucket, storage.key, settings.weights_prefix(role))
        chat = models["chat"].rights
        chat.allow_conversations(storage.table, storage.key)
        if settings.sources_file is not None:
            chat.allow_weights(storage.bucket, storage.key, INDEXES_PREFIX)
        if settings.source_secrets:
            chat.allow_secrets(settings.source_secrets)
        if settings.placement == "colocated":
            chat.allow_weights(storage.bucket, storage.key, settings.weights_prefix("moderation"))
        else:
            name = settings.endpoint_name
            chat.allow_invocation(
                self.format_arn(service="sagemaker", resource="endpoint", resource_name=name)
            )

    def _variant(
        self, role: Role, model: HandlerModel
    ) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
        settings = self.settings
        return sagemaker.CfnEndpointConfig.ProductionVariantProperty(
            variant_name=role,
            model_name=model.name,
            instance_type=settings.instance_type(role).name,
            initial_instance_count=settings.instances(role)[0],
            # Moderation gets only what asks for it by name, `TargetVariant`.
            initial_variant_weight=1 if role == "chat" else 0,
            container_startup_health_check_timeout_in_seconds=settings.startup_timeout_s,
            model_data_download_timeout_in_seconds=settings.download_timeout_s,
            routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                routing_strategy="LEAST_OUTSTANDING_REQUESTS"
            ),
        )


def _switch(stack: AppStack) -> CfnCondition:
    parameter = CfnParameter(
        stack,
        ENABLED_PARAMETER,
        type="String",
        default="true",
        allowed_values=["true", "false"],
        description="Whether the endpoint runs, and costs (`ock up`, `ock down`)",
    )
    return CfnCondition(stack, "Enabled", expression=Fn.condition_equals(parameter.value_as_string, "true"))
