"""Questions to the client, on either wire.

In a session (up to 2025-11-25) a question is a request of its own, sent while the call waits. In 2026-07-28 the call
ends with an `input_required` result and the client sends it again with the answers. A tool just writes
`await call.ask(...)` for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Question = types.ElicitRequest | types.CreateMessageRequest | types.ListRootsRequest
Answer = types.ElicitResult | types.CreateMessageResult | types.ListRootsResult


class Unanswered(Exception):
    """The call cannot go on before the client has answered; `result` is what it gets now (2026-07-28)."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__("the client has questions to answer first")
        self.result = result


def form(message: str, properties: dict[str, Any], required: list[str] | None = None) -> types.ElicitRequest:
    """A form for the user; all its fields are required unless `required` names some."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    """A prompt for the client's language model."""
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def roots() -> types.ListRootsRequest:
    """A question for the client's roots."""
    return types.ListRootsRequest(params=types.RequestParams())


def _capability(question: Question) -> types.ClientCapabilities:
    match question:
        case types.ElicitRequest():
            return types.ClientCapabilities(elicitation=types.ElicitationCapability())
        case types.CreateMessageRequest():
            return types.ClientCapabilities(sampling=types.SamplingCapability())
        case types.ListRootsRequest():
            return types.ClientCapabilities(roots=types.RootsCapability())


def _result_type(question: Question) -> type[Answer]:
    match question:
        case types.ElicitRequest():
            return types.ElicitResult
        case types.CreateMessageRequest():
            return types.CreateMessageResult
        case types.ListRootsRequest():
            return types.ListRootsResult


def _complete(question: Question, answer: Answer) -> bool:
    """Whether an accepted form has all its required fields; every other answer is complete."""
    if not isinstance(answer, types.ElicitResult) or answer.action != "accept":
        return True
    if not isinstance(question, types.ElicitRequest) or not isinstance(question.params, types.ElicitRequestFormParams):
        return True
    given = answer.content or {}
    return all(name in given for name in question.params.requested_schema.get("required", ()))


class Asking:
    """Puts questions to the client of one call.

    `answers` and `state` are what the client sent along (2026-07-28). The SDK seals every state that leaves the server
    and refuses one that comes back altered, so what is read here is what was written here.
    """

    def __init__(
        self, context: ServerRequestContext[Any, Any], answers: types.InputResponses, state: str | None
    ) -> None:
        self._context = context
        self._answers = answers
        self._has_state = state is not None
        self._kept: dict[str, Any] = {} if state is None else json.loads(state)

    def can(self, question: Question) -> bool:
        """Whether the client declared that it answers questions of this kind."""
        return self._context.session.check_client_capability(_capability(question))

    async def __call__(self, questions: Mapping[str, Question], *, remember: bool = False) -> dict[str, Any]:
        """The answers under the keys of `questions`; raises `Unanswered`, or -32021 if the client cannot answer.

        `remember` sends a `requestState` along; then an answer counts only if that state comes back, and the answers to
        this and earlier questions are kept in it.
        """
        for question in questions.values():
            self._require(question)
        if self._context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return {key: await self._push(question) for key, question in questions.items()}
        known = {key: answer for key, question in questions.items() if (answer := self._find(key, question, remember))}
        if remember:
            self._kept |= {key: answer.model_dump(by_alias=True, mode="json") for key, answer in known.items()}
        missing: dict[str, Question] = {key: question for key, question in questions.items() if key not in known}
        if not missing:
            return known
        state = json.dumps(self._kept) if remember else None
        raise Unanswered(types.InputRequiredResult(input_requests=missing, request_state=state))

    def _require(self, question: Question) -> None:
        if self.can(question):
            return
        needed = types.MissingRequiredClientCapabilityErrorData(required_capabilities=_capability(question))
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"{question.method} needs a capability that the client did not declare",
            needed.model_dump(by_alias=True, mode="json", exclude_none=True),
        )

    async def _push(self, question: Question) -> Answer:
        metadata = ServerMessageMetadata(related_request_id=self._context.request_id)
        return await self._context.session.send_request(question, _result_type(question), metadata=metadata)

    def _find(self, key: str, question: Question, remember: bool) -> Answer | None:
        """What the client answered, in this round or an earlier one; None if that does not fit the question."""
        if remember and not self._has_state:
            return None
        answer = self._answers.get(key)
        if answer is None and key in self._kept:
            answer = _result_type(question).model_validate(self._kept[key])
        if not isinstance(answer, Answer) or not isinstance(answer, _result_type(question)):
            return None
        return answer if _complete(question, answer) else None
