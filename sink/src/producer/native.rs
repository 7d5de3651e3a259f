//! librdkafka's own calls on the way of each record. rdkafka's copy the topic's name and look it up under the client's
//! lock for each record sent, and share a counted event among the reports of a batch: a tenth of what a record costs.
//! The one place of the sink with unsafe code.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_vtype_t as Part;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::{RDKafka, RDKafkaEvent, RDKafkaHeaders, RDKafkaQueue, RDKafkaRespErr, RDKafkaTopic};

use super::{Code, Context, Events, Outgoing, SendError, Sent, log};
use crate::route::Header;

/// A client seen through librdkafka's own calls. Ends before the client does.
pub(super) struct Native {
    client: NonNull<RDKafka>,
    queue: NonNull<RDKafkaQueue>,
    /// Handles of the topics that records went to.
    topics: HashMap<Box<str>, Topic, ahash::RandomState>,
}

type Topic = NonNull<RDKafkaTopic>;

// SAFETY: librdkafka's client, queue and topics may be used from any thread; these here are from one at a time.
unsafe impl Send for Native {}

impl Native {
    /// Of the client of a producer, which has to outlive it.
    pub(super) fn of(producer: &BaseProducer<Context>) -> Option<Self> {
        let client = NonNull::new(producer.client().native_ptr())?;
        // SAFETY: the client is alive. The reference to the queue is given back by drop.
        let queue = unsafe { rd::rd_kafka_queue_get_main(client.as_ptr()) };
        Some(Self {
            client,
            queue: NonNull::new(queue)?,
            topics: HashMap::default(),
        })
    }

    /// Takes a record. Key, value and headers are copied.
    pub(super) fn send(&mut self, record: &Outgoing<'_>) -> Result<(), SendError> {
        let topic = self.topic(record.topic).ok_or(SendError::Refused(Code::Fail))?;
        let headers = headers(record.headers).map_err(SendError::Refused)?;
        let value = record.value.map_or(ptr::null(), <[u8]>::as_ptr);
        // SAFETY: each part is followed by what librdkafka reads for it, and the list by its end; client and topic are
        // alive; key and value are copied (RD_KAFKA_MSG_F_COPY) before the call returns.
        let error = unsafe {
            rd::rd_kafka_producev(
                self.client.as_ptr(),
                Part::RD_KAFKA_VTYPE_RKT,
                topic.as_ptr(),
                Part::RD_KAFKA_VTYPE_PARTITION,
                record.partition,
                Part::RD_KAFKA_VTYPE_MSGFLAGS,
                rd::RD_KAFKA_MSG_F_COPY,
                Part::RD_KAFKA_VTYPE_VALUE,
                value.cast::<c_void>(),
                record.value.map_or(0, <[u8]>::len),
                Part::RD_KAFKA_VTYPE_KEY,
                record.key.as_ptr().cast::<c_void>(),
                record.key.len(),
                Part::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance::<c_void>(record.opaque),
                Part::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp.unwrap_or(0),
                Part::RD_KAFKA_VTYPE_HEADERS,
                headers,
                Part::RD_KAFKA_VTYPE_END,
            )
        };
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        if !headers.is_null() {
            // SAFETY: they stay ours where the record was not taken.
            unsafe { rd::rd_kafka_headers_destroy(headers) };
        }
        match Code::from(error) {
            Code::QueueFull => Err(SendError::Full),
            code => {
                // A handle remembers what was wrong with its topic: the next record asks anew.
                self.forget(record.topic);
                Err(SendError::Refused(code))
            }
        }
    }

    fn topic(&mut self, name: &str) -> Option<Topic> {
        if let Some(topic) = self.topics.get(name) {
            return Some(*topic);
        }
        let text = CString::new(name).ok()?;
        // SAFETY: the client is alive, the name ends with a zero and is copied. Given back by forget or drop.
        let topic = unsafe { rd::rd_kafka_topic_new(self.client.as_ptr(), text.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic)?;
        self.topics.insert(name.into(), topic);
        Some(topic)
    }

    fn forget(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            destroy(topic);
        }
    }

    /// While a flush lasts, librdkafka's threads do not linger.
    pub(super) fn hasten(&self, wait: Duration) {
        let most = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client is alive. That not all is reported in time is no fault: it is not waited for.
        unsafe { rd::rd_kafka_flush(self.client.as_ptr(), most) };
    }

    /// Takes all that there is to tell.
    pub(super) fn poll(&mut self, events: &mut Events) {
        loop {
            // SAFETY: the queue is alive; the event is ours until it is destroyed.
            let event = unsafe { rd::rd_kafka_queue_poll(self.queue.as_ptr(), 0) };
            if event.is_null() {
                return;
            }
            // SAFETY: the event is one.
            match unsafe { rd::rd_kafka_event_type(event) } {
                rd::RD_KAFKA_EVENT_DR => reports(event, &mut events.sent),
                rd::RD_KAFKA_EVENT_ERROR => events.trouble = Some(trouble(event)),
                rd::RD_KAFKA_EVENT_LOG => log_line(event),
                _ => {}
            }
            // SAFETY: nothing of it is used any more.
            unsafe { rd::rd_kafka_event_destroy(event) };
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.topics.drain().for_each(|(_, topic)| destroy(topic));
        // SAFETY: taken in new, given back once.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

fn destroy(topic: Topic) {
    // SAFETY: made by rd_kafka_topic_new and given back once; records on their way have references of their own.
    unsafe { rd::rd_kafka_topic_destroy(topic.as_ptr()) };
}

/// Headers for a record, null where there are none.
fn headers(headers: &[Header<'_>]) -> Result<*mut RDKafkaHeaders, Code> {
    if headers.is_empty() {
        return Ok(ptr::null_mut());
    }
    // SAFETY: allocates, or ends the process.
    let list = unsafe { rd::rd_kafka_headers_new(headers.len()) };
    for (name, value) in headers {
        // SAFETY: the list is ours; name and value are copied, as long as is said.
        let error = unsafe {
            rd::rd_kafka_header_add(
                list,
                name.as_ptr().cast::<c_char>(),
                name.len() as isize,
                value.as_ptr().cast::<c_void>(),
                value.len() as isize,
            )
        };
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: nobody else has it.
            unsafe { rd::rd_kafka_headers_destroy(list) };
            return Err(Code::from(error));
        }
    }
    Ok(list)
}

/// The reports of a batch, in its order.
fn reports(event: *mut RDKafkaEvent, sent: &mut Vec<Sent>) {
    // SAFETY: the event is one of reports.
    sent.reserve(unsafe { rd::rd_kafka_event_message_count(event) });
    loop {
        // SAFETY: the event is alive, and with it its messages.
        let Some(message) = (unsafe { rd::rd_kafka_event_message_next(event).as_ref() }) else {
            return;
        };
        let result = match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            error => Err(Code::from(error)),
        };
        sent.push(Sent {
            opaque: message._private.addr(),
            result,
        });
    }
}

fn trouble(event: *mut RDKafkaEvent) -> String {
    // SAFETY: the event is one of an error, and its text lives as long.
    let (code, text) = unsafe {
        let code = Code::from(rd::rd_kafka_event_error(event));
        (code, text(rd::rd_kafka_event_error_string(event)))
    };
    tracing::debug!(%code, reason = text, "Kafka client");
    text
}

fn log_line(event: *mut RDKafkaEvent) {
    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the event is one of a log line; the texts live as long as it.
    unsafe {
        if rd::rd_kafka_event_log(event, &mut facility, &mut line, &mut level) == 0 {
            log(severity(level), &text(facility), &text(line));
        }
    }
}

/// # Safety
/// `text` is null or ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as said.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().trim().to_owned()
}

/// The level of syslog's number.
fn severity(level: i32) -> RDKafkaLogLevel {
    match level {
        0..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}
