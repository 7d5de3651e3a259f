//! One simulated device: publishes at its rate, connects again when it must, sends again what was not acknowledged.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use forebay_broker::codec::{QoS, Version};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until, timeout_at};

use super::client::{Access, Answer, Client};
use super::{Messages, Plan, SharedTally, lock};

/// Wait before a device connects again.
const AGAIN: Duration = Duration::from_millis(500);

/// Time for the good-bye that ends the session.
const FORGET: Duration = Duration::from_secs(2);

/// Time between two PINGREQ: well below the keep-alive.
const PING: Duration = Duration::from_secs(30);

/// A publish whose way is not at its end.
struct Sent {
    number: u64,
    id: NonZeroU16,
    /// QoS 2: PUBREC came, PUBCOMP is awaited.
    released: bool,
}

/// One device.
pub struct Device {
    device: u32,
    name: String,
    topic: String,
    access: Access,
    plan: Arc<Plan>,
    messages: Arc<dyn Messages>,
    tally: SharedTally,
    sent: VecDeque<Sent>,
    last_id: u16,
    /// Set when it is told to stop: when it gives up what is not acknowledged.
    end: Option<Instant>,
}

impl Device {
    /// The device of this number.
    pub fn new(device: u32, plan: &Arc<Plan>, messages: &Arc<dyn Messages>, tally: &SharedTally) -> Self {
        let version = plan
            .versions
            .iter()
            .cycle()
            .nth(device as usize % plan.versions.len().max(1));
        let access = Access {
            broker: plan.broker.clone(),
            version: version.copied().unwrap_or(Version::V311),
            login: plan.login.clone(),
        };
        Self {
            device,
            name: messages.name(device),
            topic: messages.topic(device),
            access,
            plan: plan.clone(),
            messages: messages.clone(),
            tally: tally.clone(),
            sent: VecDeque::new(),
            last_id: 0,
            end: None,
        }
    }

    /// Publishes until `stopped` says so and what is on its way is acknowledged.
    pub async fn run(mut self, mut stopped: Receiver<bool>) {
        // Spread over a period, as real ones would be.
        let offset = f64::from(self.device) / f64::from(self.plan.devices.max(1));
        let period = self.plan.period.max(Duration::from_micros(1));
        let mut ticks = interval_at(Instant::now() + period.mul_f64(offset), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            match self.connection(&mut ticks, &mut stopped).await {
                Ok(()) => break,
                Err(error) => self.failed(&error),
            }
            let again = sleep(AGAIN);
            tokio::select! {
                () = again => {}
                () = self.stopping(&mut stopped) => {}
            }
            if self.sent.is_empty() && self.end.is_some() || self.end.is_some_and(|end| end <= Instant::now())
            {
                break;
            }
        }
        // The broker need not keep the session of a device that is not coming back.
        let forget = async {
            Client::connect(&self.access, &self.name, false)
                .await?
                .disconnect()
                .await
        };
        let _ = timeout_at(Instant::now() + FORGET, forget).await;
    }

    fn failed(&self, error: &anyhow::Error) {
        let error = format!("{error:#}");
        tracing::warn!(device = self.name, error, "publishing failed, trying again");
        lock(&self.tally).failed(error);
    }

    /// Waits for the word to stop, and from then on for the end of what is still to be acknowledged.
    async fn stopping(&mut self, stopped: &mut Receiver<bool>) {
        match self.end {
            Some(end) => sleep_until(end).await,
            None => {
                // An error: nobody is left who could say it.
                let _ = stopped.wait_for(|stopped| *stopped).await;
                self.end = Some(Instant::now() + self.plan.drain);
            }
        }
    }

    /// One connection, until it is lost (an error) or all is done.
    async fn connection(&mut self, ticks: &mut Interval, stopped: &mut Receiver<bool>) -> anyhow::Result<()> {
        let (access, name) = (self.access.clone(), self.name.clone());
        let mut client = tokio::select! {
            client = Client::connect(&access, &name, true) => client?,
            () = self.stopping(stopped) => bail!("told to stop before it was connected"),
        };
        let window = usize::from(self.plan.window.min(client.receive_maximum));
        self.send_again(&mut client)?;
        client.flush().await?;
        let mut pings = interval_at(Instant::now() + PING, PING);
        while self
            .end
            .is_none_or(|end| !self.sent.is_empty() && Instant::now() < end)
        {
            let may_publish = self.end.is_none() && self.sent.len() < window;
            tokio::select! {
                biased;
                answer = client.answer() => self.take(answer?, &mut client)?,
                () = self.stopping(stopped) => {}
                _ = pings.tick() => client.ping()?,
                _ = ticks.tick(), if may_publish => self.publish(&mut client)?,
            }
            client.flush().await?;
        }
        client.disconnect().await
    }

    fn publish(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let number = lock(&self.tally).publish(self.device);
        let id = (self.plan.qos != QoS::AtMostOnce).then(|| self.next_id());
        let payload = self.messages.payload(self.device, number);
        client.publish(false, self.plan.qos, id, (&self.topic, &payload))?;
        if let Some(id) = id {
            self.sent.push_back(Sent {
                number,
                id,
                released: false,
            });
        }
        Ok(())
    }

    fn next_id(&mut self) -> NonZeroU16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        NonZeroU16::new(self.last_id).unwrap_or(NonZeroU16::MIN)
    }

    fn send_again(&self, client: &mut Client) -> anyhow::Result<()> {
        for sent in &self.sent {
            if sent.released {
                client.release(sent.id)?;
            } else {
                let payload = self.messages.payload(self.device, sent.number);
                client.publish(true, self.plan.qos, Some(sent.id), (&self.topic, &payload))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, answer: Answer, client: &mut Client) -> anyhow::Result<()> {
        let (Answer::Puback(id, _) | Answer::Pubrec(id, _) | Answer::Pubcomp(id)) = answer else {
            return Ok(());
        };
        // One that is not known was answered on the connection before.
        let Some(at) = self.sent.iter().position(|sent| sent.id == id) else {
            return Ok(());
        };
        let Some(sent) = self.sent.get_mut(at) else {
            return Ok(());
        };
        match answer {
            Answer::Puback(_, reason) | Answer::Pubrec(_, reason) if reason as u8 >= 0x80 => {
                lock(&self.tally).refuse(self.device, sent.number);
                self.sent.remove(at);
            }
            Answer::Pubrec(..) => {
                // From PUBREC on the message is the broker's; PUBREL and PUBCOMP only free the id.
                if !std::mem::replace(&mut sent.released, true) {
                    lock(&self.tally).acknowledge(self.device, sent.number);
                }
                client.release(id)?;
            }
            Answer::Puback(..) => {
                lock(&self.tally).acknowledge(self.device, sent.number);
                self.sent.remove(at);
            }
            Answer::Pubcomp(_) | Answer::Other => {
                self.sent.remove(at);
            }
        }
        Ok(())
    }
}
