//! What a session may do: the rules that hold for it, with the last answers, and what becomes of what they deny.

use std::sync::Arc;

use super::publish::Taken;
use super::state::{SessionRef, Slot, State};
use crate::auth::{DenyAction, Granted, Principal, Rules, Who};
use crate::codec::topic::split_share;
use crate::codec::{Publish, Reason, Version};
use crate::hub::Share;
use crate::record::Change;
use crate::session::{Message, Session, Violation, WillMessage};

/// An answer about a topic.
type Known = Option<(Box<str>, bool)>;

/// The rules of a session's listener, and what they said.
pub(super) struct Guard {
    rules: Arc<dyn Rules>,
    /// Of the rules, when the answers below were given.
    generation: u64,
    /// Whether each message is asked about: a subscription takes topics that may not be read. `None`: not known.
    checked: Option<bool>,
    /// So it is whatever the subscriptions take: it was another's session before, and messages may be under way to it by
    /// subscriptions that are gone.
    wary: bool,
    publish: Known,
    read: Known,
    /// The log has a word on what this connection was denied.
    told: bool,
}

impl Guard {
    pub fn new(rules: Arc<dyn Rules>, wary: bool) -> Self {
        Self {
            generation: rules.generation(),
            rules,
            checked: None,
            wary,
            publish: None,
            read: None,
            told: false,
        }
    }

    /// Forgets all answers when the rules are others now.
    fn refresh(&mut self) {
        let generation = self.rules.generation();
        if self.generation != generation {
            self.generation = generation;
            self.checked = None;
            self.publish = None;
            self.read = None;
        }
    }
}

/// The last answer if it was about `topic`, else a new one.
fn recall(known: &mut Known, topic: &str, ask: impl FnOnce() -> bool) -> bool {
    match known {
        Some((last, answer)) if **last == *topic => *answer,
        _ => {
            let answer = ask();
            *known = Some((topic.into(), answer));
            answer
        }
    }
}

/// Whom rules are asked about.
fn who<'a>(session: &'a Session, username: &'a Option<Box<str>>) -> Who<'a> {
    Who {
        client_id: session.client_id(),
        username: username.as_deref(),
    }
}

/// The filter that rules are about.
fn plain(filter: &str) -> &str {
    split_share(filter).map_or(filter, |(_, plain)| plain)
}

impl Slot {
    /// Its client is `principal`.
    pub fn become_principal(&mut self, principal: Principal) {
        let username: Option<Box<str>> = principal.username.map(Into::into);
        let was_anothers = self.is_known
            && match (&self.guard, &principal.rules) {
                (Some(guard), Some(rules)) => guard.wary || !Arc::ptr_eq(&guard.rules, rules),
                (None, Some(_)) => true,
                (_, None) => false,
            };
        let wary = was_anothers || self.stored && self.username != username;
        self.username = username;
        self.guard = principal.rules.map(|rules| Box::new(Guard::new(rules, wary)));
        self.is_known = true;
        self.stem = None;
    }

    /// Whether its client may publish on `topic`.
    pub fn may_publish(&mut self, topic: &str) -> bool {
        let Some(guard) = &mut self.guard else {
            return true;
        };
        guard.refresh();
        let who = who(&self.session, &self.username);
        recall(&mut guard.publish, topic, || guard.rules.may_publish(who, topic))
    }

    /// Whether some of its subscriptions take topics that it may not read.
    fn is_checked(&mut self) -> bool {
        let Some(guard) = &mut self.guard else {
            return false;
        };
        guard.refresh();
        if guard.wary {
            return true;
        }
        let who = who(&self.session, &self.username);
        let whole = |filter| guard.rules.subscription(who, plain(filter)) == Granted::Whole;
        *guard
            .checked
            .get_or_insert_with(|| !self.session.filters().all(whole))
    }

    /// Whether its client may get a message on `topic`, to which it is subscribed.
    pub fn may_read(&mut self, topic: &str) -> bool {
        if !self.is_checked() {
            return true;
        }
        let Some(guard) = &mut self.guard else {
            return true;
        };
        let who = who(&self.session, &self.username);
        recall(&mut guard.read, topic, || guard.rules.may_read(who, topic))
    }

    /// Whether its client may subscribe to `filter`. A member of a group must be allowed all that the group takes: what it
    /// is given no other member gets.
    pub fn may_subscribe(&mut self, filter: &str) -> bool {
        let Some(guard) = &mut self.guard else {
            return true;
        };
        guard.refresh();
        let who = who(&self.session, &self.username);
        let granted = guard.rules.subscription(who, plain(filter));
        if split_share(filter).is_some() {
            return granted == Granted::Whole;
        }
        if granted == Granted::Checked {
            guard.checked = Some(true);
        }
        granted != Granted::Refused
    }

    /// What waits for its client, of another connection or from before a restart, goes by the rules of now. Each message
    /// is asked about: the subscription that it came by may be gone, and the client another one.
    /// Returns what was for groups.
    pub fn forget_what_may_not_be_read(&mut self) -> Vec<(Share, Arc<Message>)> {
        let Some(guard) = &self.guard else {
            return Vec::new();
        };
        let client_id = self.session.client_id_shared();
        let who = Who {
            client_id: &client_id,
            username: self.username.as_deref(),
        };
        self.session
            .forget_messages(|topic| guard.rules.may_read(who, topic))
    }

    /// What SUBACK says of a filter that is denied: 0x80, "failure", in 3.x [3.1.1: MQTT-3.9.3-2]; in 5.0 0x80 is for
    /// what it is not said why of.
    pub fn denied_reason(&self, filter: &str) -> Reason {
        let who = who(&self.session, &self.username);
        let guard = self.guard.as_ref();
        let by_name = guard.is_some_and(|guard| guard.rules.denies_by_name(who, plain(filter)));
        match self.session.version() {
            Version::V5 if !by_name => Reason::NotAuthorized,
            _ => Reason::UnspecifiedError,
        }
    }
}

impl State {
    /// Client id and user name of session `at`.
    pub fn subject(&mut self, at: SessionRef) -> Option<(Arc<str>, Option<Box<str>>)> {
        let slot = self.slot(at)?;
        Some((slot.session.client_id_shared(), slot.username.clone()))
    }

    /// The client has authenticated again: what it may do may be other than before. False when it is another user now:
    /// that one would get what waits for this one, and the log would go on naming this one.
    pub fn is_now(&mut self, at: SessionRef, principal: Principal) -> bool {
        let Some(slot) = self.slot(at) else { return true };
        if slot.username.as_deref() != principal.username.as_deref() {
            return false;
        }
        slot.become_principal(principal);
        true
    }

    /// AUTH to a client that authenticates again.
    pub fn send_auth(&mut self, at: SessionRef, method: &str, reason: Reason, data: Option<&[u8]>) {
        if let Some(slot) = self.slot(at) {
            slot.session.authenticate(method, reason, data);
        }
    }

    /// A PUBLISH that may not be made, because of its whole `topic`.
    pub(super) fn deny_publish(
        &mut self,
        at: SessionRef,
        publish: &Publish<'_>,
        topic: &str,
    ) -> Result<Taken, Violation> {
        self.tell_denied(at, "PUBLISH", topic);
        if self.shared.config.deny_action == DenyAction::Ignore {
            return self.deny(at, publish);
        }
        self.metrics.publishes_denied.increment(1);
        Err(Violation {
            reason: Reason::NotAuthorized,
            text: "a PUBLISH that the rules deny (auth.deny_action)",
        })
    }

    /// A filter that the rules deny: the reason for SUBACK.
    pub(super) fn deny_subscription(&mut self, at: SessionRef, filter: &str) -> Reason {
        self.tell_denied(at, "SUBSCRIBE", filter);
        let disconnect = self.shared.config.deny_action == DenyAction::Disconnect;
        self.slot(at).map_or(Reason::NotAuthorized, |slot| {
            if disconnect {
                slot.kick(Reason::NotAuthorized);
            }
            slot.denied_reason(filter)
        })
    }

    /// A message that its subscriber may not get.
    pub(super) fn deny_delivery(&mut self, at: SessionRef, message: &Arc<Message>, share: Option<&Share>) {
        if let Some(share) = share {
            return self.pass_on(at, message, share);
        }
        self.metrics.dropped_denied.increment(1);
        if let Some(origin) = message.origin
            && let Some(slot) = self.slot(at)
        {
            slot.session.lost(origin, None);
            self.take_events(at);
        }
    }

    /// A message of a group that this member of it may not get: it is a member no more, and the message goes to one that
    /// may. Those here that may not either leave too, one after the other and not one within the other. The last member
    /// stays: what it may get has nobody else to go to.
    pub(super) fn pass_on(&mut self, at: SessionRef, message: &Arc<Message>, share: &Share) {
        self.metrics.dropped_denied.increment(1);
        self.leave_group(at, share);
        while let Some(to) = self.hub.member_of(share) {
            let next = SessionRef {
                slot: to.who.slot,
                generation: to.who.generation,
            };
            let is_here = to.who.worker == self.id;
            let may_not = |slot: &mut Slot| !slot.may_read(&message.topic);
            if !is_here || !self.slot(next).is_some_and(may_not) {
                return self.route(message, to);
            }
            if next != at {
                self.metrics.dropped_denied.increment(1);
            }
            if !self.leave_group(next, share) {
                break;
            }
        }
        self.forget_of_group(share, message.origin);
    }

    /// Ends the membership of session `at`; false when there is none, or no other member.
    fn leave_group(&mut self, at: SessionRef, share: &Share) -> bool {
        let (who, filter) = (self.subscriber(at), share.filter());
        let is_last = self.hub.members(filter) == 1;
        let Some(slot) = self.slot(at) else { return false };
        slot.note_load();
        if is_last {
            self.tell_denied(at, "a message of its group", filter);
            return false;
        }
        let Some(generation) = self.shared.hub.unsubscribe(filter, who) else {
            return false;
        };
        let Some(slot) = self.slot(at) else { return true };
        slot.session.forget_subscription(filter);
        let (client_id, stored) = (slot.session.client_id_shared(), slot.stored);
        tracing::info!(%client_id, filter, "leaves a group: the rules deny something that the group takes");
        if stored {
            self.write_later(&client_id, Change::Unsubscribe { filter, generation });
        }
        true
    }

    /// Whether the will of a client that is gone may be published, by the rules of now.
    pub(super) fn may_publish_will(
        &mut self,
        client_id: &str,
        username: Option<&str>,
        will: &WillMessage,
    ) -> bool {
        let slot = self.slot_of(client_id);
        let slot = slot.and_then(|slot| self.slots.get(slot as usize));
        let rules = match slot.filter(|slot| slot.is_known) {
            Some(slot) => slot.guard.as_ref().map(|guard| guard.rules.clone()),
            None => self.shared.auth.rules_of_kept(), // it came before a restart
        };
        let topic = will.as_publish().topic;
        let may = rules.is_none_or(|rules| rules.may_publish(Who { client_id, username }, topic));
        if !may {
            self.metrics.publishes_denied.increment(1);
            tracing::info!(client_id, topic, "a will was not published: the rules deny it");
        }
        may
    }

    /// Said once for each connection: a device that is denied goes on trying.
    fn tell_denied(&mut self, at: SessionRef, what: &'static str, topic: &str) {
        let Some(slot) = self.slot(at) else { return };
        if let Some(guard) = &mut slot.guard
            && !std::mem::replace(&mut guard.told, true)
        {
            let (client_id, username) = (slot.session.client_id(), slot.username.as_deref());
            tracing::info!(
                client_id,
                username,
                what,
                topic,
                "denied by the rules; told once for each connection"
            );
        }
    }
}
