//! MQTT 5.0 properties (section 2.2.2): a checked run of bytes that is read as it is walked, and a builder for it.

/// The properties of one packet, without their length: checked when decoded, so that walking them can't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// The bytes as they stand on the wire, without their length.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}
