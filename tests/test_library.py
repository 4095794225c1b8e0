"""`nas` from Python: the notebook of the README, and what a study gives."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import nas
from nas import library, load_study, search
from nas.data import load_dataset
from nas.errors import StudyError
from nas.library import Study
from nas.models import InceptionNetwork

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def study(place: Path) -> Study:
    return search("tiny", trials=6, epochs=2, train_limit=300, workers=1, studies_dir=place, device="cpu")


def test_a_search_gives_its_study(study: Study) -> None:
    assert len(study.trials) == 6
    assert study.front == [study.trial(row.trial) for row in study.outcome.front]
    assert study.pick("best").val_accuracy == max(trial.val_accuracy or 0 for trial in study.trials)
    assert study.settings["command"].startswith("nas.search(space='tiny', trials=6, ")
    assert study.refined_front == []
    assert "6 complete" in repr(study)
    assert f"{study.front[0].params:,} parameters" in repr(study.front[0])


def test_the_model_of_a_trial_reaches_what_is_on_record(study: Study) -> None:
    part = load_dataset("digits", input_shape=(1, 8, 8), train_limit=300).validation
    for trial in study.front:
        model = trial.model()
        with torch.inference_mode():
            found = model(part.images.float() / 255).argmax(1)
        assert trial.val_accuracy == pytest.approx(float((found == part.labels).double().mean()), abs=1e-9)
        assert len(study.classes) == trial.architecture.classes
        assert any(isinstance(part, InceptionNetwork) for part in model.modules())


def test_a_trial_without_weights_says_so(study: Study) -> None:
    beaten = next(trial for trial in study.trials if trial not in study.front)
    with pytest.raises(StudyError, match="has no weights"):
        beaten.model()


def test_weights_that_are_none_are_refused(study: Study) -> None:
    path = study.folder.weights(study.front[0].row.key)
    before = path.read_bytes()
    try:
        path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # a pickle that would run a command
        with pytest.raises(StudyError, match="is damaged"):
            study.front[0].model()
    finally:
        path.write_bytes(before)


def test_figures(study: Study) -> None:
    for figure in (study.front_figure(), study.curves_figure(), study.shares_figure()):
        assert figure.data
    assert [*study.front_figure().data[0].x] == [trial.params for trial in study.front]


def test_a_study_is_loaded_as_it_stands(study: Study, place: Path) -> None:
    assert load_study("tiny", studies_dir=place).outcome == study.outcome
    assert load_study("tiny", studies_dir=place, storage=study.folder.url).outcome == study.outcome
    with pytest.raises(StudyError, match="'tiny'"):
        load_study("tyni", studies_dir=place)


def test_the_same_call_goes_on(study: Study, place: Path) -> None:
    more = search("tiny", trials=7, epochs=2, train_limit=300, workers=1, studies_dir=place, device="cpu")
    assert [trial.row.key for trial in more.trials[:6]] == [trial.row.key for trial in study.trials]
    assert len(more.trials) == 7


def test_an_interrupt_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "launch", lambda options: 130)
    with pytest.raises(KeyboardInterrupt, match="'tiny' was interrupted"):
        search("tiny", studies_dir=tmp_path)


def test_a_mistake_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--trials 0"):
        search("tiny", trials=0, studies_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_thread_is_refused(tmp_path: Path) -> None:
    said: list[str] = []

    def call() -> None:
        try:
            search("tiny", studies_dir=tmp_path)
        except StudyError as error:
            said.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert said == ["a search is called from the main thread, where it can be interrupted; call it there"]


@pytest.mark.parametrize(
    "first",
    [
        "from nas import search",
        "import nas.search.pruners\nfrom nas import search",
        "import nas\nsearch = nas.library.search",
    ],
)
def test_search_is_a_package_and_a_function(first: str) -> None:
    code = f"import nas.library\n{first}\ntry:\n    search('none')\nexcept nas.errors.SpaceError as e:\n    print(e)\n"
    code += "from nas.search import report, pruned\nimport nas.search.score as s\nprint(s.mean_interval([1.0])[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'none'" in done.stdout
    assert done.stdout.endswith("1.0\n")


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, nas; print({'torch', 'optuna', 'numpy'} & set(sys.modules), nas.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"set() {nas.__version__}\n"
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        nas.serach  # type: ignore[attr-defined]  # noqa: B018


def test_the_readme_s_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ten lines, with a smaller search, and no browser for the figure."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "load_study" in block]
    smaller = code.replace('space="digits", trials=60', 'space="tiny", trials=4, epochs=1, train_limit=300, workers=1')
    assert smaller != code
    smaller = smaller.replace('load_study("digits")', 'load_study("tiny")').replace(".show()", ".to_json()")
    done = subprocess.run([sys.executable, "-c", smaller], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 complete" in done.stdout
