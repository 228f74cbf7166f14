"""The image, the sound and the answers that the fixture hands out."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib

import mcp_types as types


def _png() -> bytes:
    """One red pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    row = b"\x00\xff\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row, level=9))
        + chunk(b"IEND", b"")
    )


def _wav() -> bytes:
    """A hundredth of a second of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\x00\x00" * 80)
    return buffer.getvalue()


PNG = base64.b64encode(_png()).decode()
WAV = base64.b64encode(_wav()).decode()


def text(value: str) -> types.TextContent:
    """A text block."""
    return types.TextContent(type="text", text=value)


def image() -> types.ImageContent:
    """The red pixel as an image block."""
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, content: str, mime_type: str = "text/plain") -> types.EmbeddedResource:
    """A resource block that carries its text."""
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=content)
    return types.EmbeddedResource(type="resource", resource=contents)


def said(value: str) -> types.CallToolResult:
    """A tool result of one text block."""
    return types.CallToolResult(content=[text(value)])


def failed(value: str) -> types.CallToolResult:
    """A tool result that reports the tool's own failure."""
    return types.CallToolResult(content=[text(value)], is_error=True)
