//! The deadlines of one session. A packet moves none of them: keep-alive is the time of the last byte and a span, and
//! whoever waits looks again when the deadline it knew has come.

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The client must be heard from.
    KeepAlive,
    /// The session ends.
    Expiry,
    /// The will is due.
    WillDelay,
}

/// All deadlines of a session.
#[derive(Debug)]
pub(super) struct Timers {
    heard_ms: u64,
    /// `u64::MAX`: never.
    expires_at_ms: u64,
    /// 0: none.
    keep_alive_ms: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heard_ms: 0,
            expires_at_ms: u64::MAX,
            keep_alive_ms: 0,
        }
    }
}

impl Timers {
    /// A connection begins: keep-alive runs, at one and a half times what was agreed [MQTT-3.1.2-22]; expiry does not.
    pub fn attach(&mut self, now_ms: u64, keep_alive_s: u16) {
        self.heard_ms = now_ms;
        self.keep_alive_ms = u32::from(keep_alive_s) * 1_500;
        self.expires_at_ms = u64::MAX;
    }

    /// The connection is gone since `away_ms`: expiry runs, unless it is `u32::MAX` (never) (section 3.1.2.11.2).
    pub fn detach(&mut self, now_ms: u64, away_ms: u64, expiry_s: u32) {
        self.keep_alive_ms = 0;
        self.expires_at_ms = match expiry_s {
            u32::MAX => u64::MAX,
            _ => (now_ms + u64::from(expiry_s) * 1_000).saturating_sub(away_ms),
        };
    }

    /// Bytes came. Returns the time since those before.
    #[inline]
    pub fn touch(&mut self, now_ms: u64) -> u64 {
        let before_ms = std::mem::replace(&mut self.heard_ms, now_ms);
        now_ms.saturating_sub(before_ms)
    }

    /// They were no packet: `quiet_ms` is what [`touch`](Self::touch) returned.
    pub fn untouch(&mut self, quiet_ms: u64) {
        self.heard_ms = self.heard_ms.saturating_sub(quiet_ms);
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(u64, Timer)> {
        let keep_alive = (self.keep_alive_ms != 0).then(|| {
            (
                self.heard_ms.saturating_add(u64::from(self.keep_alive_ms)),
                Timer::KeepAlive,
            )
        });
        let expiry = (self.expires_at_ms != u64::MAX).then_some((self.expires_at_ms, Timer::Expiry));
        [keep_alive, expiry]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}
