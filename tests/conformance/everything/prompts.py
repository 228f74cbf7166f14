"""Prompts, and completion of their arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import mcp_types as types

from tests.conformance.everything.asking import form
from tests.conformance.everything.call import Call
from tests.conformance.everything.material import embedded, image, text


def _messages(*blocks: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=block) for block in blocks])


async def _simple(_call: Call) -> types.GetPromptResult:
    return _messages(text("This is a simple prompt for testing."))


async def _with_arguments(call: Call) -> types.GetPromptResult:
    return _messages(text(f"Prompt with arguments: arg1='{call.string('arg1')}', arg2='{call.string('arg2')}'"))


async def _with_resource(call: Call) -> types.GetPromptResult:
    resource = embedded(call.string("resourceUri"), "Embedded resource content for testing.")
    return _messages(resource, text("Please process the embedded resource above."))


async def _with_image(_call: Call) -> types.GetPromptResult:
    return _messages(image(), text("Please analyze the image above."))


async def _asking(call: Call) -> types.GetPromptResult:
    context = {"context": {"type": "string"}}
    answers = await call.ask({"user_context": form("What context should the prompt use?", context)})
    return _messages(text(f"Context: {(answers['user_context'].content or {}).get('context', 'none')}"))


@dataclass(frozen=True)
class PromptOffer:
    """A prompt: what `prompts/list` says of it, and what it becomes."""

    name: str
    description: str
    run: Callable[[Call], Awaitable[types.GetPromptResult]]
    arguments: tuple[str, ...] = ()

    def listed(self) -> types.Prompt:
        """The entry in `prompts/list`."""
        arguments = [
            types.PromptArgument(name=name, description=f"The value of {name}", required=True)
            for name in self.arguments
        ]
        return types.Prompt(name=self.name, description=self.description, arguments=arguments)


PROMPTS = (
    PromptOffer("test_simple_prompt", "One message.", _simple),
    PromptOffer("test_prompt_with_arguments", "A message with two arguments.", _with_arguments, ("arg1", "arg2")),
    PromptOffer("test_prompt_with_embedded_resource", "A message with a resource.", _with_resource, ("resourceUri",)),
    PromptOffer("test_prompt_with_image", "A message with an image.", _with_image),
    PromptOffer("test_input_required_result_prompt", "Asks the user for its context.", _asking),
)

_WORDS = ("parcel", "parchment", "parsley", "pepper", "quill")


def complete(argument: types.CompletionArgument) -> types.CompleteResult:
    """Words that begin with what was typed so far."""
    found = [word for word in _WORDS if word.startswith(argument.value)]
    return types.CompleteResult(completion=types.Completion(values=found, total=len(found), has_more=False))
