"""The search space of a study that is there, made again from its records. Free of torch."""

from __future__ import annotations

from dataclasses import replace

from nas.errors import NasError, StudyError
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.space import Limits, Space
from nas.space_file import parse_space


def study_space(outcome: Outcome) -> Space:
    """The space that the study searches, with its rule, cost, budget, classes and recipe.

    Raises:
        StudyError: its records hold none, or one that this nas reads otherwise.
    """
    settings, kept = outcome.settings, outcome.identity.get("space", {})
    try:
        file = parse_space(settings["space_toml"], f"the space of study {outcome.study}")
        space = Space(
            str(settings["space"]),
            settings["space_toml"],
            file,
            kept["rule"],
            kept["cost"],
            Recipe.model_validate(kept["recipe"]),
            int(kept["classes"]),
            Limits(**kept["budget"]),
        )
    except (NasError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise StudyError(f"the records of study {outcome.study!r} hold no whole search space ({said})") from error
    # The file's own minimum gave way to a budget, or not: the records do not say which, but what came of it.
    for candidate in (space, replace(space, file_minimum=False)):
        if candidate.identity() == kept:
            return candidate
    raise StudyError(
        f"study {outcome.study!r} was made by another nas, which read its space otherwise: search anew under another "
        "--study"
    )
