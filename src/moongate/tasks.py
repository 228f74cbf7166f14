"""Named, owned background tasks. The only module that calls `create_task`.

asyncio keeps only weak references to tasks and swallows what they raise until they are collected; a `Tasks` holds them,
logs what they raise at once, and ends them with its owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """The background work of one owner. `close` cancels what is left and waits for it."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start `work`; an exception it ends with is logged with its trace, never lost."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task %r failed", task.get_name(), exc_info=error)

    async def wait(self, seconds: float) -> bool:
        """Let everything finish within `seconds`; False if something is still running then."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)
        return not self._tasks

    async def close(self) -> None:
        """Cancel what is left and wait until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
