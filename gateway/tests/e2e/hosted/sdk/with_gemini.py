"""Google's own client against `gemini.py --scenario send_dtmf`: PORT as argument. It takes no server without TLS: the
service is `localhost`, and SSL_CERT_FILE says whom to trust. What it does is taken, what it is sent is as it expects, and
what the service refuses it reports."""

import asyncio
import math
import struct
import sys

from google import genai
from google.genai import errors, types

MODEL = "gemini-live-test"
tone = struct.pack("<1600h", *(int(8000 * math.sin(math.tau * 300 * at / 16000)) for at in range(1600)))
turn = 48000 * 3


def client(key="test-key"):
    here = types.HttpOptions(base_url=f"https://localhost:{sys.argv[1]}", api_version="v1beta")
    return genai.Client(api_key=key, http_options=here).aio.live


def config(**more):
    function = types.FunctionDeclaration(
        name="send_dtmf", description="Presses keys.",
        parameters=types.Schema(type="OBJECT", properties={"digits": types.Schema(type="STRING")}, required=["digits"]),
    )
    return types.LiveConnectConfig(**{
        "response_modalities": ["AUDIO"], "system_instruction": "Be kind.", "tools": [types.Tool(function_declarations=[function])],
        "speech_config": types.SpeechConfig(
            language_code="en-US", voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
        ),
        "input_audio_transcription": {}, "output_audio_transcription": {}, "temperature": 0.5, **more,
    })


async def hear(session):
    """One turn: bytes of audio, what was said and heard, whether it was cut, and a call."""
    audio, said, heard, is_cut = 0, "", "", False
    async for message in session.receive():
        if message.tool_call:
            return audio, said, heard, message.tool_call.function_calls[0]
        content = message.server_content
        if content is None:
            continue
        audio += len(message.data or b"")
        said += content.output_transcription.text if content.output_transcription else ""
        heard += content.input_transcription.text if content.input_transcription else ""
        is_cut |= bool(content.interrupted)
    return audio, said, heard, is_cut


async def main():
    async with client().connect(model=MODEL, config=config()) as session:
        await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text="Greet the caller.")]))
        assert await hear(session) == (turn, "Agent turn 1 has seven words here.", "", False)
        _, _, _, call = await hear(session)
        assert (call.name, call.args) == ("send_dtmf", {"digits": "12"}), call
        response = types.FunctionResponse(id=call.id, name=call.name, response={"result": "pressed"})
        await session.send_tool_response(function_responses=response)
        assert (await hear(session))[:2] == (turn, "Agent turn 2 has seven words here.")
        for loud in [True] * 3 + [False] * 8:
            await session.send_realtime_input(audio=types.Blob(data=tone if loud else bytes(3200), mime_type="audio/pcm;rate=16000"))
        assert await hear(session) == (0, "", "", True)
        assert await hear(session) == (turn, "Agent turn 3 has seven words here.", "Caller turn 1.", False)
        await session.send_realtime_input(text="The caller pressed 7")
        assert (await hear(session))[0] == turn
        await session.send_realtime_input(audio_stream_end=True)

    async def refused(key="test-key", model=MODEL, blob=None, **more):
        try:
            async with client(key).connect(model=model, config=config(**more)) as session:
                await session.send_realtime_input(audio=blob)
                await hear(session)
        except errors.APIError as error:
            return error.code, str(error)
        raise AssertionError("it was taken")

    code, why = await refused(key="another")
    assert code == 1007 and "API key not valid" in why, why
    code, why = await refused(model="gemini-none")
    assert code == 1008 and "not found" in why, why
    code, why = await refused(blob=types.Blob(data=b"\x00", mime_type="audio/pcmu"))
    assert code == 1007 and "MIME" in why, why
    nothing = types.FunctionDeclaration(name="end_call", description="Ends.", parameters=types.Schema(type="OBJECT", properties={}))
    code, why = await refused(tools=[types.Tool(function_declarations=[nothing])])
    assert code == 1007 and "non-empty for OBJECT" in why, why


asyncio.run(main())
print("taken")
