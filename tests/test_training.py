import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas.reading as reading_module
import nas.training as training_module
from nas.architecture import Architecture
from nas.data import Part
from nas.errors import DataError, DeviceError, SpaceError, TrialFailed
from nas.models import build
from nas.optimiser import FlatParameters, ScheduleFreeAdamW
from nas.reading import Reader, accuracy
from nas.recipe import Augmentation
from nas.training import EpochResult, Training, hashed, pick_device
from tests.training_inputs import CLASSES, RECIPE, dataset, network, part

DATA = dataset()


def training(**changes: Any) -> Training:
    settings = {"architecture": network(dropout=0.3), "dataset": DATA, "recipe": RECIPE, "seed": 5, "device": "cpu"}
    settings |= changes
    return Training(settings.pop("architecture"), settings.pop("dataset"), settings.pop("recipe"), **settings)


def curve(results: list[EpochResult]) -> list[tuple[int, float, float]]:
    return [(result.epoch, result.val_accuracy, result.train_loss) for result in results]


def assert_equal_bits(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_bits(one[key], other[key])
    elif isinstance(one, Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


# Same bits, however it is driven


@pytest.fixture(scope="module")
def through() -> tuple[Training, list[EpochResult]]:
    one = training()
    return one, list(one.fit())


def test_reading_only_at_the_end_changes_nothing(through: tuple[Training, list[EpochResult]]):
    last = training()
    (result,) = last.fit(read="last")
    assert curve([result]) == curve(through[1])[-1:]
    assert_equal_bits(last.checkpoint(), through[0].checkpoint())
    assert_equal_bits(last.averaged_state(), through[0].averaged_state())


def test_a_resumed_training_is_the_same_training(through: tuple[Training, list[EpochResult]]):
    first = training()
    for result in first.fit():
        if result.epoch == 2:
            break  # closes the generator
    file = io.BytesIO()
    torch.save(first.checkpoint(), file)
    file.seek(0)
    second = training()
    second.restore(torch.load(file, weights_only=True))
    assert_equal_bits(second.averaged_state(), first.averaged_state())
    assert curve(list(second.fit())) == curve(through[1])[2:]
    assert_equal_bits(second.checkpoint(), through[0].checkpoint())
    assert_equal_bits(second.averaged_state(), through[0].averaged_state())
    assert curve(list(first.fit())) == curve(through[1])[2:]  # an early close leaves it whole as well


def test_the_seed_decides_and_torchs_own_random_state_neither_matters_nor_moves(
    through: tuple[Training, list[EpochResult]],
):
    with torch.random.fork_rng([]):
        torch.manual_seed(99)
        before = torch.get_rng_state()
        again = training()
        assert curve(list(again.fit())) == curve(through[1])
        assert torch.equal(torch.get_rng_state(), before)
    assert curve(list(training(seed=6).fit())) != curve(through[1])


def test_orders_differ_by_epoch_and_by_seed(monkeypatch: pytest.MonkeyPatch):
    orders: list[tuple[int, ...]] = []
    real = training_module.shuffled

    def spy(n: int, batch: int, generator: torch.Generator) -> list[Tensor]:
        rows = list(real(n, batch, generator))
        orders.append(tuple(torch.cat(rows).tolist()))
        return rows

    monkeypatch.setattr(training_module, "shuffled", spy)
    for seed in (5, 6):
        list(training(seed=seed).fit())
    drawn = orders[1:5] + orders[6:]  # the first of each training counts the steps
    assert len(set(drawn)) == len(drawn) == 2 * RECIPE.epochs


def test_epochs_draw_different_dropout(monkeypatch: pytest.MonkeyPatch):
    drawn: list[Tensor] = []
    dropout = nn.Dropout.forward
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: drawn.append(dropout(self, torch.ones(8))) or x)
    list(training(recipe=RECIPE.model_copy(update={"batch": 200})).fit())
    assert len(drawn) > len({tuple(values.tolist()) for values in drawn}) >= RECIPE.epochs  # readings drop nothing
    assert all((values == 1).all() for values in drawn[1::3])  # a batch, a refresh, a validation pass; each epoch


def test_reading_leaves_what_trains_alone():
    one = training()
    next(one.fit())
    before = one.checkpoint()
    buffers = {name: value.clone() for name, value in one._network.named_buffers()}
    gradients = [parameter.grad for parameter in one._network.parameters()]
    one._read()
    assert_equal_bits(one.checkpoint(), before)
    assert_equal_bits(dict(one._network.named_buffers()), buffers)
    assert gradients == [parameter.grad for parameter in one._network.parameters()]
    assert one._network.training


def test_a_checkpoint_of_another_training_is_refused():
    with pytest.raises(ValueError, match="cannot go on as"):
        training(seed=6).restore(training().checkpoint())


# What it learns


def test_it_learns_what_can_be_learned():
    easy = dataset(400, 100)
    plain = RECIPE.model_copy(update={"epochs": 12, "augmentation": Augmentation()})
    results = list(training(architecture=network(), dataset=easy, recipe=plain).fit())
    assert results[-1].val_accuracy > 0.9
    assert results[-1].train_loss < results[0].train_loss
    state = build(network())
    state.load_state_dict(training(architecture=network(), dataset=easy, recipe=plain).averaged_state())


def test_averaged_state_gives_the_recorded_accuracy(through: tuple[Training, list[EpochResult]]):
    fresh = build(network(dropout=0.3))
    state = through[0].averaged_state()
    fresh.load_state_dict(state)
    assert accuracy(fresh, DATA.validation, DATA.mean, DATA.std) == through[1][-1].val_accuracy
    assert all(value.is_contiguous() for value in state.values())


def test_the_confusion_matrix_is_of_the_last_reading(
    through: tuple[Training, list[EpochResult]], monkeypatch: pytest.MonkeyPatch
):
    matrix = through[0].confusion()
    assert matrix is not None
    labels = DATA.validation.labels
    assert [sum(line) for line in matrix] == torch.bincount(labels, minlength=len(DATA.classes)).tolist()
    right = sum(line[label] for label, line in enumerate(matrix))
    assert right / len(labels) == through[1][-1].val_accuracy
    assert training().confusion() is None
    monkeypatch.setattr(reading_module, "CONFUSION_CLASSES", len(DATA.classes) - 1)
    assert through[0].confusion() is None


def one_loss(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[float, list[dict[str, Any]]]:
    """Loss of one epoch of one batch, and how cross entropy was called."""
    calls: list[dict[str, Any]] = []
    real = torch.nn.functional.cross_entropy

    def spy(logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
        loss = real(logits, labels, **options)
        assert options == {"label_smoothing": RECIPE.label_smoothing}
        calls.append({"logits": logits.detach().clone(), "labels": labels, "loss": loss.item()})
        return loss

    monkeypatch.setattr(training_module.F, "cross_entropy", spy)
    recipe = RECIPE.model_copy(update={"batch": 134, "epochs": 1, **changes.pop("recipe", {})})
    (result,) = training(recipe=recipe, **changes).fit()
    monkeypatch.undo()
    return result.train_loss, calls


def test_labels_are_smoothed(monkeypatch: pytest.MonkeyPatch):
    loss, (call,) = one_loss(monkeypatch)
    logs = call["logits"].log_softmax(1)
    target = torch.full_like(logs, 0.1 / CLASSES)
    target[torch.arange(len(logs)), call["labels"]] += 0.9
    assert loss == pytest.approx(-(target * logs).sum(1).mean().item(), rel=1e-5)


def test_auxiliary_heads_add_three_tenths_of_their_loss(monkeypatch: pytest.MonkeyPatch):
    data = dataset(size=10)
    loss, calls = one_loss(monkeypatch, architecture=network(auxiliary=(0, 1), size=10), dataset=data)
    main, *heads = (call["loss"] for call in calls)
    assert len(heads) == 2
    assert loss == pytest.approx(main + 0.3 * sum(heads), rel=1e-5)


def test_the_recipe_reaches_the_optimiser(monkeypatch: pytest.MonkeyPatch):
    given: list[dict[str, Any]] = []
    real = training_module.ScheduleFreeAdamW

    def spy(parameters: FlatParameters, **settings: Any) -> ScheduleFreeAdamW:
        given.append(settings)
        return real(parameters, **settings)

    monkeypatch.setattr(training_module, "ScheduleFreeAdamW", spy)
    training(recipe=RECIPE.model_copy(update={"clip_norm": 3.0, "warmup": 0.25}))
    # four epochs of five batches
    assert given == [{"learning_rate": 0.02, "weight_decay": 0.01, "warmup_steps": 5, "clip_norm": 3.0}]


def test_training_images_are_augmented_and_read_ones_are_not(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, Augmentation]] = []

    def black(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
        seen.append((len(images), augmentation))
        return torch.zeros_like(images)

    monkeypatch.setattr(training_module, "augment", black)
    one = training(recipe=RECIPE.model_copy(update={"epochs": 1}))
    inputs: list[Tensor] = []
    one._network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    list(one.fit())
    assert seen == [(size, RECIPE.augmentation) for size in (32, 32, 32, 32, 6)]
    assert all(len(images.unique()) == 1 for images in inputs)


def test_every_image_is_seen_once_an_epoch_and_a_last_single_image_joins_the_batch_before(
    monkeypatch: pytest.MonkeyPatch,
):
    sizes: list[int] = []
    real = Training._backward
    monkeypatch.setattr(
        Training, "_backward", lambda self, images, labels: (sizes.append(len(labels)), real(self, images, labels))[1]
    )
    recipe = RECIPE.model_copy(update={"epochs": 1})
    list(training(recipe=recipe).fit())
    list(training(dataset=dataset(65), recipe=recipe).fit())
    assert sizes == [32, 32, 32, 32, 6, 32, 33]


# Readings


def test_a_reading_refreshes_batch_norm_and_nothing_else():
    architecture = network(dropout=0.5)
    torch.manual_seed(0)
    module = build(architecture)
    reader = Reader(module, DATA)
    before = {name: value.clone() for name, value in reader.network.state_dict().items()}
    weights = reader._flat.values.clone()
    modes: dict[str, bool] = {}
    for name, layer in reader.network.named_modules():
        layer.register_forward_pre_hook(lambda layer, _, name=name: modes.__setitem__(name, layer.training))
    reader.load(lambda values: None)
    changed = {name for name, value in reader.network.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var")}
    assert changed == statistics | {name for name in before if name.endswith("num_batches_tracked")}
    assert torch.equal(reader._flat.values, weights)
    norms = {name for name, layer in reader.network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert {name for name, mode in modes.items() if mode} == norms
    assert not any(layer.training for layer in reader.network.modules())
    reader.accuracy()
    assert not any(modes.values())
    assert not any(layer.training for layer in reader.network.modules())


def test_refreshed_statistics_are_those_of_the_training_images(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    module = build(network())
    reader = Reader(module, DATA)
    reader.load(lambda values: None)
    first = {name: value.clone() for name, value in reader.network.state_dict().items()}
    reader.load(lambda values: None)
    assert_equal_bits(reader.network.state_dict(), first)  # cumulative within a reading, afresh in the next
    images = training_module.normalise(DATA.train.images, DATA.mean, DATA.std)
    maps = module.stem[0].conv(images)
    torch.testing.assert_close(first["stem.0.norm.running_mean"], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first["stem.0.norm.running_var"], maps.var((0, 2, 3)), rtol=1e-4, atol=1e-5)

    monkeypatch.setattr("nas.reading.REFRESH_IMAGES", 40)
    monkeypatch.setattr("nas.reading.READ_BATCH", 16)
    few = Reader(module, DATA)
    assert [len(rows) for rows in few._rows] == [14, 13, 13]
    assert torch.cat(few._rows).tolist() == [134 * i // 40 for i in range(40)]


def test_without_batch_norm_there_is_nothing_to_refresh():
    reader = Reader(build(network(batch_norm=False)), DATA)
    reader.network.register_forward_pre_hook(lambda *_: pytest.fail("a pass that refreshes nothing"))
    reader.load(lambda values: None)
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch": 1, "augmentation": Augmentation()})
    (result,) = training(architecture=network(batch_norm=False), dataset=dataset(5, 8), recipe=recipe).fit()
    assert 0 <= result.val_accuracy <= 1


def test_accuracy_counts_every_image_whatever_the_batch_and_keeps_the_mode():
    class Brightest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            return x.flatten(1)[:, :CLASSES]

    images = torch.zeros(7, 1, 2, 2, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3, 3, 3, 3])
    images.flatten(1)[torch.arange(7), torch.tensor([0, 1, 2, 3, 0, 0, 0])] = 9
    model = Brightest()
    for batch in (1, 3, 7, 100):
        assert accuracy(model, Part(images, labels), (0.0,), (1.0,), batch) == 4 / 7
    assert model.training


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(DataError, match="no images"):
        accuracy(build(network()), part(0, 1), (0.0,), (1.0,))


# What goes wrong


def break_weights(one: Training, value: float) -> None:
    one._optimiser._y[0] = value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_the_trial(value: float):
    one = training()
    results = one.fit()
    next(results)
    break_weights(one, value)
    with pytest.raises(TrialFailed, match=r"epoch 2: the training loss is (nan|inf)") as failure:
        next(results)
    assert failure.value.deterministic
    with pytest.raises(RuntimeError, match="middle of an epoch"):
        one.checkpoint()


def test_outputs_that_are_not_finite_fail_the_trial(monkeypatch: pytest.MonkeyPatch):
    one = training()
    monkeypatch.setattr(one._optimiser, "average_into", lambda values: values.fill_(math.nan))
    with pytest.raises(TrialFailed, match="epoch 1: the network's outputs are not finite") as failure:
        next(one.fit())
    assert failure.value.deterministic


def run_out(monkeypatch: pytest.MonkeyPatch, when: Callable[[int, int], bool], error: BaseException) -> list[int]:
    """Make a backward pass fail after it has left gradients, where `when(pass number, images)`; sizes of all passes."""
    sizes: list[int] = []
    real = Training._backward_part

    def part_of(self: Training, images: Tensor, labels: Tensor, whole: int) -> Tensor:
        sizes.append(len(labels))
        loss = real(self, images, labels, whole)
        if when(len(sizes), len(labels)):
            raise error
        return loss

    monkeypatch.setattr(Training, "_backward_part", part_of)
    return sizes


def test_out_of_memory_halves_the_batch_once_with_the_same_gradient(monkeypatch: pytest.MonkeyPatch):
    # Without batch norm and dropout the halves' gradients add up to the whole's, up to rounding.
    settings = {"architecture": network(batch_norm=False), "recipe": RECIPE.model_copy(update={"epochs": 1})}
    whole = training(**settings)
    (expected,) = whole.fit()
    sizes = run_out(monkeypatch, lambda number, images: number == 2, torch.OutOfMemoryError("CUDA out of memory"))
    halved = training(**settings)
    (result,) = halved.fit()
    assert sizes == [32, 32, 16, 16, 16, 16, 16, 16, 3, 3]
    assert result.train_loss == pytest.approx(expected.train_loss, rel=1e-5)
    torch.testing.assert_close(halved._optimiser._y, whole._optimiser._y, rtol=1e-3, atol=1e-5)
    assert halved.checkpoint()["halved"]
    resumed = training(**settings)
    resumed.restore(halved.checkpoint())
    assert resumed._halved


def test_a_batch_too_small_for_halves_stays_whole_once_halved(monkeypatch: pytest.MonkeyPatch):
    sizes = run_out(monkeypatch, lambda number, images: number == 1, torch.OutOfMemoryError("CUDA out of memory"))
    list(training(dataset=dataset(35), recipe=RECIPE.model_copy(update={"epochs": 1})).fit())
    assert sizes == [32, 16, 16, 3]


@pytest.mark.parametrize("images", [35, 3])
def test_out_of_memory_again_fails_the_trial(monkeypatch: pytest.MonkeyPatch, images: int):
    sizes = run_out(monkeypatch, lambda number, images: True, torch.OutOfMemoryError("CUDA out of memory.\nTried"))
    with pytest.raises(TrialFailed, match=r"^out of memory: CUDA out of memory\.$") as failure:
        next(training(dataset=dataset(images)).fit())
    assert failure.value.deterministic
    assert sizes == ([32, 16] if images == 35 else [3])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_the_machines_memory_running_out_fails_the_trial(monkeypatch: pytest.MonkeyPatch, error: Exception):
    run_out(monkeypatch, lambda number, images: True, error)
    with pytest.raises(TrialFailed, match="out of memory"):
        next(training().fit())


def test_a_network_that_does_not_fit_fails_the_trial(monkeypatch: pytest.MonkeyPatch):
    def build_nothing(architecture: Architecture) -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training_module, "build", build_nothing)
    with pytest.raises(TrialFailed, match="out of memory"):
        training()


def test_other_runtime_errors_are_ours_and_pass_through(monkeypatch: pytest.MonkeyPatch):
    run_out(monkeypatch, lambda number, images: True, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        next(training().fit())


def test_an_interrupt_is_asked_once_a_batch_and_passes_through():
    class Stopped(Exception):  # noqa: N818
        pass

    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise Stopped

    before = torch.get_rng_state()
    one = training(interrupt=interrupt)
    results = one.fit()
    next(results)
    assert calls == 5
    with pytest.raises(Stopped):
        next(results)
    assert calls == 8
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="middle of an epoch"):
        next(one.fit())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": dataset(size=9)}, "images of 'bars' are 1x9x9, the network reads 1x8x8"),
        ({"dataset": replace(DATA, classes=("a", "b", "c"))}, "'bars' has 3 classes, the network 4"),
        ({"dataset": dataset(1)}, "1 training and 60 validation images"),
        ({"dataset": dataset(9, 0)}, "9 training and 0 validation images"),
    ],
)
def test_images_that_do_not_fit_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        training(**changes)


def test_batches_of_one_image_are_refused_where_there_is_batch_norm():
    with pytest.raises(SpaceError, match="batch must be at least 2"):
        training(recipe=RECIPE.model_copy(update={"batch": 1}))


# Devices and seeds


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="torch sees 0 CUDA devices"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="'cuda:2' is not there: torch sees 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:", "cuda:x", "", "cuda:-1"])
def test_an_unknown_device_is_one_line(name: str):
    with pytest.raises(DeviceError, match=r"unknown device .*auto, cpu, cuda") as error:
        pick_device(name)
    assert "\n" not in str(error.value)


def test_hashed_seeds_are_fixed_for_ever():
    assert hashed(0, "key", 0) == 5307865771896194136
    assert len({hashed(*parts) for parts in [(1, "a"), (2, "a"), (1, "b"), ("1a",)]}) == 4
    assert all(0 <= hashed(i) < 2**63 for i in range(100))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_and_resumes_and_leaves_its_random_state_alone():
    before = torch.cuda.get_rng_state()
    one = training(device="cuda", recipe=RECIPE.model_copy(update={"epochs": 12}), dataset=dataset(400, 100))
    results = list(one.fit())
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert results[-1].val_accuracy > 0.7
    other = training(device="cuda", recipe=RECIPE.model_copy(update={"epochs": 12}), dataset=dataset(400, 100))
    other.restore(one.checkpoint())
    assert not list(other.fit())
    assert all(value.device.type == "cpu" for value in other.averaged_state().values())
