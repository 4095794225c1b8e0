"""`nas` from Python: search, load a study, look at its front, take a network as a torch module.

from nas import load_study, search

study = search(space="digits", trials=60)
best = study.pick("best")
model = best.model()
study.front_figure().show()
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas import refined
from nas.architecture import Architecture
from nas.baseline_rows import baselines
from nas.chosen import choose
from nas.database import masked, parse_url
from nas.errors import StudyError
from nas.held import Held, held, held_in_full
from nas.outcome import Outcome
from nas.records import Records, Row, State
from nas.refined import Refined
from nas.search.gpus import with_workers
from nas.search.launch import launch
from nas.search.options import SearchOptions
from nas.study_folder import StudyFolder

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import nn

STUDIES = "studies"


@dataclass(frozen=True)
class Trial:
    """One trial of a study that has ended, with its network.

    Args:
        study: that it belongs to.
        row: its record: everything that is known of it.
        refined: its full trainings by `nas refine`; None where there are none.
    """

    study: Study
    row: Row
    refined: Refined | None = None

    @property
    def number(self) -> int:
        """Optuna's, from 0."""
        return self.row.trial

    @property
    def state(self) -> State:
        """``complete``, ``pruned``, ``paused`` or ``failed``."""
        return self.row.state

    @property
    def architecture(self) -> Architecture:
        """The network as data; `nas.models.build` makes an untrained one of it."""
        return self.row.architecture

    @property
    def params(self) -> int:
        """Trainable parameters of the network in use."""
        return self.row.params

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return self.row.macs

    @property
    def val_accuracy(self) -> float | None:
        """The study's metric on the validation images at the last epoch of the search's training, 0..1.

        None where none was read.
        """
        return self.row.val_accuracy

    @property
    def curve(self) -> tuple[tuple[int, float, float], ...]:
        """(epoch from 1, validation metric 0..1, training loss) of the search's training."""
        return self.row.curve

    def model(self, *, as_is: bool = False) -> nn.Module:
        """The network with its trained weights, in evaluation mode, on the CPU.

        It takes float images (N, C, H, W) in 0..1, as `torchvision.transforms.functional.to_tensor` gives them at the
        study's input size, normalises them itself, and gives logits (N, classes) in the order of `Study.classes`.

        Args:
            as_is: the weights of the search's brief training, though the network was refined since.

        Raises:
            StudyError: the trial is not complete, its weights were not kept (a search keeps those of its front), or
                their file is damaged or another network's.
        """
        from nas.export.program import Deployed
        from nas.trained import network_of

        chosen = choose(
            self.study.folder,
            self.study.outcome,
            [] if self.refined is None else [self.refined],
            [f"trial:{self.number}"],
            as_is=as_is,
        )[0]
        network, _ = network_of(chosen, chosen.weights[0])
        settings = self.study.settings
        return Deployed(network, settings["mean"], settings["std"]).eval()

    def __repr__(self) -> str:
        value = "no reading" if self.val_accuracy is None else f"validation {self.val_accuracy:.4f}"
        fully = "" if self.refined is None else f", refined {self.refined.mean:.4f}"
        return f"<trial {self.number}: {self.state}, {self.params:,} parameters, {self.macs:,} MACs, {value}{fully}>"


@dataclass(frozen=True)
class Study:
    """A study as it stood when it was read; `load_study` again shows what came since.

    Args:
        folder: where its weights, report and exports are.
        outcome: its records.
        networks: of them, those that `nas refine` has trained fully.
        known: networks that no search proposed, trained beside it: references, and the line of one width multiplier,
            its full trainings after its brief ones.
    """

    folder: StudyFolder
    outcome: Outcome
    networks: tuple[Refined, ...] = ()
    known: tuple[Held, ...] = ()

    @property
    def name(self) -> str:
        """The study's."""
        return self.outcome.study

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it was run: space, data, classes, cost, recipe, hardware, versions."""
        return self.outcome.settings

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of a network's logits."""
        return tuple(self.settings["classes"])

    @cached_property
    def trials(self) -> list[Trial]:
        """All that have ended, and those that are paused, by number."""
        return [self._trial(row) for row in self.outcome.rows]

    @cached_property
    def front(self) -> list[Trial]:
        """The non-dominated complete ones by the search's readings, smallest cost first; empty before the first."""
        return [self._trial(row) for row in self.outcome.front]

    @cached_property
    def refined_front(self) -> list[Trial]:
        """The non-dominated ones of the refined networks by their means, smallest cost first; empty of none."""
        return [self._trial(one.row) for one in refined.front(self.networks)]

    @property
    def hypervolume(self) -> float | None:
        """Part of the space's box that the front dominates, 0..1; see `nas.pareto.hypervolume`."""
        return self.outcome.hypervolume

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            StudyError: none of this number has ended.
        """
        return self._trial(self.outcome.trial(number))

    def pick(self, text: str, *, as_is: bool = False) -> Trial:
        """The complete trial that `text` names: best, knee, trial:N, under:500k or smallest:0.95.

        Where networks are refined it is one of these, by the means of their full trainings.

        Args:
            as_is: one of the search's, by its readings, whatever was refined.

        Raises:
            StudyError: it names nothing.
        """
        if as_is or not self.networks:
            return self._trial(self.outcome.pick(text))
        return self._trial(refined.pick(self.outcome, self.networks, text).row)

    def front_figure(self) -> go.Figure:
        """Cost against the validation metric of every trial, with the front, what was refined, and known networks.

        A plotly figure.
        """
        from nas.report.figures import front_figure

        return _plain(front_figure(self.outcome, self.known, refined=self.networks))

    def curves_figure(self) -> go.Figure:
        """The learning curve of every trial."""
        from nas.report.curves import curves_figure

        return _plain(curves_figure(self.outcome))

    def shares_figure(self) -> go.Figure:
        """Share of 3x3 and 5x5 filters by depth."""
        from nas.report.shares import shares_figure

        return _plain(shares_figure(self.outcome))

    def __repr__(self) -> str:
        return f"<{self.outcome.headline}>"

    def _trial(self, row: Row) -> Trial:
        return Trial(self, row, next((one for one in self.networks if one.row.trial == row.trial), None))


def load_study(name: str, *, studies_dir: str | Path = STUDIES, storage: str | None = None) -> Study:
    """A study that is there, finished or still running; only read.

    Args:
        name: as given to `search`.
        studies_dir: the folder that holds the studies.
        storage: SQLAlchemy URL, where the study is not in its own folder.

    Raises:
        StudyError: there is no such study, or its records are out of reach, damaged or of a newer nas.
    """
    folder = StudyFolder(Path(studies_dir), name)
    if storage is None:
        folder = StudyFolder.existing(Path(studies_dir), name)
    with closing(Records(storage or folder.url, read_only=True)) as records:
        records.check_version()
        outcome = Outcome.read(records, name)
        number = records.study(name).id
        trainings, beside = refined.refinements(records, number), baselines(records, number)
    known = (*held(beside), *held_in_full(beside, trainings))
    return Study(folder, outcome, tuple(refined.networks(outcome.rows, trainings)), known)


def search(
    space: str | Path = "digits",
    *,
    dataset: str | None = None,
    trials: int = 100,
    timeout: float | None = None,
    study: str | None = None,
    studies_dir: str | Path = STUDIES,
    storage: str | None = None,
    files: str | None = None,
    sampler: str = "cost-aware",
    pruner: str = "conformal",
    epochs: int | None = None,
    batch: int | None = None,
    rule: str | None = None,
    cost: str | None = None,
    min_params: int | None = None,
    max_params: int | None = None,
    min_macs: int | None = None,
    max_macs: int | None = None,
    workers: int | None = None,
    workers_per_gpu: int | Literal["auto"] | None = None,
    device: str = "auto",
    seed: int = 0,
    metric: str = "accuracy",
    split_seed: int = 0,
    train_limit: int | None = None,
    skip_broken: bool = False,
    memory_share: float | None = None,
    cache: bool = True,
    warm_start: bool = False,
) -> Study:
    """Search for the front, or go on with a study that is there: what the command `nas search` does.

    The workers are processes of their own, so that this needs no ``if __name__ == "__main__"``; what they do is shown
    on standard error.

    Args:
        space: name of a search space, or a TOML file.
        dataset: ``digits``, ``cifar10``, ... or ``folder:PATH``; None is the space's own.
        trials: the study ends with exactly so many complete or pruned.
        timeout: seconds after which no trial is begun.
        study: its name; None is the space's.
        studies_dir: the folder that holds the studies.
        storage: SQLAlchemy URL; None is SQLite in the study's folder.
        files: URL where weights and checkpoints are kept as well; None is as the study says.
        sampler, pruner: names of `nas.search.samplers.SAMPLERS` and `nas.search.pruners.PRUNERS`.
        epochs, batch: of a training; None is the space's.
        rule: ``growing``, ``growing-each`` or ``off``; None is the space's.
        cost: what is made small, ``params`` or ``macs``; None is the space's.
        min_params, max_params, min_macs, max_macs: the budget; None is the space's.
        workers: processes on this machine; None is one a core, or one a GPU.
        workers_per_gpu: in place of `workers`, so many for each GPU, or ``auto``: by its memory and a measurement.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: of proposals, audits and trainings.
        metric: ``accuracy`` or ``balanced-accuracy``.
        split_seed: of the validation part.
        train_limit: train on a stratified subset of so many images.
        skip_broken: leave out image files that cannot be read.
        memory_share: of this machine's memory for decoded images, 0..1.
        cache: take what another study has trained already.
        warm_start: the networks nearest to the Inception references go in first.

    Returns:
        The study as it stands at the end.

    Raises:
        NasError: what can be mended: a value out of range, an unknown name, images that are not there, a resume that
            differs from the study; the message says which. Also where this is not the main thread.
        KeyboardInterrupt: it was interrupted; running trials are marked, and the same call goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        raise StudyError("a search is called from the main thread, where it can be interrupted; call it there")
    given = {name: value for name, value in locals().items() if value != _DEFAULTS.get(name)}
    if storage is not None:
        given["storage"] = masked(parse_url(storage))
    said = ", ".join(f"{name}={str(value) if isinstance(value, Path) else value!r}" for name, value in given.items())
    options = SearchOptions(
        space=str(space),
        dataset=dataset,
        trials=trials,
        timeout=timeout,
        study=study,
        studies_dir=str(studies_dir),
        storage=storage,
        files=files,
        sampler=sampler,
        pruner=pruner,
        epochs=epochs,
        batch=batch,
        rule=rule,
        cost=cost,
        min_params=min_params,
        max_params=max_params,
        min_macs=min_macs,
        max_macs=max_macs,
        device=device,
        seed=seed,
        metric=metric,
        split_seed=split_seed,
        train_limit=train_limit,
        skip_broken=skip_broken,
        memory_share=memory_share,
        no_cache=not cache,
        warm_start=warm_start,
        command=f"nas.search({said})",
    )
    per_gpu = None if workers_per_gpu is None else str(workers_per_gpu)
    options = with_workers(options, options.check(), workers, per_gpu, lambda line: print(line, file=sys.stderr))
    code = launch(options)
    name = options.folder(options.check()).name
    if code:
        raise KeyboardInterrupt(f"study {name!r} was interrupted; the same call goes on with it")
    return load_study(name, studies_dir=studies_dir, storage=storage)


_DEFAULTS: dict[str, Any] = dict(search.__kwdefaults__ or {}) | {"space": "digits"}


def _plain(figure: go.Figure) -> go.Figure:
    """On white, at a size for a notebook: the report's page sets its own."""
    return figure.update_layout(template="plotly_white", height=520, legend={"orientation": "h", "y": -0.18})
