//! SUBSCRIBE and UNSUBSCRIBE: into the hub, into the log for kept sessions, and the answer once that is durable.

use std::borrow::Cow;

use super::acks::Debt;
use super::state::{SessionRef, State};
use crate::codec::topic::split_share;
use crate::codec::{Reason, Subscribe, Subscription, Unsubscribe};
use crate::hub::SubscriptionOptions;
use crate::record::Change;
use crate::session::Ticket;

/// One filter of a SUBSCRIBE that was entered.
struct Entered<'a> {
    filter: Cow<'a, str>,
    options: SubscriptionOptions,
    generation: u64,
    send_retained: bool,
}

impl State {
    /// SUBSCRIBE: enters the filters, answers, and sends what is retained for them (section 3.8.4).
    pub fn subscribe(&mut self, at: SessionRef, subscribe: &Subscribe<'_>) {
        let who = self.subscriber(at);
        let subscription_id = subscribe.properties.subscription_ids().next();
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut entered = Vec::with_capacity(subscribe.filters.len());
        for asked in &subscribe.filters {
            let Some(slot) = self.slot(at) else { return };
            let mut options = SubscriptionOptions::new(asked, subscription_id);
            let is_shared = split_share(asked.filter).is_some();
            if slot.session.is_bridge() && !is_shared {
                options = options.for_bridge();
            }
            options.kept = slot.stored;
            let filter = slot.session.mounted(asked.filter);
            if !slot.may_subscribe(&filter) {
                reasons.push(self.deny_subscription(at, &filter));
                continue;
            }
            let behind = Subscription {
                filter: &filter,
                ..*asked
            };
            let reason = slot.session.admit_subscription(&behind);
            reasons.push(reason);
            if reason as u8 >= 0x80 {
                continue;
            }
            let load = is_shared.then(|| slot.shared_load());
            let (is_new, generation) = self.shared.hub.subscribe(&filter, who, options, load.as_ref());
            entered.push(Entered {
                filter,
                options,
                generation,
                send_retained: !is_shared && asked.wants_retained(is_new), // section 4.8.2: none for groups
            });
        }
        let Some(slot) = self.slot(at) else { return };
        let wait = slot.stored && !entered.is_empty();
        let answer = slot.session.subscribed(subscribe.packet_id, reasons, wait);
        let changes = entered.iter().map(|entered| Change::Subscribe {
            filter: &entered.filter,
            options: entered.options,
            generation: entered.generation,
            send_retained: entered.send_retained,
        });
        if let Some(answer) = answer {
            self.write_all_down(at, changes, answer);
        }
        for entered in entered.iter().filter(|entered| entered.send_retained) {
            self.send_retained(at, entered);
        }
        if let Some(slot) = self.slot(at) {
            slot.wake();
        }
    }

    fn send_retained(&mut self, at: SessionRef, entered: &Entered<'_>) {
        let to = entered.options.as_match(self.subscriber(at));
        self.walk_retained(at, &entered.filter, to);
    }

    /// UNSUBSCRIBE (section 3.10.4).
    pub fn unsubscribe(&mut self, at: SessionRef, unsubscribe: &Unsubscribe<'_>) {
        let who = self.subscriber(at);
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        let mut removed = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let Some(slot) = self.slot(at) else { return };
            let filter = slot.session.mounted(filter);
            slot.session.forget_subscription(&filter);
            if let Some(walks) = &mut slot.walks {
                walks.forget(&filter);
            }
            let generation = self.shared.hub.unsubscribe(&filter, who);
            reasons.push(match generation {
                Some(_) => Reason::Success,
                None => Reason::NoSubscriptionExisted,
            });
            removed.extend(generation.map(|generation| (filter, generation)));
        }
        let Some(slot) = self.slot(at) else { return };
        let wait = slot.stored && !removed.is_empty();
        let answer = slot.session.unsubscribed(unsubscribe.packet_id, reasons, wait);
        slot.wake();
        let changes = removed.iter().map(|(filter, generation)| Change::Unsubscribe {
            filter,
            generation: *generation,
        });
        if let Some(answer) = answer {
            self.write_all_down(at, changes, answer);
        }
    }

    /// Writes down changes of one packet; its answer waits for the last of them.
    fn write_all_down<'a>(
        &mut self,
        at: SessionRef,
        changes: impl ExactSizeIterator<Item = Change<'a>>,
        answer: Ticket,
    ) {
        let Some(client_id) = self.slot(at).map(|slot| slot.session.client_id_shared()) else {
            return;
        };
        let last = changes.len().saturating_sub(1);
        for (index, change) in changes.enumerate() {
            let answer = (index == last).then_some((at, Debt::Answer(answer)));
            self.write_down(&client_id, change, answer);
        }
    }
}
