//! A serialised exception: how oslo.messaging carries a failure from the one who was called to the caller.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// An exception of the remote side, or one that the remote side shall raise.
///
/// A Python caller builds `module.class(*args, **kwargs)` again when `module` is `builtins` or one that its RPC client
/// allows (for Nova: `nova.exception`); any other module reaches it as a generic `RemoteError`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The class name, without the module.
    pub class: String,
    /// The Python module of the class.
    pub module: String,
    /// The text of the exception.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub message: String,
    /// The positional arguments of the constructor.
    #[serde(default)]
    pub args: Vec<Value>,
    /// The keyword arguments of the constructor.
    #[serde(default)]
    pub kwargs: Map<String, Value>,
    /// The lines of the traceback, outermost first. Callers join them.
    #[serde(rename = "tb", default)]
    pub traceback: Vec<String>,
}

impl Failure {
    /// An exception with a final text: `class(message)`.
    pub fn new(module: &str, class: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class: class.to_owned(),
            module: module.to_owned(),
            args: vec![message.clone().into()],
            message,
            kwargs: Map::new(),
            traceback: Vec::new(),
        }
    }

    /// A Python builtin such as `NotImplementedError` or `ValueError`.
    pub fn builtin(class: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        if message.is_empty() {
            return Self { args: Vec::new(), ..Self::new("builtins", class, message) };
        }
        Self::new("builtins", class, message)
    }

    /// Adds a keyword argument of the constructor.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.kwargs.insert(key.to_owned(), value.into());
        self
    }

    /// No endpoint has a compatible version.
    pub fn unsupported_version(version: &str, method: &str) -> Self {
        let text = format!("Endpoint does not support RPC version {version}. Attempted method: {method}");
        Self::new("oslo_messaging.rpc.dispatcher", "UnsupportedVersion", text)
    }

    /// An endpoint has a compatible version, and none has the method.
    pub fn no_such_method(method: &str) -> Self {
        let text = format!("Endpoint does not support RPC method {method}");
        Self::new("oslo_messaging.rpc.dispatcher", "NoSuchMethod", text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for Failure {}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}
