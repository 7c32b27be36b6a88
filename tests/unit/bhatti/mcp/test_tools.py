import json

import anyio
import pytest
from mcp import Client
from tests.daemons import Daemon
from tests.unit.bhatti.mcp.conftest import Agent

from bhatti import AsyncSandbox
from bhatti.mcp.tools import Tools

pytestmark = pytest.mark.anyio


async def test_an_agent_makes_a_machine_and_works_in_it(agent: Agent) -> None:
    made = await agent.call("create_sandbox", name="work", env={"WHO": "me"})
    assert (made["name"], made["status"]) == ("work", "running")
    assert "work" in json.dumps(await agent.call("list_sandboxes"))
    await agent.call("write_file", sandbox="work", path="bin/hi", content="#!/bin/sh\necho hi $WHO", executable=True)
    done = await agent.call("run", sandbox="work", command="bin/hi; cat; echo no >&2; exit 3", stdin="in")
    assert done == {"exit_code": 3, "reason": "exited", "stdout": "hi me\nin", "stderr": "no\n", "note": None}
    assert (await agent.call("read_file", sandbox="work", path="bin/hi"))["content"] == "#!/bin/sh\necho hi $WHO"
    listed = json.dumps((await agent.call("list_files", sandbox="work", path="bin"))["result"])
    assert '"name": "hi", "size_bytes": 22' in listed
    await agent.call("destroy_sandbox", sandbox="work")
    assert "sandbox-destroyed: " in await agent.refusal("run", sandbox="work", command="true")


async def test_a_fork_goes_on_from_a_checkpoint(agent: Agent) -> None:
    await agent.call("create_sandbox", name="first")
    await agent.call("write_file", sandbox="first", path="note", content="then")
    assert (await agent.call("checkpoint_sandbox", sandbox="first", name="kept"))["name"] == "kept"
    await agent.call("write_file", sandbox="first", path="note", content="now")
    for name, checkpoint, note in (("a", "kept", "then"), ("b", None, "now")):
        await agent.call("fork_sandbox", sandbox="first", name=name, checkpoint=checkpoint)
        assert (await agent.call("read_file", sandbox=name, path="note"))["content"] == note


async def test_a_port_is_published(agent: Agent) -> None:
    await agent.call("create_sandbox", name="web")
    published = await agent.call("publish_port", sandbox="web", port=8000, alias="my-page")
    assert (published["alias"], published["port"]) == ("my-page", 8000)
    assert str(published["url"]).startswith("http")
    assert "-taken" in await agent.refusal("publish_port", sandbox="web", port=8001, alias="my-page")


async def test_a_command_that_takes_too_long_is_ended(agent: Agent) -> None:
    await agent.call("create_sandbox", name="slow")
    done = await agent.call("run", sandbox="slow", command="echo begun; sleep 600", timeout_s=0.2)
    assert (done["reason"], done["stdout"]) == ("timeout", "begun\n")


async def test_long_output_is_cut_in_the_middle_with_a_note(agent: Agent) -> None:
    await agent.call("create_sandbox", name="loud")
    done = await agent.call("run", sandbox="loud", command="seq 1 100000")
    assert str(done["stdout"]).startswith("1\n2\n")
    assert str(done["stdout"]).endswith("99999\n100000\n")
    assert "characters left out" in str(done["stdout"])
    assert len(str(done["stdout"])) < 31_000
    assert "Output was left out" in str(done["note"])


async def test_errors_have_a_code_and_say_what_to_do(agent: Agent) -> None:
    said = await agent.refusal("run", sandbox="nobody", command="true")
    assert "sandbox-not-found: there is no sandbox" in said
    assert "\nhint: " in said
    assert "timeout_s" in await agent.refusal("run", sandbox="nobody", command="true", timeout_s=-1)


async def test_what_it_made_ends_with_it_unless_it_is_to_be_kept(served: Daemon, agent: Agent) -> None:
    async with Tools() as tools, Client(tools.server()) as client:
        other = Agent(client)
        for name, keep in (("passing", False), ("staying", True)):
            await other.call("create_sandbox", name=name, keep=keep)
        await other.call("fork_sandbox", sandbox="staying", name="fork")
    names = [sandbox.name for sandbox in await AsyncSandbox.list(url=str(served.endpoint))]
    assert "staying" in names
    assert not {"passing", "fork"} & {*names}
    await agent.call("destroy_sandbox", sandbox="staying")


async def test_a_call_that_is_called_off_ends_its_command(agent: Agent) -> None:
    await agent.call("create_sandbox", name="patient")
    sandbox = await AsyncSandbox.connect("patient")
    async with sandbox.stream("mkfifo pid; echo ready; cat pid; sleep 600") as waiting:
        assert (await anext(waiting)).text == "ready\n"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: agent.call("run", sandbox="patient", command="echo $$ > pid; exec sleep 600"))
            pid = int((await anext(waiting)).text)
            tasks.cancel_scope.cancel()
    assert (await sandbox.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60)).ok
