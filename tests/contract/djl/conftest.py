"""Both bundles, unpacked as SageMaker would, under DJL's real Python engine in one Java process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from stacks.bundle import write_bundle
from stacks.models import Role
from tests.engines.models import VOCABULARY, tiny_tokenizer

HERE = Path(__file__).parent
JARS = HERE.parents[2] / ".dev" / "jars" / "djl"
START_S = 120
ANSWER_S = 60
CONTEXT_LENGTH = 4096
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the usual one takes a while to read its certificates


@dataclass
class DjlServer:
    """A running Java host and the processes that it has started."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def client(self, model: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}/{model}",
            timeout=ANSWER_S,
            limits=httpx.Limits(max_connections=None),
            verify=_NO_TLS,
        )

    def worker(self, model: str) -> int | None:
        """Return the process id of a model's Python, which runs in the model's folder."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid:"))
                if int(parent.split()[1]) != self.process.pid:
                    continue
                if (status.parent / "cwd").resolve() == (self.folder / model).resolve():
                    return int(status.parent.name)
            except (OSError, StopIteration):
                continue  # it has just ended
        return None

    def resident_bytes(self, model: str) -> int:
        """Return the resident memory of a model's worker."""
        pid = self.worker(model)
        assert pid is not None
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.terminate()
        try:
            self.process.wait(START_S)
        finally:
            self.process.kill()
            self.process.stdin.close()
            self.process.wait()


def start(folder: Path, models: list[str], environment: Mapping[str, str], port: int) -> DjlServer:
    """Start a host for the models that lie unpacked in `folder`; it may not be up yet."""
    temporary = folder / "tmp"  # its own: DJL kills the process named in a stale file there
    temporary.mkdir()
    java = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx256m"]
    java += [f"-Djava.io.tmpdir={temporary}", "-Dsun.net.httpserver.nodelay=true"]
    java += ["-Djava.util.concurrent.ForkJoinPool.common.parallelism=128"]
    java += ["-cp", f"{JARS}/*", str(HERE / "DjlHost.java"), str(port)]
    java += [str(folder / model) for model in models]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    log: IO[bytes]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            java,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **inherited,
                "PYTHON_EXECUTABLE": sys.executable,
                "DJL_CACHE_DIR": str(folder / "cache"),
                "OPT_OUT_TRACKING": "true",
                "HF_HUB_OFFLINE": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "OMP_NUM_THREADS": "1",
                "AWS_REGION": "eu-west-1",
                "AWS_DEFAULT_REGION": "eu-west-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                **environment,
            },
        )
    return DjlServer(process, folder, port)


def unpack(role: Role, folder: Path) -> None:
    """Put a role's bundle, as the deployment builds it, into `folder`."""
    archive = write_bundle(role, folder.with_suffix(".tar.gz"))
    with tarfile.open(archive) as bundle:
        bundle.extractall(folder, filter="data")


def set_environment(folder: Path, **options: object) -> None:
    """Write the environment of one model's container: `OPTION_...` variables."""
    lines = [f"OPTION_{name.upper()}={value}\n" for name, value in options.items()]
    folder.with_name(f"{folder.name}.env").write_text("".join(lines))


def save_endless(architecture: str, folder: Path) -> Path:
    """Save a tiny random model that goes on, asked greedily, to the last of its tokens."""
    torch.manual_seed(7)
    options: dict[str, Any] = {"intermediate_size": 64} if architecture == "gpt_neox" else {"rotary_dim": 4}
    config = AutoConfig.for_model(
        architecture,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.4,
        hidden_size=32,
        max_position_embeddings=CONTEXT_LENGTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        **options,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    head = model.get_output_embeddings()
    with torch.no_grad():
        head.weight[0] = 0  # a score of zero for the end of text: some other token has more
    model.save_pretrained(str(folder))
    tiny_tokenizer().save_pretrained(str(folder))
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_up(server: DjlServer) -> None:
    give_up = time.monotonic() + START_S
    while "listening" not in server.log:
        if server.process.poll() is not None:
            pytest.fail(f"the host ended with {server.process.returncode}:\n{server.log[-4000:]}")
        if time.monotonic() > give_up:
            server.stop()
            pytest.fail(f"the host was not up within {START_S} s:\n{server.log[-4000:]}")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def djl_jars() -> Path:
    """Where DJL's jars are; skips where they cannot be used."""
    if shutil.which("java") is None:
        pytest.skip("needs java")
    if not any(JARS.glob("python-*.jar")):
        pytest.skip("needs the jars of DJL: scripts/setup_tests fetches them where there is mvn")
    return JARS


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless("gpt_neox", tmp_path_factory.mktemp("neox"))


@pytest.fixture(scope="session")
def server(
    djl_jars: Path, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DjlServer]:
    """Two instances of the chat container over one store, and the moderation container.

    `chat` asks `moderation` through boto3, as a variant of the same endpoint; `chat2` holds its judge
    in its own process.
    """
    folder = tmp_path_factory.mktemp("djl")
    port = free_port()
    common = {
        "model_id": tiny_chat_model,
        "dtype": "fp32",
        "device_map": "cpu",
        "ock_store": "sqlite",
        "ock_sqlite_path": folder / "conversations.sqlite",
        "ock_preamble": "Answer.",
        "ock_temperature": 0,
        "ock_max_new_tokens": 16,
        "ock_moderation_may_be_disabled": "true",
        "ock_moderation_timeout_s": 30,
        "ock_heartbeat_s": 0.2,
    }
    for name in ("chat", "chat2"):
        unpack("chat", folder / name)
    remote = {"ock_moderation": "remote", "ock_moderation_endpoint": "moderation"}
    set_environment(folder / "chat", **common, **remote, ock_moderation_variant="moderation")
    set_environment(folder / "chat2", **common, ock_moderation="embedding")
    unpack("moderation", folder / "moderation")
    set_environment(folder / "moderation", ock_moderation="embedding")
    environment = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": f"http://127.0.0.1:{port}"}
    running = start(folder, ["chat", "chat2", "moderation"], environment, port)
    try:
        wait_until_up(running)
        yield running
    finally:
        for model in ("chat", "chat2", "moderation"):
            if (pid := running.worker(model)) is not None:
                os.kill(pid, signal.SIGCONT)
        running.stop()
