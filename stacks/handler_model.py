"""A SageMaker model: the image, a role's bundle, its environment, its rights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as assets
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.bundle import SOURCES, write_bundle
from stacks.container import Surroundings, environment
from stacks.execution_role import ExecutionRole
from stacks.models import Role
from stacks.network import Network
from stacks.settings import DeploySettings


class HandlerModel(Construct):
    """The model of a role. A change of code, weights or settings makes a new one under a new name."""

    def __init__(
        self,
        scope: Construct,
        identifier: str,
        *,
        role: Role,
        settings: DeploySettings,
        image_uri: str,
        repository: ecr.IRepository | None,
        log: logs.LogGroup,
        network: Network | None,
        around: Surroundings,
    ) -> None:
        super().__init__(scope, identifier)
        bundle = _bundle(self, role, settings)
        self.rights = ExecutionRole(self, "Execution", purpose=f"{settings.name}, {role}")
        self.rights.allow_start(bundle=bundle, repository=repository, log=log)
        if network is not None:
            self.rights.allow_network()
        self.model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=self.rights.role.role_arn,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image_uri,
                model_data_url=bundle.s3_object_url,
                environment=environment(settings, role, around),
            ),
            vpc_config=None
            if network is None
            else sagemaker.CfnModel.VpcConfigProperty(
                subnets=list(network.subnet_ids), security_group_ids=list(network.security_group_ids)
            ),
        )
        # SageMaker checks the bundle with the role's rights when the model is made.
        self.model.node.add_dependency(self.rights)

    @property
    def name(self) -> str:
        """The model's name, a token."""
        return self.model.attr_model_name


def _bundle(scope: Construct, role: Role, settings: DeploySettings) -> assets.Asset:
    more = {SOURCES: Path(settings.sources_file)} if role == "chat" and settings.sources_file else {}
    # The asset copies the file into the assembly, under a name made from its content.
    with tempfile.TemporaryDirectory() as folder:
        path = write_bundle(role, Path(folder) / f"{role}.tar.gz", more=more)
        return assets.Asset(scope, "Bundle", path=str(path))
