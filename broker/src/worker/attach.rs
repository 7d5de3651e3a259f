//! Sessions come and go: a CONNECT finds its session or makes one and takes it over from whoever held it; the end of
//! a connection leaves it kept, or removes it with all it had.

use std::rc::Rc;
use std::sync::Arc;

use super::lines::Tie;
use super::state::{Link, SessionRef, Slot, State};
use crate::auth::Principal;
use crate::codec::{Connect, Reason, Version};
use crate::hub::SubscriberId;
use crate::record::{Change, Open};
use crate::session::{Attach, Detach, Session, SessionLimits, TimeoutKind, WillMessage};

/// Sessions that one tick looks at: after a restart very many may have outlived their time.
const FIRE_AT_ONCE: usize = 10_000;

/// What a connection's task holds of its session.
pub(crate) struct Attached {
    pub at: SessionRef,
    /// By which the session calls it, and ends it.
    pub tie: Rc<Tie>,
}

impl State {
    /// Joins a connection to the session of its client id [MQTT-3.1.2-4 to 6, MQTT-3.1.4-2, MQTT-3.1.4-3].
    /// `assigned` says that the client id was chosen here, `listener` is the index of the listener it came to.
    pub fn attach(
        &mut self,
        connect: &Connect<'_>,
        client_id: &str,
        mut principal: Principal,
        assigned: bool,
        listener: usize,
    ) -> Attached {
        let before = self.take_over(client_id, connect.clean_start);
        let (at, session_present) = match before {
            Some(at) if !connect.clean_start => (at, true),
            Some(at) => {
                self.remove(at);
                (self.insert(client_id), false)
            }
            None => (self.insert(client_id), false),
        };
        let tie = Rc::new(Tie::default());
        let mut attach = self.attach_options(connect, client_id, session_present, assigned, listener);
        let config = self.shared.config.listeners.get(listener);
        attach.authentication_data = principal.data.take();
        attach.mount = config.and_then(|listener| listener.mount_point.clone());
        let limits = self.limits_at(listener);
        let now_ms = self.now_ms;
        let mut of_groups = Vec::new();
        if let Some(slot) = self.slot(at) {
            slot.become_principal(principal);
            if session_present {
                of_groups = slot.forget_what_may_not_be_read();
            }
            slot.held = false;
            slot.session.set_limits(limits);
            slot.link = Some(Link {
                tie: tie.clone(),
                waker: None,
            });
            slot.session.attach(now_ms, connect, attach);
            slot.note_load();
        }
        self.place_in_groups(at);
        self.registry.attached(at.slot);
        self.go_on_walking(at);
        self.metrics.connections.increment(1.0);
        self.counts.connected.add(1);
        self.arm(at);
        self.write_backlog(); // the will of the connection before, ahead of what this one does
        self.opened(at);
        for (share, message) in of_groups {
            self.pass_on(at, &message, &share);
        }
        Attached { at, tie }
    }

    /// Whether a session that was just attached has a CONNACK for its client.
    pub fn has_connack(&mut self, at: SessionRef) -> bool {
        self.slot(at).is_some_and(|slot| slot.session.has_connack())
    }

    /// Writes down that a kept session has a connection, or that one is kept no more.
    fn opened(&mut self, at: SessionRef) {
        let Some(slot) = self.slot(at) else { return };
        let was_stored = slot.stored;
        slot.stored = slot.session.is_persistent();
        let client_id = slot.session.client_id_shared();
        if slot.stored {
            let username = slot.username.clone();
            // After a restart it is not known which rules held for its client, so they are asked now.
            let will = slot.session.will().cloned();
            let will = will.filter(|will| slot.may_publish(will.as_publish().topic));
            let open = Open {
                expiry_s: slot.session.expiry_s(),
                level: slot.session.version().level(),
                username: username.as_deref(),
                will: will.as_ref().map(WillMessage::as_record),
            };
            self.write_down(&client_id, Change::Open(open), None);
        } else if was_stored {
            self.write_down(&client_id, Change::Reset, None);
        }
    }

    fn attach_options(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        session_present: bool,
        assigned: bool,
        listener: usize,
    ) -> Attach {
        let limits = self.shared.config.limits_at(listener);
        // Before 5.0 a client cannot be told: held to less than it asked for, it would be cut off between two PINGREQ for ever.
        let is_told = connect.version == Version::V5;
        let granted = match (limits.max_keep_alive_s, connect.keep_alive_s) {
            (0, asked) => asked,
            (_, asked) if !is_told => asked,
            (most, 0) => most,
            (most, asked) => asked.min(most),
        };
        Attach {
            session_present,
            keep_alive_s: granted,
            assigned_client_id: assigned.then(|| client_id.into()),
            max_session_expiry_s: limits.max_session_expiry_s,
            authentication_data: None,
            response_information: self.response_information(connect, client_id),
            mount: None,
        }
    }

    fn response_information(&self, connect: &Connect<'_>, client_id: &str) -> Option<Box<str>> {
        let asked = connect.properties.request_response_information() == Some(true);
        let information = self.shared.config.told.response_information.as_ref();
        information
            .filter(|_| asked)
            .map(|text| text.replace("{client_id}", client_id).into())
    }

    /// Ends the connection that holds the session of `client_id`, if there is one.
    fn take_over(&mut self, client_id: &str, clean_start: bool) -> Option<SessionRef> {
        let slot = self.slot_of(client_id)?;
        let generation = self.slots.get(slot as usize)?.generation;
        let at = SessionRef { slot, generation };
        if let Some(slot) = self.slot(at)
            && slot.link.is_some()
        {
            slot.kick(Reason::SessionTakenOver);
            self.end_of_connection(at, Detach::TakenOver);
        }
        let slot = self.slot(at)?;
        slot.session.return_will(clean_start);
        if !slot.session.is_persistent() {
            self.remove(at); // it ended with its connection
            return None;
        }
        Some(at)
    }

    fn insert(&mut self, client_id: &str) -> SessionRef {
        let client_id: Arc<str> = client_id.into();
        let session = Session::new(client_id.clone(), self.session_limits.clone());
        self.insert_slot(&client_id, |generation| Slot::new(generation, session))
    }

    pub(super) fn insert_slot(&mut self, client_id: &str, slot: impl FnOnce(u32) -> Slot) -> SessionRef {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let slot = self.slots.insert(slot(generation)) as u32;
        self.registry.insert(client_id, slot);
        SessionRef { slot, generation }
    }

    /// Where the session of this client id is.
    pub(super) fn slot_of(&self, client_id: &str) -> Option<u32> {
        let is_of = |slot: u32| {
            let slot = self.slots.get(slot as usize);
            slot.is_some_and(|slot| slot.session.client_id() == client_id)
        };
        self.registry.find(client_id, is_of)
    }

    /// The bounds of clients of this listener.
    fn limits_at(&self, listener: usize) -> Arc<SessionLimits> {
        let own = self.listener_limits.get(listener).unwrap_or(&self.session_limits);
        own.clone()
    }

    /// The connection of session `at` is gone.
    pub fn detach(&mut self, at: SessionRef, how: Detach) {
        self.end_of_connection(at, how);
        let Some(slot) = self.slot(at) else { return };
        if slot.session.is_persistent() {
            if let Some(evicted) = self.registry.detached(at.slot) {
                self.evict(evicted);
            }
            self.arm(at);
        } else {
            self.remove(at);
        }
    }

    /// What every end of a connection has in common.
    fn end_of_connection(&mut self, at: SessionRef, how: Detach) {
        let now_ms = self.now_ms;
        let Some(slot) = self.slot(at) else { return };
        slot.link = None;
        slot.held = false;
        slot.resume_ms = u64::MAX;
        let will = slot.session.detach(now_ms, how);
        slot.note_load();
        self.place_in_groups(at);
        let Some(slot) = self.slot(at) else { return };
        let client_id = slot.session.client_id_shared();
        let closed = slot.stored && slot.session.is_persistent();
        let will_waits = slot.session.has_late_will();
        let expiry_s = slot.session.expiry_s();
        let username = will.is_some().then(|| slot.username.clone()).flatten();
        self.metrics.connections.decrement(1.0);
        self.counts.connected.take_one();
        if let Some(will) = will {
            self.push_will(client_id.clone(), username, will);
        }
        if closed {
            let change = match will_waits {
                true => Change::Left { expiry_s },
                false => Change::Closed { expiry_s },
            };
            self.write_down(&client_id, change, None);
        }
    }

    /// The connection of a session has begun or ended, which its groups are to know, if it is in some.
    fn place_in_groups(&mut self, at: SessionRef) {
        let who = self.subscriber(at);
        let hub = self.shared.hub.clone();
        if let Some(slot) = self.slot(at).filter(|slot| slot.load.is_some()) {
            hub.moved(slot.session.filters(), who);
        }
    }

    fn evict(&mut self, slot: u32) {
        let Some(generation) = self.slots.get(slot as usize).map(|s| s.generation) else {
            return;
        };
        tracing::warn!("limits.max_kept_sessions reached: the session that was left longest ago is dropped");
        self.remove(SessionRef { slot, generation });
    }

    /// Removes a session with its subscriptions. A will that was still to come comes now.
    fn remove(&mut self, at: SessionRef) {
        if self.slot(at).is_none() {
            return;
        }
        self.publish_late_will(at);
        let mut slot = self.slots.remove(at.slot as usize);
        self.registry.remove(slot.session.client_id(), at.slot);
        self.shared
            .hub
            .remove_all(slot.session.filters(), self.subscriber(at));
        for (share, message) in slot.session.take_shared() {
            self.give_to_another(&message, &share);
        }
        if slot.stored {
            self.write_down(&slot.session.client_id_shared(), Change::Reset, None);
        }
    }

    pub(super) fn subscriber(&self, at: SessionRef) -> SubscriberId {
        SubscriberId {
            worker: self.id,
            slot: at.slot,
            generation: at.generation,
        }
    }

    /// Looks at the sessions whose deadline has come; at so many at most that nobody waits for it.
    pub(super) fn fire_timers(&mut self) {
        let now_ms = self.now_ms;
        for _ in 0..FIRE_AT_ONCE {
            let Some((deadline_ms, slot, generation)) = self.timers.pop_due(now_ms) else {
                return;
            };
            let at = SessionRef { slot, generation };
            let Some(slot) = self.slot(at).filter(|slot| slot.armed_ms == deadline_ms) else {
                continue;
            };
            slot.armed_ms = u64::MAX;
            if slot.held {
                slot.session.touch(now_ms);
            }
            match slot.session.handle_timeout(now_ms) {
                Some(TimeoutKind::KeepAlive) => slot.kick(Reason::KeepAliveTimeout),
                Some(TimeoutKind::Expired) => {
                    self.counts.expired.add(1);
                    self.remove(at);
                }
                Some(TimeoutKind::WillDelay) => {
                    self.publish_late_will(at);
                    self.arm(at);
                }
                None => self.arm(at),
            }
        }
    }
}
