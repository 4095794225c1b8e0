"""The counts that an Architecture states are the ones that torch finds in the network built from it."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import RULES, Architecture
from nas.models import build
from nas.models.local_response_norm import LocalResponseNorm
from nas.space import load_space
from tests.networks import googlenet, inception_cifar, random_architecture, small_googlenet
from tests.spaces import SPACES


def assert_counted(architecture: Architecture) -> None:
    network = build(architecture)
    parameters = {name: p.numel() for name, p in network.named_parameters() if p.requires_grad}
    assert architecture.training_params == sum(parameters.values())
    assert architecture.params == sum(n for name, n in parameters.items() if not name.startswith("auxiliary."))
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *architecture.input_shape))
    counted = counter.get_flop_counts()["Global"]
    # a local response norm sums its window by a matrix product; as everywhere, a norm is no multiply-add of the network
    sums = counted.get(torch.ops.aten.mm, 0) if any(isinstance(m, LocalResponseNorm) for m in network.modules()) else 0
    assert 2 * architecture.macs == counter.get_total_flops() - sums


def test_networks_with_every_field_at_random() -> None:
    random = Random(0)
    networks = [random_architecture(random) for _ in range(200)]
    for network in networks:
        assert_counted(network)
    assert sum(network.training_params > network.params for network in networks) > 5


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("space", SPACES)
def test_networks_of_the_spaces(space: str, rule: str) -> None:
    searched = load_space(space).narrowed(rule=rule)
    for vector in np.random.default_rng(1).random((20, len(searched.coordinates))):
        assert_counted(searched.decode(vector))


@pytest.mark.parametrize("network", [inception_cifar(10), small_googlenet(), googlenet()])
def test_published_networks(network: Architecture) -> None:
    assert_counted(network)
