//! What clients may do on which topics: `[[acl]]` rules, of which the first that fits decides, then the lines of an
//! acl_file. Pure: who asks, and for what, is passed in.

mod file;
mod filter;
mod live;
mod pattern;

pub use file::{Act, FileRules};
pub use filter::{covers, overlaps};
pub use live::{AnyOf, Live};
pub use pattern::{NoPattern, Pattern};

use pattern::Resolved;

use crate::codec::topic;

/// Who is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// The client's id.
    pub client_id: &'a str,
    /// Its user name, if it gave one and was let in with it.
    pub username: Option<&'a str>,
}

/// What is said to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Granted {
    /// No.
    Refused,
    /// Yes; some topics that it takes may not be read, so each message is asked about.
    Checked,
    /// Yes, all of it.
    Whole,
}

/// What clients of a listener may do. Asked on workers' threads: must not block.
pub trait Rules: Send + Sync + 'static {
    /// Changes when an answer may be another.
    fn generation(&self) -> u64;

    /// Whether `who` may publish on `topic`.
    fn may_publish(&self, who: Who<'_>, topic: &str) -> bool;

    /// Whether `who` may get messages on `topic`.
    fn may_read(&self, who: Who<'_>, topic: &str) -> bool;

    /// Whether `who` may subscribe to `filter`, which has no `$share` part. [`Granted::Whole`] only if
    /// [`may_read`](Rules::may_read) says yes to every topic that it takes.
    fn subscription(&self, who: Who<'_>, filter: &str) -> Granted;

    /// Whether a denial names just this topic, to which `who` may not subscribe: then it is not said why.
    fn denies_by_name(&self, who: Who<'_>, filter: &str) -> bool {
        let _ = (who, filter);
        false
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Who was let in under this user name.
    User(Box<str>),
    /// Who has this client id.
    Client(Box<str>),
    /// Who gave no user name.
    Anonymous,
}

impl Whom {
    fn is(&self, who: Who<'_>) -> bool {
        match self {
            Whom::User(name) => who.username == Some(name),
            Whom::Client(id) => who.client_id == &**id,
            Whom::Anonymous => who.username.is_none(),
        }
    }
}

/// One `[[acl]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Any of these; empty: everyone.
    pub who: Vec<Whom>,
    /// It is about publishing.
    pub publish: bool,
    /// It is about subscribing, and about getting messages.
    pub subscribe: bool,
    /// On topics of this filter.
    pub on: Pattern,
    /// Whether it allows or denies.
    pub allow: bool,
}

impl Rule {
    /// Whether its answer hangs on a user name.
    pub fn names_user(&self) -> bool {
        self.on.names_user() || self.who.iter().any(|whom| matches!(whom, Whom::User(_)))
    }

    fn concerns(&self, act: Act, who: Who<'_>) -> bool {
        let about = match act {
            Act::Read => self.subscribe,
            Act::Write => self.publish,
        };
        about && (self.who.is_empty() || self.who.iter().any(|whom| whom.is(who)))
    }

    /// Its filter for `who`; none when it does not fit. A denial holds for a dangerous name as for every name.
    fn filter(&self, who: Who<'_>) -> Option<std::borrow::Cow<'_, str>> {
        match self.on.resolve(who) {
            Resolved::Filter(filter) => Some(filter),
            Resolved::Dangerous if !self.allow => Some(self.on.widest().into()),
            Resolved::Dangerous | Resolved::Nameless => None,
        }
    }
}

/// All rules of a listener.
#[derive(Debug, Clone, Default)]
pub struct Acl {
    /// `[[acl]]`.
    pub rules: Vec<Rule>,
    /// Of the acl_file, if there is one.
    pub file: Option<FileRules>,
}

impl Acl {
    /// Whether nothing is said: then all is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.file.is_none()
    }

    /// Whether `who` may do this on `topic`.
    pub fn may(&self, act: Act, who: Who<'_>, topic: &str) -> bool {
        let fits = |rule: &&Rule| {
            rule.concerns(act, who)
                && rule
                    .filter(who)
                    .is_some_and(|filter| topic::matches(&filter, topic))
        };
        match (self.rules.iter().find(fits), &self.file) {
            (Some(rule), _) => rule.allow,
            (None, Some(file)) => file.may(act, who, topic),
            (None, None) => self.rules.is_empty(),
        }
    }

    /// Whether `who` may subscribe to `asked`. A rule fits when it covers all that `asked` takes; a denial that covers a
    /// part of it leaves that part to the check of each message.
    pub fn subscription(&self, who: Who<'_>, asked: &str) -> Granted {
        let mut partly = false;
        for rule in self.rules.iter().filter(|rule| rule.concerns(Act::Read, who)) {
            let Some(filter) = rule.filter(who) else { continue };
            if covers(&filter, asked) {
                return match (rule.allow, partly) {
                    (false, _) => Granted::Refused,
                    (true, true) => Granted::Checked,
                    (true, false) => Granted::Whole,
                };
            }
            partly |= !rule.allow && overlaps(&filter, asked);
        }
        match &self.file {
            Some(file) => match file.subscription(who, asked) {
                Granted::Whole if partly => Granted::Checked,
                granted => granted,
            },
            None if self.rules.is_empty() => Granted::Whole,
            None => Granted::Refused,
        }
    }

    /// Whether a denial is about the one topic `asked`.
    pub fn denies_by_name(&self, who: Who<'_>, asked: &str) -> bool {
        if asked.contains(['+', '#']) {
            return false;
        }
        let mut denials = self.rules.iter().filter(|rule| !rule.allow);
        denials.any(|rule| {
            rule.concerns(Act::Read, who) && rule.filter(who).is_some_and(|filter| *filter == *asked)
        }) || self
            .file
            .as_ref()
            .is_some_and(|file| file.denies_by_name(who, asked))
    }
}

#[cfg(test)]
mod tests;
