//! Envelope, request and reply, as JSON.
//!
//! Every message is `{"oslo.version": "2.0", "oslo.message": "<JSON text>"}`: the message proper is text within text,
//! and a failure in a reply is text once more (oslo.messaging, `common.py` and `amqp.py`).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Context, Failure, Request, Target};

const CONTEXT_PREFIX: &str = "_context_";

/// A request as it was received, with the way back to its sender.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub request: Request,
    /// Present when somebody waits for a reply.
    pub caller: Option<Caller>,
}

/// The way back to the sender of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Caller {
    pub queue: String,
    pub message_id: String,
    /// The caller gives up when it hears nothing for so long; `None` = it does not listen for signs of life.
    pub monitor: Option<Duration>,
}

/// A reply as it was received.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub message_id: String,
    /// False: a sign of life, or the first of two parts.
    pub ending: bool,
    pub result: Result<Value, Failure>,
}

/// A random id: 32 hex digits.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Wraps a message into its envelope.
pub(super) fn envelope(message: &Map<String, Value>) -> Vec<u8> {
    let text = Value::Object(message.clone()).to_string();
    json!({"oslo.version": "2.0", "oslo.message": text}).to_string().into_bytes()
}

/// Takes a message out of its envelope.
///
/// # Errors
/// A sentence when the bytes are no message that this version understands.
pub(super) fn open_envelope(body: &[u8]) -> Result<Map<String, Value>, String> {
    let mut outer: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON object: {error}"))?;
    let Some(version) = outer.get("oslo.version") else {
        // Senders older than the envelope send the message itself.
        return Ok(outer);
    };
    match version.as_str().and_then(|version| version.split('.').next()) {
        Some("2") => {}
        _ => return Err(format!("the envelope is of version {version}; 2.x is understood")),
    }
    let Some(Value::String(text)) = outer.remove("oslo.message") else {
        return Err("the envelope holds no text oslo.message".to_owned());
    };
    serde_json::from_str(&text).map_err(|error| format!("oslo.message is no JSON object: {error}"))
}

/// Builds a request. A call names its message id and its reply queue; `_timeout` stays null, which tells the server that
/// this caller wants no signs of life.
pub(super) fn request(
    target: &Target,
    context: &Context,
    method: &str,
    args: Value,
    call: Option<(&str, &str)>,
) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("method".to_owned(), method.into());
    message.insert("args".to_owned(), args);
    message.insert("version".to_owned(), target.version.clone().into());
    if let Some(namespace) = &target.namespace {
        message.insert("namespace".to_owned(), namespace.clone().into());
    }
    if let Some((message_id, reply_queue)) = call {
        message.insert("_msg_id".to_owned(), message_id.into());
        message.insert("_reply_q".to_owned(), reply_queue.into());
        message.insert("_timeout".to_owned(), Value::Null);
    }
    message.insert("_unique_id".to_owned(), new_id().into());
    for (key, value) in context.as_map() {
        message.insert(format!("{CONTEXT_PREFIX}{key}"), value.clone());
    }
    message
}

/// Reads a request.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn parse_request(mut message: Map<String, Value>) -> Result<Incoming, String> {
    let caller = caller(&message);
    let mut text = |key: &str| match message.remove(key) {
        Some(Value::String(text)) => Ok(Some(text)),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("{key} is no text")),
    };
    let method = text("method")?.ok_or("it has no method")?;
    let version = text("version")?.unwrap_or_else(|| "1.0".to_owned());
    let namespace = text("namespace")?;
    let unique_id = text("_unique_id")?.unwrap_or_default();
    let args = match message.remove("args") {
        Some(Value::Object(args)) => args,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("args is no JSON object".to_owned()),
    };
    let context: Map<String, Value> = message
        .into_iter()
        .filter_map(|(key, value)| key.strip_prefix(CONTEXT_PREFIX).map(|key| (key.to_owned(), value)))
        .collect();
    let is_call = caller.is_some();
    let request = Request { context: context.into(), method, args, version, namespace, unique_id, is_call };
    Ok(Incoming { request, caller })
}

/// Who waits for a reply, if the message says so completely.
pub(super) fn caller(message: &Map<String, Value>) -> Option<Caller> {
    let text = |key: &str| message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let monitor = message.get("_timeout").and_then(Value::as_f64).filter(|seconds| *seconds >= 2.0);
    Some(Caller {
        queue: text("_reply_q")?.to_owned(),
        message_id: text("_msg_id")?.to_owned(),
        monitor: monitor.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

/// Builds a reply. Callers look for `result` and `failure` both, so both are always there.
pub(super) fn reply(message_id: &str, result: &Result<Value, Failure>) -> Map<String, Value> {
    let (value, failure) = match result {
        Ok(value) => (value.clone(), Value::Null),
        Err(failure) => (Value::Null, json!(failure).to_string().into()),
    };
    reply_message(message_id, value, failure, true)
}

/// Builds a sign of life for a caller that waits.
pub(super) fn heartbeat(message_id: &str) -> Map<String, Value> {
    reply_message(message_id, Value::Null, Value::Null, false)
}

fn reply_message(message_id: &str, result: Value, failure: Value, ending: bool) -> Map<String, Value> {
    [
        ("result", result),
        ("failure", failure),
        ("ending", ending.into()),
        ("_msg_id", message_id.into()),
        ("_unique_id", new_id().into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Reads a reply.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn parse_reply(mut message: Map<String, Value>) -> Result<Reply, String> {
    let Some(Value::String(message_id)) = message.remove("_msg_id") else {
        return Err("it has no _msg_id".to_owned());
    };
    let result = match message.remove("failure") {
        None | Some(Value::Null) => Ok(message.remove("result").unwrap_or_default()),
        Some(failure) => Err(parse_failure(failure)),
    };
    let ending = message.get("ending").and_then(Value::as_bool).unwrap_or_default();
    Ok(Reply { message_id, ending, result })
}

/// A failure that cannot be read is a failure all the same.
fn parse_failure(failure: Value) -> Failure {
    let parsed = match &failure {
        Value::String(text) => serde_json::from_str(text),
        other => serde_json::from_value(other.clone()),
    };
    parsed.unwrap_or_else(|error| {
        Failure::builtin("Exception", format!("a failure that cannot be read ({error}): {failure}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_request_comes_out_as_it_went_in() {
        let target = Target::topic("conductor", "3.0").namespace("baseapi");
        let sent = request(&target, &Context::admin(), "ping", json!({"arg": 1}), Some(("m", "reply_q")));
        let received = parse_request(open_envelope(&envelope(&sent)).unwrap()).unwrap();
        assert_eq!(received.request.method, "ping");
        assert_eq!(received.request.args, map(json!({"arg": 1})));
        assert_eq!(received.request.namespace.as_deref(), Some("baseapi"));
        assert_eq!(received.caller, Some(Caller { queue: "reply_q".into(), message_id: "m".into(), monitor: None }));
        assert!(received.request.is_call);
    }

    #[test]
    fn a_cast_has_no_caller_and_no_reply_keys() {
        let sent = request(&Target::topic("t", "1.0"), &Context::admin(), "m", json!({}), None);
        assert!(!sent.contains_key("_msg_id") && !sent.contains_key("_timeout") && !sent.contains_key("namespace"));
        assert_eq!(parse_request(sent).unwrap().caller, None);
    }

    #[test]
    fn signs_of_life_are_wanted_only_with_a_number_of_at_least_two_seconds() {
        let monitor = |timeout: Value| {
            caller(&map(json!({"_msg_id": "m", "_reply_q": "q", "_timeout": timeout}))).unwrap().monitor
        };
        assert_eq!(monitor(json!(60)), Some(Duration::from_secs(60)));
        assert_eq!(monitor(json!(2.5)), Some(Duration::from_millis(2500)));
        for nothing in [Value::Null, json!(1), json!("60"), json!(-3), json!(1e300)] {
            assert_eq!(monitor(nothing.clone()), None, "{nothing}");
        }
    }

    #[test]
    fn a_failure_is_text_within_text() {
        let failure = Failure::new("nova.exception", "InstanceNotFound", "gone").with("instance_id", "x");
        let message = reply("m", &Err(failure.clone()));
        assert!(message["failure"].is_string());
        assert!(message.contains_key("result"));
        assert_eq!(parse_reply(message).unwrap().result, Err(failure));
    }

    #[test]
    fn a_failure_in_an_unknown_form_is_still_a_failure() {
        let reply = parse_reply(map(json!({"_msg_id": "m", "failure": "boom", "ending": true}))).unwrap();
        assert!(reply.result.unwrap_err().message.contains("boom"));
    }

    #[test]
    fn malformed_messages_are_refused_with_a_reason() {
        for (body, reason) in [
            (&b"\xff"[..], "no JSON object"),
            (b"[]", "no JSON object"),
            (br#"{"oslo.version": "3.0", "oslo.message": "{}"}"#, "version"),
            (br#"{"oslo.version": "2.0", "oslo.message": {}}"#, "no text"),
            (br#"{"oslo.version": "2.1", "oslo.message": "nonsense"}"#, "no JSON object"),
        ] {
            let error = open_envelope(body).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        for (message, reason) in
            [(json!({}), "no method"), (json!({"method": 1}), "no text"), (json!({"method": "m", "args": []}), "args")]
        {
            let error = parse_request(map(message)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
