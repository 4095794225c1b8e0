"""What correlations say of channels: clusters, effective rank, components; and the file that keeps them."""

from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import redundancy
from nas.errors import NasError, StudyError
from nas.redundancy import ABOUT, Branch, Module, Redundancy, examine, read, read_all, write

ABOUT_IT: dict[str, Any] = {
    "study": "s", "trial": 3, "key": "k" * 20, "params": 1234, "weights": "search", "weights_sha256": "ab" * 32,
    "val_accuracy": 0.9, "metric": "accuracy", "dataset": "digits", "images": 50, "of_images": 200,
    "correlation": 0.9, "variance": 0.95, "step": 4, "measured_at": "2026-05-04T12:00:00+00:00",
    "command": "nas redundancy s --pick best", "versions": {"nas": "0.1.0"},
}  # fmt: skip


def correlation(channels: np.ndarray) -> np.ndarray:
    """By numpy; rows are samples."""
    return np.corrcoef(channels, rowvar=False).astype(np.float32)


def noise(samples: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, channels))


def measured(**changed: Any) -> Redundancy:
    """One module: a pair of copies in the 1x1 branch, a dead channel in the reduction; the 5x5 is not reduced."""
    channels = noise(400, 9)
    channels[:, 2] = -2 * channels[:, 0] + 1
    made = correlation(channels)
    made[4, :] = made[:, 4] = 0
    names, widths = ("1x1", "reduce 3x3", "3x3", "5x5", "pool"), (3, 2, 2, 1, 1)
    module = Module((4, 4), names, widths, made, correlation(noise(400, 6, 1)), 400)
    return Redundancy({**ABOUT_IT, **changed}, (module,))


def test_independent_channels_are_found_apart() -> None:
    found = examine("1x1", correlation(noise(20_000, 12)), 0.3)
    assert (found.channels, found.dead, found.largest) == (12, (), 1)
    assert sorted(found.clusters) == [(channel,) for channel in range(12)]
    assert 11.9 < found.effective_rank <= 12
    assert found.components == 12  # eleven of twelve equal parts are 92 %


def test_copies_are_one_cluster_and_one_component() -> None:
    base = noise(5_000, 3)
    columns = [base[:, 0], base[:, 1], 3 * base[:, 0] + 5, -base[:, 0], base[:, 2], base[:, 1] + 0.01 * base[:, 2]]
    found = examine("1x1", correlation(np.stack(columns, 1)), 0.99)
    assert sorted(map(sorted, found.clusters)) == [[0, 2, 3], [1, 5], [4]]
    assert found.components == 3
    # eigenvalues 3, 2 and 1 of 6: the entropy of a half, a third and a sixth
    entropy = math.log(6) - (3 * math.log(3) + 2 * math.log(2)) / 6
    assert found.effective_rank == pytest.approx(math.exp(entropy), abs=0.01)
    rounded = np.array([[1, 1 - 2**-23], [1 - 2**-23, 1]], dtype=np.float32)
    assert examine("1x1", rounded, 1.0).clusters == ((0, 1),)


def test_a_linear_combination_is_no_copy_but_needs_no_component() -> None:
    base = noise(5_000, 3)
    mixed = np.column_stack([base, base.sum(1)])
    found = examine("1x1", correlation(mixed), 0.9)
    assert len(found.clusters) == 4
    assert found.components == 3
    assert found.effective_rank < 3


def test_clusters_are_cut_by_the_mean_between_them() -> None:
    made = np.array([[1, 0.96, 0.92], [0.96, 1, -0.8], [0.92, -0.8, 1]], dtype=np.float32)  # mean of the third: 0.86
    assert sorted(map(len, examine("1x1", made, 0.87).clusters)) == [1, 2]
    assert sorted(map(len, examine("1x1", made, 0.85).clusters)) == [3]


def test_dead_channels_are_named_and_leave_no_nan() -> None:
    made = correlation(noise(500, 4))
    made[1, :] = made[:, 1] = 0
    found = examine("pool", made, 0.9)
    assert found.dead == (1,)
    assert sorted(found.ordered) == [0, 2, 3]
    assert 2.9 < found.effective_rank <= 3
    assert examine("pool", np.zeros((2, 2), np.float32), 0.9) == Branch("pool", 2, (0, 1), 0.0, (), 0)
    assert examine("pool", np.diag([0, 1, 0]).astype(np.float32), 0.9) == Branch("pool", 3, (0, 2), 1.0, ((1,),), 1)


def test_the_effective_rank_of_a_case_by_hand() -> None:
    made = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32)  # eigenvalues 2, 1, 0
    assert examine("1x1", made, 0.9).effective_rank == pytest.approx(3 / 2 ** (2 / 3))


@given(seed=st.integers(0, 10**6), channels=st.integers(1, 8), mixed=st.integers(0, 4), least=st.floats(0.01, 1))
def test_what_holds_of_any_channels(seed: int, channels: int, mixed: int, least: float) -> None:
    draw = np.random.default_rng(seed)
    base = draw.standard_normal((60, channels))
    both = np.column_stack([base, base @ draw.standard_normal((channels, mixed))])
    made = np.atleast_2d(correlation(both))
    found = examine("1x1", made, least)
    total = channels + mixed
    assert sorted(found.ordered) == list(range(total))
    assert 1 <= found.components <= channels
    assert 1 - 1e-9 <= found.effective_rank <= channels + 1e-4
    order = draw.permutation(total)
    other = examine("1x1", made[np.ix_(order, order)], least)
    assert other.components == found.components
    assert other.effective_rank == pytest.approx(found.effective_rank)
    again = {frozenset(int(order[channel]) for channel in cluster) for cluster in other.clusters}
    assert again == {frozenset(cluster) for cluster in found.clusters}


def test_widths_are_whole_steps() -> None:
    branch = Branch("1x1", 12, (), 9.0, (), 9)
    assert [branch.width(step) for step in (1, 2, 4, 9, 16)] == [9, 10, 12, 9, 16]
    assert Branch("1x1", 2, (0, 1), 0.0, (), 0).width(4) == 4


def test_reductions_beside_what_they_need() -> None:
    found = measured(step=1)
    assert found.reductions == [(1, "3x3", 2, 1, 6), (1, "5x5", 0, 6, 6)]
    assert redundancy.totals(found.reductions) == (2, 1)
    assert redundancy.reduction_rows(found) == [["1", "3x3", "2", "1", "6"], ["1", "5x5", "none", "-", "6"]]
    entry = found.to_json()
    assert entry["reductions"][1] == {"module": 1, "branch": "5x5", "has": None, "writes": 6, "reads": 6}
    ones = {branch["branch"]: branch for branch in entry["modules"][0]["branches"]}
    assert list(ones) == ["input", "1x1", "reduce 3x3", "3x3", "5x5", "pool"]
    assert ones["1x1"]["alike"] == [[0, 2]]
    assert (ones["1x1"]["clusters"], ones["1x1"]["components"]) == (2, 2)
    assert ones["reduce 3x3"]["dead"] == [1]
    json.dumps(entry, allow_nan=False)


def test_few_samples_are_said() -> None:
    found = measured()
    assert not any("Few samples" in line for line in redundancy.notes(found))
    module = found.modules[0]
    thin = Module(module.side, module.names, module.widths, module.correlation, module.reads, 89)
    assert "Few samples for so many channels in module 1 " in redundancy.notes(Redundancy(found.about, (thin,)))[-1]


@pytest.mark.parametrize("least", [0, -0.5, 1.01, math.nan, math.inf])
def test_a_correlation_out_of_range_is_refused(least: float) -> None:
    with pytest.raises(StudyError, match="clusters are cut above 0 and at most at 1"):
        redundancy.check_correlation(least)
    redundancy.check_correlation(1)


def test_a_measurement_comes_back_and_a_later_one_takes_its_place(tmp_path: Path) -> None:
    first = measured()
    assert set(first.about) == set(ABOUT)
    path = write(tmp_path / "r", first)
    again = read(path)
    assert again.about == first.about
    assert again.to_json() == first.to_json()
    assert np.array_equal(again.modules[0].correlation, first.modules[0].correlation)
    assert write(tmp_path / "r", measured(trial=4)) == path
    other = write(tmp_path / "r", measured(weights_sha256="cd" * 32, measured_at="2027-01-01T00:00:00+00:00"))
    found, broken = read_all(tmp_path / "r")
    assert ([one.about["trial"] for one in found], broken) == ([3, 4], [])
    assert sorted((tmp_path / "r").iterdir()) == sorted([path, other])
    assert read_all(tmp_path / "nothing") == ([], [])


def test_a_write_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, measured())
    before = path.read_bytes()

    def full(aside: IO[bytes], **arrays: Any) -> None:
        aside.write(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space") as caught:
        write(tmp_path, measured(trial=9))
    assert caught.value.filename == str(path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]
    (tmp_path / "file").touch()
    with pytest.raises(NasError, match="a part of the path is a file"):
        write(tmp_path / "file", measured())


def damages() -> dict[str, bytes]:
    return {
        "empty": b"",
        "no archive": b"nothing " * 50,
        "a pickle": pickle.dumps({"text": "x"}),
        "a pickle in an array": b"\x93NUMPY" + b"x" * 100,
    }


@pytest.mark.parametrize("kind", [*damages(), "cut", "another archive", "a field less", "a matrix less"])
def test_a_damaged_file_is_one_line_and_the_others_are_read(kind: str, tmp_path: Path) -> None:
    good = write(tmp_path, measured())
    bad = tmp_path / "bad.npz"
    with np.load(good) as kept:
        arrays = dict(kept)
    if kind in damages():
        bad.write_bytes(damages()[kind])
    elif kind == "cut":
        bad.write_bytes(good.read_bytes()[:-200])
    elif kind == "another archive":
        np.savez(bad, x=np.zeros(3))
    elif kind == "a field less":
        text = json.loads(str(arrays["text"]))
        del text["about"]["step"]
        np.savez(bad, **arrays | {"text": np.array(json.dumps(text))})
    else:
        del arrays["reads_0"]
        np.savez(bad, **arrays)
    found, broken = read_all(tmp_path)
    assert len(found) == 1
    (line,) = broken
    assert line.startswith(f"{bad} is damaged")
    assert "\n" not in line


def test_a_newer_layout_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, measured())
    with np.load(path) as kept:
        arrays = dict(kept)
    text = json.loads(str(arrays["text"])) | {"layout": 2}
    np.savez(path, **arrays | {"text": np.array(json.dumps(text))})
    with pytest.raises(StudyError, match="written by a newer nas"):
        read(path)
