"""`ock index build --on sagemaker`: real boto3, AWS as moto plays it, instances as processes here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from client.aws import open_session
from client.errors import CallFailed
from local.indexing import __main__ as program
from local.indexing import processing
from local.indexing.bucket import Bucket
from local.indexing.processing import Jobs
from local.indexing.sagemaker import HERE
from local.indexing.sources import Sources
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing.job import build_shard
from openchatkit.retrieval.indexing.workers import Tools
from openchatkit.retrieval.manifest import MANIFEST
from tests.local.indexing.conftest import BUCKET, IMAGE, KEY, ROLE, stack
from tests.retrieval.indexing.hashing import HashingEncoder, articles
from tests.support.processing import bring_inputs, run_job, take_outputs
from tests.support.refusing_aws import serve_refusals

Request = Mapping[str, Any]
Twin = Callable[[Request], None]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for number in range(5):
        (folder / f"year{number % 2}").mkdir(parents=True, exist_ok=True)
        lines = articles(20).splitlines()[number * 4 : number * 4 + 4]
        (folder / f"year{number % 2}" / f"{number}.jsonl").write_text("\n".join(lines))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("Not to be indexed.")
    return folder


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(program.index, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def away(*arguments: object, status: int = 0) -> Result:
    return run("build", *arguments, "--on", "sagemaker", status=status)


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The jobs that were asked for. Their shards are built at once, by an encoder that needs no model."""
    seen: list[Request] = []

    def quickly(request: Request) -> None:
        roots = bring_inputs(request, tmp_path / "instances" / str(len(seen)))
        for root in roots:
            build_shard(root, tools=Tools(HashingEncoder))
        take_outputs(request, roots)

    attach(monkeypatch, seen, quickly)
    monkeypatch.setattr(program, "_encoder", lambda *_: HashingEncoder())
    monkeypatch.setattr(program, "_default_device", lambda: "cpu")
    return seen


def attach(monkeypatch: pytest.MonkeyPatch, seen: list[Request], twin: Twin) -> None:
    """Let something do the jobs that moto takes."""
    start = Jobs.start

    def started(self: Jobs, request: Any) -> None:
        start(self, request)
        seen.append(request)
        twin(request)

    monkeypatch.setattr(Jobs, "start", started)


def content(folder: Path) -> dict[str, bytes]:
    names = LibraryIndex.open(folder, thorough=True).manifest.files
    return {name: (folder / name).read_bytes() for name in (*names, MANIFEST)}


@pytest.mark.usefixtures("deployed")
def test_it_is_the_index_that_one_machine_builds(
    files: Path, tmp_path: Path, requests: list[Request]
) -> None:
    result = away(files, "--out", tmp_path / "index", "--instances", "4", "--name", "finance")
    run("build", files, "--out", tmp_path / "here", "--name", "finance")
    assert content(tmp_path / "index") == content(tmp_path / "here")
    assert "6 files, 0.0 MB: 4 x ml.g5.xlarge, about 5.63 USD an hour" in result.stdout
    assert "Skipped image.png: not a kind of file that is read" in result.stdout
    assert "20 documents, 40 sentences (0 embedded now" in result.stdout
    assert Sources.read(tmp_path / "index").sources == (str(files),)
    assert not (tmp_path / "index" / HERE).exists()
    assert len(requests) == 1
    # From now on it is an index like any other.
    assert "Nothing has changed." in run("update", tmp_path / "index").stdout


@pytest.mark.usefixtures("deployed")
def test_what_sagemaker_is_asked_for(files: Path, tmp_path: Path, requests: list[Request]) -> None:
    away(files, "--out", tmp_path / "index", "--instances", "2", "--instance-type", "ml.c5.4xlarge")
    [request] = requests
    documents, code = (source["S3Input"] for source in request["ProcessingInputs"])
    assert documents["S3DataDistributionType"] == "ShardedByS3Key"
    assert code["S3DataDistributionType"] == "FullyReplicated"
    assert documents["S3Uri"].startswith(f"s3://{BUCKET}/indexing/documents/")
    assert documents["S3Uri"].endswith("/")
    assert request["AppSpecification"]["ImageUri"] == IMAGE
    assert all(len(part) <= 256 for part in request["AppSpecification"]["ContainerEntrypoint"])
    assert request["RoleArn"] == ROLE
    assert request["ProcessingOutputConfig"]["KmsKeyId"] == KEY
    assert request["NetworkConfig"] == {"EnableNetworkIsolation": True}
    cluster = request["ProcessingResources"]["ClusterConfig"]
    assert cluster == {"InstanceCount": 2, "InstanceType": "ml.c5.4xlarge", "VolumeSizeInGB": 30}
    assert request["Tags"] == [{"Key": "openchatkit:app", "Value": "Chat"}]
    asked = boto3.client("sagemaker").describe_processing_job(ProcessingJobName=request["ProcessingJobName"])
    assert asked["RoleArn"] == ROLE
    assert request["ProcessingJobName"].startswith("chat-index-")
    keys = [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    sent = sorted(key.split("/", 3)[3] for key in keys if key.startswith("indexing/documents/"))
    assert sent == ["broken.pdf", *(f"year{year}/{n}.jsonl" for year in (0, 1) for n in range(year, 5, 2))]


@pytest.mark.usefixtures("deployed")
def test_the_same_command_takes_what_is_there(files: Path, tmp_path: Path, requests: list[Request]) -> None:
    away(files, "--out", tmp_path / "one")
    [request] = requests
    before = {
        entry["Key"]: entry["LastModified"]
        for entry in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    }
    again = away(files, "--out", tmp_path / "two")
    assert f"Job {request['ProcessingJobName']} has built these shards already." in again.stdout
    assert content(tmp_path / "one") == content(tmp_path / "two")
    # A shard that is gone, a file that is new, another number of instances: another job.
    key = f"indexing/shards/{request['ProcessingJobName']}/0000/manifest.json"
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=key)
    away(files, "--out", tmp_path / "three")
    (files / "new.txt").write_text("Orla shrank.")
    away(files, "--out", tmp_path / "three")
    away(files, "--out", tmp_path / "four", "--instances", "2")
    assert len(requests) == 4
    assert len({request["ProcessingJobName"].rsplit("-", 1)[0] for request in requests}) == 3
    after = {
        entry["Key"]: entry["LastModified"]
        for entry in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    }
    kept = [key for key in before if not key.startswith("indexing/shards/")]
    assert kept
    assert [after[key] for key in kept] == [before[key] for key in kept]


@pytest.mark.usefixtures("deployed")
def test_a_prefix_is_indexed_where_it_lies(files: Path, tmp_path: Path, requests: list[Request]) -> None:
    for path in files.rglob("*"):
        if path.is_file():
            key = f"documents/filings/{path.relative_to(files).as_posix()}"
            boto3.client("s3").upload_file(str(path), BUCKET, key)
    source = f"s3://{BUCKET}/documents/filings"
    away(source, "--out", tmp_path / "index", "--instances", "3")
    assert requests[0]["ProcessingInputs"][0]["S3Input"]["S3Uri"] == f"{source}/"
    run("build", files, "--out", tmp_path / "here")
    assert content(tmp_path / "index") == content(tmp_path / "here")
    assert Sources.read(tmp_path / "index").sources == (source,)
    one = away(f"{source}/broken.pdf", "--out", tmp_path / "one", status=1)
    assert "is one file; --on sagemaker takes a prefix" in one.stderr


@pytest.mark.usefixtures("deployed")
def test_no_instance_is_paid_for_without_a_file(files: Path, tmp_path: Path, requests: list[Request]) -> None:
    away(files, "--out", tmp_path / "index", "--instances", "50")
    assert requests[0]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 6


@pytest.mark.usefixtures("deployed")
def test_an_encoder_goes_along(files: Path, tmp_path: Path, requests: list[Request]) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    missing = away(files, "--out", tmp_path / "index", "--encoder", folder, status=1)
    assert "is no encoder's folder" in missing.stderr
    (folder / "config.json").write_text("{}")
    away(files, "--out", tmp_path / "index", "--encoder", folder)
    sources = [source["S3Input"] for source in requests[0]["ProcessingInputs"]]
    assert sources[2]["S3Uri"].startswith(f"s3://{BUCKET}/indexing/encoders/")
    assert sources[2]["LocalPath"] == "/opt/ml/processing/encoder"


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("deployed")
def test_the_instances_own_command_builds_the_shards(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    attach(monkeypatch, [], lambda request: printed.extend(run_job(request, tmp_path / "instances")))
    away(files, "--out", tmp_path / "index", "--instances", "2", "--device", "cpu")
    assert len(printed) == 2
    assert "Company" not in "".join(printed)
    found = LibraryIndex.open(tmp_path / "index", thorough=True).table
    assert {origin.name for origin in found.origins()} == {
        *("broken.pdf", "image.png", "year0/0.jsonl", "year0/2.jsonl", "year0/4.jsonl"),
        *("year1/1.jsonl", "year1/3.jsonl"),
    }


def lost(request: Request, name: str) -> None:
    prefix = request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"].split("/", 3)[3]
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=f"{prefix}{name}")


@pytest.mark.usefixtures("deployed")
def test_a_shard_that_is_missing_is_named(
    files: Path, tmp_path: Path, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(monkeypatch, [], lambda request: lost(request, "0001/manifest.json"))
    result = away(files, "--out", tmp_path / "index", "--instances", "2", status=1)
    assert "has left no shard 0001 at s3://ock-bucket/indexing/shards/" in result.stderr
    assert not (tmp_path / "index" / MANIFEST).exists()


@pytest.mark.usefixtures("deployed")
def test_a_file_that_is_in_no_shard_is_named(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: list[Request]
) -> None:
    monkeypatch.setattr(Bucket, "send", _without("year0/2.jsonl"))
    result = away(files, "--out", tmp_path / "index", status=1)
    assert "1 files are in no shard, year0/2.jsonl is one of them" in result.stderr


def _without(name: str) -> Any:
    send = Bucket.send

    def sent(self: Bucket, prefix: str, files: Mapping[str, Path], report: Any) -> None:
        send(self, prefix, {key: path for key, path in files.items() if key != name}, report)

    return sent


@pytest.mark.usefixtures("deployed", "requests")
@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["hf://datasets/owner/name"], "takes files and folders of this machine, or one prefix of S3"),
        (["s3://a/b", "s3://a/c"], "takes files and folders of this machine, or one prefix of S3"),
        (["s3://ock-bucket/nothing/"], "s3://ock-bucket/nothing/ holds no files"),
        (["nowhere"], "no such file or folder"),
        (["empty"], "there is nothing in"),
    ],
)
def test_sources_that_cannot_be_sent_are_one_line(tmp_path: Path, sources: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    result = away(*sources, "--out", tmp_path / "index", status=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instances", "2"], "--instances goes with --on sagemaker"),
        (["-c", "name=A"], "--context goes with --on sagemaker"),
        (["--on", "sagemaker", "--instance-type", "g5"], "--instance-type: 'g5' is none"),
        (["--on", "sagemaker", "--instances", "0"], "0 is not in the range"),
        (["--on", "elsewhere"], "'elsewhere' is not 'sagemaker'"),
        (["--out", "s3://bucket/x", "--on", "sagemaker"], "--out: a folder of this machine"),
    ],
)
def test_wrong_options_are_one_line(files: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("build", files, "--out", tmp_path / "index", *arguments, status=2)
    assert message in result.stderr


@pytest.mark.usefixtures("aws")
def test_what_the_deployment_lacks_is_named(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cdk.json").write_text('{"context": {"name": "Chat"}}')
    monkeypatch.chdir(tmp_path)
    out = ("--out", tmp_path / "index")
    assert "there is no stack Chat-Storage in us-east-1" in away(files, *out, status=1).stderr
    stack("Storage", BucketName=BUCKET, KeyArn=KEY)
    stack("Image", Image=IMAGE)
    assert "the stack Chat-Image has no output IndexingRoleArn" in away(files, *out, status=1).stderr
    assert "setting nmae: there is no such" in away(files, *out, "-c", "nmae=x", status=1).stderr
    gone = away(files, *out, "--role", ROLE, status=1)
    assert gone.stderr.startswith("ock index: s3://ock-bucket/indexing/program/")
    assert "NoSuchBucket" in gone.stderr


class Script:
    """SageMaker, as a list of looks at one job."""

    def __init__(self, *looks: tuple[int, Mapping[str, str]]) -> None:
        self.looks = list(looks)

    def __call__(self, action: str) -> tuple[int, bytes]:
        assert action == "DescribeProcessingJob"
        status, job = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return status, json.dumps({"ProcessingJobName": "chat-index-1", **job}).encode()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "FIRST_POLL_S", 0.01)


RUNS = (200, {"ProcessingJobStatus": "InProgress"})


def follow(*looks: tuple[int, Mapping[str, str]]) -> list[str]:
    seen: list[str] = []
    with serve_refusals(Script(*looks)):
        Jobs(open_session()).follow("chat-index-1", seen.append)
    return seen


def test_a_job_is_followed_to_its_end() -> None:
    assert follow(RUNS, RUNS, (200, {"ProcessingJobStatus": "Completed"})) == [
        *("InProgress", "InProgress", "Completed"),
    ]


def test_a_job_that_fails_says_why_in_one_line() -> None:
    failed = {
        "ProcessingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: ,\nexit code: 1",
        "ExitMessage": "OSError: No space left on device",
    }
    with pytest.raises(CallFailed) as raised:
        follow(RUNS, (200, failed))
    assert str(raised.value) == (
        "job chat-index-1 failed: OSError: No space left on device; AlgorithmError: , exit code: 1; "
        "log: /aws/sagemaker/ProcessingJobs, streams chat-index-1/"
    )
    with pytest.raises(CallFailed, match="job chat-index-1 was stopped"):
        follow((200, {"ProcessingJobStatus": "Stopped"}))
    with pytest.raises(CallFailed, match="not allowed to call DescribeProcessingJob"):
        follow(RUNS, (400, {"__type": "AccessDeniedException", "message": "no"}))


@pytest.mark.usefixtures("deployed")
def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(
    files: Path, tmp_path: Path, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "follow", interrupted)
        result = away(files, "--out", tmp_path / "index", status=130)
    name = requests[0]["ProcessingJobName"]
    assert f"aws sagemaker stop-processing-job --processing-job-name {name}" in result.stdout
    assert "The same command goes on from here." in result.stderr
    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "newest", lambda *_: (name, "InProgress"))
        again = away(files, "--out", tmp_path / "index")
    assert f"Job {name} runs already; following it." in again.stdout
    assert len(requests) == 1
