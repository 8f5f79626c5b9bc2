"""Who may open a stream: a router pod, by the token that Kubernetes has put into it.

The token is bound to one audience and to its pod. What it is bound to, namespace and pod, comes from the API
server's answer and never from what the caller says of itself.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import controller_runtime as ctrl

from ...resources.wire import at, mapping, text

#: What tokens are made for; one made for anybody else is refused.
AUDIENCE: Final = "paddle-operator-ads"
HEADER: Final = "authorization"
PREFIX: Final = "Bearer "
#: Seconds for one question, and how many run at once.
DEADLINE: Final = 5.0
CONCURRENCY: Final = 8

TOKEN_REVIEW: Final = ctrl.Kind(
    "authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False
)
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_ACCOUNT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Identity:
    """A pod, as the API server vouches for it."""

    namespace: str
    pod: str
    uid: str


class Denied(Exception):
    """The caller is nobody we know; the text says why, without the token."""


class Unavailable(Exception):
    """The API server could not be asked; the caller may come again."""


class Admission(Protocol):
    async def admit(self, token: str) -> Identity:
        """Who holds `token`. Raises Denied and Unavailable."""
        ...


class TokenReviews:
    """Asks the API server; at most CONCURRENCY questions at once, each with a deadline."""

    def __init__(self, client: ctrl.Client) -> None:
        #: Why no token can be reviewed, as the API server said last, or "".
        self.problem = ""
        self._client = client
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def admit(self, token: str) -> Identity:
        if not token or len(token) > 16384:
            raise Denied("no token")
        body: ctrl.JSON = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": TOKEN_REVIEW.kind,
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            async with asyncio.timeout(DEADLINE), self._slots:
                answer = await self._client.create_review(ctrl.Object(body, TOKEN_REVIEW))
        except ctrl.Forbidden as error:
            self.problem = (
                "the operator may not review tokens: apply config/rbac/namespaced/cluster_role.yaml"
            )
            raise Unavailable(f"the operator may not review tokens: {error.message}") from error
        except (TimeoutError, ctrl.ApiError, ctrl.TransportError) as error:
            raise Unavailable(f"token review: {type(error).__name__}") from error
        self.problem = ""
        return read(answer.status)


def read(status: Mapping[str, object]) -> Identity:
    """The identity in a TokenReview's status. Raises Denied."""
    if status.get("authenticated") is not True:
        raise Denied(f"token refused: {text(status.get('error')) or 'not authenticated'}"[:256])
    audiences = status.get("audiences")
    if not isinstance(audiences, list) or AUDIENCE not in audiences:
        raise Denied("the token is not meant for us")
    user = text(at(status, "user", "username"))
    parts = user.removeprefix(_ACCOUNT).split(":")
    if not user.startswith(_ACCOUNT) or len(parts) != 2:
        raise Denied(f"{user[:128]} is no service account")
    extra = mapping(at(status, "user", "extra"))
    pod, uid = _only(extra.get(_POD_NAME)), _only(extra.get(_POD_UID))
    if not pod or not uid:
        raise Denied("the token is bound to no pod")
    return Identity(namespace=parts[0], pod=pod, uid=uid)


def _only(value: object) -> str:
    return text(value[0]) if isinstance(value, list) and len(value) == 1 else ""
