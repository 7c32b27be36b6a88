from pathlib import Path

import anyio
import pytest
from tests.dockerd import PrivateDocker
from tests.unit.bhatti.engines.docker.test_api import container

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.network import ContainerNetwork, interface_name
from bhatti.errors import BhattiError

pytestmark = pytest.mark.anyio

INSTANCE = "0test000"


async def names(api: DockerApi) -> list[str]:
    return [network.name for network in await api.networks(f"bhatti.instance={INSTANCE}")]


async def test_the_network_is_made_once_and_removed(api: DockerApi) -> None:
    network = await ContainerNetwork.open(api, INSTANCE, wanted="auto", inside=True)
    again = await ContainerNetwork.open(api, INSTANCE, wanted="bridge", inside=True)
    assert network.name == again.name == f"bhatti-{INSTANCE}"
    assert network.bridged
    assert interface_name(INSTANCE) in network.reason
    assert await names(api) == [network.name]
    await network.remove()
    await network.remove()  # a no-op
    assert await names(api) == []


async def test_a_network_that_somebody_removed_is_made_again(api: DockerApi, docker: PrivateDocker) -> None:
    network = await ContainerNetwork.open(api, INSTANCE, wanted="auto", inside=True)
    docker.docker("network", "rm", network.name)
    await network.ensure()
    assert await names(api) == [network.name]
    await network.remove()


async def test_a_network_in_use_stays(api: DockerApi, docker: PrivateDocker) -> None:
    network = await ContainerNetwork.open(api, INSTANCE, wanted="auto", inside=True)
    identifier = await api.create_container("bhatti-test-net", container("/bin/sleep", "1000"))
    try:
        docker.docker("network", "disconnect", "none", identifier)
        docker.docker("network", "connect", network.name, identifier)
        await api.start_container(identifier)
        await network.remove()
        assert await names(api) == [network.name]
    finally:
        await api.remove_container(identifier)
        await network.remove()
    assert await names(api) == []


async def test_every_owner_has_a_network_of_their_own(api: DockerApi) -> None:
    network = await ContainerNetwork.open(api, INSTANCE, wanted="auto", inside=True)
    anna, bert = [await network.ensure(owner) for owner in ("usr_0000000a", "usr_0000000b")]
    assert await network.ensure("usr_0000000a") == anna
    assert sorted(await names(api)) == [network.name, anna, bert]
    interfaces = {interface_name(INSTANCE, owner) for owner in ("", "usr_0000000a", "usr_0000000b")}
    assert len(interfaces) == 3
    assert all((Path("/sys/class/net") / name).exists() for name in interfaces)
    await network.remove("usr_0000000b", unless=lambda: True)
    await network.remove("usr_0000000a", unless=lambda: False)
    assert sorted(await names(api)) == [network.name, bert]
    await network.ensure("usr_0000000a")
    await network.sweep({"usr_0000000b"})
    assert sorted(await names(api)) == [network.name, bert]
    await network.sweep(())
    assert await names(api) == [network.name]
    await network.remove()


async def test_who_needs_a_network_that_is_about_to_go_gets_it_again(api: DockerApi) -> None:
    network = await ContainerNetwork.open(api, INSTANCE, wanted="auto", inside=True)
    name = await network.ensure("usr_0000000a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(network.remove, "usr_0000000a")
        tasks.start_soon(network.ensure, "usr_0000000a")
    assert name in await names(api)
    await network.sweep(())
    await network.remove()


@pytest.mark.parametrize(("wanted", "inside", "reason"), [("none", True, "settings"), ("auto", False, "runtime")])
async def test_without_a_network_nothing_is_made(api: DockerApi, wanted: str, inside: bool, reason: str) -> None:
    network = await ContainerNetwork.open(api, INSTANCE, wanted=wanted, inside=inside)  # type: ignore[arg-type]
    assert (network.name, network.bridged) == ("none", False)
    assert reason in network.reason
    assert await network.ensure() == await network.ensure("usr_0000000a") == "none"
    await network.remove()
    await network.sweep(())
    assert await names(api) == []


async def test_where_no_bridge_can_be_made_auto_does_without_and_says_why(api: DockerApi) -> None:
    too_long = "x" * 40  # as the name of an interface
    network = await ContainerNetwork.open(api, too_long, wanted="auto", inside=True)
    assert not network.bridged
    assert "no bridge can be made" in network.reason
    with pytest.raises(BhattiError):
        await ContainerNetwork.open(api, too_long, wanted="bridge", inside=True)
