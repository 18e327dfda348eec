"""Attacks on the address guard."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard, Resolving, is_public
from crawler.limits import Limits

LIMITS = Limits(rate_per_host=0, robots_retries=0, retries=0, total_s=5, connect_s=1, read_s=1)

PRIVATE = [
    "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
    "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_public_addresses_are(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "[::1]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "2852039166", "0xA9FEA9FE", "[fe80::1%25eth0]",
     "[0:0:0:0:0:ffff:a9fe:a9fe]", "0"],
)  # fmt: skip
def test_literals_in_every_notation(host):
    with pytest.raises(Refused, match="not public"):
        Guard().check(f"http://{host}/latest/meta-data/")
    with pytest.raises(Refused, match="not public"):
        Guard().check(f"http://{host}:8080/")


def test_only_what_is_named_may_be_private():
    guard = Guard(["127.0.0.1"])
    guard.check("http://127.0.0.1:8080/")
    guard.check("http://shop.example/")
    for other in ("127.0.0.2", "2130706433", "[::1]"):
        with pytest.raises(Refused):
            guard.check(f"http://{other}/")


class _Answers:
    """A name server under the attacker's control: another answer every time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(self, host):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def close(self):
        pass


async def test_a_name_with_a_private_answer_is_refused_even_among_public_ones():
    resolver = Resolving(Guard(), _Answers(["93.184.216.34", "127.0.0.1"]))
    with pytest.raises(Refused, match=r"resolves to 127\.0\.0\.1"):
        await resolver.addresses("rebind.example")


def _fetcher(guard: Guard) -> Fetcher:
    return Fetcher(LIMITS, guard, agent="bassline", user_agent="test", allowed=lambda host: True)


async def test_a_name_that_resolves_to_this_machine_is_refused_at_connect_time(start_web):
    url = await start_web({"/a": b"secret"})
    async with _fetcher(Guard()) as fetcher:
        with pytest.raises(Refused) as refused:  # robots.txt is asked for first, and denied by the same guard
            await fetcher.image(url.replace("127.0.0.1", "localhost") + "a")
        assert "not public" in str(refused.value)
        assert fetcher.traffic.bytes == 0


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/secret", "http://2130706433:{port}/secret", "http://[::ffff:127.0.0.1]:{port}/secret",
     "http://0x7f.1:{port}/secret", "http://169.254.169.254/latest/", "//127.1:{port}/secret",
     "http://localtest.invalid/"],
)  # fmt: skip
async def test_redirects_to_private_addresses(start_web, target):
    asked = []

    async def secret(request):
        asked.append(request.path)
        raise AssertionError

    table = {"/secret": secret}
    url = await start_web(table)
    port = url.rsplit(":", 1)[1].strip("/")
    table["/go"] = (302, {"Location": target.format(port=port)}, b"")
    # the one host that is allowed is the name, so the literal is not
    async with _fetcher(Guard(["localhost"])) as fetcher:
        with pytest.raises(Refused) as refused:
            await fetcher.image(f"http://localhost:{port}/go")
    assert refused.value.reason in ("address", "robots-unreachable")
    assert not asked


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/", "gopher://x/", "", "javascript:0"])
async def test_redirects_to_other_schemes(start_web, target):
    url = await start_web({"/go": (302, {"Location": target}, b"")})
    async with _fetcher(Guard(["127.0.0.1"])) as fetcher:
        with pytest.raises(Refused, match="no web address"):
            await fetcher.image(url + "go")
