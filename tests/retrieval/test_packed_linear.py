"""Linear layers in oneDNN's layout: the same function, the same weights, and what cannot be packed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from openchatkit.retrieval import packed_linear
from openchatkit.retrieval.packed_linear import PackedLinear, can_pack, pack_linears


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 96), (3, 96), (2, 17, 96), (1, 256, 96)])
def test_the_same_numbers(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(1)
    plain = nn.Linear(96, 41, bias=bias)
    inputs = torch.randn(shape)
    with torch.inference_mode():
        wanted, found = plain(inputs), PackedLinear(plain)(inputs)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_the_weights_are_still_those_that_were_loaded(bias: bool) -> None:
    plain = nn.Linear(33, 20, bias=bias)
    model = nn.Sequential(plain, nn.GELU())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert pack_linears(model) == 1
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_layer_of_a_model_is_packed_however_deep() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ModuleDict({"inner": nn.Sequential(nn.Linear(8, 4))}))
    assert pack_linears(model) == 2
    assert pack_linears(model) == 0  # a second time there is nothing left
    assert not [module for module in model.modules() if type(module) is nn.Linear]


def test_what_is_not_a_plain_layer_in_single_precision_stays() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(4, 4), nn.Linear(4, 4, dtype=torch.float64), nn.LayerNorm(4))
    assert pack_linears(model) == 0


def test_a_pytorch_that_cannot_keeps_its_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(linear: nn.Linear) -> None:
        raise NotImplementedError

    monkeypatch.setattr(packed_linear, "PackedLinear", fail)
    assert not can_pack()
    model = nn.Sequential(nn.Linear(4, 4))
    assert pack_linears(model) == 0
    assert type(model[0]) is nn.Linear
