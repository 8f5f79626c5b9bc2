"""The routes of one listener: rules first, then the weights. Pure; bodies are Envoy's JSON.

What falls to the candidate goes to an aggregate cluster [candidate, stable], so that Envoy itself falls over
when the candidate has no healthy endpoint. What falls to stable goes to stable alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ...resources.wire import JSON
from ..split import EXPERIMENT_HEADER, USER_HEADER, Match, Rule, Split, UserShare

#: A share of users is cut into so many parts.
PARTS: Final = 10_000
#: A request whose body is larger is sent once and not again.
RETRY_BYTES: Final = 1 << 20
REVISION_HEADER: Final = "x-model-revision"

_RETRY: Final[JSON] = {
    # Predicting twice does no harm: a connection that breaks before the answer begins is no loss.
    "retry_on": "connect-failure,refused-stream,reset",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    # A dead pod has nothing to do, so it is picked first: looking often enough costs nothing.
    "host_selection_retry_max_attempts": 10,
    # What did not get through to the candidate goes to stable, before Envoy has seen that nobody is there.
    "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 1,
        },
    },
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
}

_Share = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sides:
    """The names of the two clusters that routes point at; candidate is "" while nothing may go there."""

    stable: str
    candidate: str

    def of(self, to: str) -> str:
        return self.stable if to == "Stable" else self.candidate


def route_configuration(name: str, split: Split, sides: Sides) -> JSON:
    """The RouteConfiguration `name` of `split`; `sides.candidate` must be "" when it may get nothing."""
    return {
        "name": name,
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": list(_routes(split, sides)),
                "retry_policy": _RETRY,
                "request_body_buffer_limit": RETRY_BYTES,
            }
        ],
        "response_headers_to_add": [
            {
                # What answered, not what was meant to: after a fall-over these differ.
                "header": {"key": REVISION_HEADER, "value": "%UPSTREAM_METADATA(envoy.lb:revision)%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "validate_clusters": False,
    }


def _routes(split: Split, sides: Sides) -> Iterator[JSON]:
    if not sides.candidate:
        yield _route([], _one(sides.stable))
        return
    weights = _weights(split.weight, 100, sides)
    for values, cluster in _named(split, sides):
        for value in values:
            yield _route([_exactly(EXPERIMENT_HEADER, value, ignore_case=True)], _one(cluster))
    before, user, after = _cut(split.rules)
    for rule in before:
        yield _route([_matcher(rule.match)], _one(sides.of(rule.to)))
    if user is not None and user.match.user is not None:
        share, known = user.match.user, {"name": USER_HEADER, "present_match": True}
        for rule in after:
            rest: list[_Share] = [(sides.of(rule.to), PARTS - share.percent * (PARTS // 100))]
            yield _route(
                [known, _matcher(rule.match)], _by_user(split, share, _first(share, user, sides) + rest)
            )
        rest = _weights(split.weight, PARTS - share.percent * (PARTS // 100), sides)
        yield _route([known], _by_user(split, share, _first(share, user, sides) + rest))
    for rule in after:
        yield _route([_matcher(rule.match)], _one(sides.of(rule.to)))
    yield _route([], _one(weights[0][0]) if len(weights) == 1 else _weighted(weights))


def _named(split: Split, sides: Sides) -> Iterator[tuple[list[str], str]]:
    """What `x-model-exp` may say, and where that goes. A version that both sides have names neither."""
    assert split.candidate is not None
    both = set(split.stable.versions) & set(split.candidate.versions)
    for word, revision, cluster in (
        ("canary", split.candidate, sides.candidate),
        ("stable", split.stable, sides.stable),
    ):
        yield [word, revision.hash, *sorted(set(revision.versions) - both)], cluster


def _cut(rules: Sequence[Rule]) -> tuple[Sequence[Rule], Rule | None, Sequence[Rule]]:
    """The rules before the one about users, that one, and those after it."""
    for index, rule in enumerate(rules):
        if rule.match.user is not None:
            return rules[:index], rule, rules[index + 1 :]
    return rules, None, ()


def _first(share: UserShare, rule: Rule, sides: Sides) -> list[_Share]:
    return [(sides.of(rule.to), share.percent * (PARTS // 100))]


def _weights(weight: int, total: int, sides: Sides) -> list[_Share]:
    """`total` parts by the weight. The candidate comes first, so that the users it gets only become more."""
    candidate = weight * total // 100
    shares = [(sides.candidate, candidate), (sides.stable, total - candidate)]
    return [share for share in shares if share[1]]


def _by_user(split: Split, share: UserShare, shares: list[_Share]) -> JSON:
    """By the hash of the user, as a share of PARTS; who has no part in a rule falls to the rest."""
    salt = (share.salt or str(split.service)).replace("\\", "\\\\")
    action = _weighted([item for item in shares if item[1]], by_hash=True)
    rewrite = {"pattern": {"regex": "^(.*)$"}, "substitution": f"{salt}:\\1"}
    return action | {"hash_policy": [{"header": {"header_name": USER_HEADER, "regex_rewrite": rewrite}}]}


def _weighted(shares: Sequence[_Share], *, by_hash: bool = False) -> JSON:
    split: JSON = {"clusters": [{"name": name, "weight": weight} for name, weight in shares]}
    return {"weighted_clusters": split | {"use_hash_policy": True} if by_hash else split}


def _one(cluster: str) -> JSON:
    return {"cluster": cluster}


def _route(headers: list[JSON], action: JSON) -> JSON:
    match: JSON = {"prefix": "/"}
    if headers:
        match["headers"] = headers
    return {"match": match, "route": {**action, "timeout": "0s"}}


def _matcher(match: Match) -> JSON:
    if match.header is not None:
        return _exactly(match.header.name, match.header.value)
    assert match.cookie is not None
    name, value = _quoted(match.cookie.name), _quoted(match.cookie.value)
    regex = rf'(?:.*;)?\s*{name}=(?:{value}|"{value}")\s*(?:;.*)?'
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": regex}}}


def _quoted(text: str) -> str:
    """`text` for RE2, which knows no escape of a letter or digit and allows one of anything else."""
    return re.sub(r"([^A-Za-z0-9_])", r"\\\1", text)


def _exactly(name: str, value: str, *, ignore_case: bool = False) -> JSON:
    matcher: JSON = {"exact": value}
    if ignore_case:
        matcher["ignore_case"] = True
    return {"name": name.lower(), "string_match": matcher}
