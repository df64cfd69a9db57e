"""Twilio's own client against the box: with_twilio.py BASE KEY CALL_SID fetch | completed | twiml TEXT

Prints what comes back as JSON, or status and code of the exception.
"""

import json
import sys

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

ACCOUNT = "AC" + "0" * 32


class BoxHttpClient(TwilioHttpClient):
    """Asks the box in place of api.twilio.com."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("https://api.twilio.com", self.base), *args, **kwargs)


def main():
    base, key, sid, asks, *text = sys.argv[1:]
    call = Client(ACCOUNT, key, http_client=BoxHttpClient(base)).calls(sid)
    try:
        if asks == "fetch":
            got = call.fetch()
        elif asks == "completed":
            got = call.update(status="completed")
        else:
            got = call.update(twiml=text[0])
        print(json.dumps({"sid": got.sid, "status": got.status, "direction": got.direction, "account": got.account_sid}))
    except TwilioRestException as error:
        print(json.dumps({"status": error.status, "code": error.code}))


main()
