import msgspec
import pytest

from bhatti.operations import types


@pytest.mark.parametrize("request_type", [types.SandboxCreate, types.ExecRequest, types.ImageBuild, types.FileQuery])
def test_requests_name_the_field_they_do_not_know(request_type: type[types.Request]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `memroy`"):
        msgspec.json.decode(b'{"memroy": 1}', type=request_type)
