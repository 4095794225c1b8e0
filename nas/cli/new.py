"""`nas spaces new`: a search space for a user's own images."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nas.space import Space

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the space, and of its studies.")]
Dataset = Annotated[
    str, typer.Option(help="Whose images it is for: [b]folder:PATH[/], or one that nas knows, such as [b]svhn[/].")
]
Size = Annotated[
    int | None, typer.Option(help="Side of the input in pixels. Default: by the images' median short side.")
]
Output = Annotated[Path | None, typer.Option(help="TOML file to write. Default: NAME.toml in the current folder.")]


def new(name: Name, dataset: Dataset, size: Size = None, output: Output = None) -> None:
    """Write a commented TOML fitted to your images: input, stem, stages, ranges and recipe."""
    from nas.cli.output import say
    from nas.errors import SpaceError, StudyError
    from nas.space import list_spaces
    from nas.study_folder import StudyFolder

    name = name.removesuffix(".toml")
    try:
        StudyFolder(Path(), name)
    except StudyError:
        raise SpaceError(
            f"space name {name[:120]!r}: allowed are up to 100 letters, digits, spaces and _ . + -, beginning with a "
            "letter or digit; --output takes a path"
        ) from None
    if name in list_spaces():
        raise SpaceError(f"a space {name!r} ships with nas: choose another name, or see `nas spaces show {name}`")
    path = Path(f"{name}.toml") if output is None else output / f"{name}.toml" if output.is_dir() else output
    if path.suffix != ".toml":
        raise SpaceError(f"--output {str(path)!r}: a space is a .toml file; end the name with .toml")
    _refuse_existing(path)

    from nas.data.survey import survey  # torch, only once the words are right
    from nas.metric import skewed
    from nas.space_draft import Draft, draft, input_side

    found = survey(dataset)
    side = input_side(found.median_side) if size is None else size
    text = draft(Draft(name, dataset, found.channels, side, len(found.classes), found.images, found.flip))
    space = _write(path, text)

    smallest, middle, largest = (found.sizes[at] for at in (0, len(found.sizes) // 2, -1))
    uneven = skewed(found.classes)
    say(
        f"{dataset}: {found.images:,} {'grey' if found.channels == 1 else 'colour'} images of {len(found.classes)} "
        f"classes; width x height {_times(smallest)} (smallest), {_times(middle)} (median), "
        f"{_times(largest)} (largest)."
    )
    if found.broken:
        say(
            f"{len(found.broken):,} files cannot be read, first {found.broken[0]}: mend or remove them, or leave them "
            "out with --skip-broken."
        )
    if uneven:
        say(uneven.replace(" training images", " images"))
    say(
        f"Space {name}: input {'x'.join(map(str, space.input_shape))}, {len(space.smallest().modules)} modules, "
        f"{space.budget.min_params:,} to {space.budget.max_params:,} parameters, "
        f"{space.recipe.epochs} epochs in batches of {space.recipe.batch}."
    )
    words = ["nas", "search", "--space", str(path), "--trials", "100"]
    words += ["--skip-broken"] * bool(found.broken) + ["--metric", "balanced-accuracy"] * bool(uneven)
    say(f"Next, to see how long it takes: {shlex.join([*words, '--dry-run'])}")
    print(path)


def _write(path: Path, text: str) -> Space:
    """Write the file whole, once it passes what `nas spaces check` looks at; never over another."""
    from nas.errors import written
    from nas.space import load_space

    aside = path.absolute().with_name(f".{path.stem}.{os.getpid()}.toml")
    with written(path):
        try:
            aside.write_text(text, encoding="utf-8")
            space = load_space(str(aside))
            _refuse_existing(path)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    return space


def _refuse_existing(path: Path) -> None:
    from nas.errors import SpaceError

    if os.path.lexists(path):
        raise SpaceError(f"{str(path)!r} is there already and is not overwritten: choose another name, or --output")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
