"""Stands in for control: gives one number to one agent over the call plane's pipe, and stays.

usage: route.py CALLS_SOCK DIGITS twilio URL
       route.py CALLS_SOCK DIGITS openai-realtime BASE_URL
"""

import json
import socket
import struct
import sys

path, digits, kind, url = sys.argv[1:]
provider = {"kind": kind, "base_url": url, "model": "bench"}
agent = {"project_id": "p", "name": "bench", "system_instruction": "", "voice_id": None, "provider": provider,
         "first_speaker": "caller", "barge_in": "provider"}  # what the load generator says is noise, and no interruption
snapshot = {"type": "snapshot", "revision": 1, "projects": {"p": {"active_agent": None}}, "agents": {"a": agent},
            "numbers": {digits: {"project_id": "p", "agent_id": "a"}}}
pipe = socket.socket(socket.AF_UNIX)
pipe.connect(path)
length, = struct.unpack(">I", pipe.recv(4, socket.MSG_WAITALL))
version = json.loads(pipe.recv(length, socket.MSG_WAITALL))["version"]
for message in ({"type": "hello", "version": version, "stored": None}, snapshot):
    text = json.dumps(message).encode()
    pipe.sendall(struct.pack(">I", len(text)) + text)
while pipe.recv(65536):
    pass
