"""Which addresses are public, and how a name is looked up."""

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.webhooks.addresses import Forbidden, Resolver, is_private


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1",         "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_private(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_is_public_is_not_private(address: str) -> None:
    assert not is_private(address)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_form_is_judged_alike(address: ipaddress.IPv4Address) -> None:
    for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_private(form) == is_private(str(address))


async def test_a_private_address_is_forbidden_unless_the_setting_says_otherwise() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "2130706433"):
        with pytest.raises(Forbidden, match="not public; WINDLASS_WEBHOOKS_ALLOW_PRIVATE"):
            await Resolver(allow_private=False).addresses(host)
        assert await Resolver(allow_private=True).addresses(host)
    assert await Resolver(allow_private=False).addresses("1.1.1.1") == ["1.1.1.1"]


async def test_a_name_that_does_not_exist_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"\S"):
        await Resolver(allow_private=True).addresses("no.such.host.invalid")


async def test_many_who_ask_for_a_name_share_one_answer_and_one_may_leave() -> None:
    resolver = Resolver(allow_private=True)
    asked = [asyncio.ensure_future(resolver.addresses("localhost")) for _ in range(50)]
    await asyncio.sleep(0)
    asked[0].cancel()
    answers = await asyncio.gather(*asked[1:])
    assert len(set(map(tuple, answers))) == 1
    assert asked[0].cancelled()
