//! One connection: bytes between a client and a terminal, until one of them goes.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{self, error::TrySendError},
};
use tokio_util::sync::CancellationToken;

use super::opening::{Opening, Wish, wish};
use crate::docker::Terminal;

/// Bytes that are passed on at once.
const CHUNK: usize = 4096;
/// Chunks of a shared terminal that wait for a slow client.
const WAITING: usize = 64;
/// For so long a client may hold up a terminal that others see too; then it loses what it does not take.
const STALL: Duration = Duration::from_secs(5);
/// How long a client may take to hear the last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// What ended a session.
#[derive(Debug)]
pub(super) enum End {
    Client,
    Terminal,
    Agent,
    /// The client wants no terminal. It may have been shown some of it.
    Channel(TcpStream, Opening),
}

/// The same of its terminal.
enum Ended {
    Client,
    Terminal,
    Agent,
    Channel(Opening),
}

impl End {
    fn words(&self) -> &'static str {
        match self {
            Self::Client | Self::Channel(..) => "",
            Self::Terminal => "\r\nThe console has ended.\r\n",
            Self::Agent => "\r\nThe host's compute service ends; open the console again in a moment.\r\n",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Client => "the client went",
            Self::Channel(..) => "the client wants a channel",
            Self::Terminal => "the terminal ended",
            Self::Agent => "the agent stops",
        })
    }
}

/// Passes bytes until the client, the terminal or `stopping` ends it; nothing of the terminal stays.
pub(super) async fn run(
    client: TcpStream,
    mut typed: Vec<u8>,
    terminal: Terminal,
    stopping: &CancellationToken,
) -> End {
    let Terminal { mut input, mut output, scrollback, is_shared, shell } = terminal;
    let (mut from_client, mut to_client) = client.into_split();
    let relay = async {
        let typing = async {
            if let Wish::Channel(opening) = wish(&mut from_client, &mut typed).await {
                return Ended::Channel(opening);
            }
            if input.write_all(&typed).await.is_ok() {
                type_in(&mut from_client, &mut input).await;
                Ended::Client
            } else {
                std::future::pending().await
            }
        };
        let showing = async {
            to_client.write_all(scrollback.as_bytes()).await?;
            if is_shared {
                show_shared(&mut output, &mut to_client).await
            } else {
                // Whoever does not read holds up nobody but himself.
                tokio::io::copy(&mut output, &mut to_client).await.map(drop)
            }
        };
        tokio::select! {
            ended = typing => ended,
            shown = showing => if shown.is_ok() { Ended::Terminal } else { Ended::Client },
            () = stopping.cancelled() => Ended::Agent,
        }
    };
    let ended = relay.await;
    // Docker forgets its side of a shell.
    drop((input, output));
    let end = match ended {
        Ended::Client => End::Client,
        Ended::Terminal => End::Terminal,
        Ended::Agent => End::Agent,
        Ended::Channel(opening) => {
            if let Some(shell) = shell {
                shell.end().await;
            }
            return from_client.reunite(to_client).map_or(End::Client, |client| End::Channel(client, opening));
        }
    };
    let farewell = async {
        to_client.write_all(end.words().as_bytes()).await?;
        to_client.shutdown().await
    };
    // Whoever does not listen any more misses nothing.
    let ((), _) = tokio::join!(
        async {
            if let Some(shell) = shell {
                shell.end().await;
            }
        },
        tokio::time::timeout(FAREWELL, farewell),
    );
    end
}

/// How long a terminal may leave what is typed unread.
const UNREAD: std::time::Duration = std::time::Duration::from_secs(120);

/// Ends when the client goes, or the terminal's process reads nothing for long. A terminal that takes nothing more is about to end by itself, after its last words.
async fn type_in(client: &mut (impl AsyncRead + Unpin), terminal: &mut (impl AsyncWrite + Unpin)) {
    let mut chunk = [0; CHUNK];
    loop {
        let typed = match client.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => &chunk[..count],
        };
        let taken = async {
            terminal.write_all(typed).await?;
            terminal.flush().await
        };
        match tokio::time::timeout(UNREAD, taken).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await,
            // Nobody would see that its client has gone.
            Err(_) => return,
        }
    }
}

/// Shows what the terminal writes. Docker waits for its slowest reader, and the process for Docker: a client that takes nothing
/// for long misses what comes then.
///
/// # Errors
/// The client is gone.
async fn show_shared(
    terminal: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(WAITING);
    let lost = AtomicBool::new(false);
    let reading = async {
        let sender = sender;
        let mut stalled = false;
        let mut chunk = [0; CHUNK];
        // A terminal that breaks off has ended.
        while let Ok(count @ 1..) = terminal.read(&mut chunk).await {
            let full = match sender.try_send(chunk[..count].to_vec()) {
                Ok(()) => {
                    stalled = false;
                    continue;
                }
                Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(chunk)) => chunk,
            };
            stalled = stalled || tokio::time::timeout(STALL, sender.send(full)).await.is_err();
            if stalled {
                lost.store(true, Ordering::Relaxed);
            }
        }
    };
    let writing = async {
        while let Some(chunk) = receiver.recv().await {
            client.write_all(&chunk).await?;
            if lost.swap(false, Ordering::Relaxed) {
                client.write_all(b"\r\n[some output was lost on the way]\r\n").await?;
            }
        }
        Ok(())
    };
    // The writer ends with the reader; where the client is gone, the reader must not go on.
    let mut reading = std::pin::pin!(reading);
    let mut writing = std::pin::pin!(writing);
    tokio::select! {
        biased;
        written = &mut writing => written,
        () = &mut reading => writing.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_shared_terminal_writes_reaches_the_client_to_the_last_byte() {
        let (mut terminal, mut write) = tokio::io::duplex(64);
        let (mut client, mut read) = tokio::io::duplex(64);
        let text = "line\r\n".repeat(1000);
        let writing = async {
            write.write_all(text.as_bytes()).await.unwrap();
            drop(write);
        };
        let showing = async {
            show_shared(&mut terminal, &mut client).await.unwrap();
            drop(client);
        };
        let mut shown = String::new();
        let ((), (), read) = tokio::join!(writing, showing, read.read_to_string(&mut shown));
        assert_eq!((read.unwrap(), shown == text), (text.len(), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_a_shared_terminal_up_only_once_and_is_told_what_it_missed() {
        let (mut terminal, mut write) = tokio::io::duplex(CHUNK);
        let (mut client, mut read) = tokio::io::duplex(16);
        let writing = async move {
            let begun = tokio::time::Instant::now();
            for _ in 0..10 * WAITING {
                write.write_all(&[b'x'; CHUNK]).await.unwrap();
            }
            drop(write);
            let taken = begun.elapsed();
            let mut shown = Vec::new();
            read.read_to_end(&mut shown).await.unwrap();
            (taken, shown)
        };
        let showing = async move { show_shared(&mut terminal, &mut client).await.unwrap() };
        let ((taken, shown), ()) = tokio::join!(writing, showing);
        assert!(taken >= STALL && taken < 2 * STALL, "{taken:?}");
        assert!(String::from_utf8(shown).unwrap().contains("some output was lost"));
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_its_view_of_a_shared_terminal() {
        let (mut terminal, mut write) = tokio::io::duplex(64);
        let (mut client, read) = tokio::io::duplex(64);
        drop(read);
        write.write_all(b"anything").await.unwrap();
        assert!(show_shared(&mut terminal, &mut client).await.is_err());
    }

    #[tokio::test]
    async fn typing_ends_with_the_client_and_not_with_the_terminal() {
        let (mut client, mut types) = tokio::io::duplex(64);
        let (mut terminal, shell) = tokio::io::duplex(64);
        drop(shell);
        types.write_all(b"exit\n").await.unwrap();
        let typing = type_in(&mut client, &mut terminal);
        assert!(tokio::time::timeout(Duration::from_millis(10), typing).await.is_err());
        drop(types);
        let (mut terminal, _shell) = tokio::io::duplex(64);
        type_in(&mut client, &mut terminal).await;
    }
}
