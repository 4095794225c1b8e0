"""A first convolution from the images: equal strength, both signs, fixed while the rest trains."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas.architecture import MaxPool
from nas.data import Part, normalise
from nas.errors import SpaceError
from nas.training import Training
from nas.whitening import whiten
from tests.training_inputs import RECIPE, dataset, network

IMAGES = dataset(train=400)
WHITENED = RECIPE.model_copy(update={"whiten": True})


def stem(training: Training) -> Tensor:
    return training.averaged_state()["stem.0.conv.weight"]


def test_its_patterns_are_uncorrelated_of_equal_strength_and_come_in_both_signs() -> None:
    conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
    whiten(conv, IMAGES)
    seen = nn.functional.conv2d(normalise(IMAGES.train.images, IMAGES.mean, IMAGES.std), conv.weight)  # no padding
    rows = seen.transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows[:4], -rows[4:])
    products = rows[:4] @ rows[:4].T / rows.shape[1]
    torch.testing.assert_close(products, torch.eye(4), atol=0.02, rtol=0)


def test_it_is_the_same_from_images_that_come_in_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = nn.Conv2d(1, 8, 3, bias=False), nn.Conv2d(1, 8, 3, bias=False)
    whiten(whole, IMAGES)
    monkeypatch.setattr("nas.whitening.FLOATS", 3000)
    groups: list[int] = []

    class Counted(Part):
        def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels in Part.batches(self, rows):
                groups.append(len(labels))
                yield images, labels

    whiten(parts, replace(IMAGES, train=Counted(IMAGES.train.images, IMAGES.train.labels)))
    assert max(groups) < 10
    torch.testing.assert_close(whole.weight, parts.weight)


def test_channels_beyond_the_patterns_keep_their_weights() -> None:
    conv = nn.Conv2d(1, 24, 3, bias=False)
    before = conv.weight.detach().clone()
    whiten(conv, IMAGES)
    assert torch.equal(conv.weight[18:], before[18:])  # a patch has nine pixels
    assert not torch.equal(conv.weight[17], before[17])


def test_a_constant_image_gives_finite_weights() -> None:
    black = replace(IMAGES, train=Part(torch.zeros_like(IMAGES.train.images), IMAGES.train.labels))
    conv = nn.Conv2d(1, 8, 3)
    whiten(conv, black)
    assert conv.weight.isfinite().all()


def test_training_leaves_it_as_it_is_and_trains_the_rest() -> None:
    training = Training(network(), IMAGES, WHITENED, seed=1, device="cpu")
    first = {name: value.clone() for name, value in training.averaged_state().items()}
    results = list(training.fit())
    last = training.averaged_state()
    assert torch.equal(first["stem.0.conv.weight"], last["stem.0.conv.weight"])
    assert not torch.equal(first["stem.0.norm.weight"], last["stem.0.norm.weight"])
    assert not torch.equal(first["linear.weight"], last["linear.weight"])
    assert results[-1].val_accuracy > 0.5


def test_it_depends_on_the_images_and_on_no_seed() -> None:
    one, other = (Training(network(), IMAGES, WHITENED, seed=seed, device="cpu") for seed in (1, 2))
    assert torch.equal(stem(one), stem(other))
    assert not torch.equal(stem(one), stem(Training(network(), dataset(train=300), WHITENED, seed=1, device="cpu")))


def test_a_training_resumed_from_a_checkpoint_goes_on_to_the_same_bits() -> None:
    through = Training(network(), IMAGES, WHITENED, seed=1, device="cpu")
    curve = [result.train_loss for result in through.fit()]
    stopped = Training(network(), IMAGES, WHITENED, seed=1, device="cpu")
    next(stopped.fit())
    resumed = Training(network(), IMAGES, WHITENED, seed=1, device="cpu")
    resumed.restore(stopped.checkpoint())
    assert [result.train_loss for result in resumed.fit()] == curve[1:]
    for name, value in through.averaged_state().items():
        assert torch.equal(value, resumed.averaged_state()[name]), name


@pytest.mark.parametrize("stem", [(), (MaxPool(),)])
def test_a_stem_without_a_convolution_in_front_is_refused(stem: tuple[MaxPool, ...]) -> None:
    with pytest.raises(SpaceError, match="whiten = true needs a convolution as the stem's first layer"):
        Training(replace(network(), stem=stem), IMAGES, WHITENED, seed=1, device="cpu")
