//! An answer that is there at once or comes later.

use std::fmt;
use std::pin::Pin;

/// Comes later. Dropped before it came, it is not worked out any more.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What was asked for.
pub enum Answer<T> {
    /// Here it is.
    Now(T),
    /// It takes long: wait for it.
    Later(Later<T>),
}

impl<T> Answer<T> {
    /// Waits, if it must.
    pub async fn wait(self) -> T {
        match self {
            Answer::Now(answer) => answer,
            Answer::Later(later) => later.await,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Now(answer) => f.debug_tuple("Now").field(answer).finish(),
            Answer::Later(_) => f.write_str("Later"),
        }
    }
}
