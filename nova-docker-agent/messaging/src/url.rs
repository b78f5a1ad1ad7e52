//! Transport URLs, by oslo.messaging's rules.

use std::fmt;

use secrecy::SecretString;

/// `rabbit://user:password@host:port,user:password@host:port/vhost?option=value`. `Debug` and `Display` hide passwords.
#[derive(Clone, Debug)]
pub struct TransportUrl {
    /// The brokers of one cluster; at least one.
    pub hosts: Vec<HostAddress>,
    pub virtual_host: String,
    /// The options of the query, in order of first appearance; the values of a repeated key are joined by commas.
    pub options: Vec<(String, String)>,
}

/// One broker and how to log in there.
#[derive(Clone, Debug)]
pub struct HostAddress {
    pub host: String,
    pub port: u16,
    pub username: String,
    pub password: SecretString,
}

/// What is wrong with a transport URL. Never shows the URL's passwords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("a transport URL begins with rabbit://, this one with {0:?}")]
    Scheme(String),
    #[error("the transport URL names no host")]
    NoHost,
    #[error("host number {0} of the transport URL is empty or has an unclosed [")]
    Host(usize),
    #[error("the port of host number {0} of the transport URL is not a number from 1 to 65535")]
    Port(usize),
    #[error("the {0} of the transport URL is not UTF-8 when its %XX are decoded")]
    Encoding(&'static str),
}

const DEFAULT_PORT: u16 = 5672;

impl TransportUrl {
    /// Parses a URL. Credentials are each host's own, the port is 5672 where none is given (also with TLS), and an empty
    /// path means the virtual host `/` (oslo.messaging, `TransportURL.parse`).
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| UrlError::Scheme(String::new()))?;
        let scheme = scheme.to_ascii_lowercase();
        // "kombu+" names other transports of the Python library; what it is used for in practice is amqp.
        if !matches!(scheme.as_str(), "rabbit" | "kombu+rabbit" | "kombu+amqp") {
            return Err(UrlError::Scheme(scheme));
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _fragment)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = authority.split(',').enumerate().filter(|(_, host)| !host.is_empty());
        let hosts = hosts.map(|(index, host)| HostAddress::parse(host, index + 1)).collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            return Err(UrlError::NoHost);
        }
        let virtual_host = match path {
            "" => "/".to_owned(),
            path => decode(path, "virtual host")?,
        };
        Ok(Self { hosts, virtual_host, options: options(query) })
    }
}

impl HostAddress {
    fn parse(text: &str, number: usize) -> Result<Self, UrlError> {
        let (credentials, address) = text.rsplit_once('@').unwrap_or(("", text));
        let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, port) = match address.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or(UrlError::Host(number))?;
                (host, after.strip_prefix(':'))
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(UrlError::Host(number));
        }
        let port = match port.filter(|port| !port.is_empty()) {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port(number))?,
        };
        let host = host.to_owned();
        let password = SecretString::from(decode(password, "password")?);
        Ok(Self { host, port, username: decode(username, "user name")?, password })
    }
}

fn decode(text: &str, what: &'static str) -> Result<String, UrlError> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| UrlError::Encoding(what))
}

fn options(query: &str) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match options.iter_mut().find(|(seen, _)| *seen == key) {
            _ if value.is_empty() => {}
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => options.push((key.into_owned(), value.into_owned())),
        }
    }
    options
}

impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "rabbit://{}/{}", hosts.join(","), self.virtual_host.trim_start_matches('/'))
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.username.is_empty() {
            write!(f, "{}:***@", self.username)?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parts(url: &str) -> (Vec<(String, u16, String, String)>, String) {
        let url = TransportUrl::parse(url).unwrap();
        let part = |host: &HostAddress| {
            (host.host.clone(), host.port, host.username.clone(), host.password.expose_secret().to_owned())
        };
        (url.hosts.iter().map(part).collect(), url.virtual_host)
    }

    fn host(host: &str, port: u16, username: &str, password: &str) -> (String, u16, String, String) {
        (host.into(), port, username.into(), password.into())
    }

    #[test]
    fn a_url_of_one_host_has_defaults() {
        assert_eq!(parts("rabbit://u:p@h/"), (vec![host("h", 5672, "u", "p")], "/".into()));
        assert_eq!(parts("RABBIT://h"), (vec![host("h", 5672, "", "")], "/".into()));
    }

    #[test]
    fn credentials_are_decoded_and_not_inherited() {
        let expected = vec![host("h1", 5671, "u", "p@:/x"), host("::1", 5672, "", ""), host("fe80::2", 1, "v", "")];
        assert_eq!(parts("rabbit://u:p%40:%2Fx@h1:5671,[::1],v@[fe80::2]:1/vhost").0, expected);
        assert_eq!(parts("rabbit://u:p@q@h").0, [host("h", 5672, "u", "p@q")], "the last @ counts");
    }

    #[test]
    fn the_virtual_host_is_what_follows_the_first_slash() {
        for (path, expected) in
            [("", "/"), ("/", "/"), ("//", "/"), ("/%2F", "/"), ("/nova", "nova"), ("/%2Fx/y", "/x/y")]
        {
            assert_eq!(parts(&format!("rabbit://h{path}")).1, expected, "path {path:?}");
        }
    }

    #[test]
    fn repeated_options_are_joined() {
        let url = TransportUrl::parse("rabbit://h/?ssl=true&a=1&a=2&empty=").unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(url.options, [pair("ssl", "true"), pair("a", "1,2")]);
    }

    #[test]
    fn errors_and_output_do_not_show_passwords() {
        for bad in
            ["amqp://u:geheim@h", "rabbit://u:geheim@h:x", "rabbit://u:geheim@", "rabbit://u:geheim@[::1", "rabbit://"]
        {
            let error = TransportUrl::parse(bad).unwrap_err();
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
        let url = TransportUrl::parse("rabbit://u:geheim@h:1,v:geheim@i/x").unwrap();
        assert_eq!(url.to_string(), "rabbit://u:***@h:1,v:***@i:5672/x");
        assert!(!format!("{url:?}").contains("geheim"));
    }
}
