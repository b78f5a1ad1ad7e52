//! The body of a request, on its way to the disk.

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::staging::{Session, StagingError, blocking};

/// So much is gathered before a thread takes it to the disk: slow clients hold no thread, and fast ones change threads
/// rarely.
const BATCH: usize = 1024 * 1024;

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As the client wanted it.
    Whole,
    /// The connection broke off, or the registry shuts down.
    Broken,
}

/// Appends a body to an upload, as it comes. Returns how many bytes came, all of which are in the upload.
///
/// # Errors
/// The disk, or a bound; the upload is then as it was before.
pub async fn receive(
    session: Session,
    body: Body,
    stop: &CancellationToken,
) -> (Option<Session>, Result<(u64, Ending), StagingError>) {
    let before = session.offset();
    let (session, result) = append(session, body, stop).await;
    match (session, result) {
        (Some(session), Ok(ending)) => {
            let received = session.offset() - before;
            (Some(session), Ok((received, ending)))
        }
        (Some(mut session), Err(error)) => {
            let rolled_back = blocking(move || session.roll_back().map(|()| session)).await;
            (rolled_back.ok(), Err(error))
        }
        (None, result) => (None, Err(result.err().unwrap_or(StagingError::ShuttingDown))),
    }
}

/// The next batch comes while the last one is written.
async fn append(
    session: Session,
    body: Body,
    stop: &CancellationToken,
) -> (Option<Session>, Result<Ending, StagingError>) {
    let mut stream = body.into_data_stream();
    let mut writing = write(session, vec![]);
    loop {
        let (batch, ending) = gather(&mut stream, stop).await;
        writing = match writing.await {
            (Some(session), Ok(())) => write(session, batch),
            (session, written) => return (session, written.map(|()| Ending::Broken)),
        };
        if let Some(ending) = ending {
            let (session, written) = writing.await;
            return (session, written.map(|()| ending));
        }
    }
}

/// Writes on a thread, from now on. The upload comes back with how that went.
fn write(mut session: Session, batch: Vec<Bytes>) -> impl Future<Output = (Option<Session>, Result<(), StagingError>)> {
    let thread = tokio::task::spawn_blocking(move || (session.append(&batch), session));
    async {
        match thread.await {
            Ok((written, session)) => (Some(session), written),
            Err(_) => (None, Err(StagingError::ShuttingDown)),
        }
    }
}

async fn gather(stream: &mut BodyDataStream, stop: &CancellationToken) -> (Vec<Bytes>, Option<Ending>) {
    let mut batch = vec![];
    let mut size = 0;
    while size < BATCH {
        match stop.run_until_cancelled(stream.next()).await {
            Some(Some(Ok(piece))) => {
                size += piece.len();
                batch.push(piece);
            }
            Some(Some(Err(error))) => {
                tracing::debug!("an upload broke off: {error}");
                return (batch, Some(Ending::Broken));
            }
            Some(None) => return (batch, Some(Ending::Whole)),
            None => return (batch, Some(Ending::Broken)),
        }
    }
    (batch, None)
}
