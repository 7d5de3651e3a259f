"""The conversation of bin/tests/it/foreign with paho-mqtt: converse.py TRANSPORT VERSION PORT NAME [hold].

TRANSPORT is tcp, ws, tls or wss (with the authorities in the file FOREBAY_TEST_CAFILE), VERSION 3 (3.1), 4 (3.1.1) or 5. Prints one line for each step; ends with 1 at the first that
fails. With `hold` it is the client with a will and a kept session that is killed.
"""
import os
import queue
import subprocess
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WITHIN = 20
transport, version, port, name = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


class Client:
    """A connection whose answers and messages are waited for."""

    def __init__(self, leaf, kept=False, will=False):
        self.granted, self.messages, connected = queue.Queue(), queue.Queue(), queue.Queue()
        options = {} if version == mqtt.MQTTv5 else {"clean_session": not kept}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=f"{name}-{leaf}",
            protocol=version,
            transport="websockets" if transport.startswith("ws") else "tcp",
            **options,
        )
        self.client.ws_set_options(path="/mqtt")
        if transport in ("tls", "wss"):
            self.client.tls_set(ca_certs=os.environ["FOREBAY_TEST_CAFILE"])
        self.client.on_connect = lambda _c, _d, flags, reason, _p: connected.put((flags.session_present, reason))
        self.client.on_subscribe = lambda _c, _d, _mid, reasons, _p: self.granted.put(reasons)
        self.client.on_message = lambda _c, _d, message: self.messages.put(message)
        if will:
            self.client.will_set(f"{name}/will", "gone", qos=1)
        options = {}
        if version == mqtt.MQTTv5:
            options["clean_start"] = not kept
            if kept:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = 600
        self.client.connect("127.0.0.1", port, keepalive=30, **options)
        self.client.loop_start()
        self.present, reason = connected.get(timeout=WITHIN)
        assert not reason.is_failure, reason

    def subscribe(self, leaf):
        self.client.subscribe(f"{name}/{leaf}", qos=2)
        return [reason.value for reason in self.granted.get(timeout=WITHIN)]

    def publish(self, leaf, payload, qos=1, retain=False):
        self.client.publish(f"{name}/{leaf}", payload, qos=qos, retain=retain).wait_for_publish(WITHIN)

    def next(self):
        return self.messages.get(timeout=WITHIN)

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


def step(*words):
    print(*words, flush=True)


def hold():
    holder = Client("holder", kept=True, will=True)
    assert holder.subscribe("queued") == [2]
    step("holding")
    time.sleep(600)


def converse():
    watcher, publisher = Client("watcher"), Client("publisher")
    step("granted", *watcher.subscribe("#"))
    for qos in range(3):
        publisher.publish(f"q/{qos}", f"at {qos}", qos)
        got = watcher.next()
        step("message", got.topic, got.qos, got.payload.decode())
    large = bytes(number % 251 for number in range(300_000))
    publisher.publish("large", large)
    step("large", watcher.next().payload == large)

    publisher.publish("kept", "value", retain=True)
    assert not watcher.next().retain
    late = Client("late")
    late.subscribe("kept")
    got = late.next()
    step("retained", got.retain, got.payload.decode())
    late.leave()
    publisher.publish("kept", b"", retain=True)
    watcher.next()
    late = Client("late")
    late.subscribe("kept")
    publisher.publish("kept", "cleared")
    step(late.next().payload.decode())
    watcher.next()
    late.leave()

    holder = subprocess.Popen([sys.executable, *sys.argv, "hold"], stdout=subprocess.PIPE, text=True)
    step(holder.stdout.readline().strip())
    holder.kill()
    got = watcher.next()
    step("will", got.topic, got.qos, got.payload.decode())
    for number in range(10):
        publisher.publish("queued", str(number), qos=1 + number % 2)
        watcher.next()
    holder = Client("holder", kept=True)
    if version > 3:
        step("present", holder.present)
    # A client hands a message of QoS 2 on only when it is released, after a later one of QoS 1.
    queued = [holder.next() for _ in range(10)]
    for qos in (1, 2):
        step("queued", qos, *[message.payload.decode() for message in queued if message.qos == qos])
    for client in (watcher, publisher, holder):
        client.leave()
    step("done")


hold() if sys.argv[5:] == ["hold"] else converse()
