// SPDX-License-Identifier: MIT
'use strict';
// Microsoft's device client, used as in its samples. Registers once, and prints the result as JSON.
//
//     node register.js mqtt|https HOST:PORT ID-SCOPE REGISTRATION-ID key FILE [PAYLOAD]
//     node register.js mqtt|https HOST:PORT ID-SCOPE REGISTRATION-ID certificate FILE KEY-FILE [PAYLOAD]

const fs = require('fs');
const https = require('https');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const [way, address, idScope, registrationId, method, ...rest] = process.argv.slice(2);
const read = () => fs.readFileSync(rest.shift(), 'ascii');
const security = method === 'key'
  ? new SymmetricKeySecurityClient(registrationId, read().trim())
  : new X509Security(registrationId, { cert: read(), key: read() });

// Its HTTP client takes a host only, and always dials the port of HTTPS.
const [host, port] = address.split(':');
https.globalAgent.defaultPort = Number(port);

const client = way === 'https'
  ? ProvisioningDeviceClient.create(host, idScope, new Http(), security)
  : ProvisioningDeviceClient.create(address, idScope, new Mqtt(), security);
if (rest.length > 0) {
  client.setProvisioningPayload(JSON.parse(rest[0]));
}
client.register((error, result) => {
  console.log(JSON.stringify(error ? { error: error.name, text: error.message, response: error.result || null } : result));
  process.exitCode = error ? 1 : 0;
});
