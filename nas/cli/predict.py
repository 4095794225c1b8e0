"""`nas predict`: what an exported network says of images."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nas.deployed.predict import Answer

Model = Annotated[Path, typer.Argument(help="Folder that [b]nas export[/] made, or an ONNX file of it.")]
Images = Annotated[
    list[str],
    typer.Argument(
        help="Image files; folders, read whole; [b]-[/] for paths on stdin, one a line.", metavar="IMAGE..."
    ),
]
Top = Annotated[int, typer.Option(min=1, help="Likeliest classes to name.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON list, one object an image, instead of a table.")]


def predict(model: Model, images: Images, top: Top = 5, json: Json = False) -> None:
    """Name the classes of images and their probabilities, by an exported network.

    Files that cannot be read are named, the others are done, and the exit code is then 1.
    """
    from nas.cli.output import say
    from nas.data.files import shown
    from nas.deployed.onnx_model import OnnxModel
    from nas.deployed.predict import Answer, Unread, image_paths
    from nas.deployed.predict import predict as answers_of

    opened = OnnxModel.open(model)
    paths = list(image_paths(_named(images)))  # the paths only: of the images there is a batch in memory
    unread: list[Unread] = []

    def answers() -> Iterator[Answer]:
        for one in answers_of(opened, paths, top=top):
            if isinstance(one, Answer):
                yield one
                continue
            unread.append(one)
            sys.stdout.flush()  # so that the lines stand in order where both go to one place
            say(f"nas: {shown(one.path)}: {one.reason}")

    if json:
        _print_json(answers())
    else:
        _print_table(answers(), [shown(path) for path in paths if isinstance(path, str)], opened.classes)
    if unread:
        say(f"nas: {len(unread):,} of {len(paths):,} could not be read")
        raise typer.Exit(1)
    if not paths:
        say("nas: no image was named")
        raise typer.Exit(1)


def _named(images: Iterable[str]) -> Iterator[str]:
    for image in images:
        if image != "-":
            yield image
            continue
        for line in sys.stdin.buffer:  # as bytes: a path need not be Unicode
            if path := line.rstrip(b"\r\n"):
                yield os.fsdecode(path)


def _print_json(answers: Iterable[Answer]) -> None:
    """A list, printed as it grows; a path that is no Unicode comes back as it was from `json.loads`."""
    before = "["
    for answer in answers:
        (best, probability), *_ = answer.top
        line = {
            "path": answer.path,
            "class": best,
            "probability": probability,
            "top": [{"class": name, "probability": value} for name, value in answer.top],
        }
        print(f"{before}\n  {json_module.dumps(line, allow_nan=False)}", end="")
        before = ","
    print("[]" if before == "[" else "\n]")


def _print_table(answers: Iterable[Answer], paths: Iterable[str], classes: Iterable[str]) -> None:
    """One line an image, printed as it comes, so the widths are those of all names that could come."""
    from rich.cells import cell_len

    from nas.data.files import shown

    names = [shown(name) for name in classes]
    columns = [*(max(map(cell_len, cells)) for cells in (["image", *paths], ["class", *names])), len("probability")]

    def line(image: str, name: str, value: str, following: str) -> str:
        cells = [image + " " * (columns[0] - cell_len(image)), name + " " * (columns[1] - cell_len(name))]
        return "   ".join([*cells, value.rjust(columns[2]), following]).rstrip()

    head = False
    for answer in answers:
        if not head:
            print(line("image", "class", "probability", "next" if len(answer.top) > 1 else ""))
            print("─" * (sum(columns) + 6))
            head = True
        (best, probability), *others = answer.top
        following = ", ".join(f"{shown(name)} {value:.4f}" for name, value in others)
        print(line(shown(answer.path), shown(best), f"{probability:.4f}", following))
