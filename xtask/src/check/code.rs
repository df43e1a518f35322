//! The code of a Rust file without its comments and strings, so that a rule about code does not
//! trip over prose.

/// The text with every comment and the inside of every string replaced by spaces; lines stay lines.
pub fn only(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    let mut word_before = false;
    while let Some(first) = rest.chars().next() {
        let hidden = match hidden_length(rest, word_before) {
            Some(length) => length,
            None => {
                code.push(first);
                word_before = first.is_alphanumeric() || first == '_';
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        let (inside, after) = rest.split_at(hidden);
        code.extend(inside.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        word_before = false;
        rest = after;
    }
    code
}

/// Length of the comment or literal that starts here, if one does.
fn hidden_length(text: &str, word_before: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_length(text));
    }
    if text.starts_with('"') {
        return Some(string_length(text));
    }
    if text.starts_with('\'') {
        return character_length(text);
    }
    if word_before {
        return None;
    }
    raw_string_length(text)
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal, as opposed to a lifetime.
fn character_length(text: &str) -> Option<usize> {
    let inside = &text[1..];
    if let Some(escape) = inside.strip_prefix('\\') {
        // The escaped character itself may be a quote.
        let skip = escape.chars().next()?.len_utf8();
        return Some(2 + skip + escape[skip..].find('\'')? + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(1 + length + 1)
}

/// `r"…"`, `r#"…"#` and the same with a `b` or `c` before.
fn raw_string_length(text: &str) -> Option<usize> {
    let prefix = usize::from(text.starts_with(['b', 'c']));
    let after_r = text[prefix..].strip_prefix('r')?;
    let hashes = after_r.bytes().take_while(|&byte| byte == b'#').count();
    let body = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::only;

    fn hides(text: &str) {
        let code = only(text);
        assert!(!code.contains("todo"), "{text} gives {code}");
        assert_eq!(code.lines().count(), text.lines().count());
        assert!(code.contains("after") || !text.contains("after"), "{text} gives {code}");
    }

    #[test]
    fn comments_and_strings_are_hidden() {
        hides("// todo\nafter");
        hides("/* todo /* nested */ todo */ after");
        hides("let x = \"todo \\\" todo\"; after");
        hides("let x = r#\"todo \" todo\"#; after");
        hides("let x = br\"todo\"; after");
        hides("let quote = '\"'; /* todo */ after");
        hides("let quote = '\\''; // todo\nafter");
        hides("\"unfinished todo");
        hides("/* unfinished todo");
    }

    #[test]
    fn code_stays() {
        let code = "fn f<'a>(x: &'a str) -> char { let for_r = x; 'b' }";
        assert_eq!(only(code), code.replace("'b'", "   "));
        assert_eq!(only("attr!()"), "attr!()");
    }
}
