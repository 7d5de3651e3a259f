//! A few threads for what takes long: checks of passwords. What waits for them is bounded, and what nobody waits for
//! any more is not done.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

/// Checks that may wait: a second's work for two threads and 101 iterations, about.
const MOST_WAITING: usize = 8192;

/// Work that may wait for each thread, in iterations: some seconds. What takes more than a client waits is not begun.
const MOST_WORK: u64 = 4_000_000;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    /// Iterations that wait or are being done.
    work: Arc<AtomicU64>,
    most_work: u64,
}

/// A job's part of the work that waits.
struct Part(Arc<AtomicU64>, u64);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

/// What one that waits and the thread that works share.
struct Shared<T> {
    result: OnceLock<T>,
    waker: AtomicWaker,
    /// Nobody waits for it any more.
    left: AtomicBool,
    /// The thread is done with it, with a result or without.
    done: AtomicBool,
}

/// Waits for the result; `None`: there will be none.
pub(super) struct Waiting<T>(Arc<Shared<T>>);

/// Held by the job: says that it is done, however it ended.
struct Working<T>(Arc<Shared<T>>);

/// So much waits that nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Pool {
    pub fn new(threads: usize) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for index in 0..threads.max(1) {
            let waiting = waiting.clone();
            std::thread::Builder::new()
                .name(format!("password-{index}"))
                .spawn(move || work(&waiting))?;
        }
        Ok(Self {
            jobs,
            work: Arc::default(),
            most_work: MOST_WORK.saturating_mul(threads.max(1) as u64),
        })
    }

    /// Has `act` done, which takes so many `iterations`. One may always wait, however much it is.
    pub fn run<T: Send + Sync + 'static>(
        &self,
        iterations: u32,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Waiting<T>, Full> {
        let shared = Arc::new(Shared {
            result: OnceLock::new(),
            waker: AtomicWaker::new(),
            left: AtomicBool::new(false),
            done: AtomicBool::new(false),
        });
        let part = Part(self.work.clone(), iterations.into());
        let before = self.work.fetch_add(part.1, Ordering::AcqRel);
        if before > 0 && before.saturating_add(part.1) > self.most_work {
            return Err(Full);
        }
        let working = Working(shared.clone());
        let job = move || {
            if !working.0.left.load(Ordering::Acquire) {
                let _ = working.0.result.set(act()); // set once: here
            }
            drop(part);
            drop(working);
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| Full)?;
        Ok(Waiting(shared))
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(|e| e.into_inner()).recv();
        match job {
            // What it panics of is told by its `Working`; the thread is for the next one.
            Ok(job) => drop(catch_unwind(AssertUnwindSafe(job))),
            Err(_) => return,
        }
    }
}

impl<T> Drop for Working<T> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

impl<T: Clone> Future for Waiting<T> {
    type Output = Option<T>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.waker.register(cx.waker());
        match self.0.done.load(Ordering::Acquire) {
            true => Poll::Ready(self.0.result.get().cloned()),
            false => Poll::Pending,
        }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_comes_back_and_what_nobody_waits_for_is_not_done() {
        let pool = Pool::new(1).unwrap();
        let (start, started) = sync_channel::<()>(1);
        let first = pool.run(1, move || started.recv().is_ok()).unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let mark = ran.clone();
        drop(pool.run(1, move || mark.store(true, Ordering::Release)).unwrap());
        let last = pool.run(1, || 7).unwrap();
        start.send(()).unwrap();
        assert_eq!(first.await, Some(true));
        assert_eq!(last.await, Some(7));
        assert!(!ran.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn too_much_is_refused_at_once_and_a_job_that_panics_leaves_nobody_waiting() {
        let pool = Pool::new(1).unwrap();
        let (start, started) = sync_channel::<()>(1);
        let first = pool.run(1, move || started.recv().is_ok()).unwrap();
        let mut waiting = Vec::new();
        while let Ok(one) = pool.run(1, || ()) {
            waiting.push(one);
        }
        assert!(waiting.len() <= MOST_WAITING + 1);
        start.send(()).unwrap();
        assert_eq!(first.await, Some(true));
        assert_eq!(waiting.pop().unwrap().await, Some(()));
        let dead: Waiting<()> = pool.run(1, || panic!("expected by the test")).unwrap();
        assert_eq!(dead.await, None);
        assert_eq!(pool.run(1, || 7).unwrap().await, Some(7));
    }
    #[tokio::test]
    async fn work_that_takes_too_long_is_refused_though_few_wait() {
        let pool = Pool::new(1).unwrap();
        let (start, started) = sync_channel::<()>(1);
        let first = pool.run(u32::MAX, move || started.recv().is_ok()).unwrap(); // alone it may be as much as it is
        assert!(pool.run(1, || ()).is_err());
        start.send(()).unwrap();
        assert_eq!(first.await, Some(true));
        let (start, started) = sync_channel::<()>(1);
        let first = pool.run(1, move || started.recv().is_ok()).unwrap();
        let most = MOST_WORK as u32 - 1;
        assert!(pool.run(most + 1, || ()).is_err());
        let second = pool.run(most, || ()).unwrap();
        assert!(pool.run(1, || ()).is_err());
        start.send(()).unwrap();
        assert_eq!((first.await, second.await), (Some(true), Some(())));
    }
}
