#!/usr/bin/python3
"""Breaks the protocol in every way that realtime_server.py watches for: PORT KEY as arguments."""

import asyncio
import json
import sys

import websockets


async def refused(url, headers):
    try:
        await websockets.connect(url, extra_headers=headers)
    except websockets.InvalidStatusCode as error:
        return error.status_code
    return None


async def main():
    port, key = sys.argv[1:]
    url, right = f"ws://127.0.0.1:{port}/v1/realtime?model=m", {"Authorization": f"Bearer {key}"}
    assert await refused(url, {}) == 401
    assert await refused(url, {"Authorization": "Bearer wrong"}) == 401
    assert await refused(url, {**right, "OpenAI-Beta": "realtime=v1"}) == 400
    form = {"type": "audio/pcmu"}
    good = {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": {"format": form}, "output": {"format": form}}}

    async def update(socket, **changes):
        session = {**good, **changes}
        await send(socket, "session.update", session={name: value for name, value in session.items() if value is not None})

    async def send(socket, kind, **fields):
        await socket.send(json.dumps({"type": kind, **fields}))

    async with websockets.connect(url, extra_headers=right) as socket:
        await send(socket, "input_audio_buffer.append", audio="AAAA")
        await update(socket, type=None)
        await update(socket, temperature=0.8)
        await update(socket, audio={"input": {"format": {"type": "audio/pcm", "rate": 8000}}, "output": {"format": form, "colour": 1}})
        await update(socket)
        await send(socket, "response.create")
        await send(socket, "response.create")
        await send(socket, "conversation.item.truncate", item_id="item_1", content_index=0, audio_end_ms=100_000)
        await send(socket, "output_audio_buffer.clear")
        async for text in socket:
            # The answer to the last that has one.
            if json.loads(text)["type"] == "conversation.item.truncated":
                return


asyncio.run(main())
