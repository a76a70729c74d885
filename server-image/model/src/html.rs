//! Plain text out of a column that may hold HTML. No parser: catalogue text has a few tags and
//! entities, and an unclosed `<` must not eat the rest of a description.

/// Appends `text` to `out` with entities decoded and tags replaced by a space.
/// `stage` is scratch space. Entities go first, because feeds escape their mark-up twice.
pub(crate) fn append_plain(text: &str, stage: &mut String, out: &mut String) {
    let decoded = if text.contains('&') {
        stage.clear();
        html_escape::decode_html_entities_to_string(text, stage);
        stage.as_str()
    } else {
        text
    };
    append_without_tags(decoded, out);
}

/// A tag is `<`, then a letter, `/` or `!`, up to the next `>`. Anything else is text.
/// Linear in the length of the text, also for a hostile one: the search for `>` is given up for
/// good once there is none left.
fn append_without_tags(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let opens =
            matches!(tag.as_bytes().get(1), Some(b) if b.is_ascii_alphabetic() || matches!(b, b'/' | b'!'));
        if !opens {
            out.push('<');
            rest = &tag[1..];
            continue;
        }
        let Some(close) = tag.find('>') else {
            rest = tag;
            break;
        };
        out.push(' ');
        rest = &tag[close + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::append_plain;

    fn plain(text: &str) -> String {
        let (mut stage, mut out) = (String::new(), String::new());
        append_plain(text, &mut stage, &mut out);
        out
    }

    #[test]
    fn tags_become_spaces_and_entities_characters() {
        assert_eq!(
            plain("<p>Piscine&nbsp;hors-sol</p>caf&eacute; &amp; th&#233;"),
            " Piscine\u{a0}hors-sol café & thé"
        );
        assert_eq!(plain("un<br/>deux<!-- x -->trois"), "un deux trois");
    }

    #[test]
    fn doubly_escaped_mark_up_is_mark_up() {
        assert_eq!(plain("a&lt;br&gt;b"), "a b");
    }

    #[test]
    fn a_lone_angle_bracket_stays_text() {
        assert_eq!(plain("3 < 4 et 5 > 2"), "3 < 4 et 5 > 2");
        assert_eq!(plain("ouvert <b jamais ferme"), "ouvert <b jamais ferme");
        assert_eq!(plain("<"), "<");
    }

    #[test]
    fn many_unclosed_tags_take_linear_time() {
        let text = "<a".repeat(1_000_000);
        assert_eq!(plain(&text).len(), text.len());
    }
}
