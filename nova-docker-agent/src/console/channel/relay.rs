//! What was wanted, and the frames to and from it.

use std::{
    fmt, io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::{
        Mutex, Semaphore,
        mpsc::{self, error::TrySendError},
        watch,
    },
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    FAREWELL,
    frames::{Frame, Frames, Kind, Sender, WINDOW},
    result,
};
use crate::docker::{Docker, Error, ExecWindow, Input, Offer, Piece, Pieces, Running, Size, Source};

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;
/// Pieces of what others see too that wait for a slow client.
const WAITING: usize = 16;
/// For so long a client may hold up what others see too; then it loses what it does not take.
const STALL: Duration = Duration::from_secs(5);

/// What goes on at the agent's side of a channel.
pub(super) struct Work {
    pub(super) input: Option<Input>,
    pub(super) output: Pieces,
    pub(super) window: Window,
    pub(super) ending: Ending,
}

impl Work {
    /// What is only shown.
    pub(super) fn showing(output: Pieces) -> Self {
        Self { input: None, output, window: Window::None, ending: Ending::Output }
    }
}

/// Whose window a client's is.
pub(super) enum Window {
    None,
    /// A command's.
    Exec(ExecWindow),
    /// The first process's.
    Process(Docker, Box<Offer>),
}

/// What comes after the last output.
pub(super) enum Ending {
    /// Nothing: it has gone well.
    Output,
    Exec(Running),
    Process(AbortOnDropHandle<Result<i64, Error>>),
}

impl Ending {
    async fn exit_code(&mut self) -> Result<i64, String> {
        let code = match self {
            Self::Output => Ok(0),
            Self::Exec(running) => running.exit_code().await,
            Self::Process(end) => match end.await {
                Ok(code) => code,
                Err(error) => return Err(error.to_string()),
            },
        };
        code.map_err(|error| crate::console::words(&error))
    }
}

/// What ended a channel.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::console) enum End {
    /// What was wanted, with its result.
    Result(Result<i64, String>),
    Client,
    /// The client has sent what it may not.
    Refused,
    Agent,
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result(Ok(code)) => write!(formatter, "it ended with {code}"),
            Self::Result(Err(words)) => formatter.write_str(words),
            Self::Client => formatter.write_str("the client went"),
            Self::Refused => formatter.write_str("it was refused"),
            Self::Agent => formatter.write_str("the agent stops"),
        }
    }
}

/// One side of a channel.
struct Relay<W> {
    sender: Mutex<Sender<W>>,
    /// Bytes that the client has room for.
    room: Semaphore,
    /// Bytes of the client's input that it was not yet told are taken.
    untaken: AtomicUsize,
    size: watch::Sender<Option<Size>>,
}

pub(super) async fn run(client: TcpStream, frames: Frames, work: Work, stopping: &CancellationToken) -> End {
    let (mut from, to) = client.into_split();
    let Work { input, output, window, mut ending } = work;
    let relay = Relay::<OwnedWriteHalf>::new(to);
    let end = tokio::select! {
        end = relay.serve(&mut from, frames, input, output, &window, &mut ending) => end,
        () = stopping.cancelled() => End::Agent,
    };
    let Relay { sender, .. } = relay;
    let mut sender = sender.into_inner();
    let last = match &end {
        End::Result(ended) => Some(result(ended)),
        End::Refused => Some(result(&Err("the client sent what it may not, or more than was taken".to_owned()))),
        End::Agent => Some(result(&Err("the host's compute service ends; try again in a moment".to_owned()))),
        End::Client => None,
    };
    let farewell = async {
        if let Some(last) = last
            && tokio::time::timeout(FAREWELL, sender.send(Kind::Result, &last)).await.is_ok_and(|sent| sent.is_ok())
        {
            heard(&mut from).await;
        }
        // Whoever does not listen any more misses nothing.
        sender.shutdown().await.unwrap_or_default();
    };
    let clearing = async {
        if let Ending::Exec(running) = ending {
            running.end().await;
        }
    };
    tokio::join!(clearing, farewell);
    end
}

/// Waits until the client has heard the last word and goes, which it does first: when the agent does, Nova's proxy may send the
/// client the last bytes twice.
async fn heard(client: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0; 1024];
    let gone = async { while matches!(client.read(&mut rest).await, Ok(1..)) {} };
    tokio::time::timeout(FAREWELL, gone).await.unwrap_or_default();
}

/// The same for a client that was refused.
pub(super) async fn farewell(client: &mut TcpStream) {
    heard(client).await;
    client.shutdown().await.unwrap_or_default();
}

impl<W: AsyncWrite + Unpin> Relay<W> {
    fn new(client: W) -> Self {
        Self {
            sender: Mutex::new(Sender::new(client)),
            room: Semaphore::new(WINDOW),
            untaken: AtomicUsize::new(0),
            size: watch::channel(None).0,
        }
    }

    async fn serve(
        &self,
        client: &mut (impl AsyncRead + Unpin),
        frames: Frames,
        input: Option<impl AsyncWrite + Unpin>,
        output: Pieces,
        window: &Window,
        ending: &mut Ending,
    ) -> End {
        // It has room for all that the client may send.
        let (typed, to_type) = tokio::io::duplex(WINDOW);
        let typed = input.is_some().then_some(typed);
        let typing = async {
            match input {
                Some(input) => self.type_in(to_type, input).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = self.receive(client, frames, typed) => end,
            end = self.show(output, ending) => end,
            end = typing => end,
            never = self.resize(window) => match never {},
        }
    }

    /// Takes what the client sends, at once: it sends no more than there is room for.
    async fn receive(
        &self,
        client: &mut (impl AsyncRead + Unpin),
        mut frames: Frames,
        mut typed: Option<DuplexStream>,
    ) -> End {
        loop {
            let is_well = match frames.next(client).await {
                Ok(Frame::Input(bytes)) => self.take(&bytes, typed.as_mut()).await,
                Ok(Frame::InputEnd) => typed.take().is_some(),
                Ok(Frame::Resize(size)) => {
                    self.size.send_replace(Some(size));
                    size.rows > 0 && size.columns > 0
                }
                Ok(Frame::Taken(count)) => {
                    let is_owed = self.room.available_permits() + count <= WINDOW;
                    self.room.add_permits(if is_owed { count } else { 0 });
                    is_owed
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => false,
                Err(_) => return End::Client,
            };
            if !is_well {
                return End::Refused;
            }
        }
    }

    async fn take(&self, bytes: &[u8], typed: Option<&mut DuplexStream>) -> bool {
        let Some(typed) = typed else { return false };
        let untaken = self.untaken.fetch_add(bytes.len(), Ordering::Relaxed);
        untaken + bytes.len() <= WINDOW && typed.write_all(bytes).await.is_ok()
    }

    /// Passes the client's input on. Ends only with the client.
    async fn type_in(&self, mut typed: DuplexStream, input: impl AsyncWrite + Unpin) -> End {
        let mut input = Some(input);
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = typed.read(&mut chunk).await {
            if let Some(process) = &mut input {
                let passed = async {
                    process.write_all(&chunk[..count]).await?;
                    process.flush().await
                };
                // A process that takes no more may still write.
                if passed.await.is_err() {
                    input = None;
                }
            }
            self.untaken.fetch_sub(count, Ordering::Relaxed);
            let count = u32::try_from(count).unwrap_or_default();
            if self.sender.lock().await.send(Kind::Taken, &count.to_be_bytes()).await.is_err() {
                return End::Client;
            }
        }
        if let Some(mut process) = input {
            process.shutdown().await.unwrap_or_default();
            // Without this half the other one would be closed too.
            std::future::pending::<()>().await;
        }
        std::future::pending().await
    }

    async fn show(&self, mut output: Pieces, ending: &mut Ending) -> End {
        loop {
            let Piece { source, bytes } = match output.try_next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // What breaks off has ended, and how is told by its exit code.
                Err(error) if matches!(ending, Ending::Output) => return End::Result(Err(error.to_string())),
                Err(_) => break,
            };
            let kind = match source {
                Source::Output => Kind::Output,
                Source::Errors => Kind::Errors,
            };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            match self.room.acquire_many(length).await {
                Ok(room) => room.forget(),
                Err(_) => return End::Client,
            }
            if self.sender.lock().await.send(kind, &bytes).await.is_err() {
                return End::Client;
            }
        }
        End::Result(ending.exit_code().await)
    }

    /// The last size counts.
    async fn resize(&self, window: &Window) -> std::convert::Infallible {
        let mut sizes = self.size.subscribe();
        loop {
            let size = *sizes.borrow_and_update();
            match (size, window) {
                (Some(size), Window::Exec(window)) => window.resize(size).await,
                (Some(size), Window::Process(docker, offer)) => docker.resize(offer, size).await,
                (None, _) | (_, Window::None) => {}
            }
            if sizes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The same output, of which is lost what nobody takes for long: Docker waits for its slowest reader, and the process for Docker.
pub(super) fn losing(mut output: Pieces) -> Pieces {
    let (sender, receiver) = mpsc::channel(WAITING);
    let reading = async move {
        let (mut stalled, mut lost) = (false, false);
        while let Some(piece) = output.next().await {
            if lost {
                let bytes = Bytes::from_static(b"\r\n[some output was lost on the way]\r\n");
                lost = sender.try_send(Ok(Piece { source: Source::Errors, bytes })).is_err();
            }
            match sender.try_send(piece) {
                Ok(()) => stalled = false,
                Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(piece)) => {
                    stalled = stalled || tokio::time::timeout(STALL, sender.send(piece)).await.is_err();
                    lost |= stalled;
                }
            }
        }
    };
    let reading = AbortOnDropHandle::new(tokio::spawn(reading));
    stream::unfold((receiver, reading), async |(mut receiver, reading)| {
        receiver.recv().await.map(|piece| (piece, (receiver, reading)))
    })
    .boxed()
}
