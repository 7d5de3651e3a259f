//! What a topic is called on one connection: a number that stands for it (topic aliases, 5.0 section 3.3.2.3.4), and
//! without the mount point that its listener puts before every topic of its clients.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use super::Session;
use super::event::Violation;
use crate::codec::topic::{SHARE, split_share};
use crate::codec::{Properties, PropertiesBuf, Property, Publish, Reason};

/// Longest topic and filter [MQTT-4.7.3-3].
const MOST_TOPIC_BYTES: usize = u16::MAX as usize;

/// The names of one connection. They end with it.
#[derive(Debug, Default)]
pub(super) struct Names {
    mount: Option<Arc<str>>,
    /// Topics that the client has numbered; the first is number 1.
    from_client: Vec<Option<Box<str>>>,
    /// Topics that were numbered for the client.
    to_client: HashMap<Box<str>, u16, RandomState>,
    /// How many may be.
    to_client_most: u16,
}

/// How a topic is sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alias {
    /// As it is.
    None,
    /// With the number that is to stand for it from now on.
    New(u16),
    /// By its number alone.
    Known(u16),
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.mount.is_none() && self.from_client.is_empty() && self.to_client_most == 0
    }

    fn numbered(&self, alias: u16) -> Option<&str> {
        let index = usize::from(alias).checked_sub(1)?;
        self.from_client.get(index)?.as_deref()
    }

    /// The client has numbered `topic`. Numbers were checked against the bound, so this holds so many topics at most.
    fn learn(&mut self, alias: u16, topic: &str) {
        let Some(index) = usize::from(alias).checked_sub(1) else {
            return;
        };
        if self.from_client.len() <= index {
            self.from_client.resize(index + 1, None);
        }
        if let Some(place) = self.from_client.get_mut(index)
            && place.as_deref() != Some(topic)
        {
            *place = Some(topic.into());
        }
    }

    /// How to send a message on `topic`. Who comes first keeps its number: a client that takes more topics than it has
    /// numbers for would otherwise be sent each of them whole, and a new number with it.
    pub fn alias(&self, topic: &str) -> Alias {
        if self.to_client_most == 0 {
            return Alias::None;
        }
        match self.to_client.get(topic) {
            Some(known) => Alias::Known(*known),
            None if self.to_client.len() < usize::from(self.to_client_most) => {
                Alias::New(self.to_client.len() as u16 + 1)
            }
            None => Alias::None,
        }
    }

    /// `topic` was sent with this new number.
    pub fn assign(&mut self, topic: &str, alias: u16) {
        self.to_client.insert(topic.into(), alias);
    }

    /// The topic as the client knows it; `None` for what lies outside its mount point.
    pub fn unmounted<'a>(&self, topic: &'a str) -> Option<&'a str> {
        match &self.mount {
            None => Some(topic),
            Some(mount) => topic.strip_prefix(&**mount).filter(|rest| !rest.is_empty()),
        }
    }
}

/// `topic` behind `mount`; a shared subscription's name stays in front.
fn mounted<'a>(mount: Option<&str>, topic: &'a str) -> Cow<'a, str> {
    let Some(mount) = mount else {
        return Cow::Borrowed(topic);
    };
    Cow::Owned(match split_share(topic) {
        Some((group, filter)) => format!("{SHARE}{group}/{mount}{filter}"),
        None => [mount, topic].concat(),
    })
}

/// Room for a publish whose topic stands elsewhere than in its packet; used again for each.
#[derive(Debug, Default)]
pub struct Whole {
    topic: String,
    properties: PropertiesBuf,
}

impl Session {
    /// A connection begins, with names of its own.
    pub(super) fn rename(&mut self, mount: Option<Arc<str>>, to_client_most: u16) {
        let names = Names {
            mount,
            to_client_most,
            ..Names::default()
        };
        if !names.is_empty() {
            self.aside.get_or_insert_default().names = names;
        } else if let Some(aside) = &mut self.aside {
            aside.names = names;
        }
    }

    fn names(&self) -> Option<&Names> {
        self.aside.as_deref().map(|aside| &aside.names)
    }

    fn mount(&self) -> Option<&str> {
        self.names()?.mount.as_deref()
    }

    /// A filter of the client as the broker knows it.
    pub fn mounted<'a>(&self, filter: &'a str) -> Cow<'a, str> {
        mounted(self.mount(), filter)
    }

    /// Whether [`resolve`](Session::resolve) may find another topic or other properties than the PUBLISH has.
    #[inline]
    pub fn renames(&self, publish: &Publish<'_>) -> bool {
        publish.topic.is_empty()
            || publish.properties.topic_alias().is_some()
            || self.aside.is_some() && self.mount().is_some()
    }

    /// What the client's PUBLISH says with its whole topic, behind the mount point, and without topic alias. Changes
    /// nothing, so that a publish for which there is no room can come again.
    pub fn resolve<'a>(&self, publish: Publish<'a>, whole: &'a mut Whole) -> Result<Publish<'a>, Violation> {
        let topic = self.topic_of(&publish)?;
        let alias = publish.properties.topic_alias();
        let mount = self.mount();
        if alias.is_none() && mount.is_none() {
            return Ok(publish);
        }
        whole.topic.clear();
        whole.topic.push_str(mount.unwrap_or_default());
        whole.topic.push_str(topic);
        if whole.topic.len() > MOST_TOPIC_BYTES {
            return Err(Violation::new(
                Reason::TopicNameInvalid,
                "longer than a topic can be with the mount point before it",
            ));
        }
        if alias.is_some() {
            without_alias(publish.properties, &mut whole.properties);
        }
        let whole: &'a Whole = whole;
        Ok(Publish {
            topic: &whole.topic,
            properties: match alias {
                None => publish.properties,
                Some(_) => whole.properties.as_properties(),
            },
            ..publish
        })
    }

    /// The whole topic of the client's PUBLISH, as the client knows it.
    pub(super) fn topic_of<'a>(&'a self, publish: &Publish<'a>) -> Result<&'a str, Violation> {
        let Some(alias) = publish.properties.topic_alias() else {
            return match publish.topic.is_empty() {
                false => Ok(publish.topic),
                true => Err(Violation::protocol(
                    "PUBLISH without topic and topic alias [MQTT-3.3.2-8]",
                )),
            };
        };
        if alias > self.limits.topic_alias_maximum {
            return Err(Violation::new(
                Reason::TopicAliasInvalid,
                "a topic alias above Topic Alias Maximum [MQTT-3.3.2-9]",
            ));
        }
        match publish.topic.is_empty() {
            false => Ok(publish.topic),
            true => self
                .names()
                .and_then(|names| names.numbered(alias))
                .ok_or(Violation::protocol(
                    "PUBLISH without topic and with a topic alias that stands for none (section 3.3.2.3.4)",
                )),
        }
    }

    /// Remembers which topic the PUBLISH has numbered, if it has.
    pub(super) fn learn_alias(&mut self, publish: &Publish<'_>) {
        if let Some(alias) = publish.properties.topic_alias()
            && !publish.topic.is_empty()
        {
            let names = &mut self.aside.get_or_insert_default().names;
            names.learn(alias, publish.topic);
        }
    }
}

fn without_alias(properties: Properties<'_>, into: &mut PropertiesBuf) {
    into.clear();
    for property in properties.iter() {
        if !matches!(property, Property::TopicAlias(_)) {
            into.push(property);
        }
    }
}

/// Whether `topic` is still one behind `mount`.
pub(crate) fn fits_mount(mount: Option<&str>, topic: &str) -> bool {
    mount.map_or(0, str::len) + topic.len() <= MOST_TOPIC_BYTES
}
