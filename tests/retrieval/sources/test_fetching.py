from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest

from openchatkit.retrieval.sources import fetching
from openchatkit.retrieval.sources.fetching import (
    FetchFailed,
    FetchPolicy,
    FetchRefused,
    SafeFetcher,
    is_public,
)
from tests.retrieval.sources.web import Asked, Page, Web


async def get(policy: FetchPolicy, url: str, **more: Any) -> fetching.Fetched:
    async with SafeFetcher(policy) as fetcher:
        return await fetcher.get(url, **more)


async def test_reads_a_page(web: Web, policy: FetchPolicy) -> None:
    web.pages["/a"] = lambda asked: Page(
        f"<p>{asked.query['q']} ü".encode("latin-1"), "text/html; charset=latin-1"
    )
    page = await get(policy, web.url("/a?x=1"), parameters={"q": "one & two"}, headers={"X-Key": "k"})
    assert page.text == "<p>one & two ü"
    assert (page.content_type, page.url.startswith(web.url("/a"))) == ("text/html", True)
    [asked] = web.asked
    assert asked.query == {"x": "1", "q": "one & two"}
    assert asked.headers["x-key"] == "k"
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254", "2002:7f00:1::", "2001:db8::1", "2001:0:7f00:1::", "64:ff9b:1::1",
    ],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/",
        "http://0177.0.0.1/", "http://127.1/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/",
        "http://0/", "http://[64:ff9b::7f00:1]/", "http://10.0.0.8/", "http://[fe80::1%25lo]/",
    ],
)  # fmt: skip
async def test_the_network_inside_is_refused(url: str) -> None:
    with pytest.raises((FetchRefused, FetchFailed)) as caught:
        await get(FetchPolicy(timeout_s=60), url)
    if isinstance(caught.value, FetchFailed):  # a spelling that this system does not resolve
        assert "ConnectError" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "data:text/html,x",
        "javascript:1", "//example.com/", "/etc/passwd", "", "http://", "http:///x", "https://user:secret@example.com/",
        "http://example.com/" + "a" * 3000, "http://[::1", "unix:///var/run/docker.sock",
    ],
)  # fmt: skip
async def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(FetchRefused):
        await get(FetchPolicy(timeout_s=60), url)


def resolver(answers: dict[str, list[list[str]]]) -> Callable[..., Any]:
    """Resolve names by a list of answers, one used up by each question."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        addresses = answers[host].pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["169.254.169.254"]])
async def test_a_name_that_leads_inside_is_refused(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    names = {"rebind.example": [addresses]}
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver(names))
    with pytest.raises(FetchRefused, match="not public"):
        await get(FetchPolicy(timeout_s=60), "http://rebind.example/")


async def test_what_was_checked_is_what_is_connected_to(
    web: Web, policy: FetchPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time is never asked a second time."""
    names = {"rebind.example": [["127.0.0.1"]]}
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver(names))
    web.pages["/"] = lambda _: Page(b"here")
    page = await get(policy, web.url("/", host="rebind.example"))
    assert page.content == b"here"
    assert web.asked[0].headers["host"] == f"rebind.example:{web.port}"
    assert names == {"rebind.example": []}


async def test_redirects_are_checked_too(web: Web, policy: FetchPolicy) -> None:
    inside = "http://169.254.169.254/latest/meta-data/"
    web.pages["/out"] = lambda _: Page(status=302, headers={"Location": inside})
    web.pages["/file"] = lambda _: Page(status=301, headers={"Location": "file:///etc/passwd"})
    for path in ("/out", "/file"):
        with pytest.raises(FetchRefused):
            await get(policy, web.url(path))


async def test_redirects_are_followed_and_counted(web: Web, policy: FetchPolicy) -> None:
    def step(asked: Asked) -> Page:
        number = int(asked.query["n"])
        return Page(b"end") if number == 0 else Page(status=302, headers={"Location": f"/r?n={number - 1}"})

    web.pages["/r"] = step
    assert (await get(policy, web.url("/r?n=5"))).content == b"end"
    with pytest.raises(FetchRefused, match="redirects"):
        await get(policy, web.url("/r?n=6"))
    with pytest.raises(FetchRefused, match="redirects"):
        await get(policy, web.url("/r?n=1"), follow=False)


async def test_only_usual_ports(web: Web) -> None:
    with pytest.raises(FetchRefused, match="port"):
        await get(FetchPolicy(timeout_s=60), "http://1.1.1.1:22/")


async def test_a_trusted_host_is_reached_and_its_redirects_are_not_followed(web: Web) -> None:
    trusting = FetchPolicy(trusted_hosts=frozenset({"localhost"}), timeout_s=60)
    web.pages["/"] = lambda _: Page(b"inside")
    web.pages["/away"] = lambda _: Page(status=302, headers={"Location": "/"})
    assert (await get(trusting, web.url("/", host="localhost"))).content == b"inside"
    with pytest.raises(FetchRefused):
        await get(trusting, web.url("/away", host="localhost"))
    with pytest.raises(FetchRefused):
        await get(trusting, web.url("/"))  # the same place by another name


async def test_size_and_time_are_bounded(web: Web, policy: FetchPolicy) -> None:
    web.pages["/endless"] = lambda _: Page(b"x" * 65_536, endless=True)
    small = FetchPolicy(max_bytes=200_000, timeout_s=60, allowed_networks=policy.allowed_networks)
    with pytest.raises(FetchFailed, match="larger"):
        await get(small, web.url("/endless"))
    web.pages["/slow"] = lambda _: Page(b"x") if web.closing.wait(60) else Page()
    quick = FetchPolicy(timeout_s=0.3, allowed_networks=policy.allowed_networks)
    with pytest.raises(FetchFailed, match="in time"):
        await get(quick, web.url("/slow"))


async def test_a_compressed_answer_is_not_unpacked(web: Web, policy: FetchPolicy) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    web.pages["/bomb"] = lambda _: Page(bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchFailed, match="compressed"):
        await get(policy, web.url("/bomb"))


@pytest.mark.parametrize("status", [404, 500, 204, 401])
async def test_other_statuses_are_failures(web: Web, policy: FetchPolicy, status: int) -> None:
    web.pages["/"] = lambda _: Page(status=status)
    with pytest.raises(FetchFailed, match=str(status)):
        await get(policy, web.url("/"))


async def test_nobody_there(policy: FetchPolicy) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(FetchFailed, match="ConnectError"):
            await get(policy, f"http://127.0.0.1:{probe.getsockname()[1]}/")
