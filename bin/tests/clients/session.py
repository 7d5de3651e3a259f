"""A kept session with paho-mqtt: session.py PORT VERSION NAME. Prints what it finds, one fact a line.

Subscribes at QoS 2, leaves without DISCONNECT, has messages published meanwhile, and comes back.
"""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
topic = f"session/{name}"


def connect(client_id, kept):
    events = queue.Queue()
    options = {} if version == mqtt.MQTTv5 else {"clean_session": not kept}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, **options)
    client.on_connect = lambda _c, _d, flags, reason, _p: events.put(("connected", flags.session_present, reason))
    client.on_subscribe = lambda _c, _d, _mid, reasons, _p: events.put(("subscribed", reasons))
    client.on_message = lambda _c, _d, message: events.put(("message", message.qos, message.payload.decode()))
    options = {}
    if version == mqtt.MQTTv5:
        options["clean_start"] = not kept
        if kept:
            options["properties"] = Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = 600
    client.connect("127.0.0.1", port, keepalive=30, **options)
    client.loop_start()
    return client, events, events.get(timeout=20)


subscriber, events, connected = connect(name, True)
print("first session_present", connected[1])
subscriber.subscribe(topic, qos=2)
print("granted", [int(reason.value) for reason in events.get(timeout=20)[1]])
# The socket is lost: no DISCONNECT.
subscriber.loop_stop()
subscriber.socket().close()

publisher, _, _ = connect(name + "-publisher", False)
for number in range(30):
    publisher.publish(topic, str(number), qos=number % 3).wait_for_publish(20)
publisher.disconnect()
publisher.loop_stop()

subscriber, events, connected = connect(name, True)
print("second session_present", connected[1])
# QoS 0 may be kept or not while nobody is connected; the others must come, once, in order.
while True:
    try:
        event = events.get(timeout=2)
    except queue.Empty:
        break
    if event[0] == "message" and event[1] > 0:
        print("message", event[1], event[2])
subscriber.disconnect()
subscriber.loop_stop()
