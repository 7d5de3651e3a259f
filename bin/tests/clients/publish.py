"""Publishes with paho-mqtt: publish.py PORT VERSION QOS CLIENT TOPIC COUNT; one line on stdout for each acknowledgement.

Payloads are `client:number:`. With version 5 each carries a content type, a response topic, correlation data and two
user properties.
"""
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, qos, name, topic, count = sys.argv[1:]
version, qos = int(version), int(qos)
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
client.on_publish = lambda _client, _data, mid, reason, _properties: print("acknowledged", mid, reason, flush=True)
client.connect("127.0.0.1", int(port), keepalive=30)
client.loop_start()
properties = None
if version == mqtt.MQTTv5:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.ResponseTopic = "answers/" + name
    properties.CorrelationData = b"\x00\x01correlation"
    properties.UserProperty = [("site", "north"), ("unit", "°C")]
published = [
    client.publish(topic, f"{name}:{number}:", qos=qos, properties=properties) for number in range(int(count))
]
for info in published:
    info.wait_for_publish(30)
client.disconnect()
client.loop_stop()
