//! Bodies of all sizes and encodings, and errors before and after the first chunk.

use std::io::Read as _;

use http_body_util::BodyExt as _;

use super::*;

const fn options(encoding: Encoding) -> StreamOptions {
    StreamOptions {
        encoding,
        content_type: "text/plain",
        stall_max: Duration::from_secs(10),
    }
}

fn write_lines(count: usize) -> impl FnOnce(&mut Sink) -> Result<(), ApiError> + Send {
    move |sink| {
        for line in 0..count {
            sink.text
                .extend_from_slice(format!("line {line}\n").as_bytes());
            sink.flush_chunk()?;
        }
        Ok(())
    }
}

fn expected(count: usize) -> String {
    (0..count).map(|line| format!("line {line}\n")).collect()
}

fn decode(encoding: Option<&str>, body: &[u8]) -> String {
    let mut text = String::new();
    match encoding {
        None => text.push_str(std::str::from_utf8(body).unwrap()),
        Some("gzip") => drop(
            flate2::read::GzDecoder::new(body)
                .read_to_string(&mut text)
                .unwrap(),
        ),
        Some("deflate") => drop(
            flate2::read::ZlibDecoder::new(body)
                .read_to_string(&mut text)
                .unwrap(),
        ),
        Some("zstd") => text = String::from_utf8(zstd::decode_all(body).unwrap()).unwrap(),
        Some(other) => panic!("{other}"),
    }
    text
}

#[tokio::test]
async fn bodies_of_any_size_survive_every_encoding() {
    for encoding in [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
    ] {
        for count in [0, 3, 1000, 50_000] {
            let response = stream(options(encoding), write_lines(count)).await.unwrap();
            let name = response.headers().get(header::CONTENT_ENCODING).cloned();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let name = name.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(decode(name, &body), expected(count), "{encoding:?} {count}");
            let compressed = count >= 1000 && encoding != Encoding::Identity;
            assert_eq!(name.is_some(), compressed, "{encoding:?} {count}");
        }
    }
}

#[tokio::test]
async fn error_before_the_first_chunk_is_returned() {
    let error = stream(options(Encoding::Gzip), |sink| {
        sink.text.extend_from_slice(b"{\"half\":");
        Err(ApiError::bad_data("no"))
    })
    .await
    .unwrap_err();
    assert_eq!(error.to_string(), "no");
}

#[tokio::test]
async fn error_after_the_first_chunk_aborts_the_body() {
    let response = stream(options(Encoding::Identity), |sink| {
        write_lines(50_000)(sink)?;
        Err(ApiError::bad_data("too late"))
    })
    .await
    .unwrap();
    assert_eq!(response.status(), http::StatusCode::OK);
    assert!(response.into_body().collect().await.is_err());
}
