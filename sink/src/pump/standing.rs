//! How the pump stands: its gauges, and why it is not ready.

use super::topic::State;
use super::{Pump, TROUBLE};

impl Pump {
    pub(super) fn gauges(&mut self) {
        let since = self.now - self.main.last_report;
        let waiting = self.main.in_flight > 0;
        self.metrics
            .in_flight
            .set((self.main.in_flight + self.side.in_flight) as f64);
        self.metrics.parked.set(self.parked as f64);
        self.metrics.parked_bytes.set(self.parked_bytes as f64);
        self.metrics
            .since_ack
            .set(if waiting { since.as_secs_f64() } else { 0.0 });
        let end = self.parts.end.as_ref().map_or(self.read_to, |end| end());
        self.end_seen = end;
        let committed = self.cursor.committed;
        let metrics = &self.metrics;
        metrics.backlog.set(end.saturating_sub(committed) as f64);
        metrics.delivered_sequence.set(committed as f64);
        metrics.quarantine.set(self.quarantine.letters() as f64);
        metrics.quarantine_bytes.set(self.quarantine.bytes() as f64);
        metrics
            .quarantine_unreadable
            .set(self.quarantine.unreadable() as f64);
    }

    /// Why not every record can be delivered now.
    pub(super) fn not_ready(&self) -> Option<String> {
        let mut reasons: Vec<String> = self.refusal.trouble().into_iter().collect();
        for topic in self.table.iter() {
            match &topic.state {
                // It is there again, and nothing waits that could show whether it takes records.
                State::Ready if topic.is_idle() => {}
                _ if topic.why.is_some() => reasons.extend(topic.why.clone()),
                State::Stuck => reasons.push(format!("topic \"{}\" takes no records", topic.name)),
                State::Asked => {
                    reasons.push(format!("waiting for what Kafka says of topic \"{}\"", topic.name))
                }
                State::Ready if topic.behind.is_some() => {
                    reasons.push(format!("topic \"{}\" catches up with the log", topic.name));
                }
                State::Ready if topic.parks => reasons.push(format!(
                    "topic \"{}\" takes no records; {} bytes wait",
                    topic.name, topic.parked_bytes
                )),
                State::Ready => {}
            }
        }
        let silent =
            self.main.in_flight > 0 && self.now - self.main.last_report > self.parts.config.stuck_after;
        if self.main.producer.is_none() {
            reasons.push("there is no producer".to_owned());
        } else if silent {
            reasons.push(format!(
                "Kafka has acknowledged nothing for {} s",
                (self.now - self.main.last_report).as_secs()
            ));
        }
        // A connection that was closed for idleness is no trouble: it would be over by now.
        if let Some(trouble) = &self.main.trouble
            && self.now - self.main.trouble_since > TROUBLE
        {
            reasons.push(format!("Kafka: {trouble}"));
        }
        (!reasons.is_empty()).then(|| {
            reasons.truncate(8);
            reasons.join("; ")
        })
    }
}
