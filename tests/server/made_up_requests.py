"""What schemathesis is told about the requests that it makes up; it imports this module by name."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ANN401  # its own types are not exported
    """A live stream has no end to wait for: what asks for one becomes a list, or a moment of it."""
    if case.operation.path == "/events" and str((case.query or {}).get("follow")).lower() in ("true", "1"):
        del case.query["follow"]
    if case.operation.path.endswith("/files/watch") and "timeout_sec" not in (case.query or {}):
        case.query = {**(case.query or {}), "timeout_sec": "0.1"}


@schemathesis.check
def no_defect(context: Any, response: Any, case: Any) -> None:  # noqa: ANN401
    """No room (507) is an answer like others; 500 without a word about what failed is a defect."""
    assert response.status_code not in (500, 501, 502), f"{response.status_code}: {response.text[:500]}"
