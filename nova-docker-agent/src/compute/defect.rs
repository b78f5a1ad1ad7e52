//! A panic in the work on one instance ends that work, as a failure that Nova is told of; the process and everybody else's work
//! go on.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tracing::error;

use super::error::Error;

/// How long work without an end rests after it panicked.
const REST: Duration = Duration::from_secs(10);

/// What `work` comes to; a panic is [`Error::Defect`].
pub(super) fn caught<T>(work: impl Future<Output = Result<T, Error>>) -> impl Future<Output = Result<T, Error>> {
    caught_or(work, Err)
}

/// As [`caught`], for work that tells its failures in another form.
pub(super) fn caught_or<T>(work: impl Future<Output = T>, failed: impl FnOnce(Error) -> T) -> impl Future<Output = T> {
    // Boxed, since work within work within work is too deep for the compiler. What the work left half-changed is behind locks
    // that forgive a panic, or is read anew from Nova.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    async move {
        match work.await {
            Ok(done) => done,
            Err(panic) => {
                let defect = words(panic.as_ref());
                error!(defect, "a defect of the agent; the work has failed");
                failed(Error::Defect(defect))
            }
        }
    }
}

/// Does work without an end, and begins anew when it panicked.
pub(super) async fn kept_up<W: Future<Output = ()>>(work: impl Fn() -> W) {
    while caught_or(
        async {
            work().await;
            false
        },
        |_| true,
    )
    .await
    {
        tokio::time::sleep(REST).await;
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_that_panics_has_failed_with_the_words_of_the_panic() {
        let done = caught(async { if true { panic!("overflow in {}", "x") } else { Ok(()) } }).await;
        let error = done.unwrap_err();
        assert!(error.to_string().contains("overflow in x"), "{error}");
        assert_eq!(error.fault_code(), 500);
        assert!(!error.is_gone() && !error.is_reschedulable());
    }

    #[tokio::test]
    async fn a_failure_stays_what_it_is() {
        let error = caught::<()>(async { Err(Error::Deleting(uuid::Uuid::nil())) }).await.unwrap_err();
        assert!(error.is_gone());
    }

    #[tokio::test(start_paused = true)]
    async fn work_without_an_end_begins_anew_after_a_panic() {
        let turns = AtomicUsize::new(0);
        kept_up(|| async { assert!(turns.fetch_add(1, Ordering::SeqCst) > 1, "a defect") }).await;
        assert_eq!(turns.load(Ordering::SeqCst), 3);
    }
}
