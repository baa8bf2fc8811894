#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Sends each line of standard input to the hub as one message. A line that the hub does not take is sent again later."""
import http.client
import json
import ssl
import sys
import time
import urllib.parse


def connection():
    """A connection of dpsd's is whole, and is replaced as a whole: read it again for each message."""
    with open("/run/dps/gateway/connection.json", encoding="utf-8") as file:
        return json.load(file)


def send(c, message):
    context = ssl.create_default_context(cafile=c.get("caFile"))
    headers = {}
    if c["auth"] == "x509":
        context.load_cert_chain(c["certificateFile"], c["keyFile"])
    else:
        headers["Authorization"] = c["password"]
    path = f"/devices/{urllib.parse.quote(c['deviceId'], safe='')}/messages/events?api-version=2020-03-13"
    hub = http.client.HTTPSConnection(c["hub"], context=context, timeout=60)
    try:
        hub.request("POST", path, message, headers)
        return hub.getresponse().status
    finally:
        hub.close()


for line in sys.stdin:
    wait = 1
    while True:
        try:
            status = send(connection(), line.encode())
            if status < 300:
                break
            print(f"the hub answers {status}", file=sys.stderr)
        except (OSError, ValueError, http.client.HTTPException) as error:  # not assigned yet, or no way to the hub
            print(error, file=sys.stderr)
        time.sleep(wait)
        wait = min(2 * wait, 300)
