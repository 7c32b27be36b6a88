import msgspec

from bhatti.engines.docker import api_types as types


def test_names_are_dockers() -> None:
    host = types.HostConfig(
        mounts=[types.Mount(type="bind", source="/a", target="/b", read_only=True)],
        tmpfs={},
        network_mode="none",
        memory=1,
        memory_swap=1,
        nano_cpus=1,
        pids_limit=1,
        cap_drop=[],
        cap_add=[],
        security_opt=[],
        runtime="runc",
        log_config=types.LogConfig(),
    )
    written = msgspec.json.decode(msgspec.json.encode(host))
    assert {"Mounts", "Tmpfs", "NetworkMode", "MemorySwap", "NanoCpus", "PidsLimit", "CapDrop", "SecurityOpt"} <= set(
        written
    )
    assert written["Mounts"] == [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}]


def test_a_container_is_read_as_docker_describes_it() -> None:
    text = b"""{"Id": "c0ffee", "Name": "/box", "Created": "2026-01-01", "Config": {"Labels": {"a": "b"}, "Tty": false},
        "State": {"Status": "exited", "Running": false, "Paused": false, "OOMKilled": true, "Pid": 0, "ExitCode": 137},
        "NetworkSettings": {"Networks": {"x": {"IPAddress": ""}, "y": {"IPAddress": "172.17.0.2"}}}}"""
    info = msgspec.json.decode(text, type=types.ContainerInfo)
    assert (info.state.oom_killed, info.state.exit_code) == (True, 137)
    assert info.config.labels == {"a": "b"}
    assert info.address == "172.17.0.2"


def test_a_container_without_network_has_no_address() -> None:
    text = b"""{"Id": "c", "Name": "/box", "Config": {"Labels": null}, "State": {"Status": "created"},
        "NetworkSettings": {"Networks": {"none": {"IPAddress": ""}}}}"""
    assert msgspec.json.decode(text, type=types.ContainerInfo).address is None


def test_an_event_is_read_as_docker_sends_it() -> None:
    text = b"""{"status": "die", "id": "c", "Type": "container", "Action": "die", "scope": "local", "time": 1,
        "Actor": {"ID": "c", "Attributes": {"exitCode": "137", "bhatti.home": "box"}}, "timeNano": 1000000001}"""
    event = msgspec.json.decode(text, type=types.Event)
    assert (event.action, event.actor.attributes["bhatti.home"], event.time_nano) == ("die", "box", 1_000_000_001)
