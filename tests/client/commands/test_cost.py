"""`ock cost`: sums that can be checked by hand, and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.estimate import alarm_metrics, estimate
from client.prices import load_prices
from stacks.settings import DeploySettings
from tests.client.conftest import Run

UP, DOWN = "cron(0 7 ? * MON-FRI *)", "cron(0 19 ? * MON-FRI *)"
KEPT = 1.0 + 0.023 * (20_556_201_984 + 6_050_882_784) * 2 / 2**30 + 3.0
"""Key, weights of both models, dashboard."""


def fields(operate: Run, *arguments: str) -> dict[str, Any]:
    result = operate("cost", "--json", *arguments)
    assert result.exit_code == 0, result.output
    read: dict[str, Any] = json.loads(result.stdout)
    return read


@pytest.fixture(autouse=True)
def no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults(operate: Run) -> None:
    read = fields(operate)
    assert read["date"] == "2026-11-22"
    assert read["usd_hour"] == 8.5  # 7.09 + 1.408
    off = KEPT + 0.1 * alarm_metrics(DeploySettings())
    assert read["usd_month_off"] == pytest.approx(off, abs=0.01)
    assert read["usd_month"] == pytest.approx(8.498 * 730 + off, abs=0.01)
    assert read["usd_month_scheduled"] is None
    assert read["usd_month_most"] == read["usd_month"]


def test_colocated_has_one_instance(operate: Run) -> None:
    read = fields(operate, "-c", "placement=colocated")
    assert [found["variant"] for found in read["instances"]] == ["chat"]
    assert read["usd_hour"] == 7.09


def test_by_schedule_and_scaled_out(operate: Run) -> None:
    given = ("-c", f"schedule_up={UP}", "-c", f"schedule_down={DOWN}", "-c", "chat_instances_max=3")
    read = fields(operate, *given)
    assert read["hours_week"] == 60
    off = read["usd_month_off"]
    assert off == pytest.approx(fields(operate)["usd_month_off"] + 2 * 0.1, abs=0.01), "scaling's own alarms"
    assert read["usd_month_scheduled"] == pytest.approx(8.498 * 730 * 60 / 168 + off, abs=0.01)
    assert read["usd_month_most"] == pytest.approx((3 * 7.09 + 1.408) * 730 + off, abs=0.01)
    shown = operate("cost", *given).stdout
    assert "by the schedule (60 of 168 hours a week)" in shown
    assert "chat: 1 to 3 x ml.g5.12xlarge" in shown


def test_a_private_network_costs_its_endpoint(operate: Run) -> None:
    beside = fields(operate, "-c", "vpc=create")["usd_month_off"] - fields(operate)["usd_month_off"]
    assert beside == pytest.approx(0.01 * 2 * 730, abs=0.01)


def test_a_price_that_is_not_known_is_named_and_in_no_sum(operate: Run) -> None:
    given = ("-c", "chat_instance_type=ml.p5en.48xlarge", "-c", "tensor_parallel_degree=8")
    read = fields(operate, *given)
    assert read["usd_hour"] == 1.41
    assert "instances of type ml.p5en.48xlarge: no checked price" in read["missing"]
    shown = operate("cost", *given).stdout
    assert "not in the sums: instances of type ml.p5en.48xlarge: no checked price" in shown
    assert "?" in next(line for line in shown.splitlines() if "ml.p5en.48xlarge" in line)


def test_a_schedule_that_is_not_weekly_is_named(operate: Run) -> None:
    read = fields(operate, "-c", "schedule_up=cron(0 7 1 * ? *)", "-c", f"schedule_down={DOWN}")
    assert read["hours_week"] is None
    assert any(what.startswith("the schedule:") for what in read["missing"])


def test_a_model_of_unknown_size_is_named(operate: Run) -> None:
    read = fields(operate, "-c", "chat_model=org/own")
    assert "weights of org/own: size not known" in read["missing"]


def test_another_region_is_said(operate: Run) -> None:
    assert "eu-west-1 has prices of its own" in operate("cost", "--region", "eu-west-1").stdout
    assert "prices of its own" not in operate("cost", "--region", "us-east-1").stdout


def test_the_page_fits_a_terminal(operate: Run) -> None:
    lines = operate("cost").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Chat: list prices of us-east-1, 2026-11-22, USD"


def test_a_bad_setting(operate: Run) -> None:
    result = operate("cost", "-c", "placement=both")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: setting placement: ")


def test_a_file_that_is_not_json(operate: Run, tmp_path: Path) -> None:
    (tmp_path / "app" / "cdk.json").write_text("{")
    assert operate("cost").stderr == f"Error: {tmp_path / 'app' / 'cdk.json'} is not JSON\n"


def test_sums_leave_the_unknown_out_rather_than_zero_it_silently() -> None:
    settings = DeploySettings(chat_instance_type="ml.p5en.48xlarge", tensor_parallel_degree=8)
    figures = estimate(settings, load_prices())
    assert [found.usd_hour_each for found in figures.instances] == [None, 1.408]
    assert len(figures.missing) == 2
