"""What an experiment consists of: rows of recipe overrides, seeds, steps. One TOML file an experiment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from midog_qupath.errors import RecipeError
from midog_qupath.learning.recipe import Recipe, load_recipe

Learner = Literal["student", "continue", "bare-crop", "fine-tune", "as-is"]
HERE = Path(__file__).parent


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowPlan(_Strict):
    """One row of a table. ``set``: recipe keys that differ from the row before (or from the base)."""

    name: str
    learner: Learner = "student"
    set: dict[str, Any] = Field(default_factory=dict)


class Plan(_Strict):
    """An experiment. ``steps``: training steps of every row, teacher and student together; a row that
    continues a model adds them to those of that model.

    ``base``: name of the recipe that ``set`` and the rows change. ``cumulative``: each row keeps the
    changes of the rows before it. ``keep_models``: whether the models stay in the work folder.
    ``continues``: name of the experiment with whose models rows of the learner ``continue`` begin.
    ``published``: figures of others, put beside the table's first one, each under its source in words.
    """

    title: str
    base: str = "standard"
    steps: int = Field(ge=2)
    seeds: tuple[int, ...] = (0, 1, 2)
    cumulative: bool = True
    keep_models: bool = False
    continues: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    published: dict[str, float] = Field(default_factory=dict)
    rows: tuple[RowPlan, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _says_what_is_continued(self) -> Plan:
        if self.continues is None and any(row.learner == "continue" for row in self.rows):
            raise ValueError("a row that continues needs the name of an experiment in continues")
        return self


@dataclass(frozen=True)
class Row:
    """A row ready to run; the recipe's seed is still the base's."""

    order: int
    name: str
    learner: Learner
    recipe: Recipe


@dataclass(frozen=True)
class Experiment:
    """A plan under its name, with the recipe of every row; ``continued``: the experiment it continues."""

    name: str
    plan: Plan
    rows: tuple[Row, ...]
    continued: Experiment | None = None


def experiment_names() -> list[str]:
    """Names of the experiments that have a plan."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def load_experiment(name: str, steps: int | None = None) -> Experiment:
    """Read the plan of an experiment; ``steps`` replaces the plan's number (for a try).

    Raises
    ------
    RecipeError
        Unknown experiment, broken TOML, or a row that sets a key which recipes do not have.
    """
    path = HERE / f"{name}.toml"
    if not path.is_file():
        raise RecipeError(f"There is no experiment {name!r}.", f"There are: {', '.join(experiment_names())}.")
    try:
        plan = Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise RecipeError(f"The plan {path} cannot be used: {error}.", "Correct it.") from error
    continued = load_experiment(plan.continues, steps) if plan.continues else None
    plan = plan if steps is None else plan.model_copy(update={"steps": steps})
    return build_experiment(name, plan, continued)


def build_experiment(name: str, plan: Plan, continued: Experiment | None = None) -> Experiment:
    """The experiment of a plan: overrides added up, steps shared out."""
    changes = plan.set
    rows = []
    for order, row in enumerate(plan.rows):
        own = merged(changes, row.set)
        recipe = _recipe(plan, row.name, own)
        if row.learner == "continue":
            assert continued is not None  # the plan names it
            recipe = further(recipe, plan.steps, continued.rows[0].recipe)
        else:
            recipe = share_steps(recipe, plan.steps)
        rows.append(Row(order, row.name, row.learner, recipe))
        changes = own if plan.cumulative else changes
    return Experiment(name, plan, tuple(rows), continued)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the nested values of ``changes`` put in."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            result[key] = merged(inner, value)
        else:
            result[key] = value
    return result


def _recipe(plan: Plan, row: str, changes: Mapping[str, Any]) -> Recipe:
    values = merged(load_recipe(plan.base).model_dump(), changes)
    try:
        return Recipe.model_validate({**values, "name": row, "description": plan.title})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise RecipeError(f"Row {row!r} of {plan.title}: {key}: {first['msg']}.", "Correct it.") from error


def further(recipe: Recipe, steps: int, before: Recipe) -> Recipe:
    """The recipe for ``steps`` more of a student that was trained by ``before``, whose teacher is done."""
    student = recipe.student.model_copy(update={"steps": steps})
    teacher = before.teacher.model_copy(update={"warm_start": False})
    return recipe.model_copy(update={"student": student, "teacher": teacher})


def share_steps(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with ``steps`` in all: what its teacher needs is taken from the student.

    A teacher that would take more than half is shortened to half.
    """
    if recipe.teacher.masks != "teacher":
        return recipe.model_copy(update={"student": recipe.student.model_copy(update={"steps": steps})})
    rounds = recipe.teacher.rounds
    each = max(1, min(recipe.teacher.steps, steps // (2 * rounds)))
    teacher = recipe.teacher.model_copy(update={"steps": each})
    student = recipe.student.model_copy(update={"steps": steps - rounds * each})
    return recipe.model_copy(update={"teacher": teacher, "student": student})
