//! Java's properties syntax: comments (`#`, `!`), continuation (`\` at the end of a line), separators (`=`, `:`, blanks) and
//! escapes (`\t`, `\n`, `\r`, `\f`, `\uXXXX`, and `\` before anything else). Knows no key.

/// One key and its value, with the line it began on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Counted from 1.
    pub line: usize,
    /// Unescaped.
    pub key: String,
    /// Unescaped; blanks in front are not part of it, blanks behind are.
    pub value: String,
}

/// A `\u` that is not followed by four hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: \\u must be followed by four hexadecimal digits")]
pub struct MalformedEscape {
    /// Counted from 1.
    pub line: usize,
}

/// Reads a whole file, in the order of its lines. A key may occur twice: Java takes the last.
///
/// # Errors
/// When an escape is malformed; nothing else is.
pub fn parse(text: &str) -> Result<Vec<Property>, MalformedEscape> {
    let mut properties = Vec::new();
    let mut lines = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .enumerate();
    while let Some((number, first)) = lines.next() {
        let first = first.trim_start_matches(BLANK);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(BLANK)),
                None => break,
            }
        }
        let line = number + 1;
        let (key, value) = split(&logical);
        properties.push(Property {
            line,
            key: unescape(key, line)?,
            value: unescape(value, line)?,
        });
    }
    Ok(properties)
}

const BLANK: [char; 3] = [' ', '\t', '\x0c'];

/// Whether a line ends in an odd number of backslashes.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical
        .char_indices()
        .find(|(_, c)| {
            let separates = !escaped && (*c == '=' || *c == ':' || BLANK.contains(c));
            escaped = *c == '\\' && !escaped;
            separates
        })
        .map_or(logical.len(), |(at, _)| at);
    let (key, rest) = logical.split_at(end);
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(BLANK))
}

fn unescape(text: &str, line: usize) -> Result<String, MalformedEscape> {
    let mut out = String::with_capacity(text.len());
    // UTF-16 units of a run of \u escapes: a pair of them may be one character.
    let mut units = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escape = if c == '\\' { chars.next() } else { None };
        if escape == Some('u') {
            let digits: String = chars.by_ref().take(4).collect();
            let unit = if digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            {
                u16::from_str_radix(&digits, 16).ok()
            } else {
                None
            };
            units.push(unit.ok_or(MalformedEscape { line })?);
            continue;
        }
        out.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        match (c, escape) {
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('f')) => out.push('\x0c'),
            ('\\', Some(other)) => out.push(other),
            ('\\', None) => {}
            (other, _) => out.push(other),
        }
    }
    out.push_str(&String::from_utf16_lossy(&units));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|p| (p.key, p.value))
            .collect()
    }

    fn pair(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    #[test]
    fn separators_comments_and_blanks() {
        for text in [
            "a=b",
            "a:b",
            "a b",
            "  a = b",
            "a\t:\tb",
            "\n#x=y\n! z\na=b\r\n",
        ] {
            assert_eq!(pairs(text), pair("a", "b"), "{text:?}");
        }
        assert_eq!(pairs("a=b=c"), pair("a", "b=c"));
        assert_eq!(pairs("a"), pair("a", ""));
        assert_eq!(
            pairs("server.1=h:2888:3888;2181"),
            pair("server.1", "h:2888:3888;2181")
        );
        assert_eq!(pairs("a=b  "), pair("a", "b  "));
    }

    #[test]
    fn continuation_and_escapes() {
        assert_eq!(pairs("a=b\\\n   c"), pair("a", "bc"));
        assert_eq!(pairs("a=b\\\\\nc=d").len(), 2);
        assert_eq!(pairs("a\\=b=c\\:d"), pair("a=b", "c:d"));
        assert_eq!(
            pairs("a=\\u0041\\ud83d\\ude00\\t"),
            pair("a", "A\u{1f600}\t")
        );
        assert_eq!(pairs("a=b\\"), pair("a", "b"));
        assert_eq!(parse("x=1\ny=\\u12g4"), Err(MalformedEscape { line: 2 }));
    }

    #[test]
    fn lines_are_those_on_which_a_property_begins() {
        let lines: Vec<_> = parse("# c\na=1\\\n 2\n\nb=3")
            .unwrap()
            .iter()
            .map(|p| p.line)
            .collect();
        assert_eq!(lines, [2, 5]);
    }
}
