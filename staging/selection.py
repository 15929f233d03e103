"""Which files of a repository are wanted: pure functions over its listing.

Of a model: configuration, tokenizer, licence, and the weights once. Safetensors are taken where there are
any; else PyTorch's pickled shards, which `convert` turns into safetensors. Code, other frameworks'
weights, half-precision variants and training left-overs stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from staging.errors import StagingError

SUPPORT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "LICENSE*",
    "NOTICE*",
)
"""Taken where they are there; the second half of the JSON files is what sentence encoders need."""
SAFETENSORS = re.compile(r"model(-(?P<number>\d+)-of-(?P<count>\d+))?\.safetensors")
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLED = re.compile(r"pytorch_model(-(?P<number>\d+)-of-(?P<count>\d+))?\.bin")
MAX_FILES = 10_000
"""A dataset's pattern that matches more is most likely a mistake."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub: size in bytes; its SHA-256 where it is a large file, else only git's blob id."""

    path: str
    size: int
    blob_id: str
    sha256: str | None


@dataclass(frozen=True)
class Wanted:
    """A file that is to lie in the bucket at `path`, as it is or converted from `remote`."""

    path: str
    remote: RemoteFile
    convert: bool = False


def wanted_of_model(files: Iterable[RemoteFile], *, model: str) -> list[Wanted]:
    """Return what a server needs of a model.

    Raises:
        StagingError: no configuration, no weights, or a shard is missing.
    """
    by_path = {file.path: file for file in files}
    if "config.json" not in by_path:
        raise StagingError(f"{model} has no config.json: it is not a model that a server can load")
    wanted = [
        Wanted(path, file)
        for path, file in by_path.items()
        if any(fnmatchcase(path, pattern) for pattern in SUPPORT_FILES)
    ]
    shards = _shards(by_path, SAFETENSORS, model)
    if shards:
        wanted += [Wanted(path, by_path[path]) for path in shards]
        if SAFETENSORS_INDEX in by_path:
            wanted.append(Wanted(SAFETENSORS_INDEX, by_path[SAFETENSORS_INDEX]))
        elif len(shards) > 1:
            raise StagingError(f"{model} has {len(shards)} shards but no {SAFETENSORS_INDEX}")
        return wanted
    pickled = _shards(by_path, PICKLED, model)
    if not pickled:
        raise StagingError(f"{model} has no weights in safetensors or in PyTorch's format")
    return wanted + [Wanted(_safetensors_name(path), by_path[path], convert=True) for path in pickled]


def wanted_of_dataset(files: Iterable[RemoteFile], patterns: Sequence[str], *, dataset: str) -> list[Wanted]:
    """Return the files that match a pattern (`*` crosses folders).

    Raises:
        StagingError: a pattern matches nothing, or all of them too much.
    """
    files = list(files)
    for pattern in patterns:
        if not any(fnmatchcase(file.path, pattern) for file in files):
            raise StagingError(f"{dataset} has no file that matches {pattern}")
    wanted = [
        Wanted(file.path, file) for file in files if any(fnmatchcase(file.path, one) for one in patterns)
    ]
    if len(wanted) > MAX_FILES:
        raise StagingError(
            f"the patterns match {len(wanted)} files of {dataset}; at most {MAX_FILES} are taken"
        )
    return wanted


def _shards(by_path: dict[str, RemoteFile], pattern: re.Pattern[str], model: str) -> list[str]:
    """Return the paths of the weights in order: one file, or shards that are all there."""
    matches = [match for path in sorted(by_path) if (match := pattern.fullmatch(path))]
    numbered = [match for match in matches if match["count"]]
    if not numbered:
        return [match.string for match in matches]
    count = int(numbered[0]["count"])
    numbers = [int(match["number"]) for match in numbered if int(match["count"]) == count]
    if numbers != list(range(1, count + 1)) or len(numbers) != len(numbered):
        raise StagingError(f"{model} has {len(numbers)} of {count} shards like {numbered[0].string}")
    return [match.string for match in numbered]


def _safetensors_name(pickled: str) -> str:
    return pickled.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors"
