"""What a role may do, where it is not only a question of the address that is called."""

from __future__ import annotations

from moongate.control.platform.failures import Forbidden
from moongate.control.platform.shapes import Actor


def may_write(by: Actor, mode: str = "proxy") -> None:
    """Raises Forbidden for roles that only look, and for commands by anybody but an admin."""
    if by.role == "auditor":
        raise Forbidden("an auditor changes nothing")
    if mode == "hosted" and by.role != "admin":
        raise Forbidden(
            "a hosted instance runs a command on the gateway's machine: only an admin may write or test one"
        )


def only_admins(by: Actor) -> None:
    """Raises Forbidden for everybody else."""
    if by.role != "admin":
        raise Forbidden("only an admin may do this")
