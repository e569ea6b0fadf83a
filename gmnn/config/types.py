"""Strictness and number types shared by all sections of the configuration."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from gmnn.files import expanded

STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
Flag = Annotated[bool, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]  # finite, by STRICT
Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=1, lt=2**31)]  # steps are counted in 32 bits
PathText = Annotated[str, AfterValidator(expanded)]  # with ~ replaced as in a shell
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
