"""Facts of the instance types that an endpoint may use: their GPUs, and the memory of one.

Dated 2026-11-22, from AWS's instance type tables (EC2 `g4dn`, `g5`, `g6`, `g6e`, `p4d`, `p4de`, `p5`, `p5en`;
SageMaker's types have the same hardware). `memory_gib` is what the GPU's driver reports as total,
rounded down: less than the figure on the card where error correction takes its share.
Prices are elsewhere (`client/prices.json`).
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class InstanceType:
    """The GPUs of an instance type."""

    name: str
    gpu: str
    gpus: int
    memory_gib: float
    """Of one GPU."""
    architecture: str
    """CUDA compute capability."""
    bfloat16: bool = True

    @property
    def memory_bytes(self) -> float:
        """Memory of one GPU, bytes."""
        return self.memory_gib * GIB


def _family(
    sizes: dict[str, int],
    *,
    family: str,
    gpu: str,
    memory_gib: float,
    architecture: str,
    bfloat16: bool = True,
) -> dict[str, InstanceType]:
    names = {f"ml.{family}.{size}": gpus for size, gpus in sizes.items()}
    return {
        name: InstanceType(name, gpu, gpus, memory_gib, architecture, bfloat16)
        for name, gpus in names.items()
    }


_G4DN = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4}
_FOUR_AND_EIGHT = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1} | {
    "12xlarge": 4,
    "24xlarge": 4,
    "48xlarge": 8,
}

INSTANCE_TYPES: dict[str, InstanceType] = {
    **_family(_G4DN, family="g4dn", gpu="T4", memory_gib=14.5, architecture="7.5", bfloat16=False),
    **_family(_FOUR_AND_EIGHT, family="g5", gpu="A10G", memory_gib=22, architecture="8.6"),
    **_family(_FOUR_AND_EIGHT, family="g6", gpu="L4", memory_gib=22, architecture="8.9"),
    **_family(_FOUR_AND_EIGHT, family="g6e", gpu="L40S", memory_gib=44, architecture="8.9"),
    **_family({"24xlarge": 8}, family="p4d", gpu="A100-40GB", memory_gib=39, architecture="8.0"),
    **_family({"24xlarge": 8}, family="p4de", gpu="A100-80GB", memory_gib=79, architecture="8.0"),
    **_family({"4xlarge": 1, "48xlarge": 8}, family="p5", gpu="H100", memory_gib=79, architecture="9.0"),
    **_family({"48xlarge": 8}, family="p5en", gpu="H200", memory_gib=139, architecture="9.0"),
}
"""By SageMaker's name."""
