"""Read something from the web without becoming somebody's tool against the network one stands in.

    async with SafeFetcher(FetchPolicy()) as fetcher:
        page = await fetcher.get("https://example.com/report.html")

Only http and https, only the usual ports, no credentials in addresses, and no private, loopback, link-local
or otherwise special network addresses. The check is made on the addresses that a name resolves to, in the
very step that connects to one of them, so that a name cannot resolve differently the second time; every
redirect goes through it again. Size, time and the number of redirects are bounded; compressed answers are
not asked for and not unpacked.

A host that the operator has named (a search engine inside the network) may be trusted by the policy: its
addresses are not checked, and its redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

import httpcore
import httpx

PORTS = frozenset({80, 443})
MAX_ADDRESS_CHARACTERS = 2048
MAX_CONNECTIONS = 32
USER_AGENT = "OpenChatKit-SageMaker"
NAT64 = ipaddress.ip_network("64:ff9b::/96")
LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
"""RFC 8215; Python's table of special addresses does not have it before 3.13."""

CORE_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class FetchRefused(ValueError):
    """The policy forbids it: an address, a scheme, a redirect. Nothing was sent there."""


class FetchFailed(RuntimeError):
    """The other side could not be reached, or answered something unusable."""


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched, and how much of it."""

    timeout_s: float = 10.0
    """For the whole fetch, redirects included."""
    max_bytes: int = 5 * 2**20
    max_redirects: int = 5
    allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Networks that may be reached although they are not public, on any port."""
    trusted_hosts: frozenset[str] = frozenset()
    """Names that the operator has configured, lower case: any address, any port, no redirects."""

    def permits(self, address: Address, port: int) -> bool:
        """Return whether a connection to an address may be made."""
        if any(address in network for network in self.allowed_networks if network.version == address.version):
            return True
        return port in PORTS and is_public(address)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer with a status of 200."""

    url: str
    """Where it came from in the end."""
    content: bytes
    content_type: str
    """Without parameters, lower case; empty where none was sent."""
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """The content as text, in the charset that its header names, else UTF-8."""
        message = httpx.Response(200, headers=dict(self.headers), content=self.content)
        return message.text


def is_public(address: Address) -> bool:
    """Return whether an address is on the public internet, looking through those that carry another one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None or address.teredo is not None or address in LOCAL_NAT64:
            return False
    return address.is_global and not address.is_multicast


class SafeFetcher:
    """Fetches under a policy. One object serves many requests at once; close it."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._client = httpx.AsyncClient(transport=_GuardedTransport(policy), follow_redirects=False)

    async def __aenter__(self) -> SafeFetcher:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def get(
        self,
        url: str,
        *,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Fetched:
        """Return what is at an address.

        Args:
            url: absolute.
            parameters: added to its query.
            headers: sent along, on redirects too.
            follow: whether redirects are followed; not where `headers` hold a key.

        Raises:
            FetchRefused: the policy forbids the address, or one that it leads to.
            FetchFailed: no answer, not one with status 200 or 304, too large, too late.
        """
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                return await self._follow(_with_query(url, parameters), dict(headers or {}), follow=follow)
        except TimeoutError:
            raise FetchFailed("no answer in time") from None
        except (
            httpx.HTTPError,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
        ) as error:
            raise FetchFailed(f"no answer: {type(error).__name__}") from error

    async def _follow(self, url: httpx.URL, headers: dict[str, str], *, follow: bool) -> Fetched:
        trusted = url.host.lower() in self._policy.trusted_hosts
        redirects = self._policy.max_redirects if follow and not trusted else 0
        for _ in range(redirects + 1):
            check_address(url)
            fixed = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
            request = self._client.build_request("GET", url, headers=fixed | headers)
            answer = await self._client.send(request, stream=True)
            try:
                if answer.next_request is None:
                    return await self._read(answer)
                url = answer.next_request.url
            finally:
                await answer.aclose()
        raise FetchRefused("too many redirects, or one that may not be followed")

    async def _read(self, answer: httpx.Response) -> Fetched:
        if answer.status_code not in (httpx.codes.OK, httpx.codes.NOT_MODIFIED):
            raise FetchFailed(f"status {answer.status_code}")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchFailed("compressed, though that was not asked for")
        content = bytearray()
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > self._policy.max_bytes:
                raise FetchFailed(f"larger than {self._policy.max_bytes} bytes")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Fetched(str(answer.url), bytes(content), kind, dict(answer.headers))


def check_address(url: httpx.URL) -> None:
    """Refuse an address that is not plainly http or https with a host."""
    if url.scheme not in ("http", "https"):
        raise FetchRefused("only http and https addresses are read")
    if not url.host or url.userinfo or len(str(url)) > MAX_ADDRESS_CHARACTERS:
        raise FetchRefused("no host in the address, credentials in it, or it is too long")


def _with_query(url: str, parameters: Mapping[str, str] | None) -> httpx.URL:
    try:
        return httpx.URL(url).copy_merge_params(dict(parameters or {}))
    except (httpx.InvalidURL, ValueError, TypeError):
        raise FetchRefused("no address") from None


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves, checks and connects in one step."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        if host.lower() not in self._policy.trusted_hosts:
            # All of them: a name with one address inside is not half a stranger.
            for address in addresses:
                if not self._policy.permits(address, port):
                    raise FetchRefused("the address leads into a network, or to a port, that is not public")
        trouble: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in addresses:
            try:
                return await self._sockets.connect_tcp(
                    str(address),
                    port,
                    timeout=timeout,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                trouble = error
        raise trouble or httpcore.ConnectError("no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise FetchRefused("sockets of this machine are not read")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # A zone (fe80::1%eth0) says which interface; only link-local addresses have one.
        names = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
        return [ipaddress.ip_address(name) for name in names]
    except (OSError, UnicodeError, ValueError) as error:
        raise httpcore.ConnectError("the name does not resolve") from error


class _GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's requests over a connection pool whose sockets go through the guard."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            network_backend=_GuardedBackend(policy),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Stream(answer))

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._answer.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()
