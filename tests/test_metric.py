"""What a reading measures, and what is said of it."""

from __future__ import annotations

import pytest
import torch

from nas.evaluation import evaluate
from nas.metric import METRICS, in_words, metric_of, noise_images, skewed
from nas.reading import score
from nas.training import Training
from tests.training_inputs import RECIPE, dataset, network


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_are_there() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 2, 2])  # class 1 has no image
    right = torch.tensor([True] * 8 + [False, True])
    assert score(right, labels, "accuracy") == 0.9
    assert score(right, labels, "balanced-accuracy") == 0.75  # (8/8 + 1/2) / 2
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert score(right[order], labels[order], "balanced-accuracy") == 0.75
    assert score(~right, labels, "balanced-accuracy") == 0.25
    assert score(torch.zeros(10, dtype=torch.bool), labels, "balanced-accuracy") == 0


def test_of_equal_classes_both_are_the_same() -> None:
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(4).repeat(25)
    right = torch.rand(100, generator=draws) < 0.6
    assert score(right, labels, "balanced-accuracy") == pytest.approx(score(right, labels, "accuracy"))


def test_a_training_reads_its_metric_and_trains_the_same() -> None:
    uneven = dataset(validation=61)  # class 0 has one image more
    plain, balanced = (evaluate(network(), uneven, RECIPE, seed=0, device="cpu", metric=metric) for metric in METRICS)
    assert [point.train_loss for point in plain.curve] == [point.train_loss for point in balanced.curve]
    assert all(torch.equal(plain.weights[name], tensor) for name, tensor in balanced.weights.items())
    assert any(a.val_accuracy != b.val_accuracy for a, b in zip(plain.curve, balanced.curve, strict=True))
    # recall of 16 and thrice of 15 images: in 240ths of a class
    for point in balanced.curve:
        assert point.val_accuracy * 960 == pytest.approx(round(point.val_accuracy * 960))


def test_a_checkpoint_goes_on_under_another_metric() -> None:
    one = Training(network(), dataset(), RECIPE, seed=0, device="cpu")
    next(one.fit())
    other = Training(network(), dataset(), RECIPE, seed=0, device="cpu", metric="balanced-accuracy")
    other.restore(one.checkpoint())
    assert [point.train_loss for point in other.fit()] == [point.train_loss for point in one.fit()]


def test_a_study_without_a_metric_measured_accuracy() -> None:
    assert metric_of({}) == "accuracy"
    assert metric_of({"metric": "balanced-accuracy"}) == "balanced-accuracy"
    assert in_words("balanced-accuracy") == "balanced accuracy"


@pytest.mark.parametrize(
    ("images", "balanced"),
    [([54, 54, 54, 54], 216), ([100, 10], 36), ([100, 1], 3), ([100, 0, 10], 36), ([1, 1], 2), ([1], 1)],
)
def test_a_reading_is_as_uncertain_as_so_many_images(images: list[int], balanced: int) -> None:
    assert noise_images("accuracy", images) == sum(images)
    assert noise_images("balanced-accuracy", images) == balanced
    # the variance of a mean of recalls, each right with probability 1/2, against that of one part of n images
    there = [number for number in images if number]
    variance = sum(0.25 / number for number in there) / len(there) ** 2
    assert 0.25 / (balanced + 1) < variance <= 0.25 / balanced * (1 + 1e-9)


def test_classes_are_uneven_above_three_times() -> None:
    assert skewed({"cat": 300, "dog": 100}) is None
    said = skewed({"cat": 301, "dog": 100, "emu": 200})
    assert said is not None
    for words in ("'cat' has 301", "'dog' only 100", "--metric balanced-accuracy"):
        assert words in said
