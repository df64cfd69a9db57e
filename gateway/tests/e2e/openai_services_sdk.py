"""OpenAI's own client against `openai_services.py`: what it does is taken, and what the service refuses it reports."""

import io
import sys
import wave

import openai

client = openai.OpenAI(base_url=f"http://127.0.0.1:{sys.argv[1]}/v1", api_key="sk-test", max_retries=3)

file = io.BytesIO()
with wave.open(file, "wb") as wav:
    wav.setnchannels(1)
    wav.setsampwidth(2)
    wav.setframerate(16000)
    wav.writeframes(b"\x00\x10" * 16000)


def sound(name="speech.wav"):
    return (name, file.getvalue())


heard = client.audio.transcriptions.create(model="whisper-1", file=sound(), language="en", response_format="json")
assert heard.text == "What time is it?", heard

tool = {"type": "function", "function": {"name": "send_dtmf", "parameters": {"type": "object", "properties": {}}}}
messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What time is it?"}]
stream = client.chat.completions.create(
    model="gpt-4o-mini", messages=messages, tools=[tool], stream=True, stream_options={"include_usage": True}
)
words = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
assert words == "It is noon in all of London. Anything else?", words

messages.append({"role": "user", "content": "Please press one."})
with client.chat.completions.stream(model="gpt-4o-mini", messages=messages, tools=[tool]) as stream:
    call = stream.get_final_completion().choices[0].message.tool_calls[0]
assert (call.id, call.function.name, call.function.arguments) == ("call_1", "send_dtmf", '{"digits":"1"}'), call
messages.append({"role": "assistant", "content": None, "tool_calls": [call.model_dump(include={"id", "type", "function"})]})
for answered in (False, True):
    if answered:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "{}"})
    try:
        done = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        assert answered and done.choices[0].message.content == "I have pressed it for you.", done
    except openai.BadRequestError:
        assert not answered

with client.audio.speech.with_streaming_response.create(
    model="tts-1", input="Hello.", voice="alloy", response_format="pcm"
) as speech:
    samples = b"".join(speech.iter_bytes())
assert len(samples) == 2 * int(24000 * 0.06 * 6), len(samples)


def refused(error, call, **fields):
    try:
        call(**fields)
    except error as refusal:
        return refusal.code
    raise AssertionError(f"{fields} was taken")


speak = client.audio.speech.create
assert refused(openai.BadRequestError, speak, model="tts-1", input="x", voice="nobody") == "invalid_value"
assert refused(openai.BadRequestError, speak, model="tts-1", input="x" * 4097, voice="alloy") == "string_above_max_length"
transcribe = client.audio.transcriptions.create
assert refused(openai.BadRequestError, transcribe, model="whisper-1", file=sound("a.txt")) == "unsupported_format"
assert refused(openai.BadRequestError, transcribe, model="whisper-1", file=sound(), language="english") == "invalid_language_format"
assert refused(openai.NotFoundError, transcribe, model="whisper-9", file=sound()) == "model_not_found"
stranger = openai.OpenAI(base_url=client.base_url, api_key="sk-other", max_retries=0)
assert refused(openai.AuthenticationError, stranger.audio.speech.create, model="tts-1", input="x", voice="alloy") == "invalid_api_key"
print("taken")
