"""OpenAI's own client in a conversation with the strict Realtime server: with_openai_realtime.py PORT KEY

Says what it has taken, if that was a greeting, a truncation and the answer to a turn.
"""

import asyncio
import base64
import sys

from openai import AsyncOpenAI

SILENCE, WORD = bytes([0xFF]) * 160, bytes([0x21, 0xA1]) * 80


async def main():
    port, key = sys.argv[1:]
    client = AsyncOpenAI(api_key=key, base_url=f"http://127.0.0.1:{port}/v1", websocket_base_url=f"ws://127.0.0.1:{port}/v1")
    seen, audio, item = [], 0, None
    async with client.realtime.connect(model="gpt-realtime") as connection:
        async for event in connection:
            if not seen or seen[-1] != event.type:
                seen.append(event.type)
            if event.type == "session.created":
                pcmu = {"type": "audio/pcmu"}
                detection = {"type": "server_vad", "create_response": True, "interrupt_response": True}
                session = {
                    "type": "realtime",
                    "instructions": "Be kind.",
                    "output_modalities": ["audio"],
                    "audio": {
                        "input": {"format": pcmu, "turn_detection": detection},
                        "output": {"format": pcmu, "voice": "marin"},
                    },
                }
                await connection.session.update(session=session)
            elif event.type == "session.updated":
                await connection.response.create()
            elif event.type == "response.output_audio.delta":
                audio, item = audio + len(base64.b64decode(event.delta)), event.item_id
            elif event.type == "response.done" and seen.count("response.done") == 1:
                await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=100)
                for frame in [WORD] * 10 + [SILENCE] * 50:
                    await connection.input_audio_buffer.append(audio=base64.b64encode(frame).decode())
            elif event.type == "response.done":
                break
            elif event.type == "error":
                break
    turn = [
        "session.created",
        "session.updated",
        "response.done",
        "conversation.item.truncated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.committed",
        "response.created",
        "response.output_audio.delta",
        "response.done",
    ]
    rest = iter(seen)
    missing = [kind for kind in turn if kind not in rest]
    if missing or audio == 0 or "error" in seen:
        sys.exit(f"{missing} did not come, or not in order: {seen}")
    print(f"taken: {audio} bytes of audio in {len(seen)} events")


asyncio.run(main())
