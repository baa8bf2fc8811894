# SPDX-License-Identifier: MIT
"""A dpsd with a bus and nothing else: it shows the identities it is given, and answers as the test wants. For behaviour
that a test cannot easily get from the real dpsd."""
import contextlib
import json
import threading
import xml.etree.ElementTree

import jeepney
from jeepney import HeaderFields, MessageType

from bus_connection import connect_to_bus
from process import DEADLINE, REPOSITORY

NAME = "io.dpsd.dps1"
ROOT = "/io/dpsd/dps1"
MANAGER = f"{NAME}.Manager"
IDENTITY = f"{NAME}.Identity"

SIGNATURES = {p.get("name"): p.get("type")
              for p in xml.etree.ElementTree.parse(REPOSITORY / f"data/{IDENTITY}.xml").iterfind("interface/property")}
EMPTY = {"s": "", "b": False, "t": 0, "u": 0}


class Refusal(Exception):
    def __init__(self, name, message):
        super().__init__(message)
        self.name = name if "." in name else f"{NAME}.Error.{name}"


def identity(name, state="assigned", **properties):
    """The properties of one identity, as they usually are in its state."""
    values = {key: EMPTY[signature] for key, signature in SIGNATURES.items()}
    values |= {"Name": name, "State": state, "Configured": True, "RequiredForProvisioned": True,
               "IdScope": "0ne00AABBCC", "RegistrationId": f"reg-{name}", "Healthy": state == "assigned",
               "Endpoint": "global.azure-devices-provisioning.net", "AttestationMethod": "symmetric-key"}
    if state == "assigned":
        values |= {"AssignedHub": "contoso.azure-devices.net", "DeviceId": f"reg-{name}", "Generation": 1,
                   "Transport": "mqtt", "HubAuthentication": "sas", "CertificateKind": "", "ConnectionProfile": "classic"}
    return values | properties


def path_of(name):
    return f"{ROOT}/identity/" + "".join(c if c.isascii() and c.isalpha() or c.isdigit() and k > 0 else f"_{ord(c):02x}"
                                         for k, c in enumerate(name))


def variants(values):
    return {key: (SIGNATURES.get(key, "s"), value) for key, value in values.items()}


class FakeDpsd:
    """`refuse`: method to Refusal. `calls`: the methods called, in order; `answered`: those whose answer was sent. on_reprovision(name, id) may answer later."""

    def __init__(self, address, *identities):
        self.identities = {i["Name"]: i for i in identities}
        self.reload_errors = []
        self.refuse = {}
        self.calls, self.answered = [], []
        self.log_level = "info"
        self.history = {}
        self.on_reprovision = lambda name, job: None
        self.last_job = 40
        self.sending = threading.Lock()
        self.connection = connect_to_bus(address)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        reply = self.connection.send_and_get_reply(jeepney.message_bus.RequestName(NAME), timeout=DEADLINE)
        assert reply.body == (1,), reply.body
        self.thread.start()

    def stop(self):
        self.stopped.set()
        with contextlib.suppress(OSError):
            self.connection.sock.shutdown(2)
        self.thread.join(DEADLINE)
        self.connection.close()

    def send(self, message):
        with self.sending:
            self.connection.send(message)

    def serve(self):
        while not self.stopped.is_set():
            try:
                message = self.connection.receive()
            except (OSError, EOFError, ConnectionError):
                return
            if message.header.message_type is MessageType.method_call:
                self.answer(message)

    def answer(self, message):
        fields = message.header.fields
        member = fields[HeaderFields.member]
        self.calls.append(member)
        try:
            if member in self.refuse:
                raise self.refuse[member]
            signature, body = getattr(self, f"call_{member}")(fields[HeaderFields.path], *message.body)
        except Refusal as refusal:
            self.send(jeepney.new_error(message, refusal.name, "s", (str(refusal),)))
            return
        if body is not None:
            self.send(jeepney.new_method_return(message, signature, body))
        self.answered.append(member)
        if member == "Reprovision":
            self.on_reprovision(message.body[0], self.last_job)

    def find(self, path):
        for name, values in self.identities.items():
            if path_of(name) == path:
                return values
        raise Refusal("org.freedesktop.DBus.Error.UnknownObject", "Unknown object")

    def signal(self, path, interface, member, signature, body):
        emitter = jeepney.DBusAddress(path, interface=interface)
        self.send(jeepney.new_signal(emitter, member, signature, body))

    # Signals

    def change(self, name, **properties):
        self.identities[name] |= properties
        self.signal(path_of(name), "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as",
                    (IDENTITY, variants(properties), []))

    def add(self, values):
        self.identities[values["Name"]] = values
        self.signal(ROOT, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "oa{sa{sv}}",
                    (path_of(values["Name"]), {IDENTITY: variants(values)}))

    def remove(self, name):
        del self.identities[name]
        self.signal(ROOT, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", "oas", (path_of(name), [IDENTITY]))

    def finish(self, name, job, ok, error=""):
        self.signal(path_of(name), IDENTITY, "ReprovisionFinished", "tbs", (job, ok, error))

    # Methods

    def call_GetManagedObjects(self, _):
        return "a{oa{sa{sv}}}", ({path_of(name): {IDENTITY: variants(values), "org.freedesktop.DBus.Peer": {}}
                                  for name, values in self.identities.items()},)

    def call_GetAllIdentities(self, _):
        rows = list(self.identities.values())
        keys = dict.fromkeys(key for row in rows for key in ["Name", *row])
        return "a{sv}", ({key: ("a" + SIGNATURES.get(key, "s"), [row.get(key, EMPTY.get(SIGNATURES.get(key), "")) for row in rows])
                          for key in keys},)

    def call_GetIdentity(self, _, name):
        if name not in self.identities:
            raise Refusal("NoSuchIdentity", f"There is no identity named '{name}'")
        return "o", (path_of(name),)

    def call_GetAll(self, path, _):
        return "a{sv}", (variants(self.find(path)),)

    def call_Check(self, _, name, options):
        row = {"Name": name, "Check": "key", "Result": "ok", "Text": ", ".join(options)}
        return "s", (json.dumps({"version": 1, "checks": [row], "identities": list(self.identities)}),)

    def call_Reprovision(self, _, name):
        self.call_GetIdentity(_, name)
        self.last_job += 1
        return "t", (self.last_job,)

    def call_Reload(self, _):
        return "", ()

    def call_ReloadWithReport(self, _):
        if "Reload" in self.refuse:
            raise self.refuse["Reload"]
        return "asasasasasu", (self.reload_errors, [], [], [], [], len(self.identities))

    def call_Forget(self, _, name):
        return "", ()

    def call_GetToken(self, path, lifetime_sec):
        return "st", (f"SharedAccessSignature sr={self.find(path)['Name']}&se={lifetime_sec}", 1700000000000000)

    def call_GetConnection(self, path):
        values = self.find(path)
        connection = {"generation": 1, "hub": values["AssignedHub"], "deviceId": values["DeviceId"], "auth": "sas", "password": "secret",
                      "idScope": values["IdScope"]}
        return "s", (json.dumps(connection, ensure_ascii=False, separators=(",", ":")),)

    def call_GetHistory(self, path):
        return "a(tss)", (self.history.get(self.find(path)["Name"], []),)

    def call_Get(self, _, __, ___):
        return "v", (("s", self.log_level),)

    def call_Set(self, _, __, ___, value):
        self.log_level = value[1]
        return "", ()
