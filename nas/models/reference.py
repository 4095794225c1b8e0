"""The reference networks as torch modules."""

from __future__ import annotations

import torch
from torch import nn

from nas.architecture import Architecture
from nas.models.network import InceptionNetwork, build
from nas.models.plain import PlainModule, build_plain
from nas.references import Reference


def build_reference(reference: Reference, classes: int) -> InceptionNetwork | PlainModule:
    """A reference network as it was published, its initialisation included; in training mode, channels_last.

    Random numbers come from torch's default generator: seed it before.

    Args:
        classes: number of logits, at least 1.

    Raises:
        ArchitectureError: `classes` is under 1.
    """
    network = reference.network(classes)
    module = build(network) if isinstance(network, Architecture) else build_plain(network)
    if reference.initialisation == "kaiming-normal":
        _kaiming_normal(module)
    return module


@torch.no_grad()
def _kaiming_normal(module: nn.Module) -> None:
    """He et al. 2015: weights normal with deviation sqrt(2 / fan-in); and biases standard normal."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.normal_(layer.bias)
