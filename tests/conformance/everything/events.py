"""Events of the streams of sessions, kept so that a client can resume where it stopped."""

from __future__ import annotations

from collections import OrderedDict

from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage

_KEPT = 1000


class Events(EventStore):
    """The last thousand events of all streams together. Ids count up; each event knows its stream."""

    def __init__(self) -> None:
        self._events: OrderedDict[EventId, tuple[StreamId, JSONRPCMessage | None]] = OrderedDict()
        self._count = 0

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Keep an event; None is the empty one that a stream begins with. Returns its id."""
        self._count += 1
        event_id = str(self._count)
        self._events[event_id] = (stream_id, message)
        if len(self._events) > _KEPT:
            self._events.popitem(last=False)
        return event_id

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Send the later events of the same stream; returns the stream, or None if the event is not known."""
        known = self._events.get(last_event_id)
        if known is None:
            return None
        stream = known[0]
        for event_id, (its_stream, message) in list(self._events.items()):
            if int(event_id) > int(last_event_id) and its_stream == stream and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream
