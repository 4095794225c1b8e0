"""The line of a width multiplier that is nearest to GoogLeNet's proportions."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from nas.record_file import write
from nas.search.lines import FIVE, GOOGLENET, SHARE, like_googlenet
from nas.search.table import Table
from nas.space import load_space
from tests.networks import googlenet
from tests.recorded import grid_toml, record_file, rows, table_file


def test_the_proportions_are_those_of_the_network() -> None:
    network = googlenet()
    assert tuple((m.out_1x1, m.out_3x3, m.out_5x5, m.out_pool) for m in network.modules) == GOOGLENET
    assert pytest.approx(float(fmean(network.shares))) == SHARE
    assert pytest.approx(0.5729, abs=5e-5) == SHARE
    assert pytest.approx(0.2385, abs=5e-5) == FIVE


def test_the_nearest_line_is_that_of_the_middle_share(tmp_path: Path) -> None:
    table = Table.read(table_file(tmp_path))  # shares of two modules at 1/4, 1/2 and 3/4
    line = like_googlenet(table)
    assert line in table.lines
    for key in line:
        assert all(abs(share - 0.5) < 0.05 for share in table.architectures[key].shares)


@pytest.mark.parametrize(("part", "low", "high"), [(FIVE, 0.1, 0.4), (0.7, 0.4, 0.8)])
def test_the_part_of_5x5_decides_where_shares_are_alike(
    tmp_path: Path, part: float, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.search.lines.FIVE", part)
    text = grid_toml().replace("five = { low = 0.4, high = 0.4 }", "five = { low = 0.2, high = 0.6, levels = 2 }")
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    of = load_space(str(tmp_path / "small.toml"))
    write(tmp_path / "small.csv.gz", record_file(of, rows(of, (0,))))
    table = Table.read(tmp_path / "small.csv.gz")
    assert len(table.lines) == (3 * 2) ** 2
    modules = [module for key in like_googlenet(table) for module in table.architectures[key].modules]
    assert len(modules) == 2 * 2
    assert all(low < module.out_5x5 / (module.out_3x3 + module.out_5x5) < high for module in modules)


def test_a_table_without_lines_has_none(tmp_path: Path) -> None:
    assert like_googlenet(Table.read(table_file(tmp_path, count=20))) == ()
