"""Tools that ask the client for something before they answer."""

from __future__ import annotations

import json

import mcp_types as types

from tests.conformance.everything.asking import Question, form, roots, sample
from tests.conformance.everything.call import Call
from tests.conformance.everything.material import said
from tests.conformance.everything.offer import Offer, strings

_NAME = {"name": {"type": "string"}}
_OK = {"ok": {"type": "boolean"}}


def _filled(answer: types.ElicitResult) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content or {}, sort_keys=True)}"


def _generated(answer: types.CreateMessageResult) -> str:
    return answer.content.text if isinstance(answer.content, types.TextContent) else f"({answer.content.type})"


async def _sampling(call: Call) -> types.CallToolResult:
    answers = await call.ask({"completion": sample(call.string("prompt"))})
    return said(f"LLM response: {_generated(answers['completion'])}")


async def _elicitation(call: Call) -> types.CallToolResult:
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    answers = await call.ask({"user": form(call.string("message"), fields)})
    return said(f"User response: {_filled(answers['user'])}")


async def _defaults(call: Call) -> types.CallToolResult:
    fields = {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": True},
    }
    answers = await call.ask({"user": form("Please check and complete these values", fields, required=[])})
    return said(f"Elicitation completed: {_filled(answers['user'])}")


def _titled(prefix: str, title: str) -> list[dict[str, str]]:
    ordinals = ("First", "Second", "Third")
    return [{"const": f"{prefix}{number}", "title": f"{ordinals[number - 1]} {title}"} for number in (1, 2, 3)]


async def _enums(call: Call) -> types.CallToolResult:
    plain = ["option1", "option2", "option3"]
    fields = {
        "untitledSingle": {"type": "string", "description": "One of three", "enum": plain},
        "titledSingle": {"type": "string", "description": "One of three", "oneOf": _titled("value", "Option")},
        "legacyEnum": {
            "type": "string",
            "description": "One of three",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "description": "Some of three", "items": {"type": "string", "enum": plain}},
        "titledMulti": {
            "type": "array",
            "description": "Some of three",
            "items": {"anyOf": _titled("value", "Choice")},
        },
    }
    answers = await call.ask({"user": form("Please choose", fields, required=[])})
    return said(f"Elicitation completed: {_filled(answers['user'])}")


async def _streaming_elicitation(call: Call) -> types.CallToolResult:
    await call.progress(10)
    answers = await call.ask({"confirm": form("Go on?", _OK)})
    return said(f"Answer: {_filled(answers['confirm'])}")


async def _needs_sampling(call: Call) -> types.CallToolResult:
    answers = await call.ask({"completion": sample("Say anything")})
    return said(_generated(answers["completion"]))


async def _ask_name(call: Call) -> types.CallToolResult:
    answers = await call.ask({"user_name": form("What is your name?", _NAME)})
    return said(f"Hello, {(answers['user_name'].content or {}).get('name', 'stranger')}!")


async def _ask_capital(call: Call) -> types.CallToolResult:
    answers = await call.ask({"capital_question": sample("What is the capital of France?")})
    return said(_generated(answers["capital_question"]))


async def _ask_roots(call: Call) -> types.CallToolResult:
    answers = await call.ask({"client_roots": roots()})
    return said(f"Roots: {', '.join(str(root.uri) for root in answers['client_roots'].roots)}")


async def _ask_with_state(call: Call) -> types.CallToolResult:
    answers = await call.ask({"confirm": form("Please confirm", _OK)}, remember=True)
    return said(f"state-ok: {_filled(answers['confirm'])}")


async def _ask_several(call: Call) -> types.CallToolResult:
    questions: dict[str, Question] = {
        "user_name": form("What is your name?", _NAME),
        "greeting": sample("Generate a greeting", max_tokens=50),
        "client_roots": roots(),
    }
    answers = await call.ask(questions, remember=True)
    count = len(answers["client_roots"].roots)
    return said(f"{_generated(answers['greeting'])} {_filled(answers['user_name'])} {count} roots")


async def _ask_twice(call: Call) -> types.CallToolResult:
    first = await call.ask({"step1": form("Step 1: What is your name?", _NAME)}, remember=True)
    color = form("Step 2: What is your favorite color?", {"color": {"type": "string"}})
    second = await call.ask({"step2": color}, remember=True)
    return said(f"{_filled(first['step1'])} {_filled(second['step2'])}")


async def _ask_what_is_possible(call: Call) -> types.CallToolResult:
    questions: dict[str, Question] = {
        "form": form("What is your name?", _NAME),
        "completion": sample("Generate a greeting"),
        "roots": roots(),
    }
    answers = await call.ask({key: question for key, question in questions.items() if call.ask.can(question)})
    return said(f"Answered: {', '.join(sorted(answers))}")


_MRTR = "test_input_required_result_"

TOOLS = (
    Offer("test_sampling", "Lets the client's model complete a prompt.", _sampling, strings("prompt")),
    Offer("test_elicitation", "Shows the user a form.", _elicitation, strings("message")),
    Offer("test_elicitation_sep1034_defaults", "Shows a form with a default of each type.", _defaults),
    Offer("test_elicitation_sep1330_enums", "Shows a form with each kind of choice.", _enums),
    Offer("test_streaming_elicitation", "Reports progress, then shows a form.", _streaming_elicitation),
    Offer("test_missing_capability", "Needs a client that offers sampling.", _needs_sampling),
    Offer(f"{_MRTR}elicitation", "Asks for a name.", _ask_name),
    Offer(f"{_MRTR}sampling", "Asks the client's model for a capital.", _ask_capital),
    Offer(f"{_MRTR}list_roots", "Asks for the client's roots.", _ask_roots),
    Offer(f"{_MRTR}request_state", "Asks, and wants its state back.", _ask_with_state),
    Offer(f"{_MRTR}multiple_inputs", "Asks three questions at once.", _ask_several),
    Offer(f"{_MRTR}multi_round", "Asks a second question after the first.", _ask_twice),
    Offer(f"{_MRTR}tampered_state", "Asks, and refuses a state that was altered.", _ask_with_state),
    Offer(f"{_MRTR}capabilities", "Asks only what the client can answer.", _ask_what_is_possible),
)
