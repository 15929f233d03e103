"""What AWS charges, read from `prices.json`: dated, of one region, each figure with its source.

Not a price service: on-demand list prices as they stood on the file's date, without taxes, discounts
and free tiers. A price that could not be checked is not in the file, and is never made up: asking for
it gives None, and whoever adds up says that something is missing.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, model_validator

PRICE_FILE = Path(__file__).with_name("prices.json")
HOURS_A_MONTH = 730
"""365 days x 24 hours / 12, as AWS's own calculator has it."""
HOURS_A_WEEK = 168
BYTES_PER_GB = 2**30
"""AWS bills storage by the gibibyte and calls it GB."""


class Price(BaseModel):
    """One figure and where it is from (a key of `PriceList.sources`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: NonNegativeFloat
    source: str


class PriceList(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: datetime.date
    region: str
    currency: str
    sources: dict[str, str]
    hosting_per_hour: dict[str, Price]
    """SageMaker real-time inference, by instance type."""
    per_hour: dict[str, Price]
    per_month: dict[str, Price]
    per_gb_month: dict[str, Price]
    by_use: dict[str, Price]

    @model_validator(mode="after")
    def _sources_exist(self) -> PriceList:
        tables = (self.hosting_per_hour, self.per_hour, self.per_month, self.per_gb_month, self.by_use)
        unknown = {price.source for table in tables for price in table.values()} - self.sources.keys()
        if unknown:
            raise ValueError(f"prices name sources that the file does not explain: {sorted(unknown)}")
        return self

    def instance_hour(self, instance_type: str) -> float | None:
        """Return USD an hour for one instance of a real-time endpoint, None where it is not known."""
        price = self.hosting_per_hour.get(instance_type)
        return None if price is None else price.usd

    def storage_month(self, kind: str, size_bytes: float) -> float:
        """Return USD a month for so many bytes of a kind of `per_gb_month`."""
        return self.per_gb_month[kind].usd * size_bytes / BYTES_PER_GB


@cache
def load_prices() -> PriceList:
    """Return the price file, read once."""
    return PriceList.model_validate_json(PRICE_FILE.read_bytes())
