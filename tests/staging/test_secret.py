from __future__ import annotations

import json
import uuid

import pytest

from staging.errors import StagingError
from staging.secret import read_token, region_of
from tests.staging.conftest import client
from tests.support.local_aws import LocalAws

TOKEN = "hf_canaryCanaryCanary"


@pytest.mark.parametrize("value", [TOKEN, f" {TOKEN}\n", json.dumps({"token": TOKEN})])
def test_a_token_as_text_or_json(aws: LocalAws, value: str) -> None:
    secrets = client(aws, "secretsmanager")
    arn = secrets.create_secret(Name=uuid.uuid4().hex, SecretString=value)["ARN"]
    assert region_of(arn) == "us-east-1"
    assert read_token(secrets, arn) == TOKEN


@pytest.mark.parametrize(
    "value", [" ", "two words hf_canary", '{"other": "hf_canary"}', "{hf_canary", '{"token": 1}']
)
def test_a_secret_without_a_token_is_not_shown(aws: LocalAws, value: str) -> None:
    secrets = client(aws, "secretsmanager")
    arn = secrets.create_secret(Name=uuid.uuid4().hex, SecretString=value)["ARN"]
    with pytest.raises(StagingError, match="holds no token") as refused:
        read_token(secrets, arn)
    assert "canary" not in str(refused.value)


def test_what_is_no_arn_is_not_shown() -> None:
    with pytest.raises(StagingError) as refused:
        region_of(TOKEN)
    assert TOKEN not in str(refused.value)
