//! The thread that prepares memory ahead of those who will use it.
//!
//! The first touch of a page costs microseconds, of a huge one up to milliseconds where the host
//! has to supply it. A growing index has its next piece touched here, so that no insertion pays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::Job;
use crate::memory::Prepare;

/// One thread at most, started at the first job and ended with this.
#[derive(Debug, Default)]
pub struct Preparer {
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

impl Thread {
    fn start() -> std::io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let handle =
            std::thread::Builder::new().name("blocktier-memory".to_owned()).spawn(move || {
                for job in queue {
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!("preparing memory panicked; the memory is used as it is");
                    }
                }
            })?;
        Ok(Self { jobs, handle })
    }
}

impl Prepare for Preparer {
    fn prepare(&self, job: Job) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            match Thread::start() {
                Ok(started) => *thread = Some(started),
                Err(error) => {
                    tracing::debug!(%error, "no thread prepares memory; it is touched when used");
                    return;
                }
            }
        }
        if let Some(thread) = &*thread {
            // Fails only if the thread is gone, and then there is nobody to prepare for.
            let _ = thread.jobs.send(job);
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        let Some(Thread { jobs, handle }) = self.thread.get_mut().take() else { return };
        // Ends the queue; jobs that wait still run, each for something that may be gone already.
        drop(jobs);
        if handle.thread().id() != std::thread::current().id() {
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use super::*;

    #[test]
    fn jobs_run_in_order_on_one_thread_and_before_the_end() {
        let preparer = Preparer::default();
        let done = Arc::new(AtomicU32::new(0));
        for number in 0..10 {
            let done = Arc::clone(&done);
            preparer.prepare(Box::new(move || {
                assert_eq!(done.fetch_add(1, SeqCst), number);
            }));
        }
        drop(preparer);
        assert_eq!(done.load(SeqCst), 10);
    }

    #[test]
    fn a_panic_ends_a_job_and_not_the_thread() {
        let preparer = Preparer::default();
        let done = Arc::new(AtomicU32::new(0));
        preparer.prepare(Box::new(|| std::panic::panic_any(1)));
        let after = Arc::clone(&done);
        preparer.prepare(Box::new(move || after.store(1, SeqCst)));
        drop(preparer);
        assert_eq!(done.load(SeqCst), 1);
    }
}
