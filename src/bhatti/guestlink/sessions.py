"""Sessions in the guest: commands, on a terminal or piped, that outlive the connections to them."""

from bhatti.guestlink.channel import Channel
from bhatti.guestlink.commands import Event, ExecStream, Exit
from bhatti.guestlink.exchange import Exchange
from lohar.wire.frames import FrameType, encode_resize
from lohar.wire.messages import ExecRequest, SessionInfo


class TerminalStream(ExecStream):
    """A session, on a terminal or piped: it lives on when this stream is left, and can be attached to again.

    `position` counts the session's bytes up to the last one that was handed out here; attach with `since=position` to
    go on from there. `gap` is how many bytes before the first one are lost.
    """

    def __init__(self, exchange: Exchange, request: ExecRequest) -> None:
        super().__init__(exchange, request)
        self.position = 0
        self.gap = 0
        self._session: SessionInfo | None = None

    @property
    def session(self) -> SessionInfo:
        """What the agent said of the session when this stream was opened."""
        if self._session is None:
            raise RuntimeError("use it with `async with`")
        return self._session

    @property
    def exit_code(self) -> int | None:
        """The exit code, once `Exit` has come."""
        return None if self.exit is None else self.exit.code

    async def open(self, *more: bytes) -> None:
        """Start or attach; wait for the session's description. Raises `GuestFailure`, `Unavailable`, `GuestTimeout`.

        Safe to cancel; a session that was just started lives on, detached.
        """
        await super().open(*more)
        channel = self._channel
        try:
            first, *rest = await channel.receive(self._exchange.pool.deadline(self._exchange.deadlines.reply_s))
            kind, payload = first
            if kind != FrameType.SESSION_INFO:
                self._channel_or_none = None
                raise self._exchange.refuse(channel, kind, payload)
            self._session = info = self._exchange.decode(SessionInfo, payload)
        except BaseException:
            self.close()
            raise
        self.gap = info.gap or 0
        since = self._request.since
        begin = (info.start or 0) if since is None else since + self.gap
        self.position = begin if info.offset is None else min(begin, info.offset)
        for frame in rest:
            self._take(frame)

    def _abandon(self, channel: Channel) -> None:
        """Detach: the session's idle time begins."""
        channel.close()

    async def __anext__(self) -> Event:
        """Return the next event. Safe to cancel: no event is lost."""
        event = await super().__anext__()
        if not isinstance(event, Exit):
            self.position += len(event.data)
        return event

    async def read(self) -> bytes | None:
        """Return the next output of either kind, or None once the session has ended. Safe to cancel."""
        async for event in self:
            if not isinstance(event, Exit):
                return event.data
        return None

    async def write(self, data: bytes) -> None:
        """Type `data`. Not safe to cancel: part of it may be typed."""
        await self.send_stdin(data)

    async def resize(self, rows: int, cols: int) -> None:
        """Tell the terminal its size, each 0 to 65535. Safe to cancel."""
        self._channel.send(FrameType.RESIZE, encode_resize(rows, cols))
