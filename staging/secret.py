"""The hub token, from Secrets Manager: a plain string, or JSON with the key `token`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from staging.errors import StagingError

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

SECRET_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:[\w/+=.@-]+")


def region_of(arn: str) -> str:
    """Return the region in a secret's ARN.

    Raises:
        StagingError: it is no ARN of a secret. What was given may be the token itself, so it is not shown.
    """
    match = SECRET_ARN.fullmatch(arn)
    if match is None:
        raise StagingError("--token-secret takes the ARN of a secret in Secrets Manager, never a token")
    return match["region"]


def read_token(client: SecretsManagerClient, arn: str) -> str:
    """Return the token that a secret holds.

    Raises:
        StagingError: it cannot be read or holds no token.
    """
    try:
        value = client.get_secret_value(SecretId=arn).get("SecretString", "").strip()
    except ClientError as error:
        raise StagingError(f"the secret {arn} cannot be read: {error.response['Error']['Code']}") from error
    except BotoCoreError as error:
        raise StagingError(f"the secret {arn} cannot be read: {type(error).__name__}") from error
    if value.startswith("{"):
        try:
            value = json.loads(value).get("token", "")
        except ValueError:
            value = ""
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise StagingError(f'the secret {arn} holds no token: store it as plain text or as {{"token": …}}')
    return value
