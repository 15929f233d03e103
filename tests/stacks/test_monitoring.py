import json
from collections.abc import Mapping
from typing import Any

import pytest

from client.estimate import alarm_metrics
from tests.stacks.synthesis import PLAIN, Synthesis, synthesize


def alarms(found: Synthesis) -> dict[str, Mapping[str, Any]]:
    return {
        one["Properties"]["AlarmDescription"].partition(": ")[2]: one["Properties"]
        for one in found.resources("Monitoring", "AWS::CloudWatch::Alarm")
    }


def test_every_alarm_of_the_design_is_there_and_none_takes_silence_for_bad() -> None:
    found = synthesize(**PLAIN)
    shown = alarms(found)
    assert len(shown) == 8
    assert {one["TreatMissingData"] for one in shown.values()} == {"notBreaching"}
    text = json.dumps(list(shown.values()))
    for metric in ("Invocation5XXErrors", "ModelLatency", "GPUMemoryUtilization", "ModerationUnavailable"):
        assert metric in text
    assert '"p90"' in text


def test_gpu_memory_is_a_share_of_all_gpus() -> None:
    shown = alarms(synthesize(**PLAIN))
    for role, gpus in (("chat", 4), ("moderation", 1)):
        (expression,) = (
            one["Expression"]
            for one in shown[f"{role}: the GPUs' memory is full"]["Metrics"]
            if "Expression" in one
        )
        assert expression == f"{role}_gpumemoryutilization / {gpus}"


def test_an_idle_endpoint_is_told_after_its_hours_and_never_while_off() -> None:
    (idle,) = (
        one for says, one in alarms(synthesize(**PLAIN, alarm_idle_hours=5)).items() if "no request" in says
    )
    assert idle["EvaluationPeriods"] == 5
    (expression,) = (one["Expression"] for one in idle["Metrics"] if "Expression" in one)
    # Without instances there is no value of `running`, so no value at all.
    assert expression == "IF(running >= 0 AND FILL(requests, 0) < 1, 1, 0)"
    assert {one["MetricStat"]["Period"] for one in idle["Metrics"] if "MetricStat" in one} == {3600}
    quiet = synthesize(**PLAIN, alarm_idle_hours=0)
    assert len(alarms(quiet)) == 7


def test_texts_that_could_not_be_judged_are_counted_in_the_log() -> None:
    found = synthesize(**PLAIN)
    counted = found.only("Monitoring", "AWS::Logs::MetricFilter")["Properties"]
    assert counted["FilterPattern"] == '"event=moderation_unavailable"'
    assert "ExportsOutputRefLog" in json.dumps(counted["LogGroupName"])


def test_without_an_address_there_is_no_topic() -> None:
    found = synthesize(**PLAIN)
    assert found.resources("Monitoring", "AWS::SNS::Topic") == []
    assert not [one for one in alarms(found).values() if "AlarmActions" in one]


def test_an_address_gets_an_encrypted_topic() -> None:
    found = synthesize(**PLAIN, alarm_email="on-call@example.com")
    topic = found.only("Monitoring", "AWS::SNS::Topic")["Properties"]
    assert "KmsMasterKeyId" in topic
    assert (
        found.only("Monitoring", "AWS::SNS::Subscription")["Properties"]["Endpoint"] == "on-call@example.com"
    )
    assert all("AlarmActions" in one and "OKActions" in one for one in alarms(found).values())
    key = found.only("Storage", "AWS::KMS::Key")["Properties"]["KeyPolicy"]["Statement"]
    (publish,) = (one for one in key if one.get("Sid") == "AlarmsOfThisAccount")
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert "aws:SourceAccount" in publish["Condition"]["StringEquals"]


def test_a_topic_that_is_there_is_used() -> None:
    arn = "arn:aws:sns:us-east-1:123456789012:on-call"
    shown = alarms(synthesize(**PLAIN, alarm_topic_arn=arn))
    assert all(one["AlarmActions"] == [arn] for one in shown.values())


def test_the_dashboard_shows_both_variants() -> None:
    body = json.dumps(synthesize(**PLAIN).only("Monitoring", "AWS::CloudWatch::Dashboard")["Properties"])
    for shown in ("FirstChunkModelLatency", "ConcurrentRequestsPerModel", "MidStreamErrors", "moderation"):
        assert shown in body


@pytest.mark.parametrize("more", [{}, {"placement": "colocated"}, {"alarm_idle_hours": 0}])
def test_what_alarms_cost_is_what_they_watch(more: Mapping[str, Any]) -> None:
    found = synthesize(**PLAIN, **more)
    watched = 0
    for _, _, one in found.all_resources():
        if one["Type"] == "AWS::CloudWatch::Alarm":
            metrics = one["Properties"].get("Metrics")
            watched += sum("MetricStat" in metric for metric in metrics) if metrics else 1
    assert watched == alarm_metrics(found.settings)
