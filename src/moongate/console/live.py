"""What only the running gateway can tell."""

from __future__ import annotations

from typing import Any, Protocol

from moongate.errors import MoongateError


class NoAnswer(MoongateError):
    """The gateway does not run, or did not answer in time."""


class Live(Protocol):
    """The data plane, asked from the platform process."""

    async def ping(self) -> None:
        """Raises NoAnswer."""
        ...

    async def facts(self) -> dict[str, Any]:
        """Counters and what is open now. Raises NoAnswer."""
        ...

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a request. Raises NoAnswer, also with the reason why it cannot be asked."""
        ...

    @property
    def in_force(self) -> bool:
        """Whether what was published last was put into force."""
        ...

    @property
    def left_out(self) -> int:
        """How many instances of the store cannot be served."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """The host names that the gateway goes by."""
        ...

    @property
    def doors(self) -> dict[str, bool]:
        """The instances in force: whether a client token is needed there."""
        ...

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The entries of instances that stand in files, with their secrets."""
        ...


class NoGateway:
    """Nothing runs: the store is worked on by itself."""

    async def ping(self) -> None:
        """See `Live`."""
        raise NoAnswer("no gateway runs here")

    async def facts(self) -> dict[str, Any]:
        """See `Live`."""
        raise NoAnswer("no gateway runs here")

    async def explain(self, question: dict[str, Any]) -> dict[str, Any]:
        """See `Live`."""
        raise NoAnswer(f"no gateway runs here that could explain {question.get('url')}")

    @property
    def in_force(self) -> bool:
        """See `Live`."""
        return True

    @property
    def left_out(self) -> int:
        """See `Live`."""
        return 0

    @property
    def names(self) -> frozenset[str]:
        """See `Live`."""
        return frozenset()

    @property
    def doors(self) -> dict[str, bool]:
        """See `Live`."""
        return {}

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """See `Live`."""
        return {}
