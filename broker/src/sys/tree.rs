//! The topics under `$SYS` by Mosquitto's names, and which of them have something new to say. Pure: figures and the
//! time that passed go in, topics and texts come out.

/// What the numbers are made of, over all workers, since the start or as it is now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub uptime_s: u64,
    pub connected: u64,
    /// Sessions, connected or kept.
    pub sessions: u64,
    pub expired: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub publishes_received: u64,
    pub publishes_sent: u64,
    pub publishes_dropped: u64,
    pub publish_bytes_received: u64,
    pub publish_bytes_sent: u64,
    pub sockets: u64,
    pub connects: u64,
    /// Without the shared ones.
    pub subscriptions: u64,
    pub shared_subscriptions: u64,
    pub retained: u64,
    pub retained_bytes: u64,
    pub queued: u64,
    pub queued_bytes: u64,
    pub inflight: u64,
    /// Memory of the process.
    pub heap_bytes: u64,
}

impl Figures {
    fn stored(&self) -> u64 {
        self.retained + self.queued + self.inflight
    }
}

/// A number: its topic below `$SYS/broker/`, and what it says.
type Number = (&'static str, fn(&Figures) -> u64);

/// Told when they change.
const NUMBERS: [Number; 23] = [
    ("clients/total", |f| f.sessions),
    ("clients/connected", |f| f.connected),
    ("clients/active", |f| f.connected),
    ("clients/disconnected", |f| f.sessions.saturating_sub(f.connected)),
    ("clients/inactive", |f| f.sessions.saturating_sub(f.connected)),
    ("clients/expired", |f| f.expired),
    ("messages/received", |f| f.packets_received),
    ("messages/sent", |f| f.packets_sent),
    ("messages/stored", Figures::stored),
    ("messages/inflight", |f| f.inflight),
    ("store/messages/count", Figures::stored),
    ("store/messages/bytes", |f| f.retained_bytes + f.queued_bytes),
    ("publish/messages/received", |f| f.publishes_received),
    ("publish/messages/sent", |f| f.publishes_sent),
    ("publish/messages/dropped", |f| f.publishes_dropped),
    ("publish/bytes/received", |f| f.publish_bytes_received),
    ("publish/bytes/sent", |f| f.publish_bytes_sent),
    ("bytes/received", |f| f.bytes_received),
    ("bytes/sent", |f| f.bytes_sent),
    ("subscriptions/count", |f| f.subscriptions),
    ("shared_subscriptions/count", |f| f.shared_subscriptions),
    ("retained messages/count", |f| f.retained),
    ("connections/socket/count", |f| f.sockets),
];

/// Told with the greatest that they have been.
const GREATEST: [Number; 1] = [("clients/maximum", |f| f.sessions)];

/// Told where the system says them.
const MEMORY: [Number; 1] = [("heap/current", |f| f.heap_bytes)];
const MOST_MEMORY: [Number; 1] = [("heap/maximum", |f| f.heap_bytes)];

/// What the averages are of: how much of it a minute.
const LOADS: [Number; 9] = [
    ("load/messages/received", |f| f.packets_received),
    ("load/messages/sent", |f| f.packets_sent),
    ("load/publish/received", |f| f.publishes_received),
    ("load/publish/sent", |f| f.publishes_sent),
    ("load/publish/dropped", |f| f.publishes_dropped),
    ("load/bytes/received", |f| f.bytes_received),
    ("load/bytes/sent", |f| f.bytes_sent),
    ("load/sockets", |f| f.sockets),
    ("load/connections", |f| f.connects),
];

/// Over which time they are taken, with its name.
const SPANS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// A change of an average that is told.
const LOAD_STEP: f64 = 0.01;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Tree {
    told: Vec<u64>,
    loads: Vec<f64>,
    before: Figures,
}

fn topic(below: &str) -> String {
    format!("$SYS/broker/{below}")
}

/// Topics and texts.
pub(super) type News = Vec<(String, String)>;

impl Tree {
    /// What is new, `elapsed_s` after the last call; at the first call all there is.
    pub fn update(&mut self, now: &Figures, elapsed_s: f64) -> News {
        let first = self.told.is_empty();
        let mut news = vec![(topic("uptime"), format!("{} seconds", now.uptime_s))];
        if first {
            let version = format!("forebay version {}", env!("CARGO_PKG_VERSION"));
            news.push((topic("version"), version));
        }
        self.add_loads(now, elapsed_s, first, &mut news);
        self.add_numbers(now, first, &mut news);
        self.before = *now;
        news
    }

    fn add_numbers(&mut self, now: &Figures, first: bool, news: &mut News) {
        let memory = now.heap_bytes > 0;
        let rows = NUMBERS.iter().map(|number| (number, false, true));
        let rows = rows
            .chain(GREATEST.iter().map(|number| (number, true, true)))
            .chain(MEMORY.iter().map(|number| (number, false, memory)))
            .chain(MOST_MEMORY.iter().map(|number| (number, true, memory)));
        for (index, ((name, of), greatest, shown)) in rows.enumerate() {
            if first {
                self.told.push(0);
            }
            let Some(told) = self.told.get_mut(index) else {
                return;
            };
            let value = if greatest { of(now).max(*told) } else { of(now) };
            if shown && (first || value != *told) {
                news.push((topic(name), value.to_string()));
            }
            *told = value;
        }
    }

    /// A rate a minute, of which each older share counts for less: after one span for 1/e of what it was.
    fn add_loads(&mut self, now: &Figures, elapsed_s: f64, first: bool, news: &mut News) {
        let elapsed_s = elapsed_s.max(f64::EPSILON);
        let rows = LOADS
            .iter()
            .flat_map(|load| SPANS.iter().map(move |span| (load, span)));
        for (index, ((name, of), (span_name, span_s))) in rows.enumerate() {
            let (was, value) = if first {
                self.loads.push(0.0);
                (0.0, 0.0)
            } else {
                let rate = of(now).saturating_sub(of(&self.before)) as f64 * 60.0 / elapsed_s;
                let was = self.loads.get(index).copied().unwrap_or_default();
                (was, rate + (-elapsed_s / span_s).exp() * (was - rate))
            };
            if let Some(load) = self.loads.get_mut(index) {
                *load = value;
            }
            if first || (value - was).abs() >= LOAD_STEP {
                news.push((topic(&format!("{name}/{span_name}")), format!("{value:.2}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said<'a>(news: &'a News, name: &str) -> Option<&'a str> {
        let wanted = topic(name);
        let mut found = news.iter().filter(|(topic, _)| *topic == wanted);
        let text = found.next().map(|(_, text)| text.as_str());
        assert!(found.next().is_none(), "{name} stands twice");
        text
    }

    #[test]
    fn all_is_told_at_first_and_then_what_changed() {
        let mut tree = Tree::default();
        let mut figures = Figures {
            heap_bytes: 5,
            ..Figures::default()
        };
        let news = tree.update(&figures, 0.0);
        assert_eq!(news.len(), 2 + 23 + 1 + 2 + 27);
        assert_eq!(said(&news, "uptime"), Some("0 seconds"));
        assert_eq!(said(&news, "load/bytes/sent/15min"), Some("0.00"));
        assert_eq!(said(&news, "clients/maximum"), Some("0"));
        figures.uptime_s = 10;
        figures.sessions = 3;
        figures.connected = 1;
        let news = tree.update(&figures, 10.0);
        let mut names: Vec<_> = news.iter().map(|(topic, _)| topic.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "clients/active",
            "clients/connected",
            "clients/disconnected",
            "clients/inactive",
            "clients/maximum",
            "clients/total",
            "uptime",
        ];
        assert_eq!(names, expected.map(topic));
        assert_eq!(said(&news, "clients/disconnected"), Some("2"));
        assert_eq!(tree.update(&figures, 10.0).len(), 1, "the uptime alone");
    }

    #[test]
    fn the_greatest_stays() {
        let mut tree = Tree::default();
        let with = |sessions| Figures {
            sessions,
            ..Figures::default()
        };
        tree.update(&with(2), 0.0);
        assert_eq!(said(&tree.update(&with(7), 1.0), "clients/maximum"), Some("7"));
        let news = tree.update(&with(1), 1.0);
        assert_eq!(said(&news, "clients/maximum"), None);
        assert_eq!(said(&news, "clients/total"), Some("1"));
    }

    #[test]
    fn averages_move_as_mosquittos_do() {
        let mut tree = Tree::default();
        let mut figures = Figures::default();
        tree.update(&figures, 0.0);
        figures.publishes_received = 100; // in 10 s: 600 a minute
        let news = tree.update(&figures, 10.0);
        // 600 * (1 - e^(-10/60)), and for 5 and 15 minutes.
        assert_eq!(said(&news, "load/publish/received/1min"), Some("92.11"));
        assert_eq!(said(&news, "load/publish/received/5min"), Some("19.67"));
        assert_eq!(said(&news, "load/publish/received/15min"), Some("6.63"));
        let news = tree.update(&figures, 10.0);
        assert_eq!(said(&news, "load/publish/received/1min"), Some("77.97"));
        let mut last = news;
        for _ in 0..2_000 {
            last = tree.update(&figures, 10.0);
        }
        assert_eq!(
            said(&last, "load/publish/received/15min"),
            None,
            "it has come to rest"
        );
    }

    #[test]
    fn without_word_of_memory_there_is_none() {
        let news = Tree::default().update(&Figures::default(), 0.0);
        assert_eq!(said(&news, "heap/current"), None);
    }
}
