"""Publishing a changed file: read when it holds still, put into force whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from moongate.control.compile import compile_documents
from moongate.control.files import load
from moongate.control.publish import Publisher
from moongate.model.snapshot import Snapshot
from moongate.tasks import Tasks

ONE = "mcpServers:\n  one: {url: 'http://127.0.0.1:9/mcp', type: streamable-http}\n"
TWO = ONE + "  two: {url: 'http://127.0.0.1:9/mcp', type: streamable-http}\n"


class _Watched:
    """A publisher on a file, and the names of the instances that were put into force."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.applied: list[list[str]] = []
        self.reads = 0
        self.fine: list[bool] = []
        self.publisher = Publisher([file], self._build, self._apply, lambda: None, file.with_name("published"))
        self.publisher.tried = self.fine.append

    def _build(self) -> Snapshot:
        self.reads += 1
        return compile_documents(load([self.file], {}))

    async def _apply(self, snapshot: Snapshot) -> None:
        self.applied.append([route.name for route in snapshot.binds[0].listeners[0].routes])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


def test_a_file_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    """Between two looks that find something different, nothing is published; what stands there at last is."""
    file = tmp_path / "gateway.yaml"
    file.write_text(ONE, "utf-8")

    async def story() -> None:
        watched = _Watched(file)
        tasks = Tasks("test")
        tasks.spawn(watched.publisher.watch(), "watch")
        await asyncio.sleep(0)  # it has taken its first look
        with file.open("w", encoding="utf-8") as writing:
            for letter in TWO:
                writing.write(letter)
                writing.flush()
                await asyncio.sleep(0.008)
                assert not watched.reads
        await _until(lambda: bool(watched.applied))
        assert watched.applied == [["one", "two"]]
        await tasks.close()

    asyncio.run(story())


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_an_empty_file_is_not_used(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is taken for one that was cut: the old configuration stays, and the log says so."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text, "utf-8")

    async def story() -> None:
        watched = _Watched(file)

        assert not await watched.publisher.publish()
        assert not watched.applied

    asyncio.run(story())
    assert "is empty" in caplog.text


def test_what_was_published_must_not_be_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once it was there: whoever asks for a reload while it is gone gets none, and what was in force stays so."""
    file = tmp_path / "gateway.yaml"
    file.write_text(ONE, "utf-8")
    published = tmp_path / "published"

    async def story() -> None:
        watched = _Watched(file)
        assert await watched.publisher.publish()
        published.write_bytes(b"sealed")
        assert await watched.publisher.publish()
        published.unlink()
        assert not await watched.publisher.publish()
        published.symlink_to(published)  # it cannot be looked at: that is not the same
        assert await watched.publisher.publish()
        assert watched.fine == [True, True, False, True]

    asyncio.run(story())
    assert "published is missing" in caplog.text
