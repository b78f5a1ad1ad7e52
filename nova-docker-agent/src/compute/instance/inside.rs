//! What a request wants to have put into the container: the user's files (personality) and the password that Nova has made.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::compute::error::Error;
use crate::guest::{InjectedFile, Inside, Password, check_files};

/// `usual`, with the arguments `injected_files` and `admin_password` of a request that makes a container.
///
/// # Errors
/// A file cannot be put where it shall be.
pub(crate) fn inside(usual: Inside, arguments: &Map<String, Value>) -> Result<Inside, Error> {
    let files = arguments.get("injected_files").and_then(Value::as_array);
    let files: Vec<InjectedFile> = files.into_iter().flatten().map(file).collect::<Result<_, _>>().map_err(bad)?;
    check_files(&files).map_err(bad)?;
    let password = arguments.get("admin_password").and_then(Value::as_str).filter(|password| !password.is_empty());
    Ok(Inside { files, password: password.map(Password::new), ..usual })
}

/// `[path, content in base64]`.
fn file(pair: &Value) -> Result<InjectedFile, String> {
    let (Some(path), Some(encoded)) = (pair[0].as_str(), pair[1].as_str()) else {
        return Err("a file to put into the container has no path or no content".to_owned());
    };
    // The API takes lines.
    let encoded: String = encoded.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    let content =
        STANDARD.decode(encoded).map_err(|error| format!("the content of file {path:?} is no base64: {error}"))?;
    InjectedFile::new(path, content)
}

fn bad(problem: String) -> Error {
    Error::exception("Invalid", problem, Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(arguments: Value) -> Result<Inside, Error> {
        inside(Inside::default(), arguments.as_object().unwrap())
    }

    #[test]
    fn files_arrive_in_lines_of_base64_and_a_password_as_it_is() {
        let inside = of(json!({"injected_files": [["/etc/motd", "aGVs\nbG8="]], "admin_password": "x"})).unwrap();
        assert_eq!((inside.files[0].path(), &inside.files[0].content[..]), ("/etc/motd", &b"hello"[..]));
        assert_eq!(inside.password.unwrap().expose(), "x");
    }

    #[test]
    fn a_request_without_wishes_puts_nothing_in() {
        for nothing in
            [json!({}), json!({"injected_files": null, "admin_password": null}), json!({"admin_password": ""})]
        {
            assert_eq!(of(nothing).unwrap(), Inside::default());
        }
    }

    #[test]
    fn a_file_that_cannot_be_there_is_the_users_to_mend_and_named() {
        for files in [json!([["../up", ""]]), json!([["/a", "%"]]), json!([["/a"]])] {
            let error = of(json!({ "injected_files": files })).unwrap_err();
            assert_eq!((error.fault_code(), error.is_reschedulable()), (400, false));
            assert!(error.to_string().contains("file"), "{error}");
        }
    }
}
