"""Ports of a sandbox: who listens."""

from bhatti.operations.documents.base import Answer


class ListeningPort(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A port on which a program in the sandbox listens, at these `addresses` of it.

    `proxy_url` is the path under which this API passes requests to it.
    """

    container_port: int
    proxy_url: str
    addresses: list[str] = []


class SandboxPort(ListeningPort, frozen=True, kw_only=True, omit_defaults=True):
    """The same, and whose port it is."""

    sandbox_id: str
    sandbox: str
