"""`ock sweep`: the list, the question before a removal, and exit statuses."""

from __future__ import annotations

import json

import pytest

from client.aws import open_session
from tests.client.conftest import Run
from tests.client.sweeping.test_sweep import make_data, make_serving
from tests.support.local_aws import LocalAws


@pytest.fixture
def left_behind(aws: LocalAws) -> None:
    make_serving(open_session(), "Chat", "chat")
    make_data(open_session(), "Chat", "chat")


def test_nothing_left(operate: Run, aws: LocalAws) -> None:
    result = operate("sweep")
    assert (result.exit_code, result.stdout) == (0, "Chat in us-east-1: nothing is left\n")


@pytest.mark.usefixtures("left_behind")
def test_the_list_and_its_cost(operate: Run) -> None:
    result = operate("sweep")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["endpoint", "7,139.40", "chat", "(InService,", "2", "x", "ml.g4dn.12xlarge)"]
    assert lines[-1] == "Chat in us-east-1: 7 things, 7,140.40 USD a month"
    assert json.loads(operate("sweep", "--json").stdout)["usd_month"] == 7140.4


@pytest.mark.usefixtures("left_behind")
@pytest.mark.parametrize("typed", ["", "chat\n", "yes\n", "\n"])
def test_another_word_than_the_name_removes_nothing(operate: Run, typed: str) -> None:
    result = operate("sweep", "--delete", stdin=typed)
    assert result.exit_code == 1
    assert "removed: " not in result.stdout
    assert open_session().client("sagemaker").list_endpoints()["Endpoints"] != []


@pytest.mark.usefixtures("left_behind")
def test_the_name_removes_all_of_it(operate: Run) -> None:
    result = operate("sweep", "--delete", stdin="Chat\n")
    assert result.exit_code == 0, result.output
    assert "This removes 7 things, 3 of them with data that cannot be brought back." in result.stdout
    assert result.stdout.count("removed: ") == 7
    after = operate("sweep")
    assert after.stdout.splitlines()[-1] == "Chat in us-east-1: 0 things, 0.00 USD a month"
    assert "pending deletion" in after.stdout
    again = operate("sweep", "--delete")
    assert again.exit_code == 0
    assert "Type the deployment's name" not in again.stdout


def test_json_and_delete_exclude_each_other(operate: Run) -> None:
    assert operate("sweep", "--json", "--delete").exit_code == 2


def test_credentials_that_are_not_taken(operate: Run, aws: LocalAws) -> None:
    aws.enforce_permissions()
    result = operate("sweep")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: AWS does not accept the credentials")
