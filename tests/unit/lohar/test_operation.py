from tests.unit.lohar.serving import Serving

from lohar.operation import Operation
from lohar.wire.frames import FrameType


def test_an_operation_that_wants_nothing_takes_everything(serving: Serving) -> None:
    serving.connect()
    (connection,) = serving.agent.connections
    operation = Operation(connection)
    operation.begin()
    operation.frame(FrameType.STDIN, b"ignored")
    operation.end()
    operation.drained()
    operation.lost()
    assert operation.connection is connection
