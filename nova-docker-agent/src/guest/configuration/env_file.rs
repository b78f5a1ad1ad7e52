//! Lines of variables, as Compose reads them of the files that `env_file` names. Here they are the service's own text.

/// Lines of a service.
pub(super) const MOST: usize = 1000;

type Result<T> = std::result::Result<T, &'static str>;

/// Name and value of a line; none where it is empty or a comment. Nothing is put in for `$`: there is nothing that it could name.
pub(super) fn variable(line: &str) -> Result<Option<(String, String)>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("it is not NAME=VALUE; the lines of a file are written here")?;
    Ok(Some((name.trim().to_owned(), unquoted(value)?)))
}

/// In quotes everything counts. Without them a space and `#` begin a comment.
fn unquoted(value: &str) -> Result<String> {
    let value = value.trim_start();
    match value.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(&value[1..], quote),
        Some('#') => Ok(String::new()),
        _ => Ok(value.split_once(" #").map_or(value, |(value, _)| value).trim_end().to_owned()),
    }
}

fn quoted(rest: &str, quote: char) -> Result<String> {
    let mut text = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            end if end == quote => {
                let after = letters.as_str().trim_start();
                let is_over = after.is_empty() || after.starts_with('#');
                return if is_over { Ok(text) } else { Err("something follows a quote") };
            }
            '\\' if quote == '"' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(plain @ ('"' | '\\' | '$')) => text.push(plain),
                Some(other) => text.extend(['\\', other]),
                None => {}
            },
            plain => text.push(plain),
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_compose_reads_it() {
        for (line, name, value) in [
            ("A=b", "A", "b"),
            ("  export A = b c  # why", "A", "b c"),
            ("A=b#c", "A", "b#c"),
            ("A=", "A", ""),
            ("A=# nothing", "A", ""),
            ("A='b # c' # d", "A", "b # c"),
            (r"A='\n'", "A", r"\n"),
            (r#"A="b\n\"c\" \$D \x""#, "A", "b\n\"c\" $D \\x"),
            ("A=$B", "A", "$B"),
            ("A=b=c", "A", "b=c"),
        ] {
            assert_eq!(variable(line), Ok(Some((name.to_owned(), value.to_owned()))), "{line}");
        }
        for nothing in ["", "  ", "# A=b"] {
            assert_eq!(variable(nothing), Ok(None), "{nothing}");
        }
        assert!(variable("web.env").unwrap_err().starts_with("it is not NAME=VALUE"));
        for open in ["A='b", "A=\"b", r#"A="b\""#] {
            assert_eq!(variable(open), Err("a quote is not closed"), "{open}");
        }
        assert_eq!(variable("A='b'c"), Err("something follows a quote"));
    }
}
