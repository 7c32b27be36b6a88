"""What users have beside sandboxes, as the daemon hands it to the server."""

import abc

from bhatti.daemon.publishing import Publishing
from bhatti.daemon.secrets import Secrets
from bhatti.daemon.templates import Templates
from bhatti.daemon.volumes import Volumes
from bhatti.engines.base import Engine
from bhatti.server.backend import Backend
from bhatti.store.journal import Journal


class Belongings(Backend):
    """The properties of `Backend` that hand over volumes, published ports, secrets and templates."""

    _volumes: Volumes
    _publishing: Publishing
    _secrets: Secrets
    _templates: Templates

    @abc.abstractmethod
    def _serving(self) -> tuple[Journal, Engine]:
        """Return what the daemon works with; raises `Unavailable` while it starts or stops."""

    @property
    def volumes(self) -> Volumes:
        """See `Backend`."""
        self._serving()
        return self._volumes

    @property
    def publications(self) -> Publishing:
        """See `Backend`."""
        self._serving()
        return self._publishing

    @property
    def published(self) -> Publishing:
        """What the gateway serves; there from the beginning to the end."""
        return self._publishing

    @property
    def secrets(self) -> Secrets:
        """See `Backend`."""
        return self._secrets

    @property
    def templates(self) -> Templates:
        """See `Backend`."""
        return self._templates
