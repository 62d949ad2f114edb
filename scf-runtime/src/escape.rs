//! Text that a guest made, on its way into messages and logs.

/// Longest escaped text in bytes.
pub(crate) const MAX_TEXT: usize = 1024;

/// `text` with everything escaped that a terminal or a log gives a meaning to: control characters, line and
/// paragraph separators, marks that change the direction of writing. At most [`MAX_TEXT`] bytes; "…" stands
/// for what was cut off.
pub(crate) fn escape(text: &str) -> String {
    const CUT: char = '…';
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        let start = out.len();
        if is_harmless(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
        if out.len() > MAX_TEXT - CUT.len_utf8() {
            out.truncate(start);
            out.push(CUT);
            break;
        }
    }
    out
}

fn is_harmless(c: char) -> bool {
    let separates = matches!(c, '\u{2028}' | '\u{2029}');
    let turns = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(c.is_control() || separates || turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_obeys_and_leaves_the_rest() {
        assert_eq!(escape("Zoë: \u{1b}[31m\nok\u{9b}\u{202e}"), "Zoë: \\u{1b}[31m\\nok\\u{9b}\\u{202e}");
    }

    #[test]
    fn cuts_at_a_kibibyte_between_characters() {
        for text in ["é".repeat(5000), "\u{1b}".repeat(5000), "a".repeat(1025)] {
            let escaped = escape(&text);
            assert!(escaped.len() <= MAX_TEXT && escaped.len() > MAX_TEXT - 10, "{}", escaped.len());
            assert!(escaped.ends_with('…'));
        }
        assert_eq!(escape(&"a".repeat(1000)).len(), 1000);
    }
}
