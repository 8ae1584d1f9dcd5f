//! Paths as Go's servers treat them: needless percent-encoding is decoded, `//` and `.` are cleaned.

use axum::response::{IntoResponse as _, Response};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};

/// Decodes percent-encoded unreserved characters of the path, which do not change its meaning (RFC 3986, section
/// 6.2.2.2). Encoded slashes stay encoded: they are part of a segment.
#[must_use]
pub fn decode_unreserved<B>(mut request: Request<B>) -> Request<B> {
    if let Some(uri) = decoded_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn decoded_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains('%') {
        return None;
    }
    let mut decoded = decode(path);
    if decoded == path {
        return None;
    }
    if let Some(query) = uri.query() {
        decoded.push('?');
        decoded.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(decoded).ok()?);
    Uri::from_parts(parts).ok()
}

fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.map(char::from) {
            Some(char) if is_unreserved(char) => {
                decoded.push(char);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

const fn is_unreserved(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_' | '~')
}

/// Removes empty, `.` and `..` segments as Go's `path.Clean` does, but keeps a trailing slash.
#[must_use]
pub fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut cleaned = String::with_capacity(path.len());
    for segment in &segments {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if cleaned.is_empty() || path.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// Redirects to the cleaned path, as Go's `ServeMux` does. Returns `None` for a clean path.
#[must_use]
pub fn redirect_to_clean(uri: &Uri) -> Option<Response> {
    let path = uri.path();
    if !path.contains("//") && !path.contains("/.") {
        return None;
    }
    let clean = clean(path);
    (clean != path).then(|| redirect(StatusCode::MOVED_PERMANENTLY, &clean, uri.query()))
}

/// Redirects to a path of this server. `path` begins with exactly one slash and must not reach another host: browsers read a backslash as a slash.
#[must_use]
pub fn redirect(status: StatusCode, path: &str, query: Option<&str>) -> Response {
    let mut target = path.replace('\\', "%5C");
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let Ok(target) = HeaderValue::try_from(target) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let location: [(HeaderName, HeaderValue); 1] = [(header::LOCATION, target)];
    (status, location).into_response()
}

/// Whether a path matches a route's pattern, such as `/label/{name}/values`.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let all = pattern.split('/').all(|wanted| {
        segments.next().is_some_and(|segment| {
            segment == wanted || (wanted.starts_with('{') && !segment.is_empty())
        })
    });
    all && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_are_decoded() {
        for (path, want) in [
            (
                "/api/v1/%71uery?query=%75p",
                Some("/api/v1/query?query=%75p"),
            ),
            ("/%2d/healthy", Some("/-/healthy")),
            ("/api/v1/label/a%2Fb/values", None),
            ("/a%2fb%41%", Some("/a%2fbA%")),
            ("/%e2%82%ac", None),
            ("/api/v1/query?a=%41", None),
        ] {
            let uri: Uri = path.parse().unwrap();
            let decoded = decoded_uri(&uri).map(|uri| uri.to_string());
            assert_eq!(decoded.as_deref(), want, "{path}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, want) in [
            ("/", "/"),
            ("//", "/"),
            ("//api/v1/query", "/api/v1/query"),
            ("/api/v1/label//values", "/api/v1/label/values"),
            ("/api/v1/labels//", "/api/v1/labels/"),
            ("/api/v1/x/../labels", "/api/v1/labels"),
            ("/../api/./v1", "/api/v1"),
            ("/a%2F%2Fb", "/a%2F%2Fb"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn patterns_match_whole_segments() {
        assert!(matches("/label/{name}/values", "/label/a%2Fb/values"));
        assert!(!matches("/label/{name}/values", "/label//values"));
        assert!(!matches("/label/{name}/values", "/label/a/values/"));
        assert!(!matches("/label", "/labels"));
    }
}
