"""The method section of a profile: every method that can be named, one line each."""

from typing import Annotated

from pydantic import Field

from steerzo_edge.training.auto import AutoConfig
from steerzo_edge.training.exact import ExactConfig
from steerzo_edge.training.hybrid import HybridConfig
from steerzo_edge.zo.methods import ForwardOnly

MethodConfig = Annotated[
    ForwardOnly
    | ExactConfig
    | HybridConfig
    | AutoConfig,
    Field(discriminator="kind"),
]  # fmt: skip
