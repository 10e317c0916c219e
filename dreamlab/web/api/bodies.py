"""What requests to the API hold; fields as in `web.service.Wish` and `Changes`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from dreamlab.web.service import Changes, Wish
from dreamlab.web.views import FileView, JobView

LARGEST = 2**63 - 1
Text = StrictStr
Seed = Annotated[StrictInt, Field(ge=-LARGEST, le=LARGEST, description="Of every random number.")]
Priority = Annotated[
    StrictInt, Field(ge=-1_000_000, le=1_000_000, description="Higher ones are begun first.")
]
Settings = Annotated[
    dict[StrictStr, Any],
    Field(
        default_factory=dict,
        description="Dotted keys, see `/recipes/{name}/settings`, to numbers, text, lists, …",
        examples=[{"export.max_faces": 5000}],
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Submission(_Body):
    """A run that is asked for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "prompt": "a red mushroom",
                    "recipe": "toybox",
                    "quality": "draft",
                    "seed": 3,
                    "settings": {"export.max_faces": 5000},
                }
            ]
        },
    )
    prompt: Text = Field(description="What to make; one line of at most 1000 characters.")
    negative_prompt: Text = Field("", description="What it should not be.")
    recipe: Text = Field("toybox", description="The name of a recipe, see `/recipes`.")
    quality: Literal["draft", "standard", "high"] | None = Field(
        None, description="How much time to spend; null is standard."
    )
    seed: Seed = 0
    settings: Settings
    priority: Priority = 0
    model: Text | None = Field(
        None, description="The id of an uploaded model that the first stage starts from."
    )

    def wish(self) -> Wish:
        """Return it as the service takes it."""
        return Wish(**self.model_dump())


class Rerun(_Body):
    """How a run that is repeated differs; what is left out stays as it was."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"seed": 5, "settings": {"export.height": 0.5}}]},
    )
    prompt: Text | None = None
    negative_prompt: Text | None = None
    seed: Seed | None = None
    settings: Settings
    priority: Priority = 0

    def changes(self) -> Changes:
        """Return it as the service takes it."""
        return Changes(**self.model_dump())


class Export(_Body):
    """What files are to be made again of a run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"settings": {"export.formats": ["glb", "stl"], "export.height": 0.5}}]
        },
    )
    settings: Settings


class NewPriority(_Body):
    """When a queued run has its turn."""

    priority: Priority


@dataclass(frozen=True, slots=True)
class JobList:
    """A page of runs."""

    total: int
    """How many there are in all."""
    jobs: list[JobView]


@dataclass(frozen=True, slots=True)
class ModelId:
    """An uploaded model."""

    id: str
    """To be given as `model` of a run."""


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What was wrong, and what can be done."""

    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The answer to a request that is refused."""

    error: ErrorDetail


__all__ = ["ErrorAnswer", "FileView", "JobList", "ModelId", "NewPriority", "Rerun", "Submission"]
