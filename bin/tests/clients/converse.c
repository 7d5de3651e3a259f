/* The conversation of bin/tests/it/foreign with Paho for C: converse TRANSPORT VERSION PORT NAME [hold].
 *
 * TRANSPORT is tcp or ws, VERSION 3 (3.1), 4 (3.1.1) or 5. Prints one line for each step; ends with 1 at the first that
 * fails. With `hold` it is the client with a will and a kept session that is killed. */
#define _POSIX_C_SOURCE 200809L
#include <MQTTClient.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Over WebSocket this library, of 1.3.12, loses part of what its socket does not take at once: to Mosquitto's broker too. */
enum { WITHIN_MS = 20000, LARGE = 300000, LARGE_OVER_WEBSOCKET = 3000 };

static const char *transport, *port, *name;
static int version;

static void fail(const char *what, int code) {
    fprintf(stderr, "%s: %d\n", what, code);
    exit(1);
}

/* NAME/leaf, in one of some buffers that take turns. */
static const char *own(char between, const char *leaf) {
    static char texts[4][128];
    static int turn;
    char *text = texts[turn = (turn + 1) % 4];
    snprintf(text, sizeof texts[0], "%s%c%s", name, between, leaf);
    return text;
}

static MQTTClient open_as(const char *leaf, int kept, int will, int *present) {
    char uri[64];
    snprintf(uri, sizeof uri, "%s://127.0.0.1:%s%s", transport, port, strcmp(transport, "ws") ? "" : "/mqtt");
    MQTTClient client;
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    create.MQTTVersion = version;
    int code = MQTTClient_createWithOptions(&client, uri, own('-', leaf), MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
    if (code != MQTTCLIENT_SUCCESS)
        fail("create", code);
    MQTTClient_connectOptions plain = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions five = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions options = version == 5 ? five : plain;
    options.keepAliveInterval = 30;
    options.connectTimeout = WITHIN_MS / 1000;
    options.MQTTVersion = version;
    MQTTClient_willOptions last = MQTTClient_willOptions_initializer;
    last.topicName = own('/', "will");
    last.message = "gone";
    last.qos = 1;
    if (will)
        options.will = &last;
    if (version == 5) {
        options.cleanstart = !kept;
        MQTTProperties properties = MQTTProperties_initializer;
        MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = 600};
        if (kept)
            MQTTProperties_add(&properties, &expiry);
        MQTTResponse response = MQTTClient_connect5(client, &options, &properties, NULL);
        code = response.reasonCode;
        MQTTResponse_free(response);
        MQTTProperties_free(&properties);
    } else {
        options.cleansession = !kept;
        code = MQTTClient_connect(client, &options);
    }
    if (code != 0)
        fail("connect", code);
    if (present)
        *present = options.returned.sessionPresent;
    return client;
}

static int subscribe(MQTTClient client, const char *leaf) {
    const char *filter = own('/', leaf);
    if (version == 5) {
        MQTTResponse response = MQTTClient_subscribe5(client, filter, 2, NULL, NULL);
        int granted = (int)response.reasonCode;
        MQTTResponse_free(response);
        return granted;
    }
    int qos = 2;
    int code = MQTTClient_subscribeMany(client, 1, (char *const *)&filter, &qos);
    if (code != MQTTCLIENT_SUCCESS)
        fail("subscribe", code);
    return qos;
}

static void publish(MQTTClient client, const char *leaf, const char *payload, int size, int qos, int retained) {
    MQTTClient_message message = MQTTClient_message_initializer;
    message.struct_version = 1;
    message.payload = (void *)payload;
    message.payloadlen = size < 0 ? (int)strlen(payload) : size;
    message.qos = qos;
    message.retained = retained;
    MQTTClient_deliveryToken token;
    int code;
    if (version == 5) {
        MQTTResponse response = MQTTClient_publishMessage5(client, own('/', leaf), &message, &token);
        code = response.reasonCode;
        MQTTResponse_free(response);
    } else {
        code = MQTTClient_publishMessage(client, own('/', leaf), &message, &token);
    }
    if (code != MQTTCLIENT_SUCCESS)
        fail("publish", code);
    if (qos > 0 && (code = MQTTClient_waitForCompletion(client, token, WITHIN_MS)) != MQTTCLIENT_SUCCESS)
        fail("the end of a publish", code);
}

struct got {
    char topic[128];
    char *payload;
    int size, qos, retained;
};

/* The next message; its payload ends with a 0 and is the caller's. */
static struct got next(MQTTClient client) {
    char *topic = NULL;
    int length = 0;
    MQTTClient_message *message = NULL;
    int code = MQTTClient_receive(client, &topic, &length, &message, WITHIN_MS);
    if (message == NULL)
        fail("no message", code);
    struct got got = {.size = message->payloadlen, .qos = message->qos, .retained = message->retained};
    snprintf(got.topic, sizeof got.topic, "%s", topic);
    got.payload = calloc(1, (size_t)got.size + 1);
    memcpy(got.payload, message->payload, (size_t)got.size);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return got;
}

static void skip(MQTTClient client) {
    free(next(client).payload);
}

static void leave(MQTTClient client) {
    if (version == 5)
        MQTTClient_disconnect5(client, 1000, MQTTREASONCODE_SUCCESS, NULL);
    else
        MQTTClient_disconnect(client, 1000);
    MQTTClient_destroy(&client);
}

static void retained(MQTTClient watcher, MQTTClient publisher) {
    publish(publisher, "kept", "value", -1, 1, 1);
    struct got got = next(watcher);
    if (got.retained)
        fail("retained to who is subscribed", 1);
    MQTTClient late = open_as("late", 0, 0, NULL);
    subscribe(late, "kept");
    got = next(late);
    printf("retained %s %s\n", got.retained ? "true" : "false", got.payload);
    leave(late);
    publish(publisher, "kept", "", 0, 1, 1);
    skip(watcher);
    late = open_as("late", 0, 0, NULL);
    subscribe(late, "kept");
    publish(publisher, "kept", "cleared", -1, 1, 0);
    printf("%s\n", next(late).payload);
    skip(watcher);
    leave(late);
}

static void resumed(MQTTClient watcher, MQTTClient publisher, char *const *arguments) {
    int ends[2];
    if (pipe(ends) != 0)
        fail("pipe", 0);
    fflush(stdout);
    pid_t killed = fork();
    if (killed == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl(arguments[0], arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], "hold", (char *)NULL);
        _exit(127);
    }
    char line[32];
    FILE *said = fdopen(ends[0], "r");
    close(ends[1]);
    if (killed < 0 || said == NULL || fgets(line, sizeof line, said) == NULL)
        fail("the holder", 0);
    fputs(line, stdout);
    kill(killed, SIGKILL);
    waitpid(killed, NULL, 0);
    struct got will = next(watcher);
    printf("will %s %d %s\n", will.topic, will.qos, will.payload);
    for (int number = 0; number < 10; number++) {
        char text[8];
        snprintf(text, sizeof text, "%d", number);
        publish(publisher, "queued", text, -1, 1 + number % 2, 0);
        skip(watcher);
    }
    int present = 0;
    MQTTClient holder = open_as("holder", 1, 0, &present);
    /* Of 5.0 this library does not tell it; that the messages come shows it too. */
    present |= version == 5;
    if (version > 3)
        printf("present %s\n", present ? "true" : "false");
    struct got queued[10];
    for (int number = 0; number < 10; number++)
        queued[number] = next(holder);
    for (int qos = 1; qos <= 2; qos++) {
        printf("queued %d", qos);
        for (int number = 0; number < 10; number++)
            if (queued[number].qos == qos)
                printf(" %s", queued[number].payload);
        printf("\n");
    }
    leave(holder);
}

static void converse(char *const *arguments) {
    MQTTClient watcher = open_as("watcher", 0, 0, NULL), publisher = open_as("publisher", 0, 0, NULL);
    printf("granted %d\n", subscribe(watcher, "#"));
    for (int qos = 0; qos < 3; qos++) {
        char leaf[8], text[8];
        snprintf(leaf, sizeof leaf, "q/%d", qos);
        snprintf(text, sizeof text, "at %d", qos);
        publish(publisher, leaf, text, -1, qos, 0);
        struct got got = next(watcher);
        printf("message %s %d %s\n", got.topic, got.qos, got.payload);
    }
    int size = strcmp(transport, "ws") ? LARGE : LARGE_OVER_WEBSOCKET;
    char *large = malloc(LARGE);
    for (int number = 0; number < size; number++)
        large[number] = (char)(number % 251);
    publish(publisher, "large", large, size, 1, 0);
    struct got got = next(watcher);
    printf("large %s\n", got.size == size && memcmp(got.payload, large, (size_t)size) == 0 ? "true" : "false");
    retained(watcher, publisher);
    resumed(watcher, publisher, arguments);
    leave(watcher);
    leave(publisher);
    printf("done\n");
}

int main(int count, char **arguments) {
    if (count < 5)
        fail("converse TRANSPORT VERSION PORT NAME [hold]", count);
    transport = arguments[1];
    version = atoi(arguments[2]);
    port = arguments[3];
    name = arguments[4];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count == 5) {
        converse(arguments);
        return 0;
    }
    MQTTClient holder = open_as("holder", 1, 1, NULL);
    if (subscribe(holder, "queued") != 2)
        fail("QoS 2 is granted", 0);
    printf("holding\n");
    pause();
    return 0;
}
