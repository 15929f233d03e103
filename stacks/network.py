"""The network of the containers: none of our own, one made here, or one that is there.

The VPC made here has no way to the internet: private subnets, gateway endpoints to S3 and DynamoDB (free),
one interface endpoint to SageMaker's runtime, by which the chat container reaches the moderation variant.
Images, bundles and logs go by SageMaker's own network, not by this one. A VPC that is there must provide
the same; retrieval from the web needs a way to it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Fn
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.settings import DeploySettings
from stacks.stack import stack_of

ZONES = 2
"""Availability zones: an interface endpoint costs per zone, and one zone alone may lack GPUs."""
HTTPS = 443


@dataclass(frozen=True)
class Network:
    """Where the containers are attached."""

    subnet_ids: Sequence[str]
    security_group_ids: Sequence[str]


def network_of(scope: Construct, settings: DeploySettings) -> Network | None:
    """Return the network that the settings ask for, None for SageMaker's own."""
    if settings.vpc == "off":
        return None
    if settings.vpc == "create":
        vpc = PrivateNetwork(scope, "Network")
        return Network([subnet.subnet_id for subnet in vpc.subnets], [vpc.containers.security_group_id])
    if settings.vpc_security_groups:
        return Network(settings.vpc_subnets, settings.vpc_security_groups)
    group = ec2.CfnSecurityGroup(
        scope,
        "Containers",
        group_description=f"{settings.name}: containers of the endpoint",
        vpc_id=settings.vpc,
        security_group_egress=[
            ec2.CfnSecurityGroup.EgressProperty(
                ip_protocol="tcp", from_port=HTTPS, to_port=HTTPS, cidr_ip="0.0.0.0/0", description="HTTPS"
            )
        ],
    )
    return Network(settings.vpc_subnets, [group.attr_group_id])


class PrivateNetwork(Construct):
    """A VPC of isolated subnets with endpoints to the services that the containers call."""

    def __init__(self, scope: Construct, identifier: str) -> None:
        super().__init__(scope, identifier)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            # Asked of the region when it is deployed: a lookup at synthesis would need credentials.
            availability_zones=[Fn.select(zone, Fn.get_azs()) for zone in range(ZONES)],
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Containers", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24
                )
            ],
            # It would be closed by a function of the CDK's; nothing uses it.
            restrict_default_security_group=False,
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
                "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            },
        )
        self.vpc.add_flow_log(
            "Rejected",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(stack_of(self).log_group(self, "FlowLog")),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        self.subnets = self.vpc.isolated_subnets
        self.containers = ec2.SecurityGroup(
            self,
            "Containers",
            vpc=self.vpc,
            allow_all_outbound=False,
            description="Containers of the endpoint",
        )
        services = ec2.SecurityGroup(
            self, "Services", vpc=self.vpc, allow_all_outbound=False, description="Endpoints of AWS services"
        )
        services.add_ingress_rule(self.containers, ec2.Port.tcp(HTTPS), "HTTPS of the containers")
        # The services' addresses are public ones that the gateway endpoints route; only HTTPS leaves.
        self.containers.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "HTTPS to AWS services")
        self.vpc.add_interface_endpoint(
            "SageMakerRuntime",
            service=ec2.InterfaceVpcEndpointAwsService.SAGEMAKER_RUNTIME,
            security_groups=[services],
            open=False,
        )
