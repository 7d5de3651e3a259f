//! Who published what, what was acknowledged and what arrived: finds what is lost, doubled or out of order.

use std::collections::VecDeque;

/// Counts over all devices. Each device numbers its messages from 0, one by one.
#[derive(Debug, Default)]
pub struct Tally {
    devices: Vec<Device>,
    /// Messages published for the first time.
    pub published: u64,
    /// Messages whose acknowledgement came.
    pub acknowledged: u64,
    /// Messages that arrived in Kafka, each counted once.
    pub in_kafka: u64,
    /// Records that had arrived before.
    pub doubled: u64,
    /// Messages that arrived after a later one of their device.
    pub out_of_order: u64,
    /// Records that are none of the devices'.
    pub others: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// Number of the first message in `open`; all below it were acknowledged and have arrived.
    base: u64,
    open: VecDeque<Message>,
    /// One above the greatest number that has arrived.
    arrived_to: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Message {
    acknowledged: bool,
    arrived: bool,
}

impl Device {
    fn message(&mut self, number: u64) -> Option<&mut Message> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.open.get_mut(at)
    }

    fn close(&mut self) {
        while self
            .open
            .front()
            .is_some_and(|message| message.acknowledged && message.arrived)
        {
            self.open.pop_front();
            self.base += 1;
        }
    }
}

impl Tally {
    /// A tally of `devices` devices.
    pub fn new(devices: u16) -> Self {
        Self {
            devices: (0..devices).map(|_| Device::default()).collect(),
            ..Self::default()
        }
    }

    /// `device` publishes its next message; gives its number.
    pub fn publish(&mut self, device: u16) -> u64 {
        self.published += 1;
        let Some(device) = self.devices.get_mut(usize::from(device)) else {
            return 0;
        };
        device.open.push_back(Message::default());
        device.base + device.open.len() as u64 - 1
    }

    /// The acknowledgement of a message came.
    pub fn acknowledge(&mut self, device: u16, number: u64) {
        let Some(device) = self.devices.get_mut(usize::from(device)) else {
            return;
        };
        if let Some(message) = device.message(number) {
            message.acknowledged = true;
            self.acknowledged += 1;
        }
        device.close();
    }

    /// A record of a device came out of Kafka.
    pub fn arrive(&mut self, device: u16, number: u64) {
        let Some(device) = self.devices.get_mut(usize::from(device)) else {
            self.others += 1;
            return;
        };
        let below = number < device.base;
        let Some(message) = device.message(number) else {
            // Below the base it has arrived before; above the end nobody has published it.
            *(if below {
                &mut self.doubled
            } else {
                &mut self.others
            }) += 1;
            return;
        };
        if std::mem::replace(&mut message.arrived, true) {
            self.doubled += 1;
        } else {
            self.in_kafka += 1;
            self.out_of_order += u64::from(number < device.arrived_to);
            device.arrived_to = device.arrived_to.max(number + 1);
        }
        device.close();
    }

    /// Messages that were acknowledged and have not arrived: on their way while it runs, lost at the end.
    pub fn missing(&self) -> u64 {
        let open = self.devices.iter().flat_map(|device| &device.open);
        open.filter(|message| message.acknowledged && !message.arrived)
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_nothing_is_wrong_and_nothing_is_kept() {
        let mut tally = Tally::new(2);
        for expected in 0..100 {
            assert_eq!(tally.publish(1), expected);
            tally.arrive(1, expected);
            tally.acknowledge(1, expected);
        }
        assert_eq!(
            (tally.published, tally.acknowledged, tally.in_kafka),
            (100, 100, 100)
        );
        assert_eq!((tally.missing(), tally.doubled, tally.out_of_order), (0, 0, 0));
        assert!(tally.devices.iter().all(|device| device.open.is_empty()));
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
            tally.arrive(0, number);
        }
        assert_eq!(tally.in_kafka, 3);
        assert_eq!(tally.out_of_order, 1, "1 came after 2");
        assert_eq!(tally.doubled, 2, "0 and 2 came twice");
        assert_eq!(tally.missing(), 1, "3 was acknowledged; 4 was not");
    }

    #[test]
    fn what_no_device_published_is_another_ones() {
        let mut tally = Tally::new(1);
        tally.arrive(0, 3);
        tally.arrive(9, 0);
        assert_eq!((tally.others, tally.in_kafka), (2, 0));
    }
}
