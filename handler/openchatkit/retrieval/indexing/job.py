"""One instance's part of a SageMaker Processing job that builds an index.

    python -m openchatkit.retrieval.indexing.job [--root /opt/ml] [--processes N]

SageMaker deals the files of a prefix out among the instances (`ShardedByS3Key`), puts each one's share below
ROOT/processing/input and takes what lies below ROOT/processing/output when all of them have ended. This
builds the index of the share as a shard: with duplicates and with whole vectors, because only who sees all
shards knows what stands there twice and how vectors may be shortened. Shards of any number merge into the
index that one build of all files gives (an index may be a source of a build). A shard of no files is fine.

    ROOT/config/resourceconfig.json     which host this is, and which others there are
    ROOT/processing/input/              the files, by their names below the prefix
    ROOT/processing/encoder/            the encoder, where it is another one than the package's own
    ROOT/processing/output/NNNN/        the shard; NNNN is the host's place among the hosts
    ROOT/output/message                 why it failed, in one line, which SageMaker shows

No text of a document is printed or put into the message.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchatkit.retrieval.index import IndexedEncoder
from openchatkit.retrieval.indexing.builder import BuildBusy, Progress, Report, build_index
from openchatkit.retrieval.indexing.plan import Options
from openchatkit.retrieval.indexing.workers import EncoderSpec, Tools, WorkerLost
from openchatkit.retrieval.manifest import IndexUnusable

ROOT = Path("/opt/ml")
MAX_PROCESSES = {"cpu": 8, "cuda": 2}
"""Unless told otherwise: each one holds the encoder and, on a GPU, some gigabytes of CUDA's libraries."""
MAX_MESSAGE = 1000
"""Bytes; SageMaker shows 1 KB."""
PRINTED_EVERY_S = 30.0
"""Between two lines of one step."""


class JobBroken(RuntimeError):
    """What SageMaker tells an instance is not there or makes no sense."""


@dataclass(frozen=True, slots=True)
class Host:
    """An instance of the job."""

    number: int
    """Its place among the hosts, from 0 on."""
    count: int

    @property
    def shard(self) -> str:
        """Return the name of its folder."""
        return shard_name(self.number)


def shard_name(number: int) -> str:
    """Return the name of a host's folder among the shards."""
    return f"{number:04}"


def read_host(root: Path) -> Host:
    """Read which instance this is.

    Raises:
        JobBroken: the file is missing, or does not name it.
    """
    path = root / "config" / "resourceconfig.json"
    try:
        values = json.loads(path.read_bytes())
        hosts, current = list(values["hosts"]), values["current_host"]
        return Host(hosts.index(current), len(hosts))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobBroken(f"{path.name} does not say which host this is") from error


def build_shard(
    root: Path,
    *,
    tools: Tools,
    processes: int = 1,
    spec: EncoderSpec | None = None,
    progress: Progress | None = None,
) -> Report:
    """Build the index of this host's files.

    Args:
        root: SageMaker's folder.
        tools: load the encoder.
        processes: that read and embed; more than one need `spec`.
        spec: the encoder of `tools`, as other processes load it.
        progress: hears of each step.

    Raises:
        JobBroken: nothing says which host this is.
        IndexUnusable, WorkerLost, OSError: as `build_index`.
    """
    host = read_host(root)
    files = root / "processing" / "input"
    files.mkdir(parents=True, exist_ok=True)  # a host that got no files may have no folder
    return build_index(
        [str(files)],
        root / "processing" / "output" / host.shard,
        tools=tools,
        options=Options(drop_duplicates=False, keep_float=True),
        processes=processes,
        spec=spec,
        progress=progress or printer(),
    )


def printer(clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return what prints a line at the ends of each step, and now and then between them."""
    last: dict[str, float] = {}

    def step(name: str, done: int, total: int) -> None:
        now = clock()
        if name not in last or done >= total or now - last[name] >= PRINTED_EVERY_S:
            last[name] = now
            _say(f"{name} {done}/{total}")

    return step


def main(arguments: Sequence[str] | None = None) -> int:
    """Build a shard; return the exit status."""
    parser = argparse.ArgumentParser(prog="openchatkit.retrieval.indexing.job", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--processes", type=int)
    options = parser.parse_args(arguments)
    try:
        spec = _encoder(options.root)
        processes = options.processes or min(os.cpu_count() or 1, MAX_PROCESSES[spec.device])
        report = build_shard(options.root, tools=Tools(lambda: _load(spec)), processes=processes, spec=spec)
    except (JobBroken, BuildBusy, IndexUnusable, WorkerLost, FileNotFoundError) as error:
        return _fail(options.root, str(error))
    except OSError as error:
        return _fail(options.root, f"{type(error).__name__}: {error.strerror or 'no reason given'}")
    except Exception as error:  # noqa: BLE001 - its text may quote a document, so only its kind gets out
        return _fail(options.root, f"unexpected {type(error).__name__}")
    counts = report.manifest.counts
    _say(f"{counts.documents} documents, {counts.rows} sentences, {counts.skipped} files skipped")
    return 0


def _encoder(root: Path) -> EncoderSpec:
    import torch

    from openchatkit.retrieval.encoder import bundled_minilm_directory

    given = root / "processing" / "encoder"
    model = given if given.is_dir() else bundled_minilm_directory()
    return EncoderSpec(str(model), device="cuda" if torch.cuda.is_available() else "cpu")


def _load(spec: EncoderSpec) -> IndexedEncoder:
    from openchatkit.retrieval.encoder import SentenceEncoder

    return SentenceEncoder.load(spec.model, device=spec.device)


def _fail(root: Path, reason: str) -> int:
    _say(f"failed: {reason}")
    message = root / "output" / "message"
    message.parent.mkdir(parents=True, exist_ok=True)
    message.write_bytes(" ".join(reason.split()).encode()[:MAX_MESSAGE])
    return 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
