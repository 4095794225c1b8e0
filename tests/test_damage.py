"""Files with a lost end or one flipped bit: noticed, named, and nothing done with them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from nas import record_file
from nas.cache import EvaluationCache
from nas.checksums import intact, packed, summed, unsummed
from nas.chosen import Weights
from nas.context import Context
from nas.data import cache as data_cache
from nas.errors import StudyError
from nas.record_file import RecordFile
from nas.records import Records
from nas.refine import checkpoints as refining
from nas.refine.checkpoints import Progress
from nas.search.checkpoints import Checkpoints
from nas.seeds import training_seed
from nas.study_folder import StudyFolder
from nas.training import Training
from tests.export_study import TRIAL, contiguous, export_study, network, outcome_of
from tests.fake_study import architecture, identity, rows, settings
from tests.training_inputs import RECIPE, dataset
from tests.training_inputs import network as small_network

STATE = {"filters": torch.arange(60.0).reshape(3, 4, 5), "bias": torch.ones(3)}


def flipped(content: bytes, bit: int) -> bytes:
    """The same with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damaged(content: bytes, flips: int, seed: int = 0) -> Iterator[bytes]:
    """Cut off at several places, and with single bits flipped at random ones."""
    draw = random.Random(seed)
    for part in (0.0, 0.001, 0.3, 0.9, 0.999):
        yield content[: int(len(content) * part)]
    for _ in range(flips):
        yield flipped(content, draw.randrange(8 * len(content)))


def test_no_bit_of_a_file_of_weights_can_change_unnoticed() -> None:
    content = packed(STATE)
    assert intact(content)
    assert all(torch.equal(STATE[name], tensor) for name, tensor in load(content).items())
    assert [bit for bit in range(8 * len(content)) if intact(flipped(content, bit)) is not False] == []


def test_weights_of_an_older_nas_carry_no_sum() -> None:
    assert intact(save(STATE)) is None


def test_a_sum_in_front_covers_all() -> None:
    content = summed(b"some bytes")
    assert unsummed(content) == b"some bytes"
    assert [bit for bit in range(8 * len(content)) if unsummed(flipped(content, bit)) is not None] == []
    assert unsummed(b"") is None


def test_damaged_weights_are_refused_by_name_and_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for content in damaged(packed(STATE), 20):
        if intact(content) is None:
            continue  # so short that nothing reads it as weights at all
        path.write_bytes(content)
        with pytest.raises(StudyError, match="is damaged") as refused:
            Weights(path, "search", 0.5).read()
        assert str(path) in str(refused.value)
        assert path.read_bytes() == content


def test_the_cache_takes_no_damaged_weights_from_another_study(tmp_path: Path) -> None:
    folder = export_study(tmp_path)
    row = outcome_of(folder).rows[TRIAL]
    path = folder.weights(row.key)
    path.write_bytes(packed(contiguous(network(architecture(1.0)))))
    own = Records(StudyFolder(tmp_path, "own").url)
    (tmp_path / "own").mkdir()
    own.create()
    context = Context.of(outcome_of(folder).identity)
    cache = EvaluationCache(tmp_path, own, "own", context, device="cpu", threads=1)
    found = cache.find(row.key, row.seed)
    assert found is not None
    assert cache.weights(found) == path
    path.write_bytes(flipped(path.read_bytes(), 5_000))
    assert cache.weights(found) is None
    own.close()


def training() -> Training:
    return Training(small_network(), dataset(), RECIPE, seed=3, device="cpu")


@pytest.fixture(scope="module")
def begun() -> Training:
    """After one epoch."""
    made = training()
    next(made.fit())
    return made


@pytest.mark.parametrize("older", [False, True], ids=["with a sum", "as older nas wrote them"])
def test_no_training_goes_on_from_a_damaged_checkpoint(tmp_path: Path, begun: Training, older: bool) -> None:
    """Without a look at its sum torch takes nearly every flipped bit for a weight, and the curve is another."""
    folder = StudyFolder(tmp_path, "s")
    kept, path = Checkpoints(folder), folder.paused("key")
    kept.keep(begun, "key")
    if older:
        torch.save(begun.checkpoint(), path)
    second, first = training(), training().checkpoint()
    whole = path.read_bytes()
    for content in damaged(whole, 30):
        path.write_bytes(content)
        said = kept.restore(second, "key")
        if said is None:
            # a bit of the ZIP file that says nothing of the training, such as a file's time
            assert older
            assert same(second.checkpoint(), begun.checkpoint())
            second = training()
            continue
        assert str(path) in said
        assert same(second.checkpoint(), first)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    assert kept.restore(second, "key") is None
    assert same(second.checkpoint(), begun.checkpoint())


def same(one: dict, other: dict) -> bool:
    """Of two checkpoints, byte for byte."""
    streams = io.BytesIO(), io.BytesIO()
    for checkpoint, stream in zip((one, other), streams, strict=True):
        torch.save(checkpoint, stream)
    return streams[0].getvalue() == streams[1].getvalue()


def test_no_refinement_goes_on_from_a_damaged_checkpoint(tmp_path: Path, begun: Training) -> None:
    path = tmp_path / "key-0-1.pt"
    refining.keep(path, begun, Progress((), 1.0, 0.0))
    second, first = training(), training().checkpoint()
    for content in damaged(path.read_bytes(), 20):
        path.write_bytes(content)
        said = refining.restore(path, second)
        assert isinstance(said, str)
        assert str(path) in said
        assert same(second.checkpoint(), first)
        assert path.read_bytes() == content


def test_a_damaged_record_file_is_named_or_says_the_same(tmp_path: Path) -> None:
    """A bit of gzip's header may say when it was packed, and by which system; none changes what is read."""
    path, whole = tmp_path / "s.csv.gz", tmp_path / "whole.csv.gz"
    made = [replace(row, seed=training_seed(0, row.key)) for row in rows(10, hostile=False)]
    file = RecordFile("s", identity(), settings("s"), tuple((0, row) for row in made))
    record_file.write(whole, file)
    refused = 0
    for content in damaged(whole.read_bytes(), 60):
        path.write_bytes(content)
        try:
            assert record_file.read(path) == record_file.read(whole)
        except StudyError as error:
            refused += str(path) in str(error)
        assert path.read_bytes() == content
    assert refused > 50


def test_damaged_decoded_images_are_decoded_again(tmp_path: Path) -> None:
    """A bit of the header that names no array and no sum may stand otherwise: what is read is the same."""
    file = tmp_path / "images-1.safetensors"
    arrays = {"pixels": np.arange(240, dtype=np.uint8).reshape(5, 4, 4, 3), "hashes": np.ones((5, 32), np.uint8)}
    data_cache.save(file, arrays)
    whole, refused = file.read_bytes(), 0
    for content in damaged(whole, 80):
        file.write_bytes(content)
        found = data_cache.load(file, ("pixels", "hashes"))
        refused += found is None
        if found is not None:
            assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert refused > 75
    file.write_bytes(whole)
    assert data_cache.load(file, ("pixels", "hashes")) is not None
