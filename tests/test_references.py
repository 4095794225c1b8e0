"""The reference networks as data: their published counts, shares and maps, and what a user may get wrong."""

from __future__ import annotations

from fractions import Fraction

import pytest

from nas.architecture import Architecture
from nas.errors import ArchitectureError
from nas.plain import PlainNetwork
from nas.references import REFERENCES, reference
from tests.networks import googlenet, inception_cifar, small_googlenet

COUNTS = [
    ("inception-cifar", 100, 985_396),
    ("inception-cifar", 10, 942_106),
    ("small-googlenet", 10, 592_714),
    ("googlenet", 1000, 6_998_552),
    ("alexnet-cifar-plain", 10, 6_979_146),
    ("alexnet-cifar", 10, 2_256_458),
    ("nin-cifar", 10, 1_485_386),
]


def test_the_eight_are_there() -> None:
    assert list(REFERENCES) == [
        "inception-naive-module",
        "inception-v1-module",
        "inception-cifar",
        "small-googlenet",
        "googlenet",
        "alexnet-cifar-plain",
        "alexnet-cifar",
        "nin-cifar",
    ]
    assert all(name == one.name for name, one in REFERENCES.items())


@pytest.mark.parametrize(("name", "classes", "params"), COUNTS)
def test_published_counts(name: str, classes: int, params: int) -> None:
    assert reference(name).params(classes) == params


def test_a_single_module_is_counted_alone_and_in_its_wrapper() -> None:
    """The wrapper by hand: a conv of 3x3x3x256 weights, 256 biases, 512 of batch norm; a linear layer to 10."""
    naive, v1 = reference("inception-naive-module"), reference("inception-v1-module")
    assert (naive.module_params, v1.module_params) == (573_824, 177_376)
    around = 3 * 9 * 256 + 256 + 512
    assert naive.params(10) == around + 573_824 + 448 * 10 + 10
    assert v1.params(10) == around + 177_376 + 256 * 10 + 10
    weights = 256 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    assert v1.module_macs == weights * 28 * 28
    assert v1.macs(10) == 3 * 9 * 256 * 32 * 32 + weights * 8 * 8 + 256 * 10
    assert reference("googlenet").module_params is None


SHARES = {
    "small-googlenet": ("3/8 1/2 11/16 3/4 13/16", None),
    "inception-cifar": ("5/8 4/7 5/9 13/24 8/15", 1),
    "googlenet": ("5/8 3/5 1/2 9/16 5/8 2/3 7/13 7/13 1/2", 1),
    "inception-v1-module": ("5/8", None),
    "inception-naive-module": ("2/7", None),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_rule_is_held_against_them(name: str) -> None:
    one = reference(name)
    if name not in SHARES:
        assert (one.shares, one.obeys_rule, one.first_fall, one.module_names) == ((), None, None, ())
        return
    shares, fall = SHARES[name]
    assert one.shares == tuple(map(Fraction, shares.split()))
    assert (one.first_fall, one.obeys_rule) == (fall, fall is None)
    assert len(one.module_names) == len(one.shares)


@pytest.mark.parametrize("name", REFERENCES)
def test_inception_ones_are_architectures_and_the_others_plain(name: str) -> None:
    one = reference(name)
    network = one.network(7)
    assert isinstance(network, Architecture if one.shares else PlainNetwork)
    assert network.classes == 7
    assert network.input_shape == one.input_shape
    assert one.architecture(7) == (network if one.shares else None)


@pytest.mark.parametrize("name", ["googlnet", "alexnet_cifar"])
def test_an_unknown_name_says_the_nearest(name: str) -> None:
    nearest = {"googlnet": "googlenet", "alexnet_cifar": "alexnet-cifar"}[name]
    with pytest.raises(ArchitectureError, match=f"unknown reference network '{name}': did you mean '{nearest}'"):
        reference(name)


def test_another_side() -> None:
    """Global pooling takes any map; a linear layer over the map counts it."""
    assert reference("nin-cifar").at(64).params(10) == 1_485_386
    assert reference("inception-cifar").at(64).macs(10) > 3 * reference("inception-cifar").macs(10)
    assert reference("alexnet-cifar-plain").at(64).params(10) == 6_979_146 + (256 * 8 * 8 - 4096) * 1024
    with pytest.raises(ArchitectureError, match="googlenet cannot read images of 32x32: a map of 2 vanishes"):
        reference("googlenet").at(32)
    with pytest.raises(
        ArchitectureError, match="googlenet cannot read images of 64x64: auxiliary: module 2 has a map of 4x4"
    ):
        reference("googlenet").at(64)
    with pytest.raises(ArchitectureError, match="alexnet-cifar cannot read images of 4x4: a map of 1 vanishes"):
        reference("alexnet-cifar").at(4)


def test_no_classes() -> None:
    for one in REFERENCES.values():
        with pytest.raises(ArchitectureError, match="classes must be a whole number of at least 1, got 0"):
            one.network(0)


def test_a_second_reading_of_the_published_descriptions_gives_the_same_networks() -> None:
    assert reference("inception-cifar").architecture(100) == inception_cifar(100)
    assert reference("small-googlenet").architecture(10) == small_googlenet()
    assert reference("googlenet").architecture(1000) == googlenet()
