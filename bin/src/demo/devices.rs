//! What the demo's devices are called and what they say.

use crate::fleet::Messages;

/// Readings of thermometers.
pub struct Readings;

impl Messages for Readings {
    /// The client id, the level in the topic, and the key of the records.
    fn name(&self, device: u32) -> String {
        format!("device-{device:02}")
    }

    fn topic(&self, device: u32) -> String {
        format!("devices/{}/telemetry", self.name(device))
    }

    fn payload(&self, device: u32, number: u64) -> Vec<u8> {
        // A reading that wanders a little, so that the lines do not all look the same.
        let wave = ((number as f64 / 7.0) + f64::from(device)).sin();
        format!("{{\"seq\":{number},\"celsius\":{:.1}}}", 21.0 + 3.0 * wave).into_bytes()
    }
}

/// The device and the number of a message, from its key and payload; `None` when it is none of the devices'.
pub fn parse(key: &[u8], payload: &[u8]) -> Option<(u32, u64)> {
    let device = std::str::from_utf8(key)
        .ok()?
        .strip_prefix("device-")?
        .parse()
        .ok()?;
    let rest = std::str::from_utf8(payload).ok()?.strip_prefix("{\"seq\":")?;
    let (number, _) = rest.split_once(',')?;
    Some((device, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_whose_it_is() {
        let payload = Readings.payload(7, 42);
        assert_eq!(parse(Readings.name(7).as_bytes(), &payload), Some((7, 42)));
        assert_eq!(parse(b"my-device", b"hello"), None);
        assert_eq!(parse(Readings.name(7).as_bytes(), b"hello"), None);
        assert_eq!(parse(b"device-\xff", b"{\"seq\":1,"), None);
    }
}
