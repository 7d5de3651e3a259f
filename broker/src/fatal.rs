//! What ends the process: raised once by whoever finds it, waited for by the program.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// A part without which nothing may be acknowledged any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The bus between workers and log is dead.
    #[error("the bus is dead: {0}")]
    Bus(String),
    /// The log can't be written.
    #[error("the log is broken: {0}")]
    Log(String),
    /// A worker's thread ended.
    #[error("worker {0} ended: {1}")]
    Worker(u16, String),
    /// Kept sessions can't be written down any more.
    #[error("the store is broken: {0}")]
    Store(String),
    /// A reader of the log ended.
    #[error("the sink ended: {0}")]
    Sink(String),
}

/// Shared by all threads of a broker: the first fatal fault wins and stays.
#[derive(Debug, Clone, Default)]
pub struct FatalFlag {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    fault: OnceLock<Fatal>,
    raised: Notify,
}

impl FatalFlag {
    /// Raises `fault`. From here on nothing is acknowledged and the program is to end with the fault's exit code.
    pub fn raise(&self, fault: Fatal) {
        if self.inner.fault.set(fault.clone()).is_ok() {
            tracing::error!(%fault, "fatal: nothing is acknowledged any more, the process ends");
            self.inner.raised.notify_waiters();
        }
    }

    /// The fault, once one was raised.
    pub fn get(&self) -> Option<&Fatal> {
        self.inner.fault.get()
    }

    /// Waits until a fault is raised.
    pub async fn raised(&self) -> Fatal {
        loop {
            let raised = self.inner.raised.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if let Some(fault) = self.get() {
                return fault.clone();
            }
            raised.await;
        }
    }
}
