//! What the agent logs, where it runs in a test's own thread.

use std::sync::Mutex;

use tracing::subscriber::DefaultGuard;

/// The log of this thread, for as long as it lives.
pub struct Log {
    file: tempfile::NamedTempFile,
    _guard: DefaultGuard,
}

impl Log {
    /// Begins one.
    pub fn of_this_thread() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let writer = Mutex::new(file.reopen().expect("a file"));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        Self { file, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// What it has so far.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.file.path()).expect("a log")
    }
}
