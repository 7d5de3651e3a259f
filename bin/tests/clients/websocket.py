"""MQTT over WebSocket with paho-mqtt: websocket.py PORT VERSION NAME. Prints what it finds, one fact a line.

Every QoS, a payload of many frames, a retained message set and cleared, a will of a holder that is lost, and a kept
session that is resumed.
"""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def connect(client_id, kept=False, will=None):
    events = queue.Queue()
    options = {} if version == mqtt.MQTTv5 else {"clean_session": not kept}
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, transport="websockets", **options
    )
    client.ws_set_options(path="/mqtt")
    client.on_connect = lambda _c, _d, flags, reason, _p: events.put(("connected", flags.session_present, reason))
    client.on_subscribe = lambda _c, _d, _mid, reasons, _p: events.put(("subscribed", reasons))
    client.on_message = lambda _c, _d, message: events.put(("message", message))
    if will:
        client.will_set(will, "gone", qos=1)
    options = {}
    if version == mqtt.MQTTv5:
        options["clean_start"] = not kept
        if kept:
            options["properties"] = Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = 600
    client.connect("127.0.0.1", port, keepalive=30, **options)
    client.loop_start()
    connected = events.get(timeout=20)
    assert connected[0] == "connected" and not connected[2].is_failure, connected
    return client, events, connected[1]


def leave(client):
    client.disconnect()
    client.loop_stop()


def lose(client):
    """The socket is gone: no DISCONNECT."""
    client.loop_stop()
    client.socket().close()


def subscribe(client, events, topic):
    client.subscribe(topic, qos=2)
    reasons = events.get(timeout=20)[1]
    print("granted", topic.removeprefix(name), [int(reason.value) for reason in reasons])


def message(events):
    kind, got = events.get(timeout=20)
    assert kind == "message", kind
    return got


subscriber, events, _ = connect(name + "-subscriber")
subscribe(subscriber, events, name + "/#")
publisher, _, _ = connect(name + "-publisher")
for qos in range(3):
    publisher.publish(f"{name}/{qos}", f"at {qos}", qos=qos).wait_for_publish(20)
    got = message(events)
    print("message", got.topic.removeprefix(name), got.qos, got.payload.decode())
large = bytes(range(256)) * 2000
publisher.publish(name + "/large", large, qos=1).wait_for_publish(20)
print("large", message(events).payload == large)

publisher.publish(name + "/kept", "value", qos=1, retain=True).wait_for_publish(20)
message(events)
for _ in range(2):
    late, late_events, _ = connect(name + "-late")
    subscribe(late, late_events, name + "/kept")
    try:
        got = late_events.get(timeout=1)[1]
        print("retained", got.retain, got.payload.decode())
    except queue.Empty:
        print("retained nothing")
    leave(late)
    publisher.publish(name + "/kept", None, qos=1, retain=True).wait_for_publish(20)
    message(events)

holder, _, _ = connect(name + "-holder", will=name + "/will")
lose(holder)
print("will", message(events).payload.decode())

keeper, keeper_events, _ = connect(name + "-keeper", kept=True)
subscribe(keeper, keeper_events, name + "/queued")
lose(keeper)
for number in range(5):
    publisher.publish(name + "/queued", str(number), qos=1).wait_for_publish(20)
keeper, keeper_events, present = connect(name + "-keeper", kept=True)
print("session_present", present, [message(keeper_events).payload.decode() for _ in range(5)])
for client in (keeper, publisher, subscriber):
    leave(client)
