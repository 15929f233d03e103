"""What staging needs of the model hub: that each model is there, and a token where it is gated.

The hub is asked without a token, as anybody would; the token's own secret is `account.hub_token`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from client.checks.check import Outcome, ok, unknown, wrong

HUB_TIMEOUT_S = 15.0
ENDPOINT_ENV = "HF_ENDPOINT"


def models(wanted: Mapping[str, str], *, has_token: bool) -> Outcome:
    """Tell whether each model, with its revision (empty: the newest), can be fetched."""
    hub = HfApi(endpoint=os.environ.get(ENDPOINT_ENV) or None, token=False)
    gated: list[str] = []
    for model, revision in wanted.items():
        try:
            info = hub.model_info(model, revision=revision or None, timeout=HUB_TIMEOUT_S)
        except RevisionNotFoundError:
            return wrong(f"{model} has no revision {revision}", "correct the revision in the settings")
        except RepositoryNotFoundError:
            # The hub says so of private models as well.
            if not has_token:
                return wrong(
                    f"{model} is not on the hub, or private", "correct its id, or set hub_token_secret"
                )
            gated.append(model)
            continue
        except Exception as error:  # noqa: BLE001 - the hub's library changes its HTTP client, and its errors
            return unknown(f"the hub cannot be asked ({type(error).__name__})")
        if info.gated:
            gated.append(model)
    if gated and not has_token:
        return wrong(
            f"{', '.join(gated)}: gated",
            "ask for access on its page, store a token in Secrets Manager and set hub_token_secret",
        )
    return ok(f"{len(wanted)} found" + (f", {len(gated)} with the token" if gated else ""))
