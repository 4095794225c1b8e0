"""The published recipes, number by number against the page that states them, and the loop that trains by them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.baselines import loop
from nas.baselines.loop import PublishedTraining, augmentation
from nas.baselines.published import PUBLISHED, OneCycle, Published, as_json, published_recipe
from nas.curve import EpochResult
from nas.data import Dataset, Part
from nas.errors import ArchitectureError, StudyError, TrialFailed
from nas.reading import accuracy
from nas.references import REFERENCES
from nas.training import Prebuilt
from tests import training_inputs

CLASSES = training_inputs.CLASSES
MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


def coloured(part: Part) -> Part:
    return Part(part.images.repeat(1, 3, 1, 1), part.labels)


def images(train: int = 70, validation: int = 60) -> Dataset:
    """With a batch of 32 the last one of an epoch holds six."""
    grey = training_inputs.dataset(train, validation)
    return replace(grey, train=coloured(grey.train), validation=coloured(grey.validation))


def network(dropout: float = 0.2) -> Prebuilt:
    def build() -> nn.Module:
        layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout)
        return nn.Sequential(*layers, nn.Linear(8 * 36, CLASSES))

    return Prebuilt("small", (3, 8, 8), CLASSES, build)


RECIPE = Published(epochs=9, batch=32, optimiser="adam", learning_rate=3e-3, mean=MEAN, std=STD, trained_on="all")
CYCLED = RECIPE.model_copy(
    update={
        "optimiser": "adamw",
        "one_cycle": OneCycle(),
        "clip_norm": 5.0,
        "label_smoothing": 0.1,
        "crop": 1,
        "flip": True,
        "jitter": (0.2, 0.2, 0.2, 0.1),
        "erase": 0.25,
        "weight_decay": 1e-4,
    }
)


def training(recipe: Published = RECIPE, data: Dataset | None = None, **changes: Any) -> PublishedTraining:
    given = {"epochs": 3, "seed": 7, "device": "cpu", **changes}
    return PublishedTraining(given.pop("network", network()), data or images(), recipe, **given)


def curve(results: list[EpochResult]) -> list[tuple[int, float, float]]:
    return [(result.epoch, result.val_accuracy, result.train_loss) for result in results]


# The recipes


@pytest.mark.parametrize("name", ["alexnet-cifar-plain", "alexnet-cifar", "nin-cifar"])
def test_alexnets_and_nins_recipe(name: str) -> None:
    assert PUBLISHED[name].model_dump() == {
        "epochs": 10,
        "batch": 126,
        "optimiser": "adam",
        "learning_rate": 0.001,
        "weight_decay": 0.0005,
        "one_cycle": None,
        "label_smoothing": 0.0,
        "clip_norm": None,
        "initialisation": "default",
        "crop": 4,
        "flip": True,
        "jitter": None,
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
        "erase": 0.0,
        "tf32": False,
        "trained_on": "all 50,000 training images",
    }


def test_small_googlenets_recipe() -> None:
    assert PUBLISHED["small-googlenet"].model_dump() == {
        "epochs": 30,
        "batch": 256,
        "optimiser": "adam",
        "learning_rate": 0.001,
        "weight_decay": 0.0,
        "one_cycle": None,
        "label_smoothing": 0.0,
        "clip_norm": None,
        "initialisation": "kaiming-normal",
        "crop": 0,
        "flip": False,
        "jitter": None,
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
        "erase": 0.0,
        "tf32": False,
        "trained_on": "all 50,000 training images",
    }


def test_inception_cifars_recipe() -> None:
    assert PUBLISHED["inception-cifar"].model_dump() == {
        "epochs": 40,
        "batch": 1024,
        "optimiser": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.0001,
        "one_cycle": {"warmup": 0.3, "div": 25.0, "final_div": 1000.0, "high_beta": 0.95, "low_beta": 0.85},
        "label_smoothing": 0.1,
        "clip_norm": 5.0,
        "initialisation": "default",
        "crop": 4,
        "flip": True,
        "jitter": (0.2, 0.2, 0.2, 0.1),
        "mean": (0.507, 0.487, 0.441),
        "std": (0.267, 0.256, 0.276),
        "erase": 0.25,
        "tf32": True,
        "trained_on": "the first 45,000 training images and validated on the last 5,000",
    }


def test_other_networks_have_none_and_the_study_recipe_is_named() -> None:
    assert set(REFERENCES) - set(PUBLISHED) == {"inception-naive-module", "inception-v1-module", "googlenet"}
    for name in ("inception-naive-module", "inception-v1-module"):
        with pytest.raises(StudyError, match="a single module has no published recipe: train it with --recipe study"):
            published_recipe(name)
    with pytest.raises(StudyError, match=r"googlenet was published with is for ImageNet .* --recipe study"):
        published_recipe("googlenet")
    with pytest.raises(ArchitectureError, match="did you mean 'nin-cifar'"):
        published_recipe("nin-cifer")


def test_the_record_says_the_epochs_of_the_training() -> None:
    assert as_json(RECIPE, 2) == {**RECIPE.model_dump(mode="json"), "epochs": 2}


# The augmentation of one image


def test_an_image_is_normalised_by_the_recipes_numbers() -> None:
    image = torch.arange(3 * 64, dtype=torch.uint8).view(3, 8, 8)
    found = augmentation(RECIPE, (3, 8, 8))(image)
    expected = (image / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.allclose(found, expected, atol=1e-6)
    untouched = RECIPE.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    assert torch.allclose(augmentation(untouched, (3, 8, 8))(image), image / 255, atol=1e-7)


def test_crop_pads_with_black_before_normalising_and_erasing_comes_last() -> None:
    bright = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    torch.manual_seed(0)
    crop = augmentation(RECIPE.model_copy(update={"crop": 4}), (3, 8, 8))
    corners = torch.stack([crop(bright)[:, 0, 0] for _ in range(60)])
    assert (corners.sub(black).abs().amax(1) < 1e-5).any()
    erase = augmentation(RECIPE.model_copy(update={"erase": 1.0}), (3, 8, 8))
    assert (erase(bright) == 0).any()  # 0 after normalising, not black


def test_flip_mirrors_half_and_jitter_draws_for_every_image() -> None:
    ramp = torch.arange(8, dtype=torch.uint8).mul(30).expand(3, 8, 8).contiguous()
    torch.manual_seed(0)
    flip = augmentation(RECIPE.model_copy(update={"flip": True}), (3, 8, 8))
    seen = [flip(ramp)[0, 0] for _ in range(200)]
    rising = [bool(row[0] < row[7]) for row in seen]
    assert 70 < sum(rising) < 130
    assert all(
        torch.equal(row if up else row.flip(0), seen[rising.index(True)]) for row, up in zip(seen, rising, strict=True)
    )
    jitter = augmentation(RECIPE.model_copy(update={"jitter": (0.2, 0.2, 0.2, 0.1)}), (3, 8, 8))
    assert len({float(jitter(ramp).mean()) for _ in range(10)}) == 10


# The loop


def by_hand(recipe: Published, epochs: int, steps: list[tuple[float, float]]) -> nn.Module:
    """Adam as torch writes it, without augmentation or dropout, from the same first weights and orders."""
    with loop.seeded(loop.hashed(7, "weights"), torch.device("cpu")):
        net = network(dropout=0.0).build()
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    data = images().train
    pixels = (data.images / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    for epoch in range(1, epochs + 1):
        with loop.seeded(loop.hashed(7, "epoch", epoch), torch.device("cpu")):
            order = torch.randperm(len(data))
        for rows in (order[:32], order[32:64], order[64:]):
            optimiser.zero_grad()
            F.cross_entropy(net(pixels[rows]), data.labels[rows]).backward()
            steps.append((optimiser.param_groups[0]["lr"], float(len(rows))))
            optimiser.step()
    return net


def test_the_loop_is_plain_adam_and_the_partial_batch_is_kept() -> None:
    recipe = RECIPE.model_copy(update={"weight_decay": 5e-2})
    steps: list[tuple[float, float]] = []
    net = by_hand(recipe, 2, steps)
    one = training(recipe, network=network(dropout=0.0), epochs=2)
    results = list(one.fit())
    for name, value in one.network.state_dict().items():
        assert torch.allclose(value, net.state_dict()[name], atol=1e-5), name
    assert steps[-1] == (3e-3, 6.0)
    assert results[-1].val_accuracy == accuracy(net.eval(), images().validation, MEAN, STD)


def heard(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Learning rate, first beta and gradient norm of each AdamW step."""
    steps: list[dict[str, float]] = []
    own: Callable[..., Any] = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *given: Any, **more: Any) -> Any:
        group = self.param_groups[0]
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in group["params"]))
        steps.append({"lr": group["lr"], "beta": group["betas"][0], "norm": norm, "decay": group["weight_decay"]})
        return own(self, *given, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return steps


def test_one_cycle_warms_up_for_three_tenths_and_beta_goes_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = heard(monkeypatch)
    list(training(CYCLED.model_copy(update={"learning_rate": 1e-2}), epochs=10).fit())
    assert len(steps) == 30  # three a epoch
    rates, betas = [one["lr"] for one in steps], [one["beta"] for one in steps]
    assert rates[0] == pytest.approx(1e-2 / 25)
    assert max(rates) == rates[8] == pytest.approx(1e-2)  # step 0.3 x 30 - 1
    assert rates[-1] == pytest.approx(1e-2 / 25 / 1000)
    half = rates[0] + (rates[8] - rates[0]) * (1 - math.cos(math.pi / 2)) / 2
    assert rates[4] == pytest.approx(half)
    assert (betas[0], betas[8], betas[-1]) == pytest.approx((0.95, 0.85, 0.95))
    assert {one["decay"] for one in steps} == {1e-4}


def test_the_gradients_norm_is_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = heard(monkeypatch)
    list(training(CYCLED.model_copy(update={"clip_norm": 0.01}), epochs=1).fit())
    assert [one["norm"] for one in steps] == pytest.approx([0.01] * 3, rel=1e-3)


def test_label_smoothing_is_in_the_loss() -> None:
    losses = [
        next(training(RECIPE.model_copy(update={"label_smoothing": value, "learning_rate": 1e-9})).fit()).train_loss
        for value in (0.0, 0.5)
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def saved(one: PublishedTraining) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(one.checkpoint(), file)
    file.seek(0)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


@pytest.mark.parametrize("recipe", [RECIPE, CYCLED], ids=["adam", "one cycle"])
def test_it_goes_on_from_a_checkpoint_to_the_same_bits(recipe: Published) -> None:
    before = torch.get_rng_state()
    through = training(recipe)
    whole = curve(list(through.fit()))
    first = training(recipe)
    for result in first.fit():
        if result.epoch == 1:
            break
    second = training(recipe)
    second.restore(saved(first))
    torch.manual_seed(99)
    assert curve(list(second.fit())) == whole[1:]
    ours, theirs = second.network.state_dict(), through.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    torch.set_rng_state(before)
    list(training(recipe).fit())
    assert torch.equal(torch.get_rng_state(), before)


def test_another_trainings_checkpoint_is_refused() -> None:
    for other in (
        training(seed=8),
        training(CYCLED),
        training(epochs=4),
        training(network=replace(network(), key="x")),
    ):
        with pytest.raises(ValueError, match="cannot go on as"):
            training().restore(saved(other))


def test_the_seed_decides() -> None:
    one, same, other = (curve(list(training(seed=seed, epochs=1).fit())) for seed in (7, 7, 8))
    assert one == same != other


def test_a_loss_that_is_not_finite_fails() -> None:
    with pytest.raises(TrialFailed, match="epoch 1: the training loss is nan"):
        list(training(RECIPE.model_copy(update={"mean": (math.nan,) * 3})).fit())


def test_it_can_be_interrupted_at_every_batch() -> None:
    calls: list[int] = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(training(interrupt=interrupt).fit())
    assert len(calls) == 4


def test_tf32_is_allowed_inside_only() -> None:
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with loop._tf32(True):
        assert matmul.fp32_precision == "tf32"
    assert matmul.fp32_precision == before
    with loop._tf32(False):
        assert matmul.fp32_precision == before


def test_dropout_is_off_in_a_reading() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES), nn.Dropout(0.99))

    one = training(network=Prebuilt("d", (3, 8, 8), CLASSES, build), epochs=1)
    (result,) = one.fit()
    assert result.val_accuracy == accuracy(one.network, images().validation, MEAN, STD)


def first_weights(seed: int) -> Tensor:
    return next(training(seed=seed).network.parameters())


def test_first_weights_follow_from_the_seed() -> None:
    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))
