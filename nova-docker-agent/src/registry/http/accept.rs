//! The Accept header (RFC 9110, section 12.5.1), as far as clients of a registry use it: which media types they take.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// What a client takes.
pub struct Accept(Vec<String>);

impl Accept {
    /// The headers may be several, and each a list. Which of two a client likes better does not matter: there is one manifest.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let ranges = values.flat_map(|value| value.split(',')).filter_map(|range| {
            let (kind, parameters) = range.split_once(';').unwrap_or((range, ""));
            let refused = parameters.split(';').any(|parameter| {
                let quality = parameter.trim().strip_prefix("q=").and_then(|quality| quality.parse::<f32>().ok());
                quality == Some(0.0)
            });
            let kind = kind.trim().to_ascii_lowercase();
            (!refused && !kind.is_empty()).then_some(kind)
        });
        Self(ranges.collect())
    }

    /// Whether content of this type is welcome; it always is where the client does not say.
    pub fn takes(&self, media_type: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|range| range == "*/*" || range == "application/*" || range == media_type)
    }
}

#[cfg(test)]
mod tests;
