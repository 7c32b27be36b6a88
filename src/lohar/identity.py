"""Becoming another machine: what a forked guest is told before it joins the network, and any guest after a restore.

The setters are those of the boot. Outside of a machine of its own (test mode) the agent takes over what concerns only
itself: nobody wants a test to set their clock.
"""

from __future__ import annotations

from lohar.config import checked_dns, checked_env, checked_files, checked_volumes
from lohar.failures import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lohar.config import AgentConfig
    from lohar.wire.messages import Identity, Resumed


def apply_identity(config: AgentConfig, identity: Identity) -> AgentConfig:
    """Put all of `identity` in place and return the configuration that results. Raises `RequestError`.

    A failure leaves the old generation in force, so that the host can try again: each step can be repeated.
    """
    try:
        return _apply(config, identity)
    except (OSError, ValueError) as error:
        raise RequestError(f"identity: {error}") from error


def _apply(config: AgentConfig, identity: Identity) -> AgentConfig:
    changed = config.replace(
        generation=identity.generation,
        sandbox_id=identity.sandbox_id or config.sandbox_id,
        hostname=identity.hostname or config.hostname,
        token=identity.token or config.token,
        env=checked_env(identity.env) or config.env,
        dns=checked_dns(identity.dns) or config.dns,
        files=checked_files(identity.files) or config.files,
        user=identity.user or config.user,
        init=identity.init or config.init,
        volumes=checked_volumes(identity.volumes) or config.volumes,
    )
    if not config.pid1:
        return changed
    # Only what a machine needs: test mode starts faster without them.
    from lohar import boot, machine, mounts, netconf, slots, users

    refresh(identity.clock_ns, identity.entropy)
    machine.renew_machine_id()
    if identity.hostname:
        machine.apply_hostname(identity.hostname)
    if identity.address:
        address, _, prefix = identity.address.partition("/")
        netconf.apply_address(address, prefix or "32", identity.gateway, mac=identity.mac or None)
    netconf.apply_dns(identity.dns)
    if identity.user and identity.user != config.user:
        changed = users.resolve(changed)
    slots.take_out()
    for volume in identity.volumes:
        slots.put_in(volume.device)
        mounts.mount_volume(volume, changed.uid, changed.gid)
    if identity.files:
        boot.inject_once(changed)
    return changed


def apply_resumed(config: AgentConfig, resumed: Resumed) -> None:
    """Set the clock and renew the randomness of a guest that slept. Raises `RequestError`."""
    if config.pid1:
        try:
            refresh(resumed.clock_ns, resumed.entropy)
        except OSError as error:
            raise RequestError(f"resumed: {error}") from error


def refresh(clock_ns: int, entropy: bytes) -> None:
    """Set the wall clock and give the kernel fresh entropy, which no twin of this guest has."""
    from lohar import machine

    machine.set_clock(clock_ns)
    machine.add_entropy(entropy)
