import re

from bhatti.operations import manual, openapi, table
from bhatti.operations.table import ALL

PAGE = manual.markdown(openapi.document("1.2.3"))


def test_every_operation_and_type_has_its_heading_once() -> None:
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert len({manual.anchor(heading) for heading in headings}) == len(headings)
    assert {operation.name for operation in ALL} <= set(headings)
    assert {"type Sandbox", "type ExecRequest", "type ErrorBody"} <= set(headings)


def test_every_link_leads_somewhere() -> None:
    anchors = {manual.anchor(heading) for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors


def test_a_call_can_be_pasted_into_a_shell() -> None:
    assert manual.call(table.SANDBOX_GET) == (
        "sh",
        "curl --unix-socket /run/bhatti/bhatti.sock http://bhatti/sandboxes/agent-1",
    )
    assert manual.call(table.SANDBOX_DESTROY)[1].startswith("curl --unix-socket /run/bhatti/bhatti.sock -X DELETE ")
    assert " --json '{" in manual.call(table.EXEC)[1]
    assert " --head " in manual.call(table.FILE_STAT)[1]
    assert manual.call(table.FILE_WRITE)[1].startswith("printf 'one\\ntwo\\nthree\\n' | curl ")


def test_a_conversation_is_a_program() -> None:
    for operation in (table.EXEC_SOCKET, table.TERMINAL):
        language, text = manual.call(operation)
        assert language == "python"
        compile(text, operation.name, "exec")
