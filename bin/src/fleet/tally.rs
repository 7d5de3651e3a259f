//! Who published what, what was acknowledged and what arrived: finds what is lost, doubled or out of order.

use std::collections::{HashMap, VecDeque};

/// Examples of faults that are kept.
const EXAMPLES: usize = 5;

/// Counts over all devices. Each device numbers its messages from 0, one by one.
#[derive(Debug, Default)]
pub struct Tally {
    devices: Vec<Device>,
    /// Messages published for the first time.
    pub published: u64,
    /// Messages whose acknowledgement came.
    pub acknowledged: u64,
    /// Messages that were answered with a refusal.
    pub refused: u64,
    /// Messages that arrived in Kafka, each counted once.
    pub in_kafka: u64,
    /// Records that had arrived before.
    pub doubled: u64,
    /// Messages that arrived after a later one of their device, in one partition.
    pub out_of_order: u64,
    /// Records that are none of the devices'.
    pub others: u64,
    /// Connections that could not be made or were lost.
    pub failures: u64,
    /// Why the last of them failed.
    pub last_failure: Option<String>,
    /// Some of what is out of order.
    examples: Vec<String>,
}

#[derive(Debug, Default)]
struct Device {
    /// Number of the first message in `open`; all below it were decided and have arrived.
    base: u64,
    open: VecDeque<Message>,
    /// By topic and partition: one above the greatest number that has arrived.
    arrived_to: HashMap<(usize, i32), u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Message {
    acknowledged: bool,
    refused: bool,
    arrived: bool,
}

impl Device {
    fn message(&mut self, number: u64) -> Option<&mut Message> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.open.get_mut(at)
    }

    fn close(&mut self) {
        let closed = |message: &Message| message.refused || message.acknowledged && message.arrived;
        while self.open.front().is_some_and(closed) {
            self.open.pop_front();
            self.base += 1;
        }
    }
}

impl Tally {
    /// A tally of `devices` devices.
    pub fn new(devices: u32) -> Self {
        Self {
            devices: (0..devices).map(|_| Device::default()).collect(),
            ..Self::default()
        }
    }

    fn device(&mut self, device: u32) -> Option<&mut Device> {
        self.devices.get_mut(usize::try_from(device).ok()?)
    }

    /// `device` publishes its next message; gives its number.
    pub fn publish(&mut self, device: u32) -> u64 {
        self.published += 1;
        let Some(device) = self.device(device) else {
            return 0;
        };
        device.open.push_back(Message::default());
        device.base + device.open.len() as u64 - 1
    }

    /// The acknowledgement of a message came.
    pub fn acknowledge(&mut self, device: u32, number: u64) {
        self.decide(device, number, false);
    }

    /// A message was refused: whether it is in Kafka or not, nobody relies on it.
    pub fn refuse(&mut self, device: u32, number: u64) {
        self.decide(device, number, true);
    }

    fn decide(&mut self, device: u32, number: u64, refused: bool) {
        let Some(device) = self.device(device) else {
            return;
        };
        let Some(message) = device.message(number) else {
            return;
        };
        if refused {
            message.refused = true;
        } else {
            message.acknowledged = true;
        }
        device.close();
        *(if refused {
            &mut self.refused
        } else {
            &mut self.acknowledged
        }) += 1;
    }

    /// A connection could not be made or was lost.
    pub fn failed(&mut self, why: String) {
        self.failures += 1;
        self.last_failure = Some(why);
    }

    /// A record of a device came out of Kafka, in its order within the partition `place`: the topic's number and the
    /// partition.
    pub fn arrive(&mut self, device: u32, number: u64, place: (usize, i32)) {
        let Some(found) = self.device(device) else {
            self.others += 1;
            return;
        };
        let below = number < found.base;
        let Some(message) = found.message(number) else {
            // Below the base it has arrived before; above the end nobody has published it.
            *(if below {
                &mut self.doubled
            } else {
                &mut self.others
            }) += 1;
            return;
        };
        let again = std::mem::replace(&mut message.arrived, true);
        let to = found.arrived_to.entry(place).or_default();
        let late = !again && number < *to;
        let ahead = *to;
        *to = ahead.max(number + 1);
        found.close();
        if again {
            self.doubled += 1;
            return;
        }
        self.in_kafka += 1;
        if late {
            self.out_of_order += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(format!(
                    "device {device}: {number} stands behind {} in partition {}",
                    ahead.saturating_sub(1),
                    place.1
                ));
            }
        }
    }

    /// Messages that were acknowledged and have not arrived: on their way while it runs, lost at the end.
    pub fn missing(&self) -> u64 {
        self.missing_ones().count() as u64
    }

    fn missing_ones(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.devices.iter().enumerate().flat_map(|(number, device)| {
            let open = device.open.iter().zip(device.base..);
            open.filter(|(message, _)| message.acknowledged && !message.arrived)
                .map(move |(_, message)| (number, message))
        })
    }

    /// Devices with records in more than one partition of a topic: nobody can tell their order.
    pub fn scattered(&self) -> u64 {
        let apart = |device: &&Device| {
            let places = device.arrived_to.keys();
            let mut topics: Vec<usize> = places.map(|(topic, _)| *topic).collect();
            topics.sort_unstable();
            topics.dedup();
            device.arrived_to.len() > topics.len()
        };
        self.devices.iter().filter(apart).count() as u64
    }

    /// Some of what is lost or out of order, in words.
    pub fn examples(&self) -> Vec<String> {
        let lost = self
            .missing_ones()
            .take(EXAMPLES)
            .map(|(device, number)| format!("device {device}: {number} was acknowledged and is not there"));
        lost.chain(self.examples.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (usize, i32) = (0, 0);

    #[test]
    fn in_order_nothing_is_wrong_and_nothing_is_kept() {
        let mut tally = Tally::new(2);
        for expected in 0..100 {
            assert_eq!(tally.publish(1), expected);
            tally.arrive(1, expected, PLACE);
            tally.acknowledge(1, expected);
        }
        assert_eq!(
            (tally.published, tally.acknowledged, tally.in_kafka),
            (100, 100, 100)
        );
        assert_eq!((tally.missing(), tally.doubled, tally.out_of_order), (0, 0, 0));
        assert!(tally.devices.iter().all(|device| device.open.is_empty()));
        assert!(tally.examples().is_empty());
    }

    #[test]
    fn each_fault_is_seen() {
        let mut tally = Tally::new(1);
        for number in 0..5 {
            tally.publish(0);
            if number != 4 {
                tally.acknowledge(0, number);
            }
        }
        for number in [0, 2, 1, 2, 0] {
            tally.arrive(0, number, PLACE);
        }
        assert_eq!(tally.in_kafka, 3);
        assert_eq!(tally.out_of_order, 1, "1 came after 2");
        assert_eq!(tally.doubled, 2, "0 and 2 came twice");
        assert_eq!(tally.missing(), 1, "3 was acknowledged; 4 was not");
        let examples = tally.examples();
        assert!(
            examples[0].contains("3 was acknowledged") && examples[1].contains("1 stands behind 2"),
            "{examples:?}"
        );
    }

    #[test]
    fn order_is_judged_within_a_partition() {
        let mut tally = Tally::new(2);
        for _ in 0..4 {
            tally.publish(0);
        }
        for (number, partition) in [(1, 0), (0, 1), (3, 1), (2, 1)] {
            tally.arrive(0, number, (0, partition));
        }
        assert_eq!(
            (tally.out_of_order, tally.scattered()),
            (1, 1),
            "2 stands behind 3"
        );
        tally.publish(1);
        for topic in 0..2 {
            tally.arrive(1, 0, (topic, 5));
        }
        assert_eq!(
            tally.scattered(),
            1,
            "one partition in each of two topics is one place"
        );
    }

    #[test]
    fn what_is_refused_is_not_missed() {
        let mut tally = Tally::new(1);
        tally.publish(0);
        tally.publish(0);
        tally.refuse(0, 0);
        tally.acknowledge(0, 1);
        tally.arrive(0, 1, PLACE);
        assert_eq!((tally.refused, tally.acknowledged, tally.missing()), (1, 1, 0));
        assert!(tally.devices[0].open.is_empty());
    }

    #[test]
    fn what_no_device_published_is_another_ones() {
        let mut tally = Tally::new(1);
        tally.arrive(0, 3, PLACE);
        tally.arrive(9, 0, PLACE);
        assert_eq!((tally.others, tally.in_kafka), (2, 0));
    }
}
