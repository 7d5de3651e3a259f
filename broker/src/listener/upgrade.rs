//! From HTTP to WebSocket: the request's head within bounds, who may, and the answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tungstenite::error::ProtocolError;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use super::transport::Transport;
use super::websocket::{Framing, WebSocket};
use crate::config::{EVERY_PATH, WebSocketConfig};

/// Bytes of a request's head.
const HEAD_BYTES: usize = 8 * 1024;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// What may be answered of what the client offers, best first [MQTT-6.0.0-3, MQTT-6.0.0-4]. The second is what clients
/// of 3.1 were taught, and Mosquitto takes.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A request that is refused: the status line's end, further headers, and why.
#[derive(Debug)]
struct Refusal(&'static str, &'static str, &'static str);

const BAD: &str = "400 Bad Request";

/// Reads the client's request, of which `head` came already, and answers it. A message of it may have
/// `max_message_bytes`. Has no deadline of its own.
pub(crate) async fn upgrade(
    mut socket: Transport,
    mut head: Vec<u8>,
    config: &WebSocketConfig,
    max_message_bytes: usize,
) -> io::Result<Transport> {
    let answer = match read_head(&mut socket, &mut head).await? {
        Some(end) => answer(head.get(..end).unwrap_or_default(), config).map(|answer| (answer, end)),
        None => Err(Refusal(
            "431 Request Header Fields Too Large",
            "",
            "the head has more than 8 KiB",
        )),
    };
    match answer {
        Ok((answer, end)) => {
            socket.write_all(&answer).await?;
            let framing = Framing::new(head.split_off(end), max_message_bytes);
            Ok(Transport::WebSocket(Box::new(WebSocket::new(socket, framing))))
        }
        Err(Refusal(status, headers, why)) => {
            let answer = format!(
                "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{why}\n",
                why.len() + 1
            );
            socket.write_all(answer.as_bytes()).await?;
            socket.linger(Vec::new()).await;
            Err(io::Error::other(format!("{status}: {why}")))
        }
    }
}

/// Reads to the end of the head and returns where that is; `None` when there is none within bounds.
async fn read_head(socket: &mut Transport, head: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut looked_at = 0usize;
    loop {
        if head.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            return Err(io::Error::other("this is not HTTP"));
        }
        let from = looked_at.saturating_sub(END_OF_HEAD.len());
        let tail = head.get(from..).unwrap_or_default();
        let found = tail
            .windows(END_OF_HEAD.len())
            .position(|window| window == END_OF_HEAD);
        if let Some(at) = found {
            return Ok(Some(from + at + END_OF_HEAD.len()).filter(|end| *end <= HEAD_BYTES));
        }
        looked_at = head.len();
        let room = HEAD_BYTES.saturating_sub(looked_at);
        if room == 0 {
            return Ok(None);
        }
        if (&mut *socket).take(room as u64).read_buf(head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer that makes it a WebSocket.
fn answer(head: &[u8], config: &WebSocketConfig) -> Result<Vec<u8>, Refusal> {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        _ => return Err(Refusal(BAD, "", "this is no HTTP/1.1 GET")),
    };
    if config.path != EVERY_PATH && request.uri().path() != config.path {
        return Err(Refusal("404 Not Found", "", "MQTT is not at this path"));
    }
    let mut response = create_response(&request).map_err(|error| match error {
        tungstenite::Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => Refusal(
            "426 Upgrade Required",
            "Sec-WebSocket-Version: 13\r\n",
            "WebSocket of version 13 is what there is",
        ),
        _ => Refusal(BAD, "", "this is no WebSocket handshake"),
    })?;
    if !is_origin_let_in(&request, &config.origins) {
        return Err(Refusal("403 Forbidden", "", "this origin is not let in"));
    }
    let Some(subprotocol) = subprotocol(&request) else {
        return Err(Refusal(BAD, "", "the subprotocol must be mqtt"));
    };
    let value = HeaderValue::from_static(subprotocol);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    let mut out = Vec::new();
    write_response(&mut out, &response).map_err(|_| Refusal(BAD, "", "this can't be answered"))?;
    Ok(out)
}

fn is_origin_let_in(request: &Request, origins: &[String]) -> bool {
    origins.is_empty()
        || request
            .headers()
            .get_all(ORIGIN)
            .iter()
            .all(|given| origins.iter().any(|origin| origin.as_bytes() == given.as_bytes()))
}

fn subprotocol(request: &Request) -> Option<&'static str> {
    let offered = |name: &str| {
        request
            .headers()
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|given| given.trim() == name)
    };
    SUBPROTOCOLS.into_iter().find(|name| offered(name))
}
