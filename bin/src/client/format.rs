//! How `sub` prints a message: the payload alone, topic and payload, or a format of the user's (`-F`), as mosquitto_sub
//! reads it. A format is checked once, when it is read.

use std::fmt::Write;

use forebay_broker::codec::{Properties, QoS};

use super::clock::Moment;

/// A message to print.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
    /// Its packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// Its MQTT 5 properties.
    pub properties: Properties<'a>,
}

/// A format, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Bytes(Vec<u8>),
    Time(char),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    letter: char,
    zero: bool,
    left: bool,
    width: usize,
    longest: usize,
}

/// Letters behind `%`.
const LETTERS: &str = "ACDEFIJjlmpPqrRStUxX";
/// Greatest width: a slip of the finger must not fill the memory.
const WIDTH_MAX: usize = 10_000;

impl Format {
    /// The payload, or with `verbose` the topic before it.
    pub fn plain(verbose: bool) -> Self {
        let field = |letter| {
            Piece::Field(Field {
                letter,
                zero: false,
                left: false,
                width: 0,
                longest: usize::MAX,
            })
        };
        Self(if verbose {
            vec![field('t'), Piece::Bytes(b" ".to_vec()), field('p')]
        } else {
            vec![field('p')]
        })
    }

    /// Reads `-F`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' => field(&mut chars)?,
                '@' => time(chars.next())?,
                '\\' => Piece::Bytes(vec![escape(chars.next())?]),
                other => Piece::Bytes(other.to_string().into_bytes()),
            };
            match piece {
                Piece::Bytes(bytes) => plain.extend(bytes),
                piece => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Bytes(std::mem::take(&mut plain)));
                    }
                    pieces.push(piece);
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Bytes(plain));
        }
        Ok(Self(pieces))
    }

    /// Appends `message`. The error is a line for standard error: then nothing was appended.
    pub fn print(
        &self,
        message: &Message<'_>,
        pretty: bool,
        now: Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let start = out.len();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::Time(letter) => out.extend(now.part(*letter).unwrap_or_default().bytes()),
                Piece::Field(field) => {
                    if let Err(line) = field.print(message, pretty, now, out) {
                        out.truncate(start);
                        return Err(line);
                    }
                }
            }
        }
        Ok(())
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn number(chars: &mut Chars<'_>) -> Option<usize> {
    let mut found = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        found = Some((found.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
    }
    found
}

fn field(chars: &mut Chars<'_>) -> Result<Piece, String> {
    let (mut zero, mut left) = (false, false);
    while let Some(flag) = chars.next_if(|c| matches!(c, '0' | '-')) {
        zero |= flag == '0';
        left |= flag == '-';
    }
    let width = number(chars).unwrap_or(0);
    let longest = match chars.next_if_eq(&'.') {
        Some(_) => number(chars).ok_or("a number comes after the `.`")?,
        None => usize::MAX,
    };
    match chars.next() {
        Some('%') => Ok(Piece::Bytes(b"%".to_vec())),
        Some(letter) if LETTERS.contains(letter) => Ok(Piece::Field(Field {
            letter,
            zero: zero && !left,
            left,
            width,
            longest,
        })),
        Some(letter) => Err(format!("no %{letter}; there are {LETTERS} and %%")),
        None => Err("the format ends within a `%`".to_owned()),
    }
}

fn time(letter: Option<char>) -> Result<Piece, String> {
    match letter {
        Some('@') => Ok(Piece::Bytes(b"@".to_vec())),
        Some(letter) if Moment::now().part(letter).is_some() => Ok(Piece::Time(letter)),
        Some(letter) => Err(format!(
            "no @{letter}; there are Y m d H M S F T s N z Z and @@, in UTC"
        )),
        None => Err("the format ends with a single `@`".to_owned()),
    }
}

fn escape(letter: Option<char>) -> Result<u8, String> {
    Ok(match letter {
        Some('\\') => b'\\',
        Some('0') => 0,
        Some('a') => 7,
        Some('e') => 27,
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('v') => 11,
        Some(letter) => {
            return Err(format!(
                "no \\{letter}; there are \\\\ \\0 \\a \\e \\n \\r \\t \\v"
            ));
        }
        None => return Err("the format ends with a single `\\`".to_owned()),
    })
}

impl Field {
    fn print(
        &self,
        message: &Message<'_>,
        pretty: bool,
        now: Moment,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let properties = &message.properties;
        let number = |number: Option<u64>| {
            number
                .map(|number| number.to_string())
                .unwrap_or_default()
                .into_bytes()
        };
        let text = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
        let value = match self.letter {
            't' => message.topic.as_bytes().to_vec(),
            'p' => message.payload.to_vec(),
            'q' => number(Some(message.qos as u64)),
            'r' => number(Some(message.retain.into())),
            'l' => number(Some(message.payload.len() as u64)),
            'm' => number(Some(message.packet_id.into())),
            'x' | 'X' => hex(message.payload, self.letter == 'X'),
            'A' => number(properties.topic_alias().map(u64::from)),
            'C' => text(properties.content_type()),
            'D' => properties.correlation_data().unwrap_or_default().to_vec(),
            'E' => number(properties.message_expiry_s().map(u64::from)),
            'F' => number(properties.payload_format().map(u64::from)),
            'P' => {
                let all: Vec<String> = properties
                    .user_properties()
                    .map(|(name, value)| format!("{name}:{value}"))
                    .collect();
                all.join(" ").into_bytes()
            }
            'R' => text(properties.response_topic()),
            'S' => number(properties.subscription_ids().next().map(u64::from)),
            'I' => now.iso().into_bytes(),
            'U' => now.unix().into_bytes(),
            letter => json(message, letter == 'J', pretty, now)?,
        };
        self.pad(&value, out);
        Ok(())
    }

    /// Widths count characters of texts and bytes of what is none.
    fn pad(&self, value: &[u8], out: &mut Vec<u8>) {
        let (value, length) = match std::str::from_utf8(value) {
            Ok(text) => {
                let end = text
                    .char_indices()
                    .nth(self.longest)
                    .map_or(text.len(), |(at, _)| at);
                let text = text.get(..end).unwrap_or(text);
                (text.as_bytes(), text.chars().count())
            }
            Err(_) => {
                let bytes = value.get(..self.longest).unwrap_or(value);
                (bytes, bytes.len())
            }
        };
        let missing = self.width.saturating_sub(length);
        let fill = if self.zero { b'0' } else { b' ' };
        if !self.left {
            out.extend(std::iter::repeat_n(fill, missing));
        }
        out.extend_from_slice(value);
        if self.left {
            out.extend(std::iter::repeat_n(b' ', missing));
        }
    }
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = if upper {
            write!(text, "{byte:02X}")
        } else {
            write!(text, "{byte:02x}")
        };
    }
    text.into_bytes()
}

/// The message as JSON: its payload as a text, or with `open` as the JSON that it is.
fn json(message: &Message<'_>, open: bool, pretty: bool, now: Moment) -> Result<Vec<u8>, String> {
    let mut object = serde_json::Map::new();
    object.insert("tst".to_owned(), now.iso_micros().into());
    object.insert("topic".to_owned(), message.topic.into());
    object.insert("qos".to_owned(), (message.qos as u8).into());
    object.insert("retain".to_owned(), u8::from(message.retain).into());
    object.insert("payloadlen".to_owned(), message.payload.len().into());
    if message.packet_id != 0 {
        object.insert("mid".to_owned(), message.packet_id.into());
    }
    let properties = json_properties(&message.properties);
    if !properties.is_empty() {
        object.insert("properties".to_owned(), properties.into());
    }
    let payload = if open {
        serde_json::from_slice(message.payload).map_err(|_| {
            format!(
                "Error: Message payload is not valid JSON on topic {}",
                message.topic
            )
        })?
    } else {
        String::from_utf8_lossy(message.payload).into_owned().into()
    };
    object.insert("payload".to_owned(), payload);
    let text = if pretty {
        serde_json::to_vec_pretty(&object)
    } else {
        serde_json::to_vec(&object)
    };
    text.map_err(|error| format!("Error: {error}"))
}

fn json_properties(properties: &Properties<'_>) -> serde_json::Map<String, serde_json::Value> {
    let mut object = serde_json::Map::new();
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    put(
        "payload-format-indicator",
        properties.payload_format().map(|flag| u8::from(flag).into()),
    );
    put(
        "message-expiry-interval",
        properties.message_expiry_s().map(Into::into),
    );
    put("content-type", properties.content_type().map(Into::into));
    put("response-topic", properties.response_topic().map(Into::into));
    put(
        "correlation-data",
        properties
            .correlation_data()
            .map(|data| String::from_utf8_lossy(data).into()),
    );
    let ids: Vec<u32> = properties.subscription_ids().collect();
    put(
        "subscription-identifier",
        match ids.as_slice() {
            [] => None,
            [one] => Some((*one).into()),
            several => Some(several.to_vec().into()),
        },
    );
    let pairs: Vec<serde_json::Value> = properties
        .user_properties()
        .map(|(name, value)| serde_json::json!({ name: value }))
        .collect();
    put("user-properties", (!pairs.is_empty()).then(|| pairs.into()));
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use forebay_broker::codec::{PropertiesBuf, Property};
    use std::time::Duration;

    fn message<'a>(payload: &'a [u8], properties: Properties<'a>) -> Message<'a> {
        Message {
            topic: "a/b",
            payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: 7,
            properties,
        }
    }

    fn print(format: &str, message: &Message<'_>) -> String {
        let mut out = Vec::new();
        let now = Moment::new(Duration::new(1_470_818_943, 786_368_637));
        Format::parse(format)
            .unwrap()
            .print(message, false, now, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_letter_is_its_part_of_the_message() {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::ContentType("text/plain"));
        properties.push(Property::UserProperty("k", "v"));
        properties.push(Property::UserProperty("l", "w"));
        let message = message(b"hi\xff", properties.as_properties());
        for (format, text) in [
            ("%t %q %r %l %m", "a/b 1 1 3 7"),
            ("%x %X", "6869ff 6869FF"),
            ("%C|%P|%E", "text/plain|k:v l:w|"),
            ("%6t|%-6t|%.2t|%06l", "   a/b|a/b   |a/|000003"),
            ("100%%\\t@@%U @F", "100%\t@1470818943.786368637 2016-08-10"),
            ("%I", "2016-08-10T08:49:03+0000"),
        ] {
            assert_eq!(print(format, &message), text, "{format}");
        }
    }

    #[test]
    fn json_has_the_payload_as_text_or_as_it_is() {
        let message = message(b"{\"x\": 1.5}", Properties::EMPTY);
        let text: serde_json::Value = serde_json::from_str(&print("%j", &message)).unwrap();
        assert_eq!(text["payload"], "{\"x\": 1.5}");
        assert_eq!(text["tst"], "2016-08-10T08:49:03.786368+0000");
        let open: serde_json::Value = serde_json::from_str(&print("%J", &message)).unwrap();
        assert_eq!(open["payload"]["x"], 1.5);
        let mut out = b"before".to_vec();
        let broken = Message {
            payload: b"{",
            ..message
        };
        let refused = Format::parse("x%J")
            .unwrap()
            .print(&broken, false, Moment::now(), &mut out);
        assert!(refused.unwrap_err().contains("not valid JSON on topic a/b"));
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_format_that_is_none_is_refused_when_it_is_read() {
        for wrong in ["%", "%y", "%5.t", "@", "@q", "\\", "\\q"] {
            Format::parse(wrong).unwrap_err();
        }
    }
}
