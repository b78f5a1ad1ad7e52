//! So much at one time, and of it so much for each project: its users can ask for as much as they like, and go away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Error;

/// Whose turns are remembered; of more, those that nobody waits for are forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Lets work begin when it is its turn.
pub struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    of: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Others wait while this lives.
pub struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// `all` at one time, `each` of them for whom there is a name.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, of: Mutex::default() }
    }

    /// Waits for the turn of `whom`, who competes with all others only then.
    ///
    /// # Errors
    /// [`Error::ShuttingDown`].
    pub async fn take(&self, whom: Option<&str>) -> Result<Turn, Error> {
        let taken = async {
            let own = match whom {
                Some(whom) => Some(self.of(whom).acquire_owned().await?),
                None => None,
            };
            Ok::<_, tokio::sync::AcquireError>(Turn { _own: own, _all: self.all.clone().acquire_owned().await? })
        };
        taken.await.map_err(|_| Error::ShuttingDown)
    }

    fn of(&self, whom: &str) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= MAX_REMEMBERED {
            of.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        of.entry(whom.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn nobody_has_more_than_their_turns_or_waits_for_those_of_others() {
        let turns = Turns::new(4, 2);
        let take = |whom| turns.take(whom).now_or_never().map(Result::unwrap);
        let greedy = [take(Some("greedy")).unwrap(), take(Some("greedy")).unwrap()];
        assert!(take(Some("greedy")).is_none());
        let _modest = take(Some("modest")).unwrap();
        let _host = take(None).unwrap();
        // There are no more than four.
        assert!(take(Some("modest")).is_none() && take(None).is_none());
        drop(greedy);
        assert!(take(Some("greedy")).is_some() && take(None).is_some());
    }
}
