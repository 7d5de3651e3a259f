//! Enhanced authentication (5.0 section 4.12) by a method of the test's own: two rounds, answered at once or later.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use forebay_broker::auth::{Acl, Act, Granted, Pattern, Rule, Rules, Who};
use forebay_broker::auth::{Answer, Authenticator, ListenerRules, Origin, Principal, Verdict};
use forebay_broker::auth::{Exchange, Method, Step, Stepped, Subject};
use forebay_broker::classify::Level;
use forebay_broker::codec::{
    self, Auth, Connect, Packet, Properties, PropertiesBuf, Property, QoS, Reason, Version,
};

use super::auth::connect;
use super::support::{Client, Received, TestBroker};

/// "hello", then the nonce backwards. Who says "admin" instead of "hello" may publish on `admin/...`.
struct Backwards {
    later: bool,
}

struct Talk {
    later: bool,
    admin: bool,
    asked: bool,
}

impl Method for Backwards {
    fn begin(&self, subject: Subject<'_>) -> Box<dyn Exchange> {
        assert!(!subject.client_id.is_empty());
        Box::new(Talk {
            later: self.later,
            admin: false,
            asked: false,
        })
    }
}

impl Exchange for Talk {
    fn step(&mut self, data: Option<&[u8]>) -> Answer<Stepped> {
        let stepped = match (std::mem::replace(&mut self.asked, true), data) {
            (false, Some(b"hello" | b"admin")) => {
                self.admin = data == Some(b"admin");
                Ok(Step::Continue(Some(b"nonce".to_vec())))
            }
            (true, Some(word @ (b"ecnon" | b"other"))) => Ok(Step::Done(Principal {
                username: Some(if word == b"ecnon" { "proven" } else { "another" }.to_owned()),
                rules: Some(Arc::new(AdminOnly(self.admin))),
                data: Some(b"welcome".to_vec()),
            })),
            _ => Err(Reason::NotAuthorized),
        };
        if !self.later {
            return Answer::Now(stepped);
        }
        let (mut stepped, mut asked_before) = (Some(stepped), false);
        Answer::Later(Box::pin(poll_fn(move |cx| {
            if std::mem::replace(&mut asked_before, true) {
                return Poll::Ready(stepped.take().unwrap());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })))
    }
}

struct AdminOnly(bool);

impl AdminOnly {
    fn acl(&self) -> Acl {
        Acl {
            rules: vec![
                Rule {
                    who: Vec::new(),
                    publish: true,
                    subscribe: true,
                    on: Pattern::plain("admin/#").unwrap(),
                    allow: self.0,
                },
                Rule {
                    who: Vec::new(),
                    publish: true,
                    subscribe: true,
                    on: Pattern::plain("#").unwrap(),
                    allow: true,
                },
            ],
            file: None,
        }
    }
}

impl Rules for AdminOnly {
    fn generation(&self) -> u64 {
        0
    }

    fn may_publish(&self, who: Who<'_>, topic: &str) -> bool {
        self.acl().may(Act::Write, who, topic)
    }

    fn may_read(&self, who: Who<'_>, topic: &str) -> bool {
        self.acl().may(Act::Read, who, topic)
    }

    fn subscription(&self, who: Who<'_>, filter: &str) -> Granted {
        self.acl().subscription(who, filter)
    }
}

struct Methods;

impl Authenticator for Methods {
    fn authenticate(&self, connect: &Connect<'_>, origin: Origin) -> Answer<Verdict> {
        ListenerRules.authenticate(connect, origin)
    }

    fn method(&self, name: &str, _: Origin) -> Option<Arc<dyn Method>> {
        match name {
            "now" => Some(Arc::new(Backwards { later: false })),
            "later" => Some(Arc::new(Backwards { later: true })),
            _ => None,
        }
    }
}

fn broker() -> TestBroker {
    TestBroker::start_with(
        |config| config.limits.connect_timeout_s = 2,
        Level::Received,
        |_| Arc::new(Methods),
    )
}

fn properties(method: &str, data: Option<&[u8]>) -> PropertiesBuf {
    let mut properties = PropertiesBuf::default();
    properties.push(Property::AuthenticationMethod(method));
    if let Some(data) = data {
        properties.push(Property::AuthenticationData(data));
    }
    properties
}

fn send_connect(broker: &TestBroker, method: &str, data: Option<&[u8]>) -> Client {
    let mut client = Client::open(broker);
    client.version = Version::V5;
    let properties = properties(method, data);
    let mut connect = connect("c", Version::V5, None, None);
    connect.properties = properties.as_properties();
    client.send(&Packet::Connect(connect));
    client
}

fn send_auth(client: &mut Client, reason: Reason, method: &str, data: &[u8]) {
    let properties = properties(method, Some(data));
    client.send(&Packet::Auth(Auth {
        reason,
        properties: properties.as_properties(),
    }));
}

type Said = Option<(&'static str, Reason, Option<String>, Option<Vec<u8>>)>;

/// Kind, reason, method and data of a CONNACK or AUTH; nothing when the broker closed.
fn answer(client: &mut Client) -> Said {
    let frame = client.frame()?;
    let show = |kind, reason, properties: Properties<'_>| {
        let method = properties.authentication_method().map(str::to_owned);
        (
            kind,
            reason,
            method,
            properties.authentication_data().map(<[u8]>::to_vec),
        )
    };
    Some(match codec::decode(Version::V5, &frame).unwrap() {
        Packet::Connack(connack) => show("CONNACK", connack.reason, connack.properties),
        Packet::Auth(auth) => show("AUTH", auth.reason, auth.properties),
        Packet::Disconnect(disconnect) => show("DISCONNECT", disconnect.reason, disconnect.properties),
        other => panic!("{other:?}"),
    })
}

fn said(kind: &'static str, reason: Reason, method: &str, data: &[u8]) -> Said {
    Some((kind, reason, Some(method.to_owned()), Some(data.to_vec())))
}

fn refused(kind: &'static str, reason: Reason) -> Said {
    Some((kind, reason, None, None))
}

/// Lets a client in by `method`.
fn let_in(broker: &TestBroker, method: &str) -> Client {
    let mut client = send_connect(broker, method, Some(b"hello"));
    let question = said("AUTH", Reason::ContinueAuthentication, method, b"nonce");
    assert_eq!(answer(&mut client), question);
    send_auth(&mut client, Reason::ContinueAuthentication, method, b"ecnon");
    assert_eq!(
        answer(&mut client),
        said("CONNACK", Reason::Success, method, b"welcome")
    );
    client
}

#[test]
fn a_method_asks_until_it_knows_and_every_answer_names_it() {
    let broker = broker();
    for method in ["now", "later"] {
        let mut client = let_in(&broker, method);
        client.ping();
        assert_eq!(client.receive(), Received::Pingresp);
        client.publish("admin/x", b"x", QoS::AtLeastOnce, 1);
        assert_eq!(client.receive(), Received::Puback(1, Reason::NotAuthorized));
    }
    broker.stop();
}

#[test]
fn a_method_that_is_not_known_is_told_so_and_closed() {
    let broker = broker();
    let mut client = send_connect(&broker, "SCRAM-SHA-1", None);
    assert_eq!(
        answer(&mut client),
        refused("CONNACK", Reason::BadAuthenticationMethod)
    );
    assert_eq!(answer(&mut client), None);
    broker.stop();
}

#[test]
fn a_method_may_refuse_at_any_point() {
    let broker = broker();
    for method in ["now", "later"] {
        let mut first = send_connect(&broker, method, Some(b"who?"));
        assert_eq!(answer(&mut first), refused("CONNACK", Reason::NotAuthorized));
        assert_eq!(answer(&mut first), None);
        let mut second = send_connect(&broker, method, Some(b"hello"));
        answer(&mut second).unwrap();
        send_auth(&mut second, Reason::ContinueAuthentication, method, b"wrong");
        assert_eq!(answer(&mut second), refused("CONNACK", Reason::NotAuthorized));
        assert_eq!(answer(&mut second), None);
    }
    broker.stop();
}

#[test]
fn before_connack_only_auth_of_the_same_method_or_disconnect_may_come() {
    let broker = broker();
    let wrong: [fn(&mut Client); 4] = [
        |client| client.ping(),
        |client| send_auth(client, Reason::ContinueAuthentication, "later", b"ecnon"),
        |client| send_auth(client, Reason::ReAuthenticate, "now", b"ecnon"),
        |client| client.send_raw(&[0xF0, 0]),
    ];
    for breach in wrong {
        let mut client = send_connect(&broker, "now", Some(b"hello"));
        answer(&mut client).unwrap();
        breach(&mut client);
        assert_eq!(answer(&mut client), refused("CONNACK", Reason::ProtocolError));
        assert_eq!(answer(&mut client), None);
    }
    let mut leaves = send_connect(&broker, "now", Some(b"hello"));
    answer(&mut leaves).unwrap();
    leaves.send_raw(&[0xE0, 0]);
    assert_eq!(answer(&mut leaves), None);
    // Nobody waits for ever.
    let mut silent = send_connect(&broker, "now", Some(b"hello"));
    answer(&mut silent).unwrap();
    assert_eq!(answer(&mut silent), None);
    broker.stop();
}

#[test]
fn a_client_authenticates_again_while_it_goes_on() {
    let broker = broker();
    for method in ["now", "later"] {
        let mut client = let_in(&broker, method);
        send_auth(&mut client, Reason::ReAuthenticate, method, b"admin");
        let question = said("AUTH", Reason::ContinueAuthentication, method, b"nonce");
        assert_eq!(answer(&mut client), question);
        // It is who it was until the end of the conversation.
        client.publish("admin/x", b"x", QoS::AtLeastOnce, 1);
        assert_eq!(client.receive(), Received::Puback(1, Reason::NotAuthorized));
        send_auth(&mut client, Reason::ContinueAuthentication, method, b"ecnon");
        assert_eq!(
            answer(&mut client),
            said("AUTH", Reason::Success, method, b"welcome")
        );
        client.publish("admin/x", b"x", QoS::AtLeastOnce, 2);
        assert_eq!(client.receive(), Received::Puback(2, Reason::Success));
    }
    broker.stop();
}

#[test]
fn who_fails_to_authenticate_again_or_does_so_out_of_turn_is_turned_out() {
    let broker = broker();
    for method in ["now", "later"] {
        let mut client = let_in(&broker, method);
        send_auth(&mut client, Reason::ReAuthenticate, method, b"who?");
        assert_eq!(answer(&mut client), refused("DISCONNECT", Reason::NotAuthorized));
        assert_eq!(answer(&mut client), None);
        let mut client = let_in(&broker, method);
        send_auth(&mut client, Reason::ReAuthenticate, method, b"admin");
        answer(&mut client).unwrap();
        send_auth(&mut client, Reason::ContinueAuthentication, method, b"other");
        assert_eq!(answer(&mut client), refused("DISCONNECT", Reason::NotAuthorized));
        assert_eq!(answer(&mut client), None);
    }
    let wrong: [fn(&mut Client); 4] = [
        |client| send_auth(client, Reason::ContinueAuthentication, "now", b"hello"),
        |client| send_auth(client, Reason::ReAuthenticate, "later", b"hello"),
        |client| send_auth(client, Reason::Success, "now", b"hello"),
        |client| {
            send_auth(client, Reason::ReAuthenticate, "now", b"hello");
            answer(client).unwrap();
            send_auth(client, Reason::ReAuthenticate, "now", b"hello");
        },
    ];
    for breach in wrong {
        let mut client = let_in(&broker, "now");
        breach(&mut client);
        assert_eq!(answer(&mut client), refused("DISCONNECT", Reason::ProtocolError));
        assert_eq!(answer(&mut client), None);
    }
    let mut without = Client::connect(&broker, "without", Version::V5);
    send_auth(&mut without, Reason::ReAuthenticate, "now", b"hello");
    assert_eq!(without.receive(), Received::Disconnect(Reason::ProtocolError));
    assert_eq!(without.receive(), Received::Closed);
    broker.stop();
}
