//! PUBLISH at QoS 1 in 106 bytes, read and written, beside two other codecs: cargo bench -p forebay-bench --bench codec.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::BytesMut;
use divan::{Bencher, black_box};
use forebay_broker::codec::{Packet, PacketId, Properties, Publish, QoS, Version, decode, encode, frame_len};
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use rmqtt_codec::{MqttCodec, v3, v5};
use tokio_util::codec::Decoder;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

fn main() {
    divan::main();
}

fn publish(payload: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "devices/d-000017/telemetry",
        packet_id: PacketId::new(4711),
        payload,
        properties: Properties::EMPTY,
    })
}

/// The packet in its 106 bytes.
fn frame(version: Version) -> Vec<u8> {
    let payload = [b'x'; 74];
    let payload = match version {
        Version::V5 => payload.get(..73),
        _ => payload.get(..),
    };
    let mut bytes = Vec::new();
    encode(version, &publish(payload.unwrap_or_default()), &mut bytes).unwrap();
    assert_eq!(bytes.len(), 106);
    bytes
}

#[divan::bench(args = VERSIONS, sample_size = 1_000)]
fn decode_forebay(bencher: Bencher, version: Version) {
    let bytes = frame(version);
    bencher.bench_local(|| {
        let bytes = black_box(&*bytes);
        let len = frame_len(bytes, 1 << 20).unwrap().unwrap_or_default();
        assert_eq!(len, bytes.len());
        match decode(black_box(version), bytes) {
            Ok(Packet::Publish(publish)) => black_box(publish).payload.len(),
            _ => 0,
        }
    });
}

/// It reads from a buffer that it takes apart; to fill it is not counted.
#[divan::bench(args = VERSIONS, sample_size = 1_000)]
fn decode_rmqtt_codec(bencher: Bencher, version: Version) {
    let bytes = frame(version);
    let mut codec = match version {
        Version::V5 => MqttCodec::V5(v5::Codec::new(0, 0)),
        _ => MqttCodec::V3(v3::Codec::new(0)),
    };
    bencher
        .with_inputs(|| BytesMut::from(&*bytes))
        .bench_local_refs(|input| codec.decode(input).unwrap().is_some());
}

/// It wants each packet in an `Arc<[u8]>` of its own, which is part of its price.
#[divan::bench(args = VERSIONS, sample_size = 1_000)]
fn decode_mqtt_protocol_core(bencher: Bencher, version: Version) {
    let bytes = frame(version);
    let (_, body) = bytes.split_at(2);
    bencher.bench_local(|| {
        let body: Arc<[u8]> = black_box(body).into();
        match version {
            Version::V5 => v5_0::Publish::parse(0x02, body).unwrap().1,
            _ => v3_1_1::Publish::parse(0x02, body).unwrap().1,
        }
    });
}

#[divan::bench(args = VERSIONS, sample_size = 1_000)]
fn encode_forebay(bencher: Bencher, version: Version) {
    let payload = [b'x'; 73];
    let packet = publish(&payload);
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        encode(black_box(version), black_box(&packet), &mut out).unwrap();
        black_box(out.len())
    });
}
