//! oslo.config's INI files.
//!
//! The rules (oslo.config's `iniparser`): sections in brackets; `option = value` or `option : value`, whichever sign comes first; a
//! pair of quotes around the value goes; an indented line continues the value, a blank line ends it; `#` and `;` at the start of a line
//! make a comment (a `#` after a value is part of it); an option may be repeated, in the same section or in another one of its name.

/// One `option = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) option: String,
    /// Lines joined by newlines.
    pub(super) value: String,
    /// Line of the option, counted from 1.
    pub(super) line: usize,
}

/// A line that is none of what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// All assignments in order, and all that cannot be read.
pub(super) fn parse(text: &str) -> (Vec<Assignment>, Vec<SyntaxError>) {
    let mut parser = Parser::default();
    for (index, line) in text.lines().enumerate() {
        parser.line(index + 1, line.trim_end());
    }
    (parser.assignments, parser.errors)
}

#[derive(Default)]
struct Parser {
    section: Option<String>,
    /// The last line was an assignment or its continuation.
    open: bool,
    /// The last assignment was wrong, so its continuation lines are not reported.
    skipping: bool,
    assignments: Vec<Assignment>,
    errors: Vec<SyntaxError>,
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) {
        if line.is_empty() {
            (self.open, self.skipping) = (false, false);
        } else if line.starts_with([' ', '\t']) {
            self.continuation(number, line.trim_start());
        } else {
            (self.open, self.skipping) = (false, false);
            if let Some(section) = line.strip_prefix('[') {
                self.new_section(number, section);
            } else if !line.starts_with(['#', ';']) {
                self.assignment(number, line);
            }
        }
    }

    fn fail(&mut self, line: usize, problem: impl Into<String>) {
        self.errors.push(SyntaxError { line, problem: problem.into() });
    }

    fn continuation(&mut self, number: usize, text: &str) {
        match self.assignments.last_mut().filter(|_| self.open) {
            Some(assignment) => {
                assignment.value.push('\n');
                assignment.value.push_str(text);
            }
            None if self.skipping => {}
            None => self.fail(number, "an indented line continues a value, but there is none before it"),
        }
    }

    fn new_section(&mut self, number: usize, rest: &str) {
        match rest.strip_suffix(']') {
            Some("") => self.fail(number, "a section without a name"),
            Some(name) => self.section = Some(name.to_owned()),
            None => self.fail(number, "a section must end with ]"),
        }
    }

    fn assignment(&mut self, number: usize, line: &str) {
        self.skipping = true;
        let Some((option, value)) = line.split_once(['=', ':']) else {
            return self.fail(number, "expected [section], option = value or a comment");
        };
        let option = option.trim();
        if option.is_empty() {
            return self.fail(number, "a value without an option");
        }
        let Some(section) = self.section.clone() else {
            return self.fail(number, format!("the option {option} is in no section"));
        };
        let value = unquote(value.trim()).to_owned();
        self.assignments.push(Assignment { section, option: option.to_owned(), value, line: number });
        (self.open, self.skipping) = (true, false);
    }
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.strip_suffix(quote).unwrap_or(if inner.is_empty() { inner } else { value });
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String, String, usize)> {
        let (assignments, errors) = parse(text);
        assert_eq!(errors, []);
        assignments.into_iter().map(|a| (a.section, a.option, a.value, a.line)).collect()
    }

    fn value(line: &str) -> String {
        values(&format!("[s]\n{line}\n")).remove(0).2
    }

    #[test]
    fn the_first_of_both_signs_separates() {
        assert_eq!(value("url = http://host:80/a=b"), "http://host:80/a=b");
        assert_eq!(value("url : http://host"), "http://host");
        assert_eq!(value("a=b:c"), "b:c");
        assert_eq!(value("a:b=c"), "b=c");
        assert_eq!(value("empty ="), "");
    }

    #[test]
    fn one_pair_of_quotes_goes() {
        assert_eq!(value(r#"a = "b c""#), "b c");
        assert_eq!(value("a = 'b'"), "b");
        assert_eq!(value(r#"a = "b'"#), r#""b'"#);
        assert_eq!(value(r#"a = ""b"""#), r#""b""#);
        assert_eq!(value("a = ''"), "");
    }

    #[test]
    fn comments_are_whole_lines_only() {
        let text = "# c\n[s]\n; c\na = 1 # not a comment\n#b = 2\n";
        assert_eq!(values(text), [("s".into(), "a".into(), "1 # not a comment".into(), 4)]);
    }

    #[test]
    fn indented_lines_continue_and_a_blank_line_ends() {
        let (assignments, errors) = parse("[s]\na = 1,\n  2,\n\t3\n\n  4\n");
        assert_eq!((assignments[0].value.as_str(), assignments[0].line), ("1,\n2,\n3", 2));
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].line, 6);
    }

    #[test]
    fn repeated_options_and_sections_are_all_kept_in_order() {
        let text = "[a]\nx = 1\nx = 2\n[b]\nx = 3\n[a]\nx = 4\n";
        let found: Vec<_> = values(text).into_iter().map(|(section, _, value, _)| section + &value).collect();
        assert_eq!(found, ["a1", "a2", "b3", "a4"]);
    }

    #[test]
    fn every_wrong_line_is_reported() {
        let text = "early = 1\n[unclosed\n[]\n[s]\nwhat is this\n  and its continuation\n= 5\ngood = 1\n";
        let (assignments, errors) = parse(text);
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 2, 3, 5, 7]);
        assert_eq!(assignments.len(), 1);
        assert!(errors[0].problem.contains("early"), "{errors:?}");
    }
}
