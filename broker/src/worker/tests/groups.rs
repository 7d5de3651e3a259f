//! Messages of a group that one member can't take, and who gets what when the rules are others.

use super::*;
use crate::auth::{Granted, Rules, Who};
use crate::codec::{Subscribe, Subscription, Unsubscribe};
use crate::hub::{Load, Match};
use crate::testing::pair;

const FILTER: &str = "$share/g/#";

/// Topics may be read that begin so.
struct Only(&'static str);

impl Rules for Only {
    fn generation(&self) -> u64 {
        0
    }

    fn may_publish(&self, _: Who<'_>, _: &str) -> bool {
        true
    }

    fn may_read(&self, _: Who<'_>, topic: &str) -> bool {
        topic.starts_with(self.0)
    }

    fn subscription(&self, _: Who<'_>, filter: &str) -> Granted {
        match filter.starts_with(self.0) {
            true => Granted::Whole,
            false => Granted::Checked,
        }
    }
}

fn user(name: &str, rules: Option<Arc<dyn Rules>>) -> Principal {
    Principal {
        username: Some(name.to_owned()),
        rules,
        data: None,
    }
}

impl Bench {
    fn come(&mut self, client_id: &str, principal: Principal) -> SessionRef {
        self.connect_under(principal, client_id, false, Version::V311, Properties::EMPTY)
    }

    fn ask(&mut self, at: SessionRef, filter: &str) {
        let asked = Subscription {
            filter,
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: crate::codec::RetainHandling::Send,
        };
        let subscribe = Subscribe {
            packet_id: pair::id(1),
            filters: vec![asked],
            properties: Properties::EMPTY,
        };
        self.state.subscribe(at, &subscribe);
    }

    /// Whom the group gives its next message to.
    fn next_member(&mut self) -> Match {
        let mut matches = Vec::new();
        self.state.hub.matches("t", &mut matches);
        matches.remove(0)
    }

    fn queued(&mut self, client_id: &str) -> usize {
        self.session(client_id).unwrap().queued()
    }
}

/// A message on `topic` that the log has as its `number`.
fn on(topic: &str, number: u64) -> Arc<Message> {
    let mut message = with_origin("x", QoS::AtLeastOnce, number);
    message.topic = topic.into();
    Arc::new(message)
}

fn is_done(event: &StoreEvent, number: u64) -> bool {
    matches!(event, StoreEvent::Done { origin, .. } if origin.number == number)
}

#[test]
fn what_one_member_has_no_room_for_goes_to_one_that_has() {
    let few = |config: &mut Config| config.limits.max_queued_messages = 2;
    let mut bench = Bench::new(few);
    let [a, b] = ["a", "b"].map(|id| bench.connect(id, false));
    bench.ask(a, FILTER);
    // Chosen before it was full: all four are under way to it.
    let to = bench.next_member();
    bench.ask(b, FILTER);
    for number in 0..4 {
        bench.state.deliver(&on("t", number), &to, false);
    }
    assert_eq!((bench.queued("a"), bench.queued("b")), (2, 2));
    assert!(bench.told().is_empty(), "nothing is lost");
    bench.state.deliver(&on("t", 4), &to, false);
    let told = bench.told();
    assert!(told.len() == 1 && is_done(&told[0], 4), "all are full: {told:?}");
}

#[test]
fn what_finds_no_room_in_the_mailbox_of_one_member_goes_to_another() {
    let mut bench = Bench::of_many(2, |_| {}, Arc::new(NoRoutes));
    let far = SubscriberId {
        worker: 1,
        slot: 0,
        generation: 0,
    };
    let load = Arc::new(Load::default());
    load.set(0, Some(10));
    let to_far = options(QoS::AtLeastOnce);
    let hub = bench.state.shared.hub.clone();
    hub.subscribe(FILTER, far, to_far, Some(&load));
    let to = bench.next_member();
    assert_eq!(to.who, far);
    let mailbox = bench.state.shared.mailboxes[1].clone();
    // All of its 64 MiB but for less than the message takes.
    let mut huge = Message::clone(&message("x", QoS::AtLeastOnce));
    huge.payload = vec![0; (64 << 20) - 1_000].into();
    let filling = mailbox::Delivery {
        message: Arc::new(huge),
        to: to.clone(),
    };
    let large = |number| Arc::new(with_origin(&"x".repeat(1_000), QoS::AtLeastOnce, number));
    mailbox.put_deliveries(&mut vec![filling.clone()], &mut Vec::new());
    bench.state.route(&large(1), to.clone());
    bench.state.send_outbox();
    assert_eq!(mailbox.take().lost.len(), 1, "there is nobody else");
    let near = bench.connect("near", false);
    bench.ask(near, FILTER);
    mailbox.put_deliveries(&mut vec![filling], &mut Vec::new());
    bench.state.route(&large(2), to);
    bench.state.send_outbox();
    assert!(mailbox.take().lost.is_empty());
    assert_eq!(bench.queued("near"), 1);
}

#[test]
fn who_takes_up_the_session_of_another_gets_nothing_that_was_under_way_to_that_one() {
    let mut bench = Bench::new(|_| {});
    let rules: Arc<dyn Rules> = Arc::new(Only(""));
    let alice = bench.come("s", user("alice", Some(rules.clone())));
    bench.ask(alice, "closed/#");
    let under_way = options(QoS::AtLeastOnce).as_match(bench.state.subscriber(alice));
    bench.state.detach(alice, Detach::Lost);
    // The same user again: all it is subscribed to may be read, so that nothing is asked.
    let alice = bench.come("s", user("alice", Some(rules)));
    bench.state.deliver(&on("closed/1", 1), &under_way, false);
    assert_eq!(bench.queued("s"), 1);
    bench.sent(alice);
    bench.state.detach(alice, Detach::Lost);
    let open: Arc<dyn Rules> = Arc::new(Only("open"));
    let bob = bench.come("s", user("bob", Some(open)));
    let unsubscribe = Unsubscribe {
        packet_id: pair::id(2),
        filters: vec!["closed/#"],
        properties: Properties::EMPTY,
    };
    bench.state.unsubscribe(bob, &unsubscribe);
    bench.state.deliver(&on("closed/2", 2), &under_way, false);
    bench.state.deliver(&on("open/2", 3), &under_way, false);
    let waiting = bench.queued("s");
    assert_eq!(waiting, 1, "what bob may read, and no more");
    assert!(bench.told().iter().any(|event| is_done(event, 2)));
}

#[test]
fn the_last_member_of_a_group_stays_and_is_not_sent_what_it_may_not_get() {
    let mut bench = Bench::new(|_| {});
    let open: Arc<dyn Rules> = Arc::new(Only("open"));
    let mut members = Vec::new();
    for id in ["a", "b"] {
        let at = bench.come(id, user("u", None));
        bench.ask(at, FILTER);
        let slot = bench.state.slot(at).unwrap();
        slot.become_principal(user("u", Some(open.clone()))); // as when the rules are read again
        members.push(at);
    }
    let to = bench.next_member();
    bench.state.deliver(&on("open/1", 1), &to, false);
    bench.state.deliver(&on("closed/1", 2), &to, false);
    let group = bench.state.hub.members(FILTER);
    assert_eq!(
        group, 1,
        "one may not, and leaves; the other would be the last to leave"
    );
    let told = bench.told();
    assert!(
        told.iter().any(|event| is_done(event, 2)),
        "nobody may get it: {told:?}"
    );
    assert!(!told.iter().any(|event| is_done(event, 1)));
    let to = bench.next_member();
    bench.state.deliver(&on("open/2", 3), &to, false);
    assert_eq!(bench.queued("a") + bench.queued("b"), 2);
}
