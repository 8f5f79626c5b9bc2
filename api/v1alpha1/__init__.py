"""Typed specs and statuses of group serving.paddlepaddle.org, version v1alpha1.

The classes are generated from config/crd by `make generate`; this file alone is by hand. They guarantee:

* attributes are snake_case, the wire is camelCase; both are accepted when building an object;
* fields that this version does not know survive ``model_validate`` followed by ``wire``;
* types are checked, limits are not: the API server has done that, and stored objects must stay readable.

A trap: defaults of the schema are filled in here too, so a typed object is never written back whole.
"""

from typing import Final

from pydantic import BaseModel

from . import canaryanalysis, common, paddlemodel, paddleservice
from .canaryanalysis import *  # noqa: F403
from .common import *  # noqa: F403
from .paddlemodel import *  # noqa: F403
from .paddleservice import *  # noqa: F403

GROUP: Final = "serving.paddlepaddle.org"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


def wire(typed: BaseModel) -> dict[str, object]:
    """Return `typed` as it goes over the wire: camelCase, without fields that are unset (None)."""
    return typed.model_dump(mode="json", by_alias=True, exclude_none=True)


__all__ = sorted(
    {
        "API_VERSION",
        "GROUP",
        "VERSION",
        "wire",
        *canaryanalysis.__all__,
        *common.__all__,
        *paddlemodel.__all__,
        *paddleservice.__all__,
    }
)
