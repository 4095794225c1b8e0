"""The front with known networks as a plot of optuna-dashboard, made when it is looked at; nothing is written."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy as sa
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import StudyDirection

from nas.baseline_rows import baselines
from nas.held import held
from nas.outcome import Outcome
from nas.records import Records, evaluation_table
from nas.tables import baseline_table

if TYPE_CHECKING:
    from optuna.study._frozen import FrozenStudy

PLOT = "front-with-known-networks"
"""What the plot is called on the dashboard's page of analytics."""

_Token = tuple[int | None, ...]


class KnownStorage(RDBStorage):
    """Optuna's storage of a database, but that a study with known networks has one plot more than it keeps.

    optuna-dashboard shows a plot that a study's attributes hold. Its own Pareto figure knows trials only.

    Args:
        url: of the database; the other arguments are Optuna's.
    """

    def __init__(self, url: str, **more: Any) -> None:
        super().__init__(url, **more)
        self._address = url
        self._plots: dict[str, tuple[_Token, dict[str, Any]]] = {}

    def get_all_studies(self) -> list[FrozenStudy]:
        """As Optuna's, each study with its plot."""
        studies = super().get_all_studies()
        with closing(Records(self._address)) as records:
            there = set(records.studies()) if _has_known(records) else set()
            for study in studies:
                if study.study_name in there:
                    study.system_attrs = {**study.system_attrs, **self._plot(records, study.study_name)}
        return studies

    def _plot(self, records: Records, name: str) -> dict[str, Any]:
        """Attributes that hold the plot; made anew when a record has come."""
        number = records.study(name).id
        token = _newest(records, number)
        if name not in self._plots or self._plots[name][0] != token:
            self._plots[name] = token, _attributes(records, name, number)
        return self._plots[name][1]


def _has_known(records: Records) -> bool:
    with records.reading() as connection:
        return sa.inspect(connection).has_table(baseline_table.name)


def _newest(records: Records, study: int) -> _Token:
    with records.reading() as connection:
        return tuple(
            connection.execute(sa.select(sa.func.max(table.c.id)).where(table.c.study == study)).scalar()
            for table in (evaluation_table, baseline_table)
        )


def _attributes(records: Records, name: str, study: int) -> dict[str, Any]:
    known = held(baselines(records, study))
    if not known:
        return {}
    from optuna_dashboard import save_plotly_graph_object

    from nas.report.figures import front_figure

    figure = front_figure(Outcome.read(records, name), known)
    figure.update_layout(title="Front with known networks")
    # the way to its attributes that optuna-dashboard offers: saved to a study of nobody
    storage = InMemoryStorage()
    number = storage.create_new_study([StudyDirection.MAXIMIZE], study_name=name)
    save_plotly_graph_object(optuna.load_study(study_name=name, storage=storage), figure, graph_object_id=PLOT)
    return dict(storage.get_study_system_attrs(number))
