"""What every mapping of the topology file is: a frozen model that knows its keys and nothing else.

Not modelled: values that depend on each other; that is checked when the topology is loaded.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A mapping of the file: unknown keys are mistakes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, validate_default=True
    )


def default(value: object) -> Any:
    """A default in the words of the file: parsed like any value, shown in editors as it would be written."""
    return Field(default=value)
