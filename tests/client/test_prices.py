"""The price file: read whole, each figure with a source, an unknown one never made up."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from client.prices import PRICE_FILE, PriceList, load_prices
from stacks.instances import INSTANCE_TYPES


def test_the_defaults_have_prices() -> None:
    prices = load_prices()
    assert prices.instance_hour("ml.g5.12xlarge") == 7.09
    assert prices.region == "us-east-1"


def test_an_unknown_price_is_none() -> None:
    assert load_prices().instance_hour("ml.p5en.48xlarge") is None
    assert load_prices().instance_hour("nonsense") is None


def test_only_instance_types_that_can_be_chosen_have_prices() -> None:
    assert load_prices().hosting_per_hour.keys() <= INSTANCE_TYPES.keys()


def test_larger_ones_of_a_family_cost_more() -> None:
    """A slip of the pen in the file would show: twice the GPUs are never cheaper."""
    prices = load_prices()
    for name, price in prices.hosting_per_hour.items():
        family = name.rsplit(".", 1)[0]
        for other, other_price in prices.hosting_per_hour.items():
            if other.startswith(f"{family}.") and INSTANCE_TYPES[other].gpus > INSTANCE_TYPES[name].gpus:
                assert other_price.usd > price.usd, f"{other} against {name}"


def test_storage_by_the_gibibyte() -> None:
    assert load_prices().storage_month("s3_standard", 100 * 2**30) == pytest.approx(2.3)


def test_a_source_that_is_not_explained_is_refused() -> None:
    fields = json.loads(PRICE_FILE.read_bytes())
    fields["per_month"]["kms_key"]["source"] = "hearsay"
    with pytest.raises(ValidationError, match="hearsay"):
        PriceList.model_validate(fields)
