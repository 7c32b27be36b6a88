"""Which site a request is for, decided by its Host or by its path, never by both.

With a domain, `ALIAS.DOMAIN` names the site and the path is all the site's: what stands in it can name no other.
Without one, the path begins with `/p/ALIAS/`, and Host means nothing. What is not exactly so is for nobody.
"""

import re
from dataclasses import dataclass

PATH = re.compile(r"/p/([a-z0-9][a-z0-9-]{0,62})(?P<rest>[/?].*)?", re.DOTALL)

PORT = re.compile(r":\d{1,5}$")


@dataclass(frozen=True, slots=True)
class Destination:
    """The site a request names, what it asks it for, and the beginning of the path that is the gateway's own.

    `moved` is where a page asks to be looked for instead, because the links in it would lead elsewhere.
    """

    alias: str
    target: str
    prefix: str = ""
    moved: str | None = None


def destination(hosts: list[str], raw_path: str, domain: str) -> Destination | None:
    """Return where a request goes that has these Host headers and this target, as written; None for nowhere.

    RFC 9112 section 3.2: one Host, and a target that begins with a slash. Other forms of a target have a host of their
    own, which would be a second word about whom it is for.
    """
    if len(hosts) != 1 or not raw_path.startswith("/"):
        return None
    if not domain:
        return _of_path(raw_path)
    host = PORT.sub("", hosts[0].lower()).removesuffix(".")
    alias, dot, rest = host.partition(".")
    return Destination(alias, raw_path) if dot and alias and rest == domain else None


def _of_path(raw_path: str) -> Destination | None:
    found = PATH.fullmatch(raw_path)
    if found is None:
        return None
    prefix, rest = f"/p/{found[1]}", found["rest"] or ""
    if rest.startswith("/"):
        return Destination(found[1], rest, prefix)
    return Destination(found[1], f"/{rest}", prefix, moved=f"{prefix}/{rest}")


def url_of(alias: str, *, domain: str, public_url: str, port: int) -> str:
    """Return where people find a site: below `public_url`, or on the gateway's own `port` if that is not set."""
    if not domain:
        return f"{public_url.rstrip('/') or f'http://127.0.0.1:{port}'}/p/{alias}/"
    scheme, _, authority = (public_url.rstrip("/") or f"http://{domain}:{port}").partition("://")
    given = PORT.search(authority)
    usual = f":{443 if scheme == 'https' else 80}"
    return f"{scheme}://{alias}.{domain}{given[0] if given and given[0] != usual else ''}/"
