"""One worker of a refinement: trains what the launcher hands it, one network and seed after another.

Run as ``python -m nas.refine.worker``: reads its options as a line of JSON, then trainings, one a line, and ``end`` or
``stop``; says what it does as lines of JSON. It ends at once when its standard input closes: all that it keeps is
whole at any moment.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import torch
from safetensors.torch import save

from nas.architecture import Architecture
from nas.baseline_rows import Baseline, add_baseline
from nas.costs import peak_memory_mb
from nas.curve import EpochResult
from nas.data import streaming
from nas.errors import NasError, TrialFailed
from nas.files import Files
from nas.outage import Patience
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.records import Records
from nas.refine.checkpoints import Progress, keep, restore, write_whole
from nas.refine.options import RefineOptions, check_version
from nas.refine.plan import Outside
from nas.refined import Refinement, add_refinement, recipe_hash
from nas.search.hardware import device_name, versions, worker_device
from nas.search.loop import Interrupted, Stop
from nas.seeds import training_seed
from nas.study_images import load_images
from nas.training import Training

Emit = Callable[[dict[str, Any]], None]


class RefineWorker:
    """Images, device and study of a worker, the same over its trainings.

    Args:
        options: what the refinement was asked to do.
        recipe: of each training, as JSON.
        number: this worker's place among those of its launcher, from 0.
        stop: asked to stop after an epoch.
        emit: takes what the worker does, for whoever shows it.

    Raises:
        NasError: the device, the images or the database do not serve.
    """

    def __init__(self, options: RefineOptions, recipe: Mapping[str, Any], number: int, stop: Stop, emit: Emit) -> None:
        self._records = Records(options.url)
        self._outcome = Outcome.read(self._records, options.study)
        self._study = self._records.study(options.study).id
        check_version(self._outcome)
        self._recipe = dict(recipe)
        self._hash = recipe_hash(recipe)
        self._folder = options.folder
        self._files = Files(options.folder, self._outcome.settings, lambda line: emit({"event": "say", "words": line}))
        self._stop = stop
        self._emit = emit
        self._device = worker_device(options.device, number)
        shape = self._outcome.input_shape
        assert shape is not None  # a plan has a network, and that is a trial's or of the study's space
        self._dataset = load_images(
            self._outcome,
            input_shape=shape,
            moved=options.dataset,
            cache=Path(options.studies_dir) / ".cache",
            room=streaming.room(workers=options.workers, device=self._device),
        ).to(self._device)

    def close(self) -> None:
        """End what decodes images, and give the database back."""
        self._dataset.close()
        self._files.close()
        self._records.close()

    def train(self, trial: int, replicate: int, outside: Outside | None = None) -> None:
        """One training from its checkpoint, or its start, to its weights and its row.

        Args:
            trial: of the study; not looked at where `outside` is the network.
            replicate: of its seeds; 0, the search's own, is recorded as a point of the line, and its weights are not
                kept.

        Raises:
            Interrupted: it was asked to stop; the checkpoint stands after the last whole epoch.
            TrialFailed: a loss or an output that is not finite, or not enough memory; nothing is left of it.
            DataError: an image file changed.
        """
        row = self._outcome.trial(trial) if outside is None else outside
        path = self._folder.refining(row.key, self._hash, replicate)
        seed = training_seed(int(self._outcome.identity["seed"]), row.key, replicate)
        began, before = time.perf_counter(), Progress((), 0.0, time.time())
        try:
            training = Training(
                row.architecture,
                self._dataset,
                Recipe.model_validate(self._recipe),
                seed=seed,
                device=self._device,
                metric=self._outcome.metric,
            )
            self._files.fetch(path)
            kept = restore(path, training)
            if isinstance(kept, str):
                self._emit({"event": "say", "words": kept})
            elif kept is not None:
                before = kept
            curve: list[EpochResult] = list(before.curve)
            self._emit({"event": "begun", "trial": trial, "replicate": replicate, "epoch": len(curve)})
            self._stop.check()
            for reading in training.fit():
                curve.append(reading)
                self._emit({"event": "epoch", "epoch": reading.epoch, "accuracy": reading.val_accuracy})
                seconds = before.seconds + time.perf_counter() - began
                if reading.epoch < self._recipe["epochs"]:
                    keep(path, training, Progress(tuple(curve), seconds, before.started_at))
                    self._files.put(path)
                    self._stop.check()
        except TrialFailed:
            self._files.drop(path)
            raise
        if replicate == 0 and outside is not None:
            baseline = self._point(outside, seed, curve, before, before.seconds + time.perf_counter() - began)
            add_baseline(self._records, self._study, baseline)
            self._files.drop(path)
            self._emit({"event": "done", "accuracy": baseline.val_accuracy, "seconds": baseline.seconds})
            return
        weights = save(training.averaged_state())
        # The weights first: a row without them would pass for done.
        kept_at = self._folder.refined(row.key, self._hash, replicate)
        write_whole(kept_at, weights)
        self._files.put(kept_at)
        refinement = Refinement(
            trial=row.trial,
            key=row.key,
            replicate=replicate,
            recipe=self._recipe,
            seed=seed,
            val_accuracy=curve[-1].val_accuracy,
            curve=tuple((point.epoch, point.val_accuracy, point.train_loss) for point in curve),
            seconds=before.seconds + time.perf_counter() - began,
            device=device_name(self._device),
            threads=torch.get_num_threads(),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            started_at=datetime.fromtimestamp(before.started_at, UTC),
            finished_at=datetime.now(UTC),
            versions=versions(),
        )
        add_refinement(self._records, self._study, refinement)
        self._files.drop(path)
        self._emit({"event": "done", "accuracy": refinement.val_accuracy, "seconds": refinement.seconds})

    def _point(
        self, outside: Outside, seed: int, curve: Sequence[EpochResult], before: Progress, seconds: float
    ) -> Baseline:
        return Baseline(
            kind="line",
            name=outside.name,
            key=outside.key,
            architecture=outside.architecture,
            params=outside.params,
            macs=outside.macs,
            input_shape=outside.architecture.input_shape,
            recipe_name="study",
            recipe=self._recipe,
            replicate=0,
            seed=seed,
            val_accuracy=curve[-1].val_accuracy,
            curve=tuple((point.epoch, point.val_accuracy, point.train_loss) for point in curve),
            seconds=seconds,
            device=device_name(self._device),
            threads=torch.get_num_threads(),
            dataset=self._dataset.digest,
            split=self._dataset.split_digest,
            started_at=datetime.fromtimestamp(before.started_at, UTC),
            finished_at=datetime.now(UTC),
            versions=versions(),
        )


def serve() -> int:
    """The process: options and trainings from standard input, events to standard output; 0 where it went well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the launcher passes it on, once
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.ask)
    lines = sys.stdin
    # Events go where standard output went; whatever else a library prints goes to the words.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(lines.readline())
    options = RefineOptions(**order["options"] | {"picks": tuple(order["options"]["picks"])})
    tasks: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    ready = threading.Event()

    def emit(event: dict[str, Any]) -> None:
        try:
            print(json.dumps(event), file=events, flush=True)
        except BrokenPipeError:
            os._exit(1)

    def outage(words: str | None) -> None:
        emit({"event": "outage", "words": words})

    threading.Thread(target=_listen, args=(lines, tasks, stop, ready), daemon=True).start()
    try:
        with (
            Patience(outage, stop.check, known=True),  # the launcher has read the study there
            closing(RefineWorker(options, order["recipe"], order["number"], stop, emit)) as worker,
        ):
            ready.set()
            emit({"event": "ready"})
            while not stop.asked and (task := tasks.get()) is not None:
                try:
                    worker.train(task["trial"], task["replicate"], _outside(task["outside"]))
                except TrialFailed as failure:
                    emit({"event": "failed", "reason": failure.reason})
                except Interrupted:
                    break
        emit({"event": "over", "peak_mb": peak_memory_mb()})
    except Interrupted:  # before the first training
        emit({"event": "over", "peak_mb": peak_memory_mb()})
    except NasError as error:
        emit({"event": "error", "message": str(error)})
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        emit({"event": "error", "message": f"{error.filename}: {error.strerror}; free it and run the command again"})
        return 1
    return 0


def _outside(given: dict[str, Any] | None) -> Outside | None:
    return None if given is None else Outside(given["name"], Architecture.from_json(given["architecture"]))


def _listen(lines: IO[str], tasks: SimpleQueue[dict[str, Any] | None], stop: Stop, ready: threading.Event) -> None:
    """Take what the launcher says; end the process where the launcher is gone, or stops before anything is trained."""
    while line := lines.readline():
        word = json.loads(line)
        if isinstance(word, dict):
            tasks.put(word)
            continue
        if word == "stop":
            stop.ask()
            if not ready.is_set():
                os._exit(0)
        tasks.put(None)
    os._exit(0)


if __name__ == "__main__":
    code = serve()
    sys.stdout.flush()
    # The reader of standard input is still blocked in its read; leaving by the ordinary way would wait for it.
    os._exit(code)
