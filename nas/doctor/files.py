"""The files of a study's folder: each that carries a sum, or whose sum is on record, read and compared."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors.numpy import load

from nas.baseline_rows import baselines
from nas.beside import is_running
from nas.checksums import intact, unsummed, whole_zip
from nas.doctor.findings import Finding, Mend, Problem
from nas.doctor.sides import Sides
from nas.pareto import front
from nas.record_checks import wrong
from nas.records import Records
from nas.refined import refinements
from nas.search.checkpoints import unspoilt
from nas.search.liveness import is_locked, workers
from nas.study_folder import StudyFolder

DAMAGED = "damaged"
"""Folder in a study's, to which what serves no more is moved."""
_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<process>[0-9]{1,7})(\.[a-z0-9]+)?")
_STILL = 600
"""Seconds without a change after which a file of a process that is not here is no other machine's work."""


@dataclass(slots=True)
class _Seen:
    """What came of one kind of files."""

    whole: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def look_over(folder: StudyFolder, records: Records, sides: Sides) -> Iterator[Finding]:
    """Weights, checkpoints, measurements and exports, and what was left behind."""
    yield _front_weights(folder, sides)
    yield _checkpoints(folder, sides)
    yield _refined(folder, records, sides)
    yield _others(folder)
    yield _artifacts(folder, records, sides)
    yield _left_behind(folder, records, sides)


def _front_weights(folder: StudyFolder, sides: Sides) -> Finding:
    rows = [row for row in sides.rows.values() if wrong(row, sides.identity, sides.settings) is None]
    complete = [(row, row.val_accuracy) for row in rows if row.state == "complete" and row.val_accuracy is not None]
    on_front = front([row.cost for row, _ in complete], [accuracy for _, accuracy in complete])
    keys = {complete[index][0].key: complete[index][0].trial for index in on_front}
    seen, unsure = _Seen(), 0
    for key, trial in sorted(keys.items(), key=lambda one: one[1]):
        path = folder.weights(key)
        content = _content(path)
        if content is None:
            seen.notes.append(f"trial {trial}: no weights at {path}; `nas export` trains it again as the search did")
            continue
        found = intact(content)
        if found is None and _is_safetensors(content):
            unsure += 1
        elif not found:
            words = f"trial {trial}: its weights {path} are damaged"
            said = "`nas export` trains the network again as the search did"
            seen.problems.append(Problem(words, _mover(folder, path, said)))
        seen.whole += bool(found)
    if unsure:
        seen.notes.append(f"{unsure} files of weights carry no sum, being of an older nas: not checked")
    beaten = sorted(path for path in folder.weights("x").parent.glob("[!.]*") if path.stem not in keys)
    if beaten:
        seen.notes.append(f"{len(beaten)} files of networks that are not on the front, first {beaten[0].name}")
    if sides.settings.get("files"):
        seen.notes.append(f"what lies at {sides.settings['files']} is not looked at; it is checked when it is fetched")
    return Finding("weights", f"{seen.whole} of the front's {len(keys)} as written", *_both(seen))


def _checkpoints(folder: StudyFolder, sides: Sides) -> Finding:
    paused = {row.key: row.trial for row in sides.rows.values() if row.state == "paused"}
    seen = _Seen()
    again = "that training begins anew, and comes to the same"
    for key, trial in sorted(paused.items(), key=lambda one: one[1]):
        path = folder.paused(key)
        content = _content(path)
        if content is None:
            seen.notes.append(f"trial {trial}: no checkpoint at {path}; {again}")
        elif unspoilt(content) is None:
            seen.problems.append(
                Problem(f"trial {trial}: its checkpoint {path} is damaged", _mover(folder, path, again))
            )
        else:
            seen.whole += 1
    under_way = sorted(folder.refining("x", "", 0).parent.glob("[!.]*.pt")) + sorted(
        (folder.path / "baselines").glob("[!.]*.pt")
    )
    gone = 0
    for path in under_way:
        content = _content(path)
        if content is None:  # its training has just ended
            gone += 1
        elif unsummed(content) is None:
            seen.problems.append(Problem(f"the checkpoint {path} is damaged", _mover(folder, path, again)))
        else:
            seen.whole += 1
    stray = [path for path in folder.paused("x").parent.glob("[!.]*") if path.stem not in paused]
    if stray:
        seen.notes.append(f"{len(stray)} checkpoints of trials that are not set aside, first {stray[0].name}")
    trainings = len(under_way) - gone
    every = len(paused) + trainings
    words = f"{seen.whole} of {every} as written: trials set aside {len(paused)}, trainings under way {trainings}"
    return Finding("checkpoints", words, *_both(seen))


def _refined(folder: StudyFolder, records: Records, sides: Sides) -> Finding:
    seen, count = _Seen(), 0
    kept = []
    for full in refinements(records, sides.number):
        path = folder.refined(full.key, full.recipe_hash, full.replicate)
        name = f"trial {full.trial}, replicate {full.replicate}"
        kept.append((name, full.weights_sha256, f"`nas refine {folder.name}` trains it again", path))
    for one in baselines(records, sides.number):
        stem = f"{one.name}-*-{one.recipe_hash[:16]}-{one.replicate}"
        there = sorted((folder.path / "baselines").glob(f"{stem}.safetensors"))
        if one.weights_sha256 is not None and there:
            kept.append((f"baseline {one.name}", one.weights_sha256, "`nas baselines train` trains it again", there[0]))
    for name, sha256, again, path in kept:
        count += 1
        content = _content(path)
        if content is None:
            seen.notes.append(f"{name}: no weights at {path}; {again}")
        elif hashlib.sha256(content).hexdigest() != sha256:
            words = f"{name}: {path} is not what was written, by its SHA-256 on record"
            seen.problems.append(Problem(words, _mover(folder, path, again)))
        else:
            seen.whole += 1
    return Finding("full trainings", f"the weights of {seen.whole} of {count} as on record", *_both(seen))


def _others(folder: StudyFolder) -> Finding:
    """Measured redundancies, which are ZIP files with sums, and exports, whose card has one for each file."""
    seen, count = _Seen(), 0
    for path in sorted(folder.redundancy.glob("[!.]*.npz")):
        count += 1
        if whole_zip(path):
            seen.whole += 1
        else:
            again = f"`nas redundancy {folder.name}` measures it again"
            seen.problems.append(Problem(f"{path} is damaged", _mover(folder, path, again)))
    card = folder.export / "model.json"
    if card.is_file():
        try:
            sums = {str(name): str(found) for name, found in json.loads(card.read_bytes())["sha256"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            seen.problems.append(Problem(f"{card} is damaged; `nas export --overwrite` writes the folder again"))
            sums = {}
        for name, sha256 in sums.items():
            count += 1
            content = _content(folder.export / name)
            if content is not None and hashlib.sha256(content).hexdigest() == sha256:
                seen.whole += 1
            else:
                words = f"{folder.export / name} is {'gone' if content is None else 'damaged'}"
                seen.problems.append(Problem(f"{words}; `nas export --overwrite` writes the folder again"))
    return Finding("measured, exported", f"{seen.whole} of {count} files by their own sums", *_both(seen))


def _artifacts(folder: StudyFolder, records: Records, sides: Sides) -> Finding:
    """What somebody attached in optuna-dashboard; it has no sum, so whether it is there is all that can be told."""
    listed: dict[str, str] = {}
    with records.reading() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        for table in {"study_system_attributes", "trial_system_attributes"} & tables:
            query = sa.text(f"SELECT value_json FROM {table} WHERE key LIKE 'artifacts:%'")  # noqa: S608  (of two names)
            for (text,) in connection.execute(query):
                try:
                    about = json.loads(text)
                    listed[str(about["artifact_id"])] = str(about["filename"])
                except (ValueError, KeyError, TypeError):
                    continue
    lost = {name: filename for name, filename in listed.items() if not (folder.artifacts / name).is_file()}
    notes = [f"{filename} ({name}) is listed and not in {folder.artifacts}" for name, filename in sorted(lost.items())]
    words = f"{len(listed) - len(lost)} of {len(listed)} that were attached are there; they carry no sum"
    return Finding("artifacts", words, (), tuple(notes))


def _left_behind(folder: StudyFolder, records: Records, sides: Sides) -> Finding:
    problems = []
    # By the disk's own clock, which on a shared folder may be another machine's.
    for path in sorted(folder.path.rglob(".*")):
        found = _ASIDE.fullmatch(path.name)
        if found and path.is_file() and not is_running(int(found["process"])) and _is_still(path):
            words = f"{path} was left by a process that has ended"
            problems.append(Problem(words, _remover(path)))
    known = {Path(worker.lock) for worker in workers(records, sides.number)}
    for path in sorted(folder.workers.glob("*.lock")):
        if path.absolute() not in known and not is_locked(path) and _is_still(path):
            problems.append(Problem(f"the lock {path} is of a worker that has ended", _remover(path)))
    moved = sorted((folder.path / DAMAGED).glob("*"))
    notes = (f"{len(moved)} files in {folder.path / DAMAGED}, moved there by an earlier repair",) if moved else ()
    return Finding("left behind", f"{len(problems)} files", tuple(problems), notes)


def _is_still(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) > _STILL
    except FileNotFoundError:
        return False


def _is_safetensors(content: bytes) -> bool:
    try:
        load(content)
    except SafetensorError:
        return False
    return True


def _content(path: Path) -> bytes | None:
    """None where there is no file; what cannot be read is damaged."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _both(seen: _Seen) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    return tuple(seen.problems), tuple(seen.notes)


def _mover(folder: StudyFolder, path: Path, then: str) -> Mend:
    def mend() -> str:
        place = folder.path / DAMAGED
        place.mkdir(exist_ok=True)
        names = [path.name, *(f"{path.name}.{number}" for number in range(2, 1_000))]
        target = next(place / name for name in names if not (place / name).exists())
        path.rename(target)
        return f"{path} moved to {target}; {then}"

    return mend


def _remover(path: Path) -> Mend:
    def mend() -> str:
        path.unlink(missing_ok=True)
        return f"{path} removed"

    return mend
