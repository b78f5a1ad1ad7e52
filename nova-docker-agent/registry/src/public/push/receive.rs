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

/// Appends a body to an upload, as it comes: the next batch comes while the last one is written.
///
/// # Errors
/// The disk, or a bound; the upload is then as it was before.
pub async fn receive(
    session: Session,
    body: Body,
    stop: &CancellationToken,
) -> Result<(Session, Ending), StagingError> {
    let mut stream = body.into_data_stream();
    let write = |session: Session, batch: Vec<Bytes>| blocking(move || session.append(&batch));
    let mut writing = write(session, vec![]);
    loop {
        let (batch, ending) = gather(&mut stream, stop).await;
        writing = write(writing.await?, batch);
        if let Some(ending) = ending {
            return Ok((writing.await?, ending));
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
