/* SPDX-License-Identifier: MIT */
#include "dpsctl/explanation.h"

#include <assert.h>

#include "basic/text.h"

#define BACKOFF "It asks again after 5 s, doubling up to 10 minutes, and at once when the network changes."
#define FINAL                                                                                                \
        "It asks again after 1, 2, 4, 8 and 15 minutes, then after an hour, doubling up to a day. A hub "    \
        "that is "                                                                                           \
        "assigned already stays in use."
#define REPROVISION "dpsctl reprovision NAME"

static const Explanation explanations[_DPS_ERROR_MAX] = {
        [DPS_ERROR_DNS] = {
                "The name server does not know the endpoint's name, does not answer, or there is none.",
                "If other names resolve, the name in Endpoint= is wrong or a name server filters it. If none does, the "
                "network or its name server is the cause.",
                BACKOFF,
                "resolvectl query HOST\nresolvectl status\ndpsctl cat-config NAME",
        },
        [DPS_ERROR_UNREACHABLE] = {
                "No interface is up, or none has a route to the endpoint's address.",
                "Without a default route the network is down. With one, the address may be IPv6 while only IPv4 has "
                "a route.",
                "It waits for a route or an address, and asks as soon as there is one.",
                "ip route get ADDRESS\nnetworkctl status\ndpsctl check NAME",
        },
        [DPS_ERROR_REFUSED] = {
                "The endpoint, or a firewall in its name, closes the connection before TLS begins.",
                "If port 443 is open and 8883 is not, a firewall lets only HTTPS pass: Transport=auto or https. If both "
                "are refused, Endpoint= or Address= leads to another machine.",
                BACKOFF " With Transport=auto it tries HTTPS too.",
                "dpsctl check NAME",
        },
        [DPS_ERROR_TIMEOUT] = {
                "A firewall drops packets without a word, the network loses many of them, or DPS is slow.",
                "The step tells: connect or tls means the network (a firewall, a small MTU), register or poll means DPS or "
                "a webhook of custom allocation.",
                BACKOFF,
                "dpsctl check NAME\ndpsctl show NAME -p LastErrorStep\nping -M do -s 1372 HOST",
        },
        [DPS_ERROR_LOST] = {
                "The network changed, or a firewall, a proxy or DPS closed the connection.",
                "If it always comes at the same step, something on the way does not like what is sent there. If it "
                "comes at any time, the line is bad.",
                BACKOFF " A registration in progress is continued and not begun anew.",
                "dpsctl history NAME\njournalctl -u dpsd --since -1h",
        },
        [DPS_ERROR_TLS] = {
                "Something other than DPS answers at that port, or the two sides have no TLS version in common.",
                "The message has OpenSSL's words: 'wrong version number' means that the port speaks no TLS.",
                BACKOFF,
                "dpsctl check NAME\nopenssl s_client -connect HOST:PORT -servername HOST",
        },
        [DPS_ERROR_TLS_NAME] = {
                "The certificate is for another name than Endpoint=.",
                "If the name in it is your proxy's or a captive portal's, the network redirects. If it is another name "
                "of Azure, Endpoint= is wrong, or Address= leads to another instance.",
                BACKOFF " It never goes on with a wrong name.",
                "dpsctl check NAME\nresolvectl query HOST",
        },
        [DPS_ERROR_TLS_EXPIRED] = {
                "The clock of this device is wrong, or the server is not DPS.",
                "The message has both times. Azure renews its certificates long before they end, so the clock is far "
                "more often the cause.",
                BACKOFF " It asks at once when the clock is set.",
                "timedatectl\ntimedatectl timesync-status\ndpsctl check NAME",
        },
        [DPS_ERROR_TLS_UNTRUSTED] = {
                "The root certificate is not installed, was taken out by an update, or TLS is intercepted.",
                "The message names the issuer. If it is DigiCert or Microsoft, the roots of this device are "
                "too old or too few. If it is your company's, TLS is inspected.",
                BACKOFF,
                "dpsctl check NAME\nls -l /etc/ssl/certs | grep -i digicert\nupdate-ca-certificates",
        },
        [DPS_ERROR_TLS_INTERCEPTED] = {
                "A proxy or firewall inspects TLS. With an X.509 credential this can never work, since the device's "
                "certificate does not pass it.",
                "The message names the issuer, which is the inspector.",
                BACKOFF,
                "dpsctl check NAME",
        },
        [DPS_ERROR_AUTH] = {
                "The key or certificate is not the enrollment's, there is no such enrollment in a group's scope, a clock "
                "is wrong, or DPS refuses this network.",
                "The code tells: 401000 is a token, 401002 a certificate or a token, 403 the network or the "
                "enrollment's rights. If another device with the same group key works, the registration id is the "
                "cause.",
                FINAL " While the clock is not known to be right it takes the clock for the cause, and asks more often.",
                "dpsctl enrollment NAME\ntimedatectl\ndpsctl check NAME\n" REPROVISION,
        },
        [DPS_ERROR_ENROLLMENT_DISABLED] = {
                "Somebody has disabled the enrollment, or the group that the device belongs to.",
                "The portal shows both: the enrollment entry, and the provisioning status of the device's registration.",
                FINAL,
                "az iot dps enrollment show --dps-name DPS --enrollment-id ID\n" REPROVISION,
        },
        [DPS_ERROR_ENROLLMENT_UNKNOWN] = {
                "No enrollment was made, it has another registration id, or IdScope= is another instance's.",
                "Compare what dpsctl enrollment prints with the portal: the scope stands on the page of the instance, the "
                "id in the enrollment.",
                FINAL,
                "dpsctl enrollment NAME\ndpsctl cat-config NAME\n" REPROVISION,
        },
        [DPS_ERROR_ALLOCATION] = {
                "No hub is linked or selected, the hub refuses DPS, or the webhook of custom allocation failed.",
                "400207 is the webhook, 400208 no hub, 400209 the link's key.",
                FINAL,
                "az iot dps linked-hub list --dps-name DPS\n" REPROVISION,
        },
        [DPS_ERROR_API_VERSION] = {
                "ApiVersion= names a version that this cloud does not have, or not yet.",
                "Without ApiVersion= only [Issuance] asks for a new one, and dpsd steps down by itself.",
                FINAL,
                "dpsctl cat-config NAME\ndpsctl reload",
        },
        [DPS_ERROR_REQUEST] = {
                "DPS does not take the payload, the registration id, or the certificate request.",
                "The message has the words of DPS. Without Payload= the cause is the id, or the kind of the key in "
                "[Issuance].",
                FINAL,
                "dpsctl verify-config\ndpsctl cat-config NAME\n" REPROVISION,
        },
        [DPS_ERROR_CONFLICT] = {
                "DPS still works on an earlier registration of this device, or another one has the same id.",
                "If it comes again and again, two devices have one registration id, often after an image was "
                "copied.",
                BACKOFF,
                "dpsctl show NAME -p RegistrationId\ndpsctl history NAME",
        },
        [DPS_ERROR_THROTTLED] = {
                "All devices of the scope share the quotas of DPS, and together they ask too often.",
                "After a power cut or an update of the whole fleet it passes. If it lasts, the quota is too small or some "
                "devices ask in a loop.",
                "It waits as long as DPS says, for all identities of the scope, and then asks with fewer at once.",
                "dpsctl status\naz iot dps show --name DPS",
        },
        [DPS_ERROR_SERVICE] = {
                "DPS, or a service behind it, does not work at the moment.",
                "If all devices have it, look at the status of Azure. If only this one has it, its hub or webhook may be "
                "the cause.",
                BACKOFF " It waits longer where DPS says so.",
                "dpsctl show NAME -p LastTrackingId\ndpsctl status NAME",
        },
        [DPS_ERROR_PROTOCOL] = {
                "Something else answers in the place of DPS, or DPS has changed.",
                "An answer in HTML is a proxy's or a captive portal's.",
                BACKOFF,
                "dpsctl log-level debug\n" REPROVISION "\njournalctl -u dpsd -f",
        },
        [DPS_ERROR_OPERATION_LOST] = {
                "DPS was restarted, or it took too long until it was asked again.",
                "It is harmless if it comes once.",
                "It registers again.",
                "dpsctl history NAME",
        },
        [DPS_ERROR_CLOCK] = {
                "The device has no battery for its clock and no time server, or DPS says that its own time differs.",
                "'System clock synchronized: no' means that no time server was reached. Otherwise the message tells how far "
                "behind the clock is.",
                "It waits up to 5 minutes for the right time, then asks with the wrong one, and goes on at once when "
                "the clock is set. A synchronised clock is believed.",
                "timedatectl\ntimedatectl timesync-status\nchronyc tracking\ndpsctl check NAME",
        },
        [DPS_ERROR_CONFIG] = {
                "A value is wrong, or a file that it names is missing, unreadable, too open or no key.",
                "The message has the file and the line.",
                "It goes on with the last good configuration, if there was one. It notices corrected key files by "
                "itself.",
                "dpsctl verify-config\ndpsctl check NAME\nnamei -l FILE\ndpsctl reload",
        },
        [DPS_ERROR_KEY] = {
                "A token, a TPM, a credential or a file is not there yet, or does not answer.",
                "The message names it. A smart card or TPM may be in use by another program, or need a module.",
                "It looks again after 10 s, doubling up to 10 minutes, and at once when the file appears.",
                "dpsctl check NAME\nsystemctl show dpsd -p LoadCredential\nls -l /dev/tpm*",
        },
        [DPS_ERROR_ISSUANCE] = {
                "The enrollment has no credential policy, or what was issued does not fit the key.",
                "Without a policy DPS answers without a certificate. A certificate that does not fit is named in the "
                "message.",
                "The old certificate, or the key, stays in use. It asks again at the next renewal, or when "
                "somebody asks for it.",
                "dpsctl show NAME -p CertificateKind -p CertificateExpiresAt\n" REPROVISION,
        },
        [DPS_ERROR_DISK] = {
                "The file system is full, read-only or broken.",
                "The message has the system's words: 'No space left' or 'Read-only file system'.",
                "It works from memory and tries again. After a reboot the device has what is on disk.",
                "df -h /var/lib/dps\nfindmnt -T /var/lib/dps\njournalctl -k -p err",
        },
        [DPS_ERROR_MEMORY] = {
                "The device, or the limit of the unit, has no memory left.",
                "If MemoryMax= is set for dpsd, its limit may be the cause.",
                "It tries again.",
                "free -h\nsystemctl show dpsd -p MemoryMax -p MemoryCurrent",
        },
        [DPS_ERROR_PROXY] = {
                "The proxy asks for a password, does not allow the port or the name, or does not work.",
                "407 is the password, 403 the proxy's rules: many allow CONNECT to port 443 only, so that "
                "Transport=https is needed.",
                BACKOFF,
                "dpsctl check NAME\ncurl -v -x PROXY https://HOST/",
        },
};

const Explanation *explanation_of(DpsErrorId id) {
        assert(id > DPS_ERROR_NONE && id < _DPS_ERROR_MAX);
        return &explanations[id];
}

bool code_is_defined(uint64_t code) {
        static const uint32_t codes[] = {
                400,    401,    402,    403,    404,    405,    406,    407,    408,    409,    410,
                411,    412,    413,    414,    415,    416,    417,    421,    422,    423,    424,
                425,    426,    428,    429,    431,    451,    499,    500,    501,    502,    503,
                504,    505,    507,    508,    511,    400000, 400004, 400006, 400012, 400037, 400040,
                400207, 400208, 400209, 401000, 401002, 403000, 404201, 404202, 409000, 409004, 409005,
                409203, 412001, 429001, 429002, 429003, 500001, 503001,
        };

        for (size_t k = 0; k < ELEMENTSOF(codes); k++)
                if (codes[k] == code)
                        return true;
        return false;
}
