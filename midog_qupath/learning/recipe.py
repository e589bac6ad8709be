"""Training recipes: TOML files in ``training/recipes``; a misspelt key is refused.

Every part of the method can be switched off here, so that its gain can be measured.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from midog_qupath.errors import RecipeError
from midog_qupath.models.student import SIZE_MULTIPLE, NetworkConfig
from midog_qupath.resources import shipped


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplingRecipe(_Strict):
    """What a batch is made of. Shares need not sum to 1: they are weights."""

    tile_px: int = Field(default=96, ge=SIZE_MULTIPLE, multiple_of=SIZE_MULTIPLE)
    batch: int = Field(default=32, ge=2)
    #: Part of the steps that look at wide tiles of exhaustively labelled ground instead: there objects lie
    #: anywhere, as far from a border as in an image, and others are set in from elsewhere, as many as the
    #: small tiles of that area would show. Good to finish a model with; a training from scratch does better
    #: with 0, continued afterwards.
    share_wide: float = Field(default=0.5, ge=0, le=1)
    wide_px: int = Field(default=256, ge=2 * SIZE_MULTIPLE, multiple_of=SIZE_MULTIPLE)
    share_mitosis: float = Field(default=0.4, ge=0)
    share_hard_negative: float = Field(default=0.25, ge=0)
    share_field: float = Field(default=0.15, ge=0)
    #: Random places around the objects of mosaics (``teacher.surroundings``).
    share_surroundings: float = Field(default=0.2, ge=0)
    #: Part of the share of mitoses from images that supply negatives too: were they few, the look of
    #: those images would tell that there is no mitosis.
    mitoses_from_fields: float = Field(default=0.3, ge=0, le=1)
    #: How often a place of an ordinary image is shown like a cell of a mosaic, where mosaics train along.
    seen_as_cells: float = Field(default=0.75, ge=0, le=1)
    #: Part of the share of hard negatives that is mined rather than drawn by a person.
    share_mined: float = Field(default=0.6, ge=0, le=1)
    #: Domains, and normal and atypical mitoses, by the square root of their number.
    balance_domains: bool = True

    @property
    def wide_batch(self) -> int:
        """Wide tiles of a batch: about as many pixels as the small ones have together."""
        return max(1, round(self.batch * self.tile_px**2 / self.wide_px**2))


class AugmentationRecipe(_Strict):
    """Strengths; 0 switches one off. Lengths in working pixels.

    ``scale``: smallest and largest magnification (log-uniform between). Wide, because the pixel size of
    many images is wrong or assumed, and nuclei differ in size between species and tumours.
    """

    flip: bool = True
    rotate: bool = True
    scale: tuple[Annotated[float, Field(ge=0.1, le=10)], Annotated[float, Field(ge=0.1, le=10)]] = (0.65, 1.7)
    shift_px: float = Field(default=20.0, ge=0)
    stain: float = Field(default=0.4, ge=0)
    brightness: float = Field(default=0.08, ge=0)
    #: Standard deviation of the widest blur, in working pixels.
    blur: float = Field(default=1.2, ge=0)
    #: Largest share of detail that an unsharp mask adds.
    sharpen: float = Field(default=1.5, ge=0)
    noise: float = Field(default=4.0, ge=0)
    jpeg: float = Field(default=0.3, ge=0, le=1)

    @model_validator(mode="after")
    def _scale_in_order(self) -> AugmentationRecipe:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale names the smaller magnification first")
        return self


class OptimiserRecipe(_Strict):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    clip_norm: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.995, ge=0, lt=1)
    #: The learning rate of a training that starts from a model, relative to one from scratch.
    from_model_factor: float = Field(default=0.3, gt=0, le=1)


class TeacherRecipe(_Strict):
    """Seed masks, teacher and pseudo-masks. ``masks = "disc"`` needs neither (the floor)."""

    masks: Literal["teacher", "seeds", "disc"] = "teacher"
    steps: int = Field(default=800, ge=1)
    #: Part of the time limit that the teacher may use.
    share_of_time: float = Field(default=0.18, gt=0, lt=1)
    rounds: int = Field(default=1, ge=1, le=2)
    #: Exponent of the generalised cross entropy; 0 = cross entropy, 1 = mean absolute error.
    noise_tolerance: float = Field(default=0.5, ge=0, le=1)
    normal_nuclei: bool = True
    #: Normal nuclei and background also from the unlabelled surroundings of mosaics' objects.
    surroundings: bool = True
    #: Surroundings where the mitosis probability is higher than this teach the student nothing. High,
    #: because an unlabelled figure is rare, and the doubtful nuclei are those that teach most.
    doubt: float = Field(default=0.9, ge=0, le=1)
    #: A pixel is a normal nucleus above, background below the complement, ignored in between.
    confidence: float = Field(default=0.65, ge=0.5, lt=1)
    #: The student starts from the teacher's weights.
    warm_start: bool = True


class StudentRecipe(_Strict):
    """Student training; a weight of 0 switches its part off."""

    steps: int = Field(default=4000, ge=1)
    dice_weight: float = Field(default=1.0, ge=0)
    mitosis_pixel_weight: float = Field(default=2.0, gt=0)
    contrastive_weight: float = Field(default=0.1, ge=0)
    contrastive_temperature: float = Field(default=0.1, gt=0)
    contrastive_bank: int = Field(default=1024, ge=0)
    #: 0, because sources left out were found a little worse with it (``training/README.md``).
    adversarial_weight: float = Field(default=0.0, ge=0)
    #: Highest factor of the gradient reversal layer; grows as in Ganin et al. 2016.
    adversarial_strength: float = Field(default=0.5, ge=0)
    classifier_weight: float = Field(default=0.5, ge=0)
    #: The classifier only reads the UNet's features; its loss does not shape them.
    classifier_detached: bool = False
    soft_labels: bool = True
    #: Where in training (0..1) the student mines look-alikes; it starts with those of the teacher.
    mine_at: tuple[float, ...] = (0.3, 0.6)


class OperatingPointRecipe(_Strict):
    """How the threshold is chosen on the left-out validation cases.

    ``verifier_weight``: share of the classifier in the mitosis probability. 0, because the classifier
    takes the look-alikes of a source that it has not seen for mitoses more readily than the UNet does.
    ``statistics_share``, ``nuclei_quantile``: how the model gets used to an image before it is searched
    (:mod:`midog_qupath.inference.adapt`); 0 switches either off.
    """

    verifier_weight: float = Field(default=0.0, ge=0, le=1)
    statistics_share: float = Field(default=0.3, ge=0, le=1)
    nuclei_quantile: float = Field(default=0.975, ge=0, lt=1)


class Recipe(_Strict):
    """A whole training."""

    name: str
    description: str = ""
    seed: int = 0
    #: Start from the released model where nothing else is asked for: few projects hold enough mitoses.
    from_released: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_seconds: float = Field(default=120.0, gt=0)
    #: Processes that make batches ahead, of each training process; left out: as many as the device calls for.
    workers: int | None = Field(default=None, ge=0)
    network: NetworkConfig = NetworkConfig()
    sampling: SamplingRecipe = SamplingRecipe()
    augmentation: AugmentationRecipe = AugmentationRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    teacher: TeacherRecipe = TeacherRecipe()
    student: StudentRecipe = StudentRecipe()
    operating_point: OperatingPointRecipe = OperatingPointRecipe()

    @model_validator(mode="after")
    def _classifier_is_trained(self) -> Recipe:
        if self.operating_point.verifier_weight > 0 and self.student.classifier_weight == 0:
            raise ValueError("operating_point.verifier_weight needs student.classifier_weight above 0")
        return self


def load_recipe(name: str) -> Recipe:
    """Read a recipe: the name of a shipped one, or the path of a TOML file.

    Raises
    ------
    RecipeError
        Unknown recipe, broken TOML, unknown key or value out of range.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = shipped("recipes") / f"{name}.toml"
    if not path.is_file():
        raise RecipeError(f"There is no recipe {name!r}.", f"Shipped ones: {', '.join(recipe_names())}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe.model_validate({"name": path.stem, **values})
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"The recipe {path} is not valid TOML: {error}.", "Correct that line.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe {path} is no text in UTF-8.", "Save it as such.") from error
    except ValidationError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: ValidationError) -> RecipeError:
    """What is wrong with the first key that does not fit, and which keys there are if it is unknown."""
    first = error.errors()[0]
    *section, key = map(str, first["loc"]) or ["recipe"]
    name = ".".join((*section, key))
    if first["type"] != "extra_forbidden":
        problem = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"The recipe {path}: {name}: {problem}.", "Correct that key.")
    known: type[BaseModel] = Recipe
    for part in section:
        known = cast("type[BaseModel]", known.model_fields[part].annotation)
    near = get_close_matches(key, known.model_fields, 1)
    remedy = f"Is it {near[0]}?" if near else f"There are: {', '.join(known.model_fields)}."
    return RecipeError(f"The recipe {path} has an unknown key {name}.", remedy)


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in shipped("recipes").glob("*.toml"))
