//! The conversation with rumqttc, 3.1.1 and 5.0. Over TCP alone: its WebSocket brings a TLS stack with it.

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::{WITHIN, transcript};
use crate::args;
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::process::Process;
use crate::support::{block_on, wait_for};

/// For one answer or message.
const SOON: Duration = Duration::from_secs(20);

/// What one client may have said that is not asked for yet.
const MOST: usize = 1024;

/// Tells the process that is killed what to do: version, port and name.
const HOLD: &str = "FOREBAY_TEST_HOLD";

/// What a client's event loop says, the same for both of rumqttc's modules.
enum Seen {
    Connected { present: bool },
    Granted(u8),
    Acknowledged,
    Message(Message),
}

struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
}

enum Handle {
    Three(rumqttc::AsyncClient),
    Five(rumqttc::v5::AsyncClient),
}

/// A connection whose answers and messages are waited for.
struct Client {
    handle: Handle,
    answers: Receiver<Seen>,
    messages: Receiver<Message>,
    present: bool,
}

/// Connects with one of rumqttc's two modules, and turns what it says into `Seen` until its connection ends.
macro_rules! start {
    ($module:path, $packets:path, $options:ident, $told:ident, $granted:pat => $qos:expr, $topic:expr) => {{
        use $module as module;
        use $packets as packets;
        let (handle, mut events) = module::AsyncClient::new($options, 100);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let seen = match event {
                    module::Event::Incoming(packets::Packet::ConnAck(connack)) => Seen::Connected {
                        present: connack.session_present,
                    },
                    module::Event::Incoming(packets::Packet::SubAck(suback)) => {
                        match suback.return_codes[0] {
                            $granted => Seen::Granted($qos),
                            other => panic!("refused: {other:?}"),
                        }
                    }
                    module::Event::Incoming(packets::Packet::PubAck(_) | packets::Packet::PubComp(_)) => {
                        Seen::Acknowledged
                    }
                    module::Event::Incoming(packets::Packet::Publish(publish)) => Seen::Message(Message {
                        topic: $topic(&publish.topic),
                        payload: publish.payload.to_vec(),
                        qos: publish.qos as u8,
                        retain: publish.retain,
                    }),
                    _ => continue,
                };
                if $told.try_send(seen).is_err() {
                    return;
                }
            }
        });
        handle
    }};
}

fn connect_three(id: &str, port: u16, kept: bool, will: Option<String>, told: Sender<Seen>) -> Handle {
    use rumqttc::{LastWill, MqttOptions, QoS, SubscribeReasonCode};
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options
        .set_clean_session(!kept)
        .set_max_packet_size(1 << 20, 1 << 20);
    if let Some(topic) = will {
        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
    }
    let topic = |topic: &String| topic.clone();
    Handle::Three(start!(
        rumqttc, rumqttc, options, told, SubscribeReasonCode::Success(qos) => qos as u8, topic
    ))
}

fn connect_five(id: &str, port: u16, kept: bool, will: Option<String>, told: Sender<Seen>) -> Handle {
    use rumqttc::v5::MqttOptions;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{LastWill, SubscribeReasonCode};
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options
        .set_clean_start(!kept)
        .set_session_expiry_interval(kept.then_some(600))
        .set_max_packet_size(Some(1 << 20));
    if let Some(topic) = will {
        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None));
    }
    let topic = |topic: &[u8]| String::from_utf8(topic.to_vec()).unwrap();
    Handle::Five(start!(
        rumqttc::v5, rumqttc::v5::mqttbytes::v5, options, told, SubscribeReasonCode::Success(qos) => qos as u8, topic
    ))
}

impl Client {
    async fn connect(version: u8, port: u16, id: &str, kept: bool, will: Option<String>) -> Self {
        let (told, mut seen) = channel(MOST);
        let handle = if version == 5 {
            connect_five(id, port, kept, will, told)
        } else {
            connect_three(id, port, kept, will, told)
        };
        let (answer, answers) = channel(MOST);
        let (message, messages) = channel(MOST);
        tokio::spawn(async move {
            while let Some(seen) = seen.recv().await {
                // Nobody may want them any more.
                let _ = match seen {
                    Seen::Message(got) => message.try_send(got).is_ok(),
                    other => answer.try_send(other).is_ok(),
                };
            }
        });
        let mut client = Self {
            handle,
            answers,
            messages,
            present: false,
        };
        let Seen::Connected { present } = client.answer("CONNACK").await else {
            panic!("something else than CONNACK")
        };
        client.present = present;
        client
    }

    async fn answer(&mut self, what: &str) -> Seen {
        let got = timeout(SOON, self.answers.recv()).await;
        got.unwrap_or_else(|_| panic!("no {what}"))
            .unwrap_or_else(|| panic!("{what}: the connection ended"))
    }

    async fn next(&mut self) -> Message {
        timeout(SOON, self.messages.recv())
            .await
            .expect("a message")
            .expect("a connection")
    }

    async fn subscribe(&mut self, filter: &str) -> u8 {
        match &self.handle {
            Handle::Three(handle) => handle.subscribe(filter, rumqttc::QoS::ExactlyOnce).await.unwrap(),
            Handle::Five(handle) => handle
                .subscribe(filter, rumqttc::v5::mqttbytes::QoS::ExactlyOnce)
                .await
                .unwrap(),
        }
        match self.answer("SUBACK").await {
            Seen::Granted(qos) => qos,
            _ => panic!("something else than SUBACK"),
        }
    }

    async fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) {
        match &self.handle {
            Handle::Three(handle) => {
                let qos = rumqttc::qos(qos).unwrap();
                handle.publish(topic, qos, retain, payload).await.unwrap();
            }
            Handle::Five(handle) => {
                let qos = rumqttc::v5::mqttbytes::qos(qos).unwrap();
                handle
                    .publish(topic.to_owned(), qos, retain, payload.to_vec())
                    .await
                    .unwrap();
            }
        }
        if qos > 0 {
            assert!(matches!(
                self.answer("the end of a publish").await,
                Seen::Acknowledged
            ));
        }
    }

    async fn leave(self) {
        match &self.handle {
            Handle::Three(handle) => handle.disconnect().await.unwrap(),
            Handle::Five(handle) => handle.disconnect().await.unwrap(),
        }
    }
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.clone()).unwrap()
}

/// One conversation; `said` gets its transcript.
struct Conversation {
    version: u8,
    port: u16,
    name: String,
    said: Vec<String>,
}

impl Conversation {
    async fn connect(&self, leaf: &str, kept: bool) -> Client {
        let id = format!("{}-{leaf}", self.name);
        Client::connect(self.version, self.port, &id, kept, None).await
    }

    fn topic(&self, leaf: &str) -> String {
        format!("{}/{leaf}", self.name)
    }

    async fn hold(mut self) {
        let (watcher, publisher) = (
            self.connect("watcher", false).await,
            self.connect("publisher", false).await,
        );
        let (mut watcher, mut publisher) = (watcher, publisher);
        let granted = watcher.subscribe(&self.topic("#")).await;
        self.said.push(format!("granted {granted}"));
        for qos in 0..=2 {
            let topic = self.topic(&format!("q/{qos}"));
            publisher
                .publish(&topic, format!("at {qos}").as_bytes(), qos, false)
                .await;
            let got = watcher.next().await;
            self.said
                .push(format!("message {} {} {}", got.topic, got.qos, text(&got)));
        }
        let large: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
        publisher.publish(&self.topic("large"), &large, 1, false).await;
        let whole = watcher.next().await.payload == large;
        self.said.push(format!("large {whole}"));
        self.retained(&mut watcher, &mut publisher).await;
        self.resumed(&mut watcher, &mut publisher).await;
        watcher.leave().await;
        publisher.leave().await;
        self.said.push("done".to_owned());
        assert_eq!(self.said, transcript(&self.name, self.version), "{}", self.name);
    }

    async fn retained(&mut self, watcher: &mut Client, publisher: &mut Client) {
        let topic = self.topic("kept");
        publisher.publish(&topic, b"value", 1, true).await;
        assert!(
            !watcher.next().await.retain,
            "to who is subscribed it comes as any other"
        );
        let mut late = self.connect("late", false).await;
        late.subscribe(&topic).await;
        let got = late.next().await;
        self.said.push(format!("retained {} {}", got.retain, text(&got)));
        late.leave().await;
        publisher.publish(&topic, b"", 1, true).await;
        watcher.next().await;
        let mut late = self.connect("late", false).await;
        late.subscribe(&topic).await;
        publisher.publish(&topic, b"cleared", 1, false).await;
        self.said.push(text(&late.next().await));
        watcher.next().await;
        late.leave().await;
    }

    async fn resumed(&mut self, watcher: &mut Client, publisher: &mut Client) {
        let dir = tempfile::tempdir().unwrap();
        let this = std::env::current_exe().unwrap();
        let what = format!("{HOLD}={} {} {}", self.version, self.port, self.name);
        let test = "foreign::rust::the_holder_that_is_killed";
        let mut arguments = args![what, this.display(), test].to_vec();
        arguments.extend(args!["--exact", "--ignored", "--nocapture"]);
        let mut holder = Process::start("env", &arguments, &dir.path().join("out"));
        wait_for("the holder", SOON, || {
            holder.log().contains("holding").then_some(())
        });
        self.said.push("holding".to_owned());
        holder.kill();
        let will = watcher.next().await;
        self.said
            .push(format!("will {} {} {}", will.topic, will.qos, text(&will)));
        for number in 0..10 {
            let payload = number.to_string();
            publisher
                .publish(&self.topic("queued"), payload.as_bytes(), 1 + number % 2, false)
                .await;
            watcher.next().await;
        }
        let mut holder = self.connect("holder", true).await;
        self.said.push(format!("present {}", holder.present));
        let mut queued = Vec::new();
        for _ in 0..10 {
            queued.push(holder.next().await);
        }
        for qos in [1, 2] {
            let of_qos: Vec<String> = queued
                .iter()
                .filter(|message| message.qos == qos)
                .map(text)
                .collect();
            self.said.push(format!("queued {qos} {}", of_qos.join(" ")));
        }
        holder.leave().await;
    }
}

#[test]
fn rumqttc() {
    let forebay = Forebay::start(PLAIN);
    for version in [4, 5] {
        let conversation = Conversation {
            version,
            port: forebay.mqtt,
            name: format!("rs-{version}"),
            said: Vec::new(),
        };
        block_on(WITHIN, conversation.hold());
    }
}

#[test]
#[ignore = "it is a process of the case above, which starts it and kills it"]
fn the_holder_that_is_killed() {
    let what = std::env::var(HOLD).expect("it is started by the case above");
    let mut words = what.split(' ');
    let mut word = || words.next().unwrap();
    let (version, port, name) = (
        word().parse().unwrap(),
        word().parse().unwrap(),
        word().to_owned(),
    );
    block_on(WITHIN, async move {
        let will = Some(format!("{name}/will"));
        let mut holder = Client::connect(version, port, &format!("{name}-holder"), true, will).await;
        assert_eq!(holder.subscribe(&format!("{name}/queued")).await, 2);
        println!("holding");
        std::future::pending::<()>().await;
    });
}
