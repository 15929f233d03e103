"""A large model that says what a small one says: the small one's network, several times side by side.

Speculation pays where replies really quote their prompts, which random weights do not do. So the
demonstration model is repeated: every matrix becomes block-diagonal with `tiles` copies of itself and
is stored dense, the hidden state is `tiles` copies of the small one's (its mean and variance, which is
all that layer normalisation sees, are the same), and further layers that add nothing follow. The text
is the small model's, the work is the large one's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)


def write_tiled(source: Path, target: Path, *, tiles: int, layers: int) -> Path:
    """Write the large model, one file a layer, and return its folder.

    Args:
        source: folder of a GPT-NeoX model in safetensors.
        tiles: copies side by side.
        layers: of the large model, at least the small one's.
    """
    target.mkdir(parents=True, exist_ok=True)
    weights = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    own_layers = config["num_hidden_layers"]
    places: dict[str, str] = {}

    def save(name: str, tensors: dict[str, torch.Tensor]) -> None:
        save_file(
            {key: value.contiguous() for key, value in tensors.items()}, target / name, {"format": "pt"}
        )
        places.update(dict.fromkeys(tensors, name))

    embedding = weights["gpt_neox.embed_in.weight"]
    output = weights.get("embed_out.weight", embedding)
    outer = {
        "gpt_neox.embed_in.weight": embedding.repeat(1, tiles),
        # Every copy votes with its share: the logits are the small model's.
        "embed_out.weight": output.repeat(1, tiles) / tiles,
    }
    for part in ("weight", "bias"):
        outer[f"gpt_neox.final_layer_norm.{part}"] = weights[f"gpt_neox.final_layer_norm.{part}"].repeat(
            tiles
        )
    save("outer.safetensors", outer)
    for layer in range(layers):
        prefix = f"gpt_neox.layers.{min(layer, own_layers - 1)}."
        tensors = {}
        for key, value in weights.items():
            if not key.startswith(prefix) or value.ndim == 0 or "rotary" in key:
                continue
            adds = key.endswith(("attention.dense.weight", "attention.dense.bias"))
            adds |= "dense_4h_to_h" in key
            large = value.repeat(tiles) if value.ndim == 1 else _block_diagonal(value, tiles)
            if adds and layer >= own_layers:
                large = torch.zeros_like(large)
            tensors[f"gpt_neox.layers.{layer}.{key.removeprefix(prefix)}"] = large
        save(f"layer-{layer:03}.safetensors", tensors)
    index = {"metadata": {}, "weight_map": places}
    (target / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config |= {
        "num_hidden_layers": layers,
        "hidden_size": config["hidden_size"] * tiles,
        "intermediate_size": config["intermediate_size"] * tiles,
        "num_attention_heads": config["num_attention_heads"] * tiles,
        "tie_word_embeddings": False,
    }
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
    return target


def _block_diagonal(matrix: torch.Tensor, copies: int) -> torch.Tensor:
    rows, columns = matrix.shape
    large = matrix.new_zeros((copies, rows, copies, columns))
    for copy in range(copies):
        large[copy, :, copy] = matrix
    return large.reshape(copies * rows, copies * columns)
