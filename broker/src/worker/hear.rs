//! Answers of other threads, for which a task of a worker waits: the worker may nap meanwhile, and what wakes the task ends
//! the nap too.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use super::Worker;
use crate::auth::Answer;
use crate::bus::report::ReportSlot;

/// Wakes a task and, if it naps, its worker.
struct Ear {
    task: Waker,
    slot: Arc<ReportSlot>,
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.task.wake_by_ref();
        self.slot.rouse();
    }
}

fn ear(task: &Waker, slot: &Arc<ReportSlot>) -> Waker {
    Waker::from(Arc::new(Ear {
        task: task.clone(),
        slot: slot.clone(),
    }))
}

impl Worker {
    /// What a future that another thread ends is to wake.
    pub fn ear(&self, cx: &Context<'_>) -> Waker {
        ear(cx.waker(), &self.slot)
    }

    /// Waits for an answer, if it must.
    pub async fn hear<T>(&self, answer: Answer<T>) -> T {
        match answer {
            Answer::Now(answer) => answer,
            Answer::Later(mut later) => {
                poll_fn(|cx| later.as_mut().poll(&mut Context::from_waker(&self.ear(cx)))).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicU64);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_answer_ends_a_nap_and_wakes_its_task() {
        const LONG: Duration = Duration::from_secs(20);
        let (task, slot) = (Arc::new(Task::default()), Arc::new(ReportSlot::default()));
        let waker = ear(&Waker::from(task.clone()), &slot);
        let done = Arc::new(AtomicU64::new(0));
        let is_done = done.clone();
        let other = thread::spawn(move || {
            // Before the nap begins it ends none: an answer that comes then is found by the turn before it.
            while is_done.load(Ordering::SeqCst) == 0 {
                waker.wake_by_ref();
                thread::yield_now();
            }
        });
        let begun = Instant::now();
        let is_woken = slot.nap(LONG);
        done.store(1, Ordering::SeqCst);
        other.join().unwrap();
        assert!(is_woken && begun.elapsed() < LONG, "{:?}", begun.elapsed());
        assert!(task.0.load(Ordering::SeqCst) > 0);
    }
}
