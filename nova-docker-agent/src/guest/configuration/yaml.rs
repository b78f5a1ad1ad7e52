//! YAML that nobody has checked, as a tree: one document of bounded depth and size, in which nothing means more than it shows.
//! Anchors, aliases and tags beyond the core schema are refused, and so is a key that is written twice.

use std::borrow::Cow;
use std::collections::BTreeSet;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

/// Lists and maps within each other; a service of Compose has three.
const MOST_DEPTH: usize = 16;
/// Scalars, lists and maps.
const MOST_NODES: usize = 5_000;

/// A part of the document.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    /// A text as it is written; nothing, where the document has a null.
    Scalar(Option<String>),
    List(Vec<Node>),
    /// In the document's order.
    Map(Vec<(String, Node)>),
}

/// Why a text is not taken.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    /// Keys with dots between, or a line.
    pub(super) place: String,
    pub(super) problem: &'static str,
}

/// The document's only node; an empty text is an empty map.
pub(super) fn parse(text: &str) -> Result<Node, Refused> {
    let mut reader = Reader { events: Parser::new_from_str(text), path: vec![], nodes: 0 };
    let node = loop {
        match reader.event()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd => return Ok(Node::Map(vec![])),
            event => break reader.node(event)?,
        }
    };
    loop {
        match reader.event()? {
            Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(node),
            _ => return reader.refuse("there is more than one document"),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// Where the reader is.
    path: Vec<String>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn event(&mut self) -> Result<Event<'a>, Refused> {
        match self.events.next_event() {
            Some(Ok((event, _))) => Ok(event),
            // The parser's own words may repeat a part of the text.
            Some(Err(error)) => {
                Err(Refused { place: format!("line {}", error.marker().line()), problem: "it is no YAML" })
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'a>) -> Result<Node, Refused> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return self.refuse("the document has more than 5000 parts");
        }
        if self.path.len() > MOST_DEPTH {
            return self.refuse("it is nested deeper than 16");
        }
        match event {
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor > 0 =>
            {
                self.refuse("anchors are not taken")
            }
            Event::Alias(_) => self.refuse("aliases are not taken"),
            Event::Scalar(text, style, _, tag) => self.scalar(&text, style, tag.as_deref()),
            Event::SequenceStart(_, tag) => self.list(tag),
            Event::MappingStart(_, tag) => self.map(tag),
            _ => self.refuse("it is no YAML"),
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, Refused> {
        let is_null = style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
        match tag.map(core) {
            None if is_null => Ok(Node::Scalar(None)),
            Some(Some("null")) => Ok(Node::Scalar(None)),
            None | Some(Some("str" | "int" | "float" | "bool")) => Ok(Node::Scalar(Some(text.to_owned()))),
            Some(_) => self.refuse("it has a tag that is not taken"),
        }
    }

    fn list(&mut self, tag: Option<Cow<'a, Tag>>) -> Result<Node, Refused> {
        self.check(tag, "seq")?;
        let mut items = vec![];
        loop {
            match self.event()? {
                Event::SequenceEnd => return Ok(Node::List(items)),
                event => {
                    self.path.push(items.len().to_string());
                    items.push(self.node(event)?);
                    self.path.pop();
                }
            }
        }
    }

    fn map(&mut self, tag: Option<Cow<'a, Tag>>) -> Result<Node, Refused> {
        self.check(tag, "map")?;
        let (mut entries, mut known) = (vec![], BTreeSet::new());
        loop {
            let key = match self.event()? {
                Event::MappingEnd => return Ok(Node::Map(entries)),
                // No other has to be read to its end, however deep it is.
                event @ Event::Scalar(..) => match self.node(event)? {
                    Node::Scalar(Some(key)) => key,
                    _ => return self.refuse("a key below it is no text"),
                },
                _ => return self.refuse("a key below it is no text"),
            };
            self.path.push(key.clone());
            if !known.insert(key.clone()) {
                return self.refuse("it is there twice");
            }
            let event = self.event()?;
            entries.push((key, self.node(event)?));
            self.path.pop();
        }
    }

    fn check(&self, tag: Option<Cow<'a, Tag>>, usual: &str) -> Result<(), Refused> {
        match tag.as_deref().map(core) {
            None => Ok(()),
            Some(Some(name)) if name == usual => Ok(()),
            Some(_) => self.refuse("it has a tag that is not taken"),
        }
    }

    fn refuse<T>(&self, problem: &'static str) -> Result<T, Refused> {
        Err(Refused { place: self.path.join("."), problem })
    }
}

/// The name of a tag of the core schema.
fn core(tag: &Tag) -> Option<&str> {
    tag.is_yaml_core_schema().then_some(tag.suffix.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, &'static str) {
        let Refused { place, problem } = parse(text).expect_err(text);
        (place, problem)
    }

    #[test]
    fn texts_are_as_they_are_written_and_only_a_plain_null_is_nothing() {
        let node = parse("a: 1.10\nb: 'null'\nc: ~\nd: [yes, !!str 2]\ne: |\n  x\n  y\n").unwrap();
        let text = |text: &str| Node::Scalar(Some(text.to_owned()));
        let entry = |key: &str, node| (key.to_owned(), node);
        let expected = vec![
            entry("a", text("1.10")),
            entry("b", text("null")),
            entry("c", Node::Scalar(None)),
            entry("d", Node::List(vec![text("yes"), text("2")])),
            entry("e", text("x\ny\n")),
        ];
        assert_eq!(node, Node::Map(expected));
        assert_eq!(parse("# nothing\n").unwrap(), Node::Map(vec![]));
    }

    #[test]
    fn what_means_more_than_it_shows_is_refused_with_its_place() {
        for (text, place, problem) in [
            ("a: {b: &x secret}", "a.b", "anchors are not taken"),
            ("a: &x [1]\nb: *x", "a", "anchors are not taken"),
            ("a: {b: 1, 'b': 2}", "a.b", "it is there twice"),
            ("a: !secret x", "a", "it has a tag that is not taken"),
            ("a: !!binary x", "a", "it has a tag that is not taken"),
            ("a: !!set {x}", "a", "it has a tag that is not taken"),
            ("a: !!map []", "a", "it has a tag that is not taken"),
            ("a: 1\n---\nb: 2\n", "", "there is more than one document"),
            ("a: {[secret]: 1}", "a", "a key below it is no text"),
            ("a: 1\nb: 'secret", "line 2", "it is no YAML"),
            ("a: *secret", "line 1", "it is no YAML"),
        ] {
            assert_eq!(refused(text), (place.to_owned(), problem), "{text}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded_whatever_is_written() {
        for text in ["[".repeat(500_000), "{a: ".repeat(100_000), "- ".repeat(250_000), "? ".repeat(250_000)] {
            assert!(parse(&text).is_err());
        }
        let deep: String = (0..700).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(refused(&deep).1, "it is nested deeper than 16");
        assert_eq!(refused(&"- a\n".repeat(100_000)).1, "the document has more than 5000 parts");
        let bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n";
        assert_eq!(refused(bomb).1, "anchors are not taken");
    }
}
