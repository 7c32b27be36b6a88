from ipaddress import IPv4Address
from pathlib import Path

import anyio
import pytest
from tests.unit.bhatti.engines.qemu.conftest import StartQemu

from bhatti.engines.qemu import network
from bhatti.engines.qemu.command import TapCard, UserCard
from bhatti.engines.qemu.qmp import Monitor
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import EngineFailure, MissingDependency
from bhatti.net import quarantine, tap
from bhatti.net.abilities import Ability, bridge_ability

TABLE = (
    "Hub -1 (net0):\r\n"
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[ESTABLISHED]   12       10.0.2.15 50000       127.0.0.1 1024     0     0\r\n"
    "  TCP[HOST_FORWARD]   8       127.0.0.1 35293       10.0.2.15  1024     0     0\r\n"
    "  TCP[HOST_FORWARD]   3       127.0.0.1 44063       10.0.2.15  1025     0     0\r\n"
)


@pytest.fixture
def settings(tmp_path: Path) -> QemuSettings:
    return QemuSettings(state_dir=tmp_path, images_dir=tmp_path)


def unable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "bridge_ability", lambda: Ability(False, "not root: no CAP_NET_ADMIN"))


def test_forwarded_ports_are_read_from_the_monitors_table() -> None:
    assert network.forwarded_ports(TABLE) == {1024: 35293, 1025: 44063}


@pytest.mark.parametrize("table", ["", "Hub -1 (net0):\r\n", TABLE.replace("HOST_FORWARD]   3", "CLOSED]   3")])
def test_a_table_without_the_agents_ports_is_a_failure(table: str) -> None:
    with pytest.raises(EngineFailure) as caught:
        network.forwarded_ports(table)
    assert caught.value.code == "forward-missing"


@pytest.mark.anyio
async def test_the_user_network_makes_nothing(settings: QemuSettings) -> None:
    user = network.UserModeNetwork(settings)
    plug = await user.attach("s1")
    assert isinstance(plug.card, UserCard)
    assert plug.card.forwards == (1024, 1025)
    assert (str(plug.address), str(plug.gateway), str(plug.netmask)) == ("10.0.2.15", "10.0.2.2", "255.255.255.0")
    assert "127.0.0.1" in str(user.transport(plug.address, {1024: 1, 1025: 2}))
    await user.detach("s1")


@pytest.mark.anyio
async def test_qemu_itself_chooses_free_loopback_ports(start_qemu: StartQemu, tmp_path: Path) -> None:
    forwards = ",".join(f"hostfwd=tcp:127.0.0.1:0-10.0.2.15:{port}" for port in network.AGENT_PORTS)
    await start_qemu("-M", "pc", "-S", "-netdev", f"user,id=net0,{forwards}", "-device", "virtio-net-pci,netdev=net0")
    async with await Monitor.connect(tmp_path / "qmp.sock", timeout_s=10) as monitor:
        table = await monitor.execute("human-monitor-command", {"command-line": "info usernet"})
    ports = network.forwarded_ports(str(table))
    assert ports.keys() == set(network.AGENT_PORTS)
    assert len(set(ports.values())) == 2
    assert min(ports.values()) > 1023


@pytest.mark.anyio
@pytest.mark.skipif(not bridge_ability().able, reason=f"needs taps and bridges: {bridge_ability().reason}")
async def test_the_bridged_network_makes_a_tap_and_takes_it_away(settings: QemuSettings) -> None:
    networks = network.choose_networks(settings)
    assert networks.bridges is not None
    instance = networks.bridges.instance
    bridged = networks.of("bridge", "")
    plug = await bridged.attach("s1")
    try:
        assert isinstance(plug.card, TapCard)
        assert await anyio.to_thread.run_sync(tap.taps_of, instance) == {plug.card.tap: "s1"}
        assert plug.gateway == IPv4Address(int(plug.address) - 1)
        assert plug.dns == settings.dns
        assert str(bridged.transport(plug.address, {})) == f"tcp:{plug.address}"
        assert await networks.sweep({"s1"}) == []
        assert await networks.sweep(set()) == ["s1"]
    finally:
        await bridged.detach("s1")
        await networks.aclose()
    assert await anyio.to_thread.run_sync(tap.taps_of, instance) == {}


@pytest.mark.skipif(not bridge_ability().able, reason=f"needs taps and bridges: {bridge_ability().reason}")
def test_root_gets_a_bridge_unless_the_settings_say_otherwise(settings: QemuSettings, tmp_path: Path) -> None:
    chosen = network.choose_networks(settings)
    assert chosen.new == "bridge"
    user = QemuSettings(state_dir=tmp_path, images_dir=tmp_path, network="user")
    chosen = network.choose_networks(user)
    assert (chosen.new, chosen.reason) == ("user", "set in the settings")
    assert chosen.of("bridge", "").kind == "bridge"
    assert chosen.of("", "").kind == "user"


def test_without_the_ability_machines_get_the_user_network(
    settings: QemuSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    unable(monkeypatch)
    chosen = network.choose_networks(settings)
    assert (chosen.new, chosen.reason) == ("user", "not root: no CAP_NET_ADMIN")
    assert chosen.of("bridge", "").kind == "user"


def test_a_bridge_that_is_wanted_and_cannot_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unable(monkeypatch)
    with pytest.raises(MissingDependency, match="not root") as caught:
        network.choose_networks(QemuSettings(state_dir=tmp_path, images_dir=tmp_path, network="bridge"))
    assert caught.value.code == "bridge-impossible"


@pytest.mark.anyio
async def test_in_the_user_network_everybody_is_alone_anyway(settings: QemuSettings) -> None:
    user = network.UserModeNetwork(settings)
    plug = await user.quarantine("s1", woken_as=network.USER_ADDRESS)
    assert plug == await user.attach("s1")
    transport = user.quarantine_transport(plug, plug.address, {1024: 40001})
    assert str(transport) == str(user.transport(plug.address, {1024: 40001}))
    await user.admit("s1")


@pytest.mark.anyio
async def test_a_fork_is_reached_through_its_tap_until_it_is_admitted(settings: QemuSettings) -> None:
    if not bridge_ability().able:
        pytest.skip(bridge_ability().reason)
    networks = network.choose_networks(settings)
    bridged = networks.of("", "usr_1")
    try:
        alone = await bridged.quarantine("golden")
        assert alone.address == quarantine.GUEST
        plug = await bridged.quarantine("s1", woken_as=quarantine.GUEST)
        assert isinstance(plug.card, TapCard)
        transport = bridged.quarantine_transport(plug, quarantine.GUEST, {})
        assert str(transport) == f"tcp:{quarantine.GUEST}%{plug.card.tap}"
        await bridged.admit("s1")
        assert (await bridged.attach("s1")).address == plug.address
    finally:
        await bridged.detach("golden")
        await bridged.detach("s1")
        await networks.sweep(set())
        await networks.aclose()
