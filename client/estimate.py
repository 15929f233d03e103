"""What a deployment with given settings costs: by the hour, by the month, by schedule, scaled out.

Added up are list prices of `prices.json`. What has no checked price is named in `missing` and is in no
sum; what depends on use is a list of unit prices. Not in it: data transfer, taxes, discounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from client.prices import HOURS_A_MONTH, HOURS_A_WEEK, PriceList
from client.schedules import hours_up
from stacks.settings import DeploySettings

INTERFACE_ENDPOINTS = 1
ZONES = 2
"""Of the network that `vpc=create` makes (`stacks/network.py`)."""
STORED_BYTES_PER_PARAMETER = 2
"""Weights lie in the bucket as 16-bit numbers, whatever the engine makes of them."""
STAGED: Final = ("chat", "moderation")
"""Colocated or not, the weights of both models are in the bucket."""
SCALING_ALARMS = 2
"""That Application Auto Scaling makes for a variant that scales: out and in."""
WRITES_A_TURN = 12
READS_A_TURN = 6
"""Request units of a turn of 4 KB: one transaction (two units a KB) of the turn and its header, the index,
and consistent reads of the header and some turns."""


@dataclass(frozen=True)
class Instances:
    """One variant's instances."""

    variant: str
    instance_type: str
    least: int
    most: int
    usd_hour_each: float | None


@dataclass(frozen=True)
class Fixed:
    """What is paid whether the endpoint is on or off."""

    what: str
    usd_month: float


@dataclass(frozen=True)
class Unit:
    """A price that depends on use."""

    what: str
    usd: float


@dataclass(frozen=True)
class Estimate:
    """The figures of one deployment, in USD."""

    instances: Sequence[Instances]
    fixed: Sequence[Fixed]
    by_use: Sequence[Unit]
    missing: Sequence[str]
    """What the sums leave out, because its price or its amount is not known."""
    hours_week: float | None
    """That the schedule keeps it on, None without a schedule that can be counted."""

    @property
    def usd_hour(self) -> float:
        """While the endpoint is on, with the fewest instances, instances alone."""
        return sum((found.usd_hour_each or 0) * found.least for found in self.instances)

    @property
    def usd_hour_most(self) -> float:
        """The same, scaled out as far as it goes."""
        return sum((found.usd_hour_each or 0) * found.most for found in self.instances)

    @property
    def usd_month_off(self) -> float:
        """A month with the endpoint off."""
        return sum(fixed.usd_month for fixed in self.fixed)

    @property
    def usd_month(self) -> float:
        """A month with the endpoint always on, not scaled out."""
        return self.usd_hour * HOURS_A_MONTH + self.usd_month_off

    @property
    def usd_month_most(self) -> float:
        """A month with the endpoint always on and always scaled out: the bound."""
        return self.usd_hour_most * HOURS_A_MONTH + self.usd_month_off

    @property
    def usd_month_scheduled(self) -> float | None:
        """A month by the schedule."""
        if self.hours_week is None:
            return None
        return self.usd_hour * HOURS_A_MONTH * self.hours_week / HOURS_A_WEEK + self.usd_month_off

    def as_fields(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "instances": [vars(found) for found in self.instances],
            "fixed": [vars(found) for found in self.fixed],
            "by_use": [vars(found) for found in self.by_use],
            "missing": list(self.missing),
            "hours_week": self.hours_week,
            "usd_hour": _cents(self.usd_hour),
            "usd_hour_most": _cents(self.usd_hour_most),
            "usd_month": _cents(self.usd_month),
            "usd_month_most": _cents(self.usd_month_most),
            "usd_month_off": _cents(self.usd_month_off),
            "usd_month_scheduled": None
            if self.usd_month_scheduled is None
            else _cents(self.usd_month_scheduled),
        }


def estimate(settings: DeploySettings, prices: PriceList) -> Estimate:
    """Return the figures of a deployment."""
    instances = [
        Instances(
            variant=role,
            instance_type=settings.instance_type(role).name,
            least=settings.instances(role)[0],
            most=settings.instances(role)[1],
            usd_hour_each=prices.instance_hour(settings.instance_type(role).name),
        )
        for role in settings.roles
    ]
    unpriced = {found.instance_type for found in instances if found.usd_hour_each is None}
    missing = [f"instances of type {name}: no checked price" for name in sorted(unpriced)]
    missing += [
        f"weights of {settings.model(role)}: size not known"
        for role in STAGED
        if settings.facts(role) is None
    ]
    if not settings.image_is_uri:
        missing.append(f"the image in ECR, {prices.per_gb_month['ecr'].usd:.2f} a GB and month")
    scheduled = settings.schedule_up is not None or settings.schedule_down is not None
    hours = hours_up(settings.schedule_up, settings.schedule_down)
    if scheduled and hours is None:
        missing.append("the schedule: not one that repeats every week, so its hours are not counted")
    return Estimate(instances, _fixed(settings, prices), _by_use(prices), missing, hours)


def _fixed(settings: DeploySettings, prices: PriceList) -> list[Fixed]:
    month = prices.per_month
    facts = [settings.facts(role) for role in STAGED]
    weights = sum(found.weight_bytes(STORED_BYTES_PER_PARAMETER) for found in facts if found is not None)
    alarms = alarm_metrics(settings)
    fixed = [
        Fixed("key", month["kms_key"].usd),
        Fixed(f"weights in S3, {weights / 1e9:.1f} GB", prices.storage_month("s3_standard", weights)),
        Fixed(f"alarms on {alarms} metrics", alarms * month["alarm_metric"].usd),
        Fixed("dashboard", month["dashboard"].usd),
    ]
    if settings.hub_token_secret:
        fixed.append(Fixed("hub token's secret", month["secret"].usd))
    if settings.vpc == "create":
        hour = INTERFACE_ENDPOINTS * ZONES * prices.per_hour["interface_endpoint_zone"].usd
        fixed.append(Fixed(f"interface endpoint in {ZONES} zones", hour * HOURS_A_MONTH))
    return fixed


def _by_use(prices: PriceList) -> list[Unit]:
    use, storage = prices.by_use, prices.per_gb_month
    turns = 1000
    writes = use["dynamodb_million_writes"].usd * WRITES_A_TURN * turns / 1e6
    reads = use["dynamodb_million_reads"].usd * READS_A_TURN * turns / 1e6
    kept = storage["dynamodb"].usd + storage["dynamodb_recovery"].usd
    return [
        Unit("1,000 turns of 4 KB in DynamoDB, about", writes + reads),
        Unit("conversations kept, a GB and month", kept),
        Unit("logs taken in, a GB", use["logs_gb"].usd),
        Unit("a minute of a build (weights, image)", use["codebuild_minute_large"].usd),
    ]


def alarm_metrics(settings: DeploySettings) -> int:
    """Return how many metrics the alarms of the stacks watch, each of which is billed."""
    each = 4 * len(settings.roles)  # errors, latency, GPU memory, and errors again for the roll-out
    idle = 2 if settings.alarm_idle_hours else 0  # requests and instances
    scaled = sum(most > least for least, most in map(settings.instances, settings.roles))
    return each + 1 + idle + SCALING_ALARMS * scaled


def _cents(amount: float) -> float:
    return round(amount, 2)
