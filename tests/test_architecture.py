"""A network as data: JSON both ways, one key for one network, the rule, and counts known from the literature."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import (
    Architecture,
    Conv,
    InceptionWidths,
    LocalResponseNorm,
    MaxPool,
    first_fall,
    layer_from_json,
    layer_to_json,
)
from nas.errors import ArchitectureError
from tests.networks import NAIVE, V1, googlenet, inception_cifar, random_architecture, single_module, small_googlenet

SMALL = Architecture(
    input_shape=(1, 8, 8),
    classes=10,
    stem=(Conv(8),),
    stages=((InceptionWidths(2, 2, 2, 2, 2, 2),), (InceptionWidths(2, 2, 4, 2, 2, 2),)),
    stage_pools=(MaxPool(),),
)
networks = st.randoms(use_true_random=False).map(random_architecture)


@pytest.mark.parametrize(
    ("network", "params"),
    [
        (inception_cifar(100), 985_396),
        (inception_cifar(10), 942_106),
        (small_googlenet(), 592_714),
        (single_module(NAIVE), 573_824 + 448 + 1),
        (single_module(V1), 177_376 + 256 + 1),
    ],
    ids=["inception-cifar-100", "inception-cifar-10", "small-googlenet", "naive module", "v1 module"],
)
def test_published_counts(network: Architecture, params: int) -> None:
    assert network.params == network.training_params == params


def test_googlenet_counts_by_hand() -> None:
    """Without an auxiliary head, with each, and with floor pooling, which only the heads' maps show."""
    plain = googlenet(())
    assert plain.params == plain.training_params == 6_998_552
    # conv 128 x (512 + 1), linear 2048 -> 1024, linear 1024 -> 1000; 4d has 528 channels
    head = 128 * 513 + 2049 * 1024 + 1025 * 1000
    assert googlenet((2,)).training_params == plain.params + head
    assert googlenet().training_params == plain.params + head + (head + 128 * 16) == 13_378_280
    assert googlenet().params == plain.params
    assert googlenet().macs == plain.macs == 1_582_671_872
    assert googlenet((), ceil=False).params == plain.params
    assert googlenet(ceil=False).training_params < googlenet().training_params


def test_maps_of_googlenet() -> None:
    assert [shape[1] for shape in googlenet().module_inputs()] == [28, 28, 14, 14, 14, 14, 14, 7, 7, 7]


def test_counts_of_a_module_by_hand() -> None:
    """One module of two steps on a 4x4 map: 1x1, 3x3 and 5x5 with reduces, pool; then the linear layer."""
    network = Architecture((3, 4, 4), 5, (), ((InceptionWidths(1, 2, 3, 1, 2, 4),),), batch_norm=True)
    weights = 3 * 1 + 3 * 2 + 2 * 3 * 9 + 3 * 1 + 1 * 2 * 25 + 3 * 4
    norms = 2 * (1 + 2 + 3 + 1 + 2 + 4)
    assert network.params == weights + norms + (1 + 3 + 2 + 4) * 5 + 5
    assert network.macs == weights * 16 + 10 * 5
    biased = replace(network, batch_norm=False, conv_bias=True)
    assert biased.params == network.params - norms // 2
    assert replace(network, batch_norm=False).params == network.params - norms


def test_shares_and_falls_of_the_published_networks() -> None:
    grows, falls, paper = small_googlenet(), inception_cifar(100), googlenet()
    assert [str(share) for share in grows.shares] == ["3/8", "1/2", "11/16", "3/4", "13/16"]
    assert [str(share) for share in falls.shares] == ["5/8", "4/7", "5/9", "13/24", "8/15"]
    assert [str(share) for share in paper.shares] == ["5/8", "3/5", "1/2", "9/16", "5/8", "2/3", "7/13", "7/13", "1/2"]
    assert [first_fall(network) for network in (grows, falls, paper)] == [None, 1, 1]
    assert first_fall(paper, "off") is None
    # 3x3 alone: 32/128, 64/192, 112/256, 128/256, 128/256 grows; 5x5: 16/128, 32/192, 64/256, 64/256, 80/256 too
    assert first_fall(grows, "growing-each") is None
    swapped = replace(SMALL, stages=((InceptionWidths(2, 2, 2, 2, 4, 2),), (InceptionWidths(2, 2, 4, 2, 2, 2),)))
    assert first_fall(swapped) is None
    assert first_fall(swapped, "growing-each") == 1


def test_the_share_of_a_passed_through_pool_counts_the_input() -> None:
    assert NAIVE.out_channels(256) == 448
    assert NAIVE.spatial_share(256) == Fraction(128, 448)


@given(networks)
@settings(max_examples=150, deadline=None)
def test_json_both_ways(network: Architecture) -> None:
    text = json.dumps(network.to_json())
    again = Architecture.from_json(text)
    assert again == Architecture.from_json(network.to_json()) == network
    assert again.key == network.key
    assert json.dumps(again.to_json()) == text


@given(networks, networks)
@settings(max_examples=150, deadline=None)
def test_keys_are_equal_exactly_for_equal_networks(one: Architecture, other: Architecture) -> None:
    assert (one.key == other.key) == (one == other) == (one.to_json() == other.to_json())


SAME = [
    (replace(SMALL, dropout=0), replace(SMALL, dropout=0.0)),
    (replace(SMALL, dropout=-0.0), SMALL),
    (replace(SMALL, stem=(Conv(8),)), replace(SMALL, stem=(Conv(8, 3, 1, 1, True, False),))),
    (replace(SMALL, stem=(Conv(8, batch_norm=False),)), replace(SMALL, stem=(Conv(8, batch_norm=False, bias=True),))),
    (replace(SMALL, stem=(LocalResponseNorm(k=1),)), replace(SMALL, stem=(LocalResponseNorm(5, 1e-4, 0.75, 1.0),))),
]
CHANGED: list[dict[str, Any]] = [
    {"input_shape": (2, 8, 8)},
    {"input_shape": (1, 9, 8)},
    {"input_shape": (1, 8, 9)},
    {"classes": 11},
    {"stem": ()},
    {"stem": (Conv(9),)},
    {"stem": (Conv(8, 5),)},
    {"stem": (Conv(8, 3, 2),)},
    {"stem": (Conv(8, 3, 1, 0),)},
    {"stem": (Conv(8, batch_norm=False),)},
    {"stem": (Conv(8, bias=True),)},
    {"stem": (Conv(8), LocalResponseNorm())},
    {"stem": (LocalResponseNorm(), Conv(8))},
    {"stem": (Conv(8), LocalResponseNorm(alpha=1e-3))},
    {"stem": (Conv(8), MaxPool())},
    {"stage_pools": (MaxPool(2),)},
    {"stage_pools": (MaxPool(3, 1),)},
    {"stage_pools": (MaxPool(3, 2, 1),)},
    {"stage_pools": (MaxPool(ceil=False),)},
    {"stages": (SMALL.modules,), "stage_pools": ()},
    {"stages": SMALL.stages[::-1]},
    {"batch_norm": False},
    {"batch_norm": False, "conv_bias": True},
    {"batch_norm_eps": 1e-3},
    {"dropout": 0.1},
    {"auxiliary": (0,)},
] + [
    {"stages": ((replace(SMALL.modules[0], **{field.name: 3}),), SMALL.stages[1])} for field in fields(InceptionWidths)
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_network_written_in_two_ways_has_one_key(one: Architecture, other: Architecture) -> None:
    assert one == other
    assert one.key == other.key
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


def test_every_field_changes_the_key() -> None:
    networks = [SMALL, *(replace(SMALL, **change) for change in CHANGED)]
    assert len({network.key for network in networks}) == len(networks)
    assert {name for change in CHANGED for name in change} == {field.name for field in fields(Architecture)}


def test_the_key_of_a_network_never_changes() -> None:
    """Records and caches are found by it: a change here needs a migration."""
    assert SMALL.key == "ebb3699355fe15cc011b"


BAD: list[tuple[Any, str]] = [
    (lambda: Conv(0), "channels must be a whole number of at least 1, got 0"),
    (lambda: Conv(True), "channels must be a whole number of at least 1, got True"),
    (lambda: Conv(8, kernel=0), "kernel"),
    (lambda: Conv(8, kernel="3"), "kernel"),
    (lambda: Conv(8, stride=0), "stride"),
    (lambda: Conv(8, padding=-1), "padding"),
    (lambda: Conv(8, batch_norm=1), "batch_norm must be true or false, got 1"),
    (lambda: Conv(8, bias=0), "bias must be true or false, got 0"),
    (lambda: MaxPool(0), "kernel"),
    (lambda: MaxPool(2, 0), "stride"),
    (lambda: MaxPool(3, 2, -1), "padding"),
    (lambda: MaxPool(3, 2, 2), "at most half its kernel 3, got 2"),
    (lambda: MaxPool(ceil=None), "ceil"),
    (lambda: LocalResponseNorm(0), "size"),
    (lambda: LocalResponseNorm(alpha=float("nan")), "alpha must be a number in 0..1e9, got nan"),
    (lambda: LocalResponseNorm(beta="x"), "beta"),
    (lambda: LocalResponseNorm(k=float("inf")), "k must be a number"),
    (lambda: InceptionWidths(0, 1, 1, 1, 1, 1), "out_1x1 must be a whole number of at least 1, got 0"),
    (lambda: InceptionWidths(1, -1, 1, 1, 1, 1), "reduce_3x3 must be a whole number of at least 0, got -1"),
    (lambda: InceptionWidths(1, 1, 0, 1, 1, 1), "out_3x3"),
    (lambda: InceptionWidths(1, 1, 1, -1, 1, 1), "reduce_5x5"),
    (lambda: InceptionWidths(1, 1, 1, 1, 0, 1), "out_5x5"),
    (lambda: InceptionWidths(1, 1, 1, 1, 1, -1), "out_pool"),
    (lambda: replace(SMALL, input_shape=(8, 8)), "input_shape must be channels, height and width, got [8, 8]"),
    (lambda: replace(SMALL, input_shape=(1, 0, 8)), "input height"),
    (lambda: replace(SMALL, classes=0), "classes"),
    (lambda: replace(SMALL, stages=()), "at least one stage"),
    (lambda: replace(SMALL, stages=((), SMALL.modules)), "every stage at least one module"),
    (lambda: replace(SMALL, stage_pools=()), "2 stages need 1 pools between them, got 0"),
    (lambda: replace(SMALL, conv_bias=True), "conv_bias with batch_norm"),
    (lambda: replace(SMALL, batch_norm=1), "batch_norm must be true or false"),
    (lambda: replace(SMALL, conv_bias=0), "conv_bias must be true or false"),
    (lambda: replace(SMALL, dropout=1.0), "dropout must be in [0, 1), got 1.0"),
    (lambda: replace(SMALL, dropout=float("nan")), "dropout"),
    (lambda: replace(SMALL, batch_norm_eps=-1.0), "batch_norm_eps"),
    (lambda: replace(SMALL, auxiliary=(2,)), "growing module numbers in 0..1, got [2]"),
    (lambda: replace(SMALL, auxiliary=(1, 0)), "growing module numbers"),
    (lambda: replace(SMALL, auxiliary=(1,)), "module 1 has a map of 4x4, and a head needs at least 5x5"),
    (lambda: replace(SMALL, stem=(Conv(8, 9, padding=0),)), "a map of 8 vanishes under kernel 9"),
    (lambda: replace(SMALL, input_shape=(1, 2, 8)), "a map of 2 vanishes under kernel 3, stride 2, padding 0"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_network_that_cannot_exist(make: Any, message: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_window_that_would_start_in_the_padding_is_dropped() -> None:
    """5 rows, kernel 2, stride 2, padding 1, ceil: rows -1, 1, 3 and, beyond the input, none at 5."""
    pools = (MaxPool(2, 2, 1),)
    assert replace(SMALL, input_shape=(1, 5, 5), stage_pools=pools).module_inputs()[1][1:] == (3, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a network's JSON"),
        ("[" * 100_000, "not a network's JSON: RecursionError"),
        ("[]", "KeyError 'input_shape'"),
        ('"x"', "not a network's JSON"),
        (json.dumps(SMALL.to_json() | {"more\nlines": 1}), "more lines"),
        (json.dumps(SMALL.to_json() | {"stem": [{"layer": "conf"}]}), "did you mean 'conv'?"),
        (json.dumps(SMALL.to_json() | {"stem": [{"layer": ["conv"]}]}), "unknown layer"),
        (json.dumps(SMALL.to_json() | {"stem": [{"layer": "conv", "chanels": 8}]}), "did you mean 'channels'?"),
        (json.dumps(SMALL.to_json() | {"stem": [{"layer": "conv"}]}), "layer 'conv' needs its channels"),
        (json.dumps(SMALL.to_json() | {"stages": [[{"out_1x1": 1}]]}), "missing"),
        (json.dumps(SMALL.to_json() | {"stages": 3}), "not iterable"),
        (json.dumps(SMALL.to_json()).replace("1e-05", "NaN"), "batch_norm_eps"),
        (json.dumps(SMALL.to_json()).replace("1e-05", "1" + "0" * 400), "batch_norm_eps"),
    ],
)
def test_json_of_another_shape(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        Architecture.from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_from_json_raises_nothing_else(data: st.DataObject) -> None:
    """A network's JSON with one thing somewhere replaced, added or taken out."""
    root: Any = data.draw(networks).to_json()
    place = root
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    how = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove":
        del place[key]
    elif how == "add" and isinstance(place, dict):
        place[data.draw(st.text(max_size=8))] = data.draw(values)
    else:
        place[key] = data.draw(values)
    try:
        network = Architecture.from_json(root)
    except ArchitectureError as error:
        assert "\n" not in str(error)  # noqa: PT017 (both outcomes are allowed)
    else:
        assert Architecture.from_json(json.dumps(network.to_json())).key == network.key


@given(st.text(max_size=50) | values)
@settings(max_examples=200, deadline=None)
def test_from_json_takes_anything(anything: Any) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_json(anything)


@given(networks)
@settings(max_examples=50, deadline=None)
def test_layers_both_ways(network: Architecture) -> None:
    assert tuple(layer_from_json(layer_to_json(layer)) for layer in network.stem) == network.stem
