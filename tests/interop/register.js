// SPDX-License-Identifier: MIT
'use strict';
// Microsoft's device client, used as in its samples. Registers once, and prints the result as JSON.
//
//     node register.js HOST ID-SCOPE REGISTRATION-ID key FILE [PAYLOAD]
//     node register.js HOST ID-SCOPE REGISTRATION-ID certificate FILE KEY-FILE [PAYLOAD]

const fs = require('fs');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Mqtt } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const [host, idScope, registrationId, method, ...rest] = process.argv.slice(2);
const read = () => fs.readFileSync(rest.shift(), 'ascii');
const security = method === 'key'
  ? new SymmetricKeySecurityClient(registrationId, read().trim())
  : new X509Security(registrationId, { cert: read(), key: read() });

const client = ProvisioningDeviceClient.create(host, idScope, new Mqtt(), security);
if (rest.length > 0) {
  client.setProvisioningPayload(JSON.parse(rest[0]));
}
client.register((error, result) => {
  console.log(JSON.stringify(error ? { error: error.name, text: error.message, response: error.result || null } : result));
  process.exitCode = error ? 1 : 0;
});
