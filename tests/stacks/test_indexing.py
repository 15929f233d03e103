import json
from collections.abc import Mapping
from typing import Any

from local.indexing import corpus, processing
from stacks.indexing import LOG_GROUP, WORK_PREFIX
from tests.stacks.synthesis import PLAIN, Synthesis, synthesize


def statements(found: Synthesis) -> list[Mapping[str, Any]]:
    """Return what a job may do."""
    [policy] = [
        one["Properties"]["PolicyDocument"]["Statement"]
        for part, name, one in found.all_resources()
        if part == "Image" and one["Type"] == "AWS::IAM::Policy" and name.startswith("Indexing")
    ]
    return list(policy)


def actions(statement: Mapping[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


def test_a_job_reads_documents_and_writes_its_shards() -> None:
    found = statements(synthesize(**PLAIN))
    [read] = [json.dumps(one["Resource"]) for one in found if actions(one) == ["s3:GetObject"]]
    assert "/indexing/*" in read
    assert "/documents/*" in read
    [write] = [json.dumps(one["Resource"]) for one in found if "s3:PutObject" in actions(one)]
    assert "/indexing/*" in write
    assert "/documents/*" not in write
    [listing] = [one for one in found if actions(one) == ["s3:ListBucket"]]
    assert listing["Condition"]["StringLike"]["s3:prefix"] == ["indexing/*", "documents/*"]


def test_the_role_and_the_command_mean_the_same_places() -> None:
    # The command runs without the CDK, so it cannot take them from the stacks.
    assert (corpus.WORK_PREFIX, processing.LOG_GROUP) == (WORK_PREFIX, LOG_GROUP)


def test_a_job_may_do_nothing_else() -> None:
    found = statements(synthesize(**PLAIN))
    allowed = {action for one in found for action in actions(one)}
    assert {action.partition(":")[0] for action in allowed} == {"s3", "kms", "ecr", "logs", "cloudwatch"}
    assert not [action for action in allowed if "*" in action or "Delete" in action]
    for one in found:
        if one["Resource"] == "*":
            assert set(actions(one)) <= {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}
        if "logs:PutLogEvents" in actions(one):
            assert json.dumps(one["Resource"]).count(LOG_GROUP) == 2


def test_what_jobs_read_and_wrote_expires() -> None:
    bucket = synthesize(**PLAIN).only("Storage", "AWS::S3::Bucket")["Properties"]
    [rule] = [one for one in bucket["LifecycleConfiguration"]["Rules"] if one.get("Prefix")]
    assert (rule["Prefix"], rule["ExpirationInDays"], rule["Status"]) == ("indexing/", 14, "Enabled")


def test_the_command_is_told_what_it_needs() -> None:
    found = synthesize(**PLAIN)
    assert set(found.template("Image")["Outputs"]) >= {"Image", "IndexingRoleArn"}
    assert set(found.template("Storage")["Outputs"]) >= {"BucketName", "KeyArn"}
