import pytest

from bhatti.images.cmdline import EMULATED, kernel_arguments
from lohar.netconf import Address, parse_ip_argument


def arguments(*, dns: tuple[str, ...] = (), emulated: bool = True) -> str:
    return kernel_arguments(
        address="10.0.0.2", gateway="10.0.0.1", netmask="255.255.0.0", hostname="box", dns=dns, emulated=emulated
    )


@pytest.mark.parametrize("dns", [(), ("1.1.1.1",), ("1.1.1.1", "8.8.8.8"), ("1.1.1.1", "8.8.8.8", "9.9.9.9")])
def test_the_agent_reads_the_address_that_the_engine_gave(dns: tuple[str, ...]) -> None:
    assert parse_ip_argument(arguments(dns=dns)) == Address(
        address="10.0.0.2", gateway="10.0.0.1", netmask="255.255.0.0", hostname="box", interface="eth0", dns=dns[:2]
    )


def test_a_guest_speaks_on_its_serial_port_and_ends_when_it_panics() -> None:
    words = arguments(emulated=False).split()
    assert "console=ttyS0" in words
    assert "panic=-1" in words


def test_only_an_emulated_processor_gets_the_words_for_it() -> None:
    assert not set(EMULATED) & set(arguments(emulated=False).split())
    assert set(EMULATED) <= set(arguments(emulated=True).split())


def test_nothing_splits_into_more_words_than_were_meant() -> None:
    assert len(arguments(emulated=False).split()) + len(EMULATED) == len(arguments(emulated=True).split())
