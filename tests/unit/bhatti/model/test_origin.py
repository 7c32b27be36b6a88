import msgspec

from bhatti.model.origin import NOWHERE, Origin, SecretUse


def test_what_rows_hold_comes_back_and_rows_from_before_hold_nothing() -> None:
    origin = Origin(template_id="5d0c", secrets=(SecretUse(name="a", env="A"), SecretUse(name="a", file="/a")))
    assert msgspec.json.decode(msgspec.json.encode(origin), type=Origin) == origin
    assert msgspec.json.decode(b"{}", type=Origin) == NOWHERE
