//! `GET /token`, which dockerd and nearly everybody use, and `POST /token`, OAuth 2 with a password (RFC 6749, 4.3).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::timeout;

use super::{Login, Scopes, Tokens};
use crate::http::listener::Client;
use crate::http::{self, auth, parameters};
use crate::{ApiError, Code};

/// Of a form: user name, password, scopes.
const MAX_FORM: usize = 16 * 1024;

/// What a client asks for.
struct Asked {
    /// User name and password; none of a client that has not logged in.
    user: Option<(String, String)>,
    service: Option<String>,
    scopes: Vec<String>,
}

impl Asked {
    /// With what a query, or a form, says besides.
    fn new(user: Option<(String, String)>, query: &str) -> Self {
        let service = parameters(query, "service").next().map(Cow::into_owned);
        Self { user, service, scopes: parameters(query, "scope").map(Cow::into_owned).collect() }
    }
}

impl Tokens {
    /// Answers `/token`, and says who asked. A form has to come within `patience`: nobody has logged in yet.
    ///
    /// # Errors
    /// Wrong credentials, or keystone is down.
    pub async fn answer(
        &self,
        request: Request<Body>,
        patience: Duration,
        request_id: &str,
        user: &mut Option<String>,
    ) -> Result<Response, ApiError> {
        let address = request.extensions().get::<Client>().map(|client| client.0);
        let asked = match *request.method() {
            Method::GET => from_query(request.headers(), request.uri().query().unwrap_or_default())?,
            Method::POST => {
                let late = |_| bad("the form did not come in time").with_status(StatusCode::REQUEST_TIMEOUT);
                timeout(patience, from_form(request)).await.map_err(late)??
            }
            _ => return Err(ApiError::new(Code::Unsupported, "tokens are had by GET or POST")),
        };
        if asked.service.as_ref().is_some_and(|service| *service != self.service) {
            let message = format!("this registry is {}", self.service);
            return Err(ApiError::new(Code::Denied, message).with_status(StatusCode::BAD_REQUEST));
        }
        let is_anonymous = asked.user.is_none();
        let login = match asked.user {
            Some((username, password)) => self.logins.log_in(&username, &password, address, request_id).await,
            None => self.anonymous(request_id).await,
        };
        let login = login.map_err(with_basic_challenge)?;
        *user = Some(login.user.user_name.clone());
        let scopes = Scopes::of(asked.scopes.iter().map(String::as_str));
        let (token, life) = self.issue(&login, is_anonymous, scopes, request_id).await?;
        let body = json!({
            "token": token,
            "access_token": token,
            "expires_in": life.as_secs(),
            "issued_at": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        Ok(([(CACHE_CONTROL, "no-store")], http::json(body)).into_response())
    }

    /// The login of those who have none.
    pub(super) async fn anonymous(&self, request_id: &str) -> Result<Arc<Login>, ApiError> {
        let anonymous = self.config.anonymous.as_ref().ok_or_else(log_in_first)?;
        let login = self.logins.log_in(&anonymous.user, anonymous.password.expose_secret(), None, request_id).await;
        login.map_err(|error| match error.code {
            Code::Unauthorized => {
                tracing::error!(
                    "nobody can pull without a login: keystone does not take anonymous_user and its password"
                );
                log_in_first()
            }
            _ => error,
        })
    }
}

fn log_in_first() -> ApiError {
    ApiError::new(Code::Unauthorized, "log in first: docker login")
}

fn from_query(headers: &HeaderMap, query: &str) -> Result<Asked, ApiError> {
    let user = auth::credentials(headers);
    if user.is_none() && headers.contains_key(AUTHORIZATION) {
        return Err(with_basic_challenge(log_in_first()));
    }
    Ok(Asked::new(user, query))
}

async fn from_form(request: Request<Body>) -> Result<Asked, ApiError> {
    let form = to_bytes(request.into_body(), MAX_FORM).await.map_err(|_| bad("the form is too long, or broke off"))?;
    // What is no text is replaced, as in the values of a query.
    let form = String::from_utf8_lossy(&form);
    let value = |name| parameters(&form, name).next().map(Cow::into_owned);
    if value("grant_type").as_deref() != Some("password") {
        return Err(bad("the only grant_type here is password"));
    }
    let user = value("username").zip(value("password"));
    Ok(Asked::new(Some(user.ok_or_else(|| bad("username and password are needed"))?), &form))
}

fn bad(message: &str) -> ApiError {
    ApiError::new(Code::Unsupported, message).with_status(StatusCode::BAD_REQUEST)
}

fn with_basic_challenge(error: ApiError) -> ApiError {
    if error.status != StatusCode::UNAUTHORIZED {
        return error;
    }
    error.with_header(WWW_AUTHENTICATE, "Basic realm=\"OpenStack\"")
}
