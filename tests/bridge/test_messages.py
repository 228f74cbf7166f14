"""What passes between a hosted server and the client it belongs to, and to nobody else."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.bridge.talking import Caller, beside, caller, hosting, messages, session, text_of
from tests.proxy.talk import call, initialize, run, until


async def all_of(one: Caller) -> list[dict[str, object]]:
    """The messages of the answer that is under way."""
    return messages((await one.client.answer()).body)


@pytest.mark.requirement("AG-12", "AG-13")
@pytest.mark.parametrize("isolation", ["session", "shared"])
def test_progress_comes_on_the_stream_of_its_call_with_the_clients_own_token(isolation: str) -> None:
    """Two clients use the same token at once; each gets its own steps, with event ids, then its answer."""

    async def story() -> None:
        async with hosting(isolation=isolation) as gate, session(gate) as one, session(gate) as two:
            await one.start("progress", 7, "same", steps=2)
            await two.start("progress", 7, "same", steps=3)
            for who, steps in ((one, 2), (two, 3)):
                answer = await who.client.answer()
                assert answer.fields["content-type"] == "text/event-stream"
                assert answer.body.count(b"id: ") == steps + 1
                found = messages(answer.body)
                assert [message["params"]["progressToken"] for message in found[:-1]] == ["same"] * steps
                assert (found[-1]["id"], text_of(found[-1])) == (7, "done")

    run(story())


@pytest.mark.requirement("AG-12")
def test_calls_of_many_clients_with_the_same_ids_are_each_answered_to_their_caller() -> None:
    """Sixty-four calls are in flight on one shared process, all with id 1; each is answered with its own text."""

    async def story() -> None:
        async with hosting(isolation="shared") as gate, asyncio.TaskGroup() as group, session(gate) as last:
            ready = [asyncio.Event() for _ in range(64)]

            async def one_caller(number: int) -> None:
                async with session(gate) as one:
                    await one.start("hold", 1, f"t{number}", text=f"mine {number}", tell=True)
                    head = await one.client.head()
                    started = messages(await one.client.text(b"progress"))
                    ready[number].set()
                    rest = messages((await one.client.body(head)).body)
                    assert started[0]["params"]["progressToken"] == f"t{number}"
                    assert {message["params"]["progressToken"] for message in rest[:-1]} == {f"t{number}"}
                    assert (rest[-1]["id"], text_of(rest[-1])) == (1, f"mine {number}")

            for number in range(64):
                group.create_task(one_caller(number))
            for event in ready:
                await event.wait()
            assert (await last.call("release")).status == 200

    run(story())


@pytest.mark.requirement("AG-13")
def test_a_question_of_the_server_reaches_its_client_and_the_answer_comes_back() -> None:
    """Sampling in the middle of a call, on the stream of that call."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("ask", 3)
            head = await one.client.head()
            question = messages(await one.client.text(b"sampling"))[0]
            assert question["method"] == "sampling/createMessage"
            told = await other.say({"id": question["id"], "result": {"role": "assistant"}})
            assert told.status == 202
            found = messages((await one.client.body(head)).body)
            assert json.loads(text_of(found[-1])) == {"role": "assistant"}

    run(story())


def test_a_question_on_a_shared_process_is_answered_with_an_error_and_shown_to_nobody() -> None:
    """Whom the server means cannot be known; a ping it gets its answer to."""

    async def story() -> None:
        async with (
            hosting(isolation="shared") as gate,
            session(gate) as one,
            session(gate) as two,
            beside(two, gate) as ear,
        ):
            assert (await ear.listen()).status == 200
            refused = json.loads(await one.text("ask"))
            assert refused["code"] == -32601
            assert json.loads(await one.text("ask", method="ping")) == {}
            assert (await two.call("changed")).status == 200
            assert b"sampling" not in await ear.client.text(b"list_changed")

    run(story())


def test_an_answer_that_nobody_asked_for_does_not_reach_the_server() -> None:
    """A client's response to an unknown question is accepted and dropped."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            assert (await one.say({"id": "made up", "result": {}})).status == 202
            assert "made up" not in (await one.who())["heard"]

    run(story())


@pytest.mark.requirement("AG-13")
def test_changed_lists_are_told_on_the_get_stream_also_to_who_listens_only_later() -> None:
    """A notification that came before the stream was opened waits there."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as ear:
            await one.call("changed")
            assert (await ear.listen()).status == 200
            early = messages(await ear.client.text(b"list_changed"))
            assert early[0]["method"] == "notifications/tools/list_changed"
            await one.call("changed")
            assert b"id: 0-2" in await ear.client.text(b"list_changed")

    run(story())


@pytest.mark.requirement("AG-13")
def test_log_lines_go_with_the_only_call_that_can_have_caused_them() -> None:
    """With two calls of one principal open on his process, a log line goes to neither."""

    async def story() -> None:
        async with hosting(isolation="principal") as gate, session(gate) as one, session(gate) as two:
            await one.start("log", 1, text="for one")
            found = messages((await one.client.answer()).body)
            assert [message.get("method") for message in found] == ["notifications/message", None]
            async with beside(two, gate) as holder:
                await holder.start("hold", 9, "h", tell=True)
                await holder.client.head()
                await holder.client.text(b"progress")
                quiet = await one.call("log", 2, text="whose?")
                assert quiet.fields["content-type"] == "application/json"
                await one.call("release", 3)
                rest = await holder.client.text(b'"id":9')
                assert b"whose?" not in rest

    run(story())


def test_updated_resources_are_told_to_subscribers_only() -> None:
    """On a shared process; the last one who unsubscribes ends it at the server."""

    async def story() -> None:
        async with (
            hosting(isolation="shared") as gate,
            session(gate) as one,
            session(gate) as two,
            beside(one, gate) as first,
            beside(two, gate) as second,
        ):
            for who in (first, second):
                assert (await who.listen()).status == 200
            for who in (one, two):
                await who.client.ask(call(1, "resources/subscribe", uri="a://b"), who.headers)
            await one.call("updated", uri="a://b")
            for who in (first, second):
                assert b"a://b" in await who.client.text(b"updated")
            await one.client.ask(call(2, "resources/unsubscribe", uri="a://b"), one.headers)
            await one.call("updated", uri="a://b")
            assert b"a://b" in await second.client.text(b"updated")
            await two.client.ask(call(2, "resources/unsubscribe", uri="a://b"), two.headers)
            heard = (await two.who())["heard"]
            assert heard.count("resources/unsubscribe") == 1
            await one.call("changed")
            assert b"updated" not in await first.client.text(b"list_changed")

    run(story())


def test_a_cancelled_call_is_cancelled_at_the_server_and_ends() -> None:
    """The server hears its own id; the caller is not left waiting although the server never answers."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("hold", "mine")
            told = await other.say({"method": "notifications/cancelled", "params": {"requestId": "mine"}})
            assert told.status == 202
            answer = await one.client.answer()
            assert (answer.message["id"], "error" in answer.message) == ("mine", True)
            heard = (await other.who())["heard"]
            assert heard[-2] == "notifications/cancelled"
            assert heard[-1] != "mine"

    run(story())


def test_nobody_cancels_the_call_of_another() -> None:
    """The same id in another session is another call."""

    async def story() -> None:
        async with hosting(isolation="shared") as gate, session(gate) as one, session(gate) as two:
            await one.start("hold", 1, "t", tell=True)
            await one.client.head()
            await one.client.text(b"progress")
            await two.say({"method": "notifications/cancelled", "params": {"requestId": 1}})
            await two.call("release", 2)
            assert b"released" in await one.client.text(b'"id":1')

    run(story())


def test_answers_with_unknown_ids_are_dropped() -> None:
    """The right answer still comes, and it alone."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            assert await one.text("stray") == "mine"

    run(story())


def test_a_broken_stream_is_resumed_where_it_broke() -> None:
    """The client loses its connection in the middle of a call and comes back with the id of the last event."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("hold", 5, "t", tell=True, text="kept")
            await one.client.head()
            piece = await one.client.text(b"progress")
            seen = next(line for line in piece.split(b"\n") if line.startswith(b"id: "))[4:].decode()
            one.client.vanish()
            await other.call("release", 6)
            async with beside(one, gate) as again:
                head = await again.listen(seen)
                assert head.status == 200
                found = messages((await again.client.body(head)).body)
                assert [message.get("method", message.get("id")) for message in found] == ["notifications/progress", 5]

    run(story())


def test_a_long_quiet_call_becomes_a_stream_that_can_be_resumed() -> None:
    """After some seconds without a word an event with an id opens the stream, so that nothing is lost later."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("hold", 5, text="late")
            head = await one.client.head()
            assert head.fields["content-type"] == "text/event-stream"
            first = await one.client.text(b"\n\n")
            assert first.endswith(b"-0\ndata: \n\n")
            one.client.vanish()
            await other.call("release", 6)
            async with beside(one, gate) as again:
                head = await again.listen(first.split(b"\n")[0][4:].decode())
                found = messages((await again.client.body(head)).body)
                assert text_of(found[0]) == "late"

    run(story())


def test_who_takes_no_event_stream_gets_the_answer_alone() -> None:
    """`Accept: application/json`: progress is left out, the answer is JSON."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one:
            one.headers["accept"] = "application/json"
            answer = await one.call("progress", 4, "t", steps=2)
            assert (answer.fields["content-type"], answer.message["id"]) == ("application/json", 4)

    run(story())


def test_a_call_that_is_never_answered_fails_within_its_limit_and_is_cancelled() -> None:
    """`timeout` holds for hosted servers too; the server is told that nobody waits any more."""

    async def story() -> None:
        async with hosting(timeout=400) as gate, session(gate) as one:
            answer = await one.call("hold", 8)
            assert answer.failure == (504, "upstream_timeout")
            assert "notifications/cancelled" in (await one.who())["heard"]

    run(story())


def test_unusual_json_passes_through_as_it_was_written() -> None:
    """Line breaks between tokens, a late id, repeated words: the server reads the same message."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, caller(gate) as bare:
            body = b'{\r\n "params": {"name": "echo",\n"arguments": {"text": "id\\n\\"id\\":1", "id": 5}},\n'
            body += b'"method": "tools/call", "jsonrpc": "2.0" , "id" : 77 }'
            answer = await bare.client.ask(body, one.headers)
            assert (answer.message["id"], text_of(answer.message)) == (77, 'id\n"id":1')

    run(story())


def test_among_strangers_a_log_line_goes_to_nobody() -> None:
    """A call that somebody gave up may still be at work: the only open call need not have caused the line."""

    async def story() -> None:
        async with hosting(isolation="shared") as gate, session(gate) as one:
            answer = await one.call("log", 1, text="whose?")
            assert answer.fields["content-type"] == "application/json"

    run(story())


def test_clients_without_sessions_cannot_cancel_or_unsubscribe_each_other() -> None:
    """Ids are each client's own; who keeps no session cannot be told from others who keep none."""

    async def story() -> None:
        async with hosting(isolation="shared") as gate, caller(gate) as one, caller(gate) as two, session(gate) as ear:
            await one.start("hold", 1, "t", tell=True)
            await one.client.head()
            await one.client.text(b"progress")
            await two.say({"method": "notifications/cancelled", "params": {"requestId": 1}})
            await two.call("release", 2)
            assert b"released" in await one.client.text(b'"id":1')
            await ear.client.ask(call(1, "resources/subscribe", uri="a://b"), ear.headers)
            await two.client.ask(call(3, "resources/unsubscribe", uri="a://b"))
            assert "resources/unsubscribe" not in (await ear.who())["heard"]

    run(story())


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_an_answer_that_is_longer_than_the_usual_memory_can_be_resumed(size: int) -> None:
    """It arrives while nobody listens, and once more after it was sent."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("hold", 5, "t", tell=True, text="x" * size)
            await one.client.head()
            seen = (await one.client.text(b"progress")).split(b"\n")[0][4:].decode()
            one.client.vanish()
            await other.call("release", 6)
            for _ in range(2):
                async with beside(one, gate) as again:
                    found = messages((await again.client.body(await again.listen(seen))).body)
                    assert text_of(found[-1]) == "x" * size

    run(story())


def test_an_answer_that_is_too_long_to_keep_is_an_error_for_who_comes_back() -> None:
    """Never an empty stream that looks like the end."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.start("hold", 5, "t", tell=True, text="x" * 6_000_000)
            await one.client.head()
            seen = (await one.client.text(b"progress")).split(b"\n")[0][4:].decode()
            one.client.vanish()
            await other.call("release", 6)
            async with beside(one, gate) as again:
                found = messages((await again.client.body(await again.listen(seen))).body)
                assert (found[-1]["id"], "error" in found[-1]) == (5, True)
            async with beside(one, gate) as lost:
                assert (await lost.client.body(await lost.listen("99-1"))).body == b""

    run(story())


def test_a_stream_that_was_primed_ends_with_an_error_at_its_limit() -> None:
    """Also when the call's limit passes after the stream has begun; who resumes is told too."""

    async def story() -> None:
        async with hosting(timeout=2600) as gate, session(gate) as one:
            answer = await one.call("hold", 8)
            last = messages(answer.body)[-1]
            assert (last["id"], last["error"]["data"]["class"]) == (8, "upstream_timeout")
            async with beside(one, gate) as again:
                seen = answer.body.split(b"\n")[0][4:].decode()
                found = messages((await again.client.body(await again.listen(seen))).body)
                assert (found[-1]["id"], "error" in found[-1]) == (8, True)

    run(story())


def test_a_call_whose_client_never_comes_back_is_given_up() -> None:
    """After the call's limit the server is told, and the session is idle."""

    async def story() -> None:
        async with hosting(timeout=500, idleTime="500ms") as gate, session(gate) as one:
            await one.start("hold", 5, "t", tell=True)
            await one.client.head()
            await one.client.text(b"progress")
            one.client.vanish()
            await until(lambda: gate.runtime.processes.running == 0, 8)

    run(story())


def test_a_client_that_leaves_before_its_handshake_is_over_leaves_no_process() -> None:
    """Nobody knows the session: its process ends at once."""

    async def story() -> None:
        args = ["-c", "import sys, time; sys.stdin.readline(); time.sleep(60)"]
        async with hosting(args=args) as gate, caller(gate) as one:
            await one.client.send(initialize())
            await until(lambda: gate.runtime.processes.running == 1)
            one.client.vanish()
            await until(lambda: gate.runtime.processes.running == 0, 8)

    run(story())


def test_the_same_id_or_token_in_another_spelling_is_the_same() -> None:
    """JSON has many spellings of one text; a server may write another one than it was given."""

    async def story() -> None:
        async with hosting() as gate, session(gate) as one, beside(one, gate) as other:
            await one.client.send(
                b'{"jsonrpc":"2.0","id":"a\\/b","method":"tools/call","params":{"name":"hold",'
                b'"arguments":{"tell":true},"_meta":{"progressToken":"t\\u002f1"}}}',
                one.headers,
            )
            head = await one.client.head()
            await one.client.text(b"progress")
            await other.say({"method": "notifications/cancelled", "params": {"requestId": "a/b"}})
            assert b'"error"' in (await one.client.body(head)).body

    run(story())
