from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from openchatkit.retrieval.difference import FILE, named_for, save_difference, with_difference


def models() -> tuple[dict[str, torch.Tensor], BertForSequenceClassification]:
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    torch.manual_seed(0)
    plain = BertModel(config)
    config.num_labels = 1
    headed = BertForSequenceClassification(config)
    headed.bert.load_state_dict(plain.state_dict())
    return named_for(headed, plain.state_dict()), headed


def test_what_comes_back_is_what_was_trained(tmp_path: Path) -> None:
    base, tuned = models()
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "embeddings" not in name:
                weight.add_(torch.randn_like(weight), alpha=0.01)
    save_difference(tmp_path / FILE, base, tuned.state_dict())
    back = with_difference(tmp_path / FILE, base)
    assert set(back) == set(tuned.state_dict())
    for name, weight in tuned.state_dict().items():
        change = (weight - base[name]).abs().max() if name in base else torch.tensor(1.0)
        assert (back[name] - weight).abs().max() <= change / 200 + 1e-7, name


def test_what_did_not_change_takes_no_room(tmp_path: Path) -> None:
    base, tuned = models()
    save_difference(tmp_path / FILE, base, tuned.state_dict())
    embeddings = sum(weight.numel() for name, weight in base.items() if "embeddings" in name)
    assert (tmp_path / FILE).stat().st_size < embeddings


def test_a_difference_from_another_model_is_refused(tmp_path: Path) -> None:
    base, tuned = models()
    save_difference(tmp_path / FILE, base, tuned.state_dict())
    other = {name: weight + 1 for name, weight in base.items()}
    with pytest.raises(ValueError, match="another model"):
        with_difference(tmp_path / FILE, other)
