"""What a server asks for when it answers 401: the header WWW-Authenticate (RFC 9110 section 11.6.1)."""

import re
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_ITEM = re.compile(rf'[\s,]*({_TOKEN})(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+))?')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to prove who one is: `scheme` and the names of `parameters` are lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """Return the challenges of all the headers; what cannot be understood is left out."""
    challenges: list[Challenge] = []
    for header in headers:
        at = 0
        while (match := _ITEM.match(header, at)) is not None:
            at = match.end()
            name, value = match.group(1).lower(), match.group(2)
            if value is None:
                challenges.append(Challenge(name))
            elif challenges:
                text = _ESCAPE.sub(r"\1", value[1:-1]) if value.startswith('"') else value
                challenges[-1].parameters.setdefault(name, text)
    return challenges


def choose(challenges: list[Challenge]) -> Challenge | None:
    """Return the challenge that we can meet best: a token for one repository rather than a password for all."""
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme and (scheme == "basic" or "realm" in challenge.parameters):
                return challenge
    return None
