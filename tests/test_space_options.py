"""What narrows a space, what a narrowed space allows, and its identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.errors import SpaceError
from nas.space import Space, load_space
from tests.spaces import edited_tiny, keeps, vectors


def test_a_user_maximum_replaces_the_files() -> None:
    space = load_space("digits")
    assert space.narrowed(max_params=5_000).cost_range == (1_000, 5_000)
    assert space.narrowed(min_params=2_000, max_params=30_000).cost_range == (2_000, 30_000)
    assert space.narrowed(max_params=10**9).cost_range == (1_000, space.largest().params)
    # under the file's own minimum, that one gives way
    small = space.narrowed(max_params=900)
    assert small.cost_range == (space.smallest().params, 900)
    assert small.decode([1.0] * 19).params <= 900
    large = space.narrowed(min_params=20_000)
    assert large.cost_range == (20_000, space.largest().params)
    assert large.decode([0.0] * 19).params >= 20_000
    # and where a maximum of the other count leaves it to hardly any shape
    assert space.narrowed(max_macs=24_500).cost_range[0] == space.smallest().params
    assert space.narrowed(max_macs=400_000).cost_range[0] == 1_000
    by_macs = space.narrowed(cost="macs", max_params=900)
    assert by_macs.budget.min_macs is None
    assert by_macs.cost_range == (space.smallest().macs, 500_000)
    assert space.narrowed(max_params=space.smallest().params).decode([0.7] * 19) == space.smallest()


def test_a_space_without_macs_is_searched_by_macs_over_its_reach(tmp_path: Path) -> None:
    space = load_space(str(edited_tiny(tmp_path, ("[macs]\nlow = 10_000\nhigh = 40_000\n", ""))))
    assert space.budget.min_macs is space.budget.max_macs is None
    by_macs = space.narrowed(cost="macs")
    assert by_macs.cost_range == (space.smallest().macs, by_macs.largest().macs)
    assert all(by_macs.allows(by_macs.decode(vector)) for vector in vectors(by_macs, 50))
    limited = space.narrowed(max_macs=15_000)
    assert limited.budget.min_macs is None
    assert max(limited.decode(vector).macs for vector in vectors(limited, 50)) <= 15_000
    assert by_macs.identity()["size_levels"] is None


def test_a_minimum_that_a_shape_cannot_meet_is_missed_and_never_the_maximum() -> None:
    """A window of 60 parameters: most shapes have no size in it, and take the dearest one under it."""
    space = load_space("digits").narrowed(min_params=5_000, max_params=5_060)
    networks = [space.decode(vector) for vector in vectors(space, 100)]
    assert all(network.params <= 5_060 for network in networks)
    missed = [network for network in networks if not space.allows(network)]
    assert 0 < len(missed) < 100
    assert np.median([network.params for network in missed]) > 4_000


def test_options_reach_the_recipe() -> None:
    space = load_space("digits").narrowed(epochs=2, batch=32)
    assert (space.recipe.epochs, space.recipe.batch) == (2, 32)
    assert space.recipe.learning_rate == load_space("digits").recipe.learning_rate
    assert load_space("digits").narrowed() == load_space("digits")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "grow"}, "unknown rule 'grow': did you mean 'growing'?"),
        ({"cost": "flops"}, "unknown cost 'flops': allowed: macs, params"),
        ({"max_params": 0}, "--max-params 0: it must be a whole number of at least 1"),
        ({"min_macs": -3}, "--min-macs -3"),
        ({"epochs": 0}, "--epochs 0"),
        ({"batch": 0}, "--batch 0"),
        ({"min_params": 6_000, "max_params": 5_000}, "--min-params 6,000 is above --max-params 5,000"),
        ({"min_macs": 6_000, "max_macs": 5_000}, "--min-macs 6,000 is above --max-macs 5,000"),
        ({"max_params": 849}, "has at most 849 parameters: the smallest possible has 850, the largest 196,826"),
        ({"min_params": 10**6}, "has at least 1,000,000 parameters: the smallest possible has 850, the largest"),
        ({"max_macs": 100}, "has at most 100 MACs: the smallest possible has 23,888, the largest 5,965,632"),
        ({"min_macs": 10**9}, "has at least 1,000,000,000 MACs"),
        (
            {"min_params": 9_000, "max_macs": 50_000},
            "was found with 9,000 to 15,000 parameters (possible: 850 to 196,826) and 23,888 to 50,000 MACs",
        ),
    ],
)
def test_options_that_leave_nothing(options: dict[str, int], message: str) -> None:
    with pytest.raises(SpaceError) as error:
        load_space("digits").narrowed(**options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rule_without_its_ranges(tmp_path: Path) -> None:
    path = edited_tiny(
        tmp_path, ("share_3x3 = { low = 0.2, high = 0.6 }\n", ""), ("share_5x5 = { low = 0.05, high = 0.3 }\n", "")
    )
    space = load_space(str(path))
    with pytest.raises(SpaceError, match="space 'mine' has no ranges for the rule 'growing-each'"):
        space.narrowed(rule="growing-each")


def test_other_numbers_of_classes() -> None:
    space = load_space("digits").with_classes(100)
    network = space.decode([0.5] * 19)
    assert network.classes == 100
    assert space.smallest().params == load_space("digits").smallest().params + 90 * 9
    assert network.params <= 15_000
    with pytest.raises(SpaceError, match="at least 2 classes, got 1"):
        space.with_classes(1)
    said = r"has at most 15,000 parameters: the smallest possible with 10,000 classes \(its file states 10\) has 90,760"
    with pytest.raises(SpaceError, match=said):
        space.with_classes(10_000)


def test_allows() -> None:
    space = load_space("digits")
    network = space.decode([0.5] * 19)
    assert space.allows(network)
    assert not space.narrowed(max_params=network.params - 1).allows(network)
    assert not space.narrowed(min_params=network.params + 1).allows(network)
    assert not space.narrowed(max_macs=network.macs - 1).allows(network)
    assert not space.narrowed(min_macs=network.macs + 1).allows(network)
    free = space.narrowed(rule="off")
    falling = [n for v in vectors(free, 50) if not keeps(n := free.decode(v), "growing", 2)]
    assert falling
    assert all(free.allows(n) and not space.allows(n) for n in falling)


def test_identity_is_content(tmp_path: Path) -> None:
    space = load_space("tiny")
    identity = space.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert set(identity) == {
        "input", "network", "widths", "classes", "rule", "cost", "size_levels", "budget", "recipe"
    }  # fmt: skip
    assert (identity["rule"], identity["cost"]) == ("growing", "params")
    commented = edited_tiny(tmp_path, ("low = 900", "low = 9_0_0   # at least"), ("high = 2.0", "high = 2"))
    assert load_space(str(commented)).identity() == identity
    assert load_space(str(commented)).name == "mine"
    renamed = edited_tiny(tmp_path, ('dataset = "digits"', 'dataset = "folder:x"\nname = "other"'))
    assert load_space(str(renamed)).identity() == identity
    assert load_space(str(renamed)).name == "other"
    others = [
        space.narrowed(rule="off"),
        space.narrowed(cost="macs"),
        space.narrowed(min_params=1_000),
        space.narrowed(max_params=3_999),
        space.narrowed(min_macs=10_001),
        space.narrowed(max_macs=100_000),
        space.narrowed(epochs=4),
        space.narrowed(batch=65),
        space.with_classes(11),
        *(
            load_space(str(edited_tiny(tmp_path, change)))
            for change in (
                ("width = { low = 0.5", "width = { low = 0.6"),
                ("five = { low = 0.1, high = 0.5 }", "five = { low = 0.1, high = 0.5, levels = 3 }"),
                ("high = 4_000", "high = 4_000\nlevels = 5"),
                ("channels = 8, kernel = 3", "channels = 6, kernel = 3"),
                ("stages = [1, 2]", "stages = [1, 2]\nbatch_norm = false"),
                ("max_channels = 48", "max_channels = 64"),
                ("label_smoothing = 0.", "label_smoothing = 0.0"),
            )
        ),
    ]
    texts = {json.dumps(other.identity(), sort_keys=True) for other in [space, *others]}
    assert len(texts) == len(others) + 1


def with_heads(folder: Path, modules: str) -> Space:
    """The digits space, whose first module has a map of 8x8 and the others of 4x4, with auxiliary heads."""
    text = load_space("digits").toml
    assert text.count("stages = [1, 2]") == 1
    path = folder / "heads.toml"
    path.write_text(text.replace("stages = [1, 2]", f"stages = [1, 2]\nauxiliary = {modules}"), encoding="utf-8")
    return load_space(str(path))


def test_a_space_without_auxiliary_heads_is_what_it_was(tmp_path: Path) -> None:
    """Studies keep their space by content: a key that is not used must not be in it."""
    identity = load_space("digits").identity()
    assert set(identity["network"]) == {"stem", "stages", "pool", "batch_norm", "dropout"}
    assert with_heads(tmp_path, "[]").identity() == identity
    assert hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16] == "f3d71f83c3a2ac17"


def test_auxiliary_heads_are_on_every_network_and_in_no_count(tmp_path: Path) -> None:
    space, named = load_space("digits"), with_heads(tmp_path, "[1]")
    assert named.identity()["network"].pop("auxiliary") == [1]
    assert named.budget == space.budget
    for vector in vectors(space, 20):
        plain, network = space.decode(vector), named.decode(vector)
        assert network == replace(plain, auxiliary=(0,))
        assert (network.params, network.macs) == (plain.params, plain.macs)
        assert network.training_params > plain.training_params == plain.params
        assert named.allows(network) == space.allows(plain)


def test_an_auxiliary_head_needs_a_map(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="module 2 has a map of 4 pixels a side, and a head needs at least 5"):
        with_heads(tmp_path, "[1, 2]")


def test_what_a_space_says_of_itself() -> None:
    space = load_space("cifar10")
    assert (space.name, space.dataset, space.input_shape, space.classes) == ("cifar10", "cifar10", (3, 32, 32), 10)
    assert space.source.startswith("CIFAR-10")
    assert (space.rule, space.cost) == ("growing", "params")
    assert [shape[1] for shape in space.smallest().module_inputs()] == [16, 16, 8, 8, 4, 4, 4]
