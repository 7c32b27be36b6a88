"""What the SDK's objects say without asking anybody: the same in code that blocks and in code that awaits."""

from bhatti.operations import types
from bhatti.sdk.flows import Flows
from bhatti.sdk.talks import CommandTalk, TerminalTalk


class SandboxFacts:
    """What is known of a sandbox."""

    _flows: Flows

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} ({self.info.status})>"

    @property
    def id(self) -> str:
        """Its id, which never changes."""
        return self._flows.info.id

    @property
    def name(self) -> str:
        """Its name."""
        return self._flows.info.name

    @property
    def info(self) -> types.Sandbox:
        """All that was known of it when it was last asked; `inspect` asks again."""
        return self._flows.info


class CommandFacts:
    """What is known of a command."""

    _talk: CommandTalk

    @property
    def exit_code(self) -> int | None:
        """Its exit code, as a shell would have it; None while it runs."""
        return self._talk.exit_code

    @property
    def reason(self) -> str:
        """Why it ended: `exited`, `signalled`, `timeout`, `killed`, `oom`; nothing while it runs."""
        return self._talk.reason


class TerminalFacts:
    """What is known of a terminal."""

    _talk: TerminalTalk

    @property
    def offset(self) -> int:
        """How many bytes the terminal had produced at the end of what was read: where to go on later."""
        return self._talk.offset

    @property
    def gap(self) -> int:
        """How many bytes were asked for with `since` and are kept no more."""
        return self._talk.gap

    @property
    def exit_code(self) -> int | None:
        """The exit code of its program; None while it runs."""
        return self._talk.exit_code
