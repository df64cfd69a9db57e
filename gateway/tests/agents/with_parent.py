"""Runs a module as `python -m` does, until whoever started it is gone: until standard input ends.

with_parent.py MODULE ARGUMENTS…
"""

import os
import runpy
import sys
import threading


def watch():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=watch, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
