# SPDX-License-Identifier: MIT
"""A device that speaks the REST API of DPS, with Python's own HTTP client."""
import http.client
import json
import ssl
from urllib.parse import quote

from emulator import ID_SCOPE
from mqtt import PATIENCE, token

API_VERSION = "2019-03-31"


class RestAnswer:
    def __init__(self, response):
        self.status, self.headers, self.text = response.status, response.headers, response.read().decode()

    @property
    def body(self):
        return json.loads(self.text)


def tls_context(emulator, certificate=None, tls=ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=str(emulator.ca_file))
    context.maximum_version = tls
    if certificate:
        context.load_cert_chain(*certificate)
    return context


class RestDevice:
    """One connection, which is kept as long as the server keeps it."""

    def __init__(self, emulator, registration_id, key=None, certificate=None, api_version=API_VERSION, id_scope=ID_SCOPE,
                 password=None, tls=ssl.TLSVersion.TLSv1_3):
        self.connection = http.client.HTTPSConnection("127.0.0.1", emulator.https_port, timeout=PATIENCE,
                                                      context=tls_context(emulator, certificate, tls))
        self.path = f"/{id_scope}/registrations/{quote(registration_id, safe='')}"
        self.api_version = api_version
        self.body = json.dumps({"registrationId": registration_id})
        self.headers = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json"}
        if key:
            password = token(key, f"{id_scope}/registrations/{registration_id}")
        if password:
            self.headers["Authorization"] = password

    def request(self, method, path="", body=None, **headers):
        query = f"?api-version={self.api_version}" if self.api_version else ""
        self.connection.request(method, self.path + path + query, body=body, headers=self.headers | headers)
        return RestAnswer(self.connection.getresponse())

    def register(self, body=None):
        return self.request("PUT", "/register", self.body if body is None else body)

    def poll(self, operation_id):
        return self.request("GET", f"/operations/{quote(operation_id, safe='')}")

    def lookup(self, body=None):
        return self.request("POST", "", self.body if body is None else body)

    def provision(self):
        """Registers, and polls until there is a final answer."""
        answer = self.register()
        while answer.status == 202:
            answer = self.poll(answer.body["operationId"])
        return answer
