/* SPDX-License-Identifier: MIT */
/*
 * How a program registers a device with libdps and a transport of its own. It plays one registration with
 * scripted replies and prints what would be sent: libdps itself does no I/O, reads no clock and needs no
 * event loop.
 *
 *     cc -o dps-registration dps-registration.c $(pkg-config --cflags --libs dps)
 */
#include <dps/key.h>
#include <dps/registration.h>
#include <dps/reply.h>
#include <dps/request.h>
#include <dps/sas.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_SCOPE "0ne00111111"
#define REGISTRATION_ID "gw-1"
#define GROUP_KEY "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
#define TOKEN_EXPIRES_AT_SEC 1700003600 /* a real program adds an hour to the time of day */

/* What DPS answers. It repeats the request id of each request in the topic. */
static const struct {
        unsigned status;
        const char *parameters, *body;
} replies[] = {
        { 429, "&retry-after=5", "{\"errorCode\":429001,\"message\":\"Throttled\"}" },
        { 202, "&retry-after=3", "{\"operationId\":\"4.7\",\"status\":\"assigning\"}" },
        { 200, "",
          "{\"operationId\":\"4.7\",\"status\":\"assigned\",\"registrationState\":{"
          "\"assignedHub\":\"hub-1.azure-devices.net\",\"deviceId\":\"gw-1\"}}" },
};

/* All functions of libdps that can fail return a negative errno. */
static void check(const char *what, int r) {
        if (r >= 0)
                return;
        fprintf(stderr, "%s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

static void print_login(void) {
        DpsKey group_key, device_key;
        char *username, *resource, *token;

        check("group key", dps_key_from_base64(GROUP_KEY, &group_key));
        check("device key", dps_key_derive(&group_key, REGISTRATION_ID, &device_key));
        check("user name", dps_mqtt_username(ID_SCOPE, REGISTRATION_ID, DPS_API_VERSION_DEFAULT, &username));
        check("resource", dps_sas_resource_registration(ID_SCOPE, REGISTRATION_ID, &resource));
        check("token",
              dps_sas_new(&device_key, resource, TOKEN_EXPIRES_AT_SEC, DPS_SAS_POLICY_REGISTRATION, &token));

        printf("client id: %s\nuser name: %s\npassword: %s\nsubscribe: %s\n", REGISTRATION_ID, username,
               token, DPS_RESPONSE_FILTER);

        dps_key_done(&group_key);
        dps_key_done(&device_key);
        free(username);
        free(resource);
        explicit_bzero(token, strlen(token));
        free(token);
}

/* A real program publishes the body to the topic. */
static void send_request(const DpsRequest *request) {
        char *topic, *body = NULL;

        check("topic", dps_request_topic(request, &topic));
        if (request->kind == DPS_REQUEST_REGISTER)
                check("body", dps_register_body(&(DpsRegisterContent){ .registration_id = REGISTRATION_ID,
                                                                       .payload = "{\"site\":\"north\"}" },
                                                &body));
        printf("publish: %s %s\n", topic, body ? body : "(empty)");
        free(topic);
        free(body);
}

static DpsAction receive_reply(DpsRegistration *g, unsigned n, uint64_t request_id, DpsMoment now) {
        DpsReply reply;
        DpsAction action;
        char topic[100];

        snprintf(topic, sizeof(topic), "$dps/registrations/res/%u/?$rid=%" PRIu64 "%s", replies[n].status,
                 request_id, replies[n].parameters);
        printf("received: %s\n", topic);
        check("topic of the reply", dps_reply_parse_topic(topic, &reply));
        check("body of the reply", dps_reply_parse_body(&reply, replies[n].body, strlen(replies[n].body)));

        action = dps_registration_on_reply(g, &reply, now);
        if (dps_registration_state(g) == DPS_REGISTRATION_ASSIGNED)
                printf("assigned: device %s at %s\n", reply.device_id, reply.assigned_hub);
        else if (dps_registration_state(g) == DPS_REGISTRATION_BACKOFF)
                printf("failed: %s\n", dps_registration_error(g)->message);
        dps_reply_done(&reply);
        return action;
}

int main(void) {
        /*
         * A real program takes the time from CLOCK_BOOTTIME and the number from getrandom() for each event.
         */
        DpsMoment now = { .now_usec = 0, .random = 0, .clock_synchronized = true };
        DpsRegistration *g;
        DpsAction action;
        unsigned n = 0;

        print_login();
        check("registration", dps_registration_new(1, NULL, &g));

        for (action = dps_registration_begin(g, now); action.type != DPS_ACTION_FINISH;)
                switch (action.type) {
                case DPS_ACTION_CONNECT:
                        printf("connect\n");
                        action = dps_registration_on_ready(g, now);
                        break;
                case DPS_ACTION_SEND:
                        send_request(&action.request);
                        action = receive_reply(g, n++, action.request.request_id, now);
                        break;
                case DPS_ACTION_RELEASE:
                        printf("disconnect\n");
                        /* fall through */
                case DPS_ACTION_WAIT:
                        printf("wait until %" PRIu64 " ms\n", action.wake_usec / 1000);
                        now.now_usec = action.wake_usec;
                        action = dps_registration_on_time(g, now);
                        break;
                case DPS_ACTION_FINISH:
                        break;
                case DPS_ACTION_ANSWER_CHALLENGE:
                        fprintf(stderr, "this device has no TPM\n");
                        return EXIT_FAILURE;
                }

        dps_registration_free(g);
        return EXIT_SUCCESS;
}
