"""Signatures of the Standard Webhooks specification."""

import pytest

from windlass.errors import Misconfigured
from windlass.webhooks.signing import keys, sign

SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_example_of_the_specification_comes_out() -> None:
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(keys(f"whsec_{SECRET}"), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected
    assert sign(keys(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


def test_two_secrets_make_two_signatures() -> None:
    old, new = f"whsec_{SECRET}", "whsec_" + "QUFB" * 10
    assert sign(keys(f"{old} {new}"), "i", 1, b"") == f"{sign(keys(old), 'i', 1, b'')} {sign(keys(new), 'i', 1, b'')}"


def test_no_secret_is_no_key() -> None:
    assert keys("") == keys("  ") == []


@pytest.mark.parametrize("text", ["whsec_", "short", "QUFB", "whsec_not base64 at all!", f"{SECRET} QUFB", "é" * 40])
def test_what_is_no_secret_is_refused_with_how_to_make_one(text: str) -> None:
    with pytest.raises(Misconfigured, match="openssl rand"):
        keys(text)
