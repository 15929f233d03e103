"""The network of `vpc=create`: gateways and endpoints cost by the hour, the rest is free.

Removed in the order that EC2 wants: what sits in the subnets, then addresses, then the network with
its subnets, routes, groups and gateways.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError as AwsError

from client.aws import code_of
from client.prices import HOURS_A_MONTH
from client.sweeping.leftover import Leftover, Scope

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

_ALIVE = ("pending", "available", "failed")
_GOING = ("deleting", "deleted")


class _Ec2:
    """What the kinds share: EC2 filters by tag itself."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("ec2")
        self._mine: list[FilterTypeDef] = [{"Name": f"tag:{scope.tag}", "Values": [scope.app]}]

    def _owns(self, found: Mapping[str, Any]) -> bool:
        # Once more: what is found here is offered for removal, so a filter alone is not trusted.
        return self._scope.owns(found.get("Tags", []))

    def _in(self, vpc: str) -> list[FilterTypeDef]:
        return [{"Name": "vpc-id", "Values": [vpc]}]


class NatGateways(_Ec2):
    """NAT gateways."""

    title = "NAT gateway"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's gateways that are not being deleted."""
        # `Filter` is the API's own name; the type stubs have the plural.
        pages = self._client.get_paginator("describe_nat_gateways").paginate(Filter=self._mine)  # type: ignore[call-arg]
        hour = self._scope.prices.per_hour["nat_gateway"].usd
        for gateway in (entry for page in pages for entry in page["NatGateways"]):
            if gateway["State"] in _ALIVE and self._owns(gateway):
                month = hour * HOURS_A_MONTH
                yield Leftover(self.title, gateway["NatGatewayId"], gateway["State"], usd_month=month)

    def remove(self, leftover: Leftover) -> None:
        """Delete a gateway and wait until its address is free."""
        self._client.delete_nat_gateway(NatGatewayId=leftover.name)
        self._client.get_waiter("nat_gateway_deleted").wait(NatGatewayIds=[leftover.name])


class VpcEndpoints(_Ec2):
    """Endpoints for AWS services; those of S3 and DynamoDB are free gateways."""

    title = "VPC endpoint"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's endpoints."""
        pages = self._client.get_paginator("describe_vpc_endpoints").paginate(Filters=self._mine)
        hour = self._scope.prices.per_hour["interface_endpoint_zone"].usd
        for endpoint in (entry for page in pages for entry in page["VpcEndpoints"]):
            if endpoint.get("State", "").lower() not in _GOING and self._owns(endpoint):
                zones = (
                    len(endpoint.get("SubnetIds", [])) if endpoint["VpcEndpointType"] == "Interface" else 0
                )
                month = hour * HOURS_A_MONTH * zones
                yield Leftover(
                    self.title, endpoint["VpcEndpointId"], endpoint["ServiceName"], usd_month=month
                )

    def remove(self, leftover: Leftover) -> None:
        """Delete an endpoint."""
        done = self._client.delete_vpc_endpoints(VpcEndpointIds=[leftover.name])
        for failed in done.get("Unsuccessful", []):
            raise AwsError({"Error": {**failed.get("Error", {})}}, "DeleteVpcEndpoints")


class Addresses(_Ec2):
    """Elastic IP addresses, which cost as long as they are held."""

    title = "address"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's addresses."""
        for address in self._client.describe_addresses(Filters=self._mine)["Addresses"]:
            # Public IPv4 addresses are billed; the price file has no checked figure for them.
            if self._owns(address):
                shown = address.get("PublicIp", "")
                yield Leftover(self.title, address["AllocationId"], shown, usd_month=None)

    def remove(self, leftover: Leftover) -> None:
        """Release an address."""
        self._client.release_address(AllocationId=leftover.name)


class Vpcs(_Ec2):
    """Networks, with what is free inside them."""

    title = "network"

    def find(self) -> Iterator[Leftover]:
        """Yield the app's networks."""
        pages = self._client.get_paginator("describe_vpcs").paginate(Filters=self._mine)
        for vpc in (entry for page in pages for entry in page["Vpcs"]):
            if self._owns(vpc):
                yield Leftover(self.title, vpc["VpcId"], vpc.get("CidrBlock", ""))

    def remove(self, leftover: Leftover) -> None:
        """Delete a network: gateways, subnets, routes and groups first."""
        vpc = leftover.name
        gateways = self._client.describe_internet_gateways(
            Filters=[{"Name": "attachment.vpc-id", "Values": [vpc]}]
        )
        for gateway in gateways["InternetGateways"]:
            self._client.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=vpc)
            self._client.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])
        for subnet in self._client.describe_subnets(Filters=self._in(vpc))["Subnets"]:
            self._client.delete_subnet(SubnetId=subnet["SubnetId"])
        for table in self._client.describe_route_tables(Filters=self._in(vpc))["RouteTables"]:
            links = table.get("Associations", [])
            if not any(link.get("Main") for link in links):
                for link in links:
                    with contextlib.suppress(AwsError):  # gone with its subnet
                        self._client.disassociate_route_table(AssociationId=link["RouteTableAssociationId"])
                self._client.delete_route_table(RouteTableId=table["RouteTableId"])
        for group in self._client.describe_security_groups(Filters=self._in(vpc))["SecurityGroups"]:
            if group["GroupName"] != "default":
                self._client.delete_security_group(GroupId=group["GroupId"])
        self._client.delete_vpc(VpcId=vpc)


def is_in_use(error: AwsError) -> bool:
    """Tell whether EC2 refuses because something else still sits there: later it may not."""
    return code_of(error) == "DependencyViolation"
