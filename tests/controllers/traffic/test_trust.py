"""Who routers believe, and who is believed to be a router."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.traffic.envoy import authority
from controllers.traffic.envoy.admission import AUDIENCE, Denied, Identity, read

NOW = 1_800_000_000.0
DAY = 86400.0


def test_a_certificate_is_signed_by_its_authority_for_its_names() -> None:
    own = authority.generate(NOW)
    leaf = authority.issue(own, ["ads.paddle-system.svc", "127.0.0.1"], NOW)
    read_leaf = x509.load_pem_x509_certificate(leaf.certificate.encode())
    root = x509.load_pem_x509_certificate(own.certificate.encode())
    read_leaf.verify_directly_issued_by(root)
    names = read_leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ads.paddle-system.svc"]
    assert str(names.get_values_for_type(x509.IPAddress)[0]) == "127.0.0.1"
    assert leaf.ends - NOW == authority.LEAF_LIFETIME
    assert not read_leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    before = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    assert read_leaf.not_valid_before_utc < before < read_leaf.not_valid_after_utc


def test_no_certificate_outlives_its_authority() -> None:
    own = authority.generate(NOW)
    assert authority.issue(own, ["a"], own.ends - DAY).ends == own.ends


def test_authorities_survive_their_secret() -> None:
    both = (authority.generate(NOW), authority.generate(NOW + DAY))
    assert authority.from_data(authority.to_data(both)) == both
    assert authority.from_data({"ca-0.crt": "x", "ca-0.key": "y"}) == ()
    assert "PRIVATE" not in repr(both)


@settings(max_examples=30)
@given(st.lists(st.floats(0.1, 400.0), min_size=1, max_size=40))
def test_a_rotation_never_signs_by_one_that_routers_do_not_know(days: list[float]) -> None:
    """Looked at in any rhythm, over decades: there is always one, and who signs is known for a day."""
    now, known = NOW, authority.kept((authority.generate(NOW),), NOW)
    seen = {known[0].certificate: NOW}
    for step in days:
        now += step * DAY
        known = authority.kept(known, now)
        if authority.renewal_due(known, now):
            known = authority.kept((*known, authority.generate(now)), now)
            seen.setdefault(known[-1].certificate, now)
        assert 1 <= len(known) <= 2
        assert not authority.renewal_due(known, now)
        signer = authority.signer(known, now)
        assert signer.ends > now
        alone = len(known) == 1
        assert alone or now - seen[signer.certificate] >= authority.OVERLAP or signer == known[0]
        assert signer.certificate in authority.bundle(known, now)


def status(**changed: object) -> dict[str, object]:
    extra = {
        "authentication.kubernetes.io/pod-name": ["router-1"],
        "authentication.kubernetes.io/pod-uid": ["u1"],
    }
    user = {"username": "system:serviceaccount:team-a:default", "extra": extra}
    return {"authenticated": True, "audiences": [AUDIENCE], "user": user} | changed


def test_namespace_and_pod_come_from_the_token() -> None:
    assert read(status()) == Identity("team-a", "router-1", "u1")


@pytest.mark.parametrize(
    "changed",
    [
        {"authenticated": False, "error": "expired"},
        {"authenticated": "true"},
        {"audiences": ["https://kubernetes.default.svc"]},
        {"audiences": None},
        {"user": {"username": "system:serviceaccount:team-a:default"}},
        {"user": {"username": "kubernetes-admin", "extra": {}}},
        {"user": {"username": "system:serviceaccount:a:b:c", "extra": {}}},
        {"user": None},
    ],
)
def test_anybody_else_is_denied(changed: dict[str, object]) -> None:
    with pytest.raises(Denied):
        read(status(**changed))
