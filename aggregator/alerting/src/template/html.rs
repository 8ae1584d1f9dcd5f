//! Escapes action output in HTML pages: the subset of Go's `html/template` that mail templates need.

/// Appends `text` to `out`, escaped for the context at the end of `before`.
///
/// In text and quoted attributes, the five special characters and `+` (as in Go) become character references. In a URL
/// attribute, characters that are invalid in URLs are percent-encoded first, and a URL with a scheme other than http,
/// https or mailto becomes `#ZgotmplZ`.
pub(super) fn escape_into(out: &mut String, before: &str, text: &str) {
    let tag_start = before.rfind('<');
    let in_tag = tag_start > before.rfind('>');
    let tag = tag_start
        .filter(|_| in_tag)
        .and_then(|start| before.get(start..));
    if let Some(value_start) = tag.and_then(url_value) {
        let url = if value_start.is_empty() && !has_safe_scheme(text) {
            "#ZgotmplZ"
        } else {
            text
        };
        html(out, &normalise_url(url));
        return;
    }
    html(out, text);
}

/// Returns the part of a URL attribute's value that `tag` already contains. `None` if `tag` does not end inside one.
fn url_value(tag: &str) -> Option<&str> {
    let (head, value) = tag.rsplit_once("=\"").or_else(|| tag.rsplit_once("='"))?;
    let name = head
        .rsplit(|c: char| c.is_whitespace())
        .next()?
        .to_ascii_lowercase();
    let is_url = matches!(
        name.as_str(),
        "href" | "src" | "action" | "cite" | "poster" | "background"
    );
    (is_url && !value.contains(['"', '\''])).then_some(value)
}

fn has_safe_scheme(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => ["http", "https", "mailto"]
            .iter()
            .any(|safe| scheme.eq_ignore_ascii_case(safe)),
        _ => true,
    }
}

fn normalise_url(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?'
            | b'@' | b'[' | b']' | b'%' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

fn html(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '+' => out.push_str("&#43;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, text: &str, want: &str) {
        let mut out = String::new();
        escape_into(&mut out, before, text);
        assert_eq!(out, want);
    }

    #[test]
    fn place_decides_the_escaping() {
        check(
            "<p>",
            "<img src=x onerror=\"a\">",
            "&lt;img src=x onerror=&#34;a&#34;&gt;",
        );
        check("<a title=\"", "a\"b", "a&#34;b");
        check("<a href=\"", "javascript:alert(1)", "#ZgotmplZ");
        check(
            "<a href=\"",
            "http://x/?q=a b&c=\"",
            "http://x/?q=a%20b&amp;c=%22",
        );
        check("<a href=\"http://x/", "a b", "a%20b");
        check("<a href=\"x\">", "a+b", "a&#43;b");
    }
}
