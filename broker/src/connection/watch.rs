//! A connection that is not read does not see its socket fail. This looks after the socket meanwhile: the peer's reset ends
//! the connection, while what it sent, and that it sends nothing more, waits to be read.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::listener::transport::Transport;

/// A socket that is looked after, and whether it has failed.
type Looking = Pin<Box<dyn Future<Output = (Transport, bool)>>>;

/// Keeps the socket until its connection wants it back.
pub(super) struct Watch {
    looking: Looking,
    wanted_back: Rc<Cell<bool>>,
}

impl Watch {
    pub fn over(mut stream: Transport) -> Self {
        let wanted_back = Rc::new(Cell::new(false));
        let wanted = wanted_back.clone();
        let looking = Box::pin(async move {
            let has_failed = {
                let mut failed = pin!(stream.failed());
                poll_fn(|cx| match failed.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(true),
                    Poll::Pending if wanted.get() => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                })
                .await
            };
            (stream, has_failed)
        });
        Self { looking, wanted_back }
    }

    /// The socket, once it has failed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Transport> {
        self.looking.as_mut().poll(cx).map(|(stream, _)| stream)
    }

    /// The socket, and whether it has failed.
    pub fn end(mut self, cx: &mut Context<'_>) -> (Transport, bool) {
        self.wanted_back.set(true);
        match self.looking.as_mut().poll(cx) {
            Poll::Ready(ended) => ended,
            Poll::Pending => (Transport::Closed, true), // it never waits when the socket is wanted back
        }
    }
}
