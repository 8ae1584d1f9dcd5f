//! `/api/v2/silences` and `/api/v2/silence/{id}`.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use rand::RngCore as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_alerting::notify::message::format_time;
use tidemark_alerting::notify::silence::{Silence, SilenceError, SilenceMatcher, SilenceState};

use super::{bad_request, failed, filter, flag, params, parse_time, read, with_notifier};
use crate::http::error::ApiError;
use crate::http::state::OpenAlerting;

/// A silence in a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<SilenceMatcher>,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
}

pub(super) async fn list(alerting: OpenAlerting, uri: Uri) -> Result<Response, ApiError> {
    let params = params(&uri)?;
    let filter = filter(&params)?;
    let wanted = [
        (SilenceState::Active, flag(&params, "active", true)),
        (SilenceState::Pending, flag(&params, "pending", true)),
        (SilenceState::Expired, flag(&params, "expired", true)),
    ];
    let answer = with_notifier(alerting, move |notifier, now_ms| {
        let mut silences: Vec<&Silence> = notifier
            .silences()
            .iter()
            .filter(|silence| wanted.contains(&(silence.state(now_ms), true)))
            .filter(|silence| {
                filter.iter().all(|matcher| {
                    let value = silence
                        .matchers
                        .iter()
                        .find(|own| own.name == matcher.name());
                    matcher.matches(value.map_or("", |own| &own.value))
                })
            })
            .collect();
        // Active silences first, by their end; then pending ones by their start; then expired ones, latest end first.
        silences.sort_by_key(|silence| {
            let state = silence.state(now_ms);
            let key = match state {
                SilenceState::Active => silence.ends_at_ms,
                SilenceState::Pending => silence.starts_at_ms,
                SilenceState::Expired => -silence.ends_at_ms,
            };
            (state, key, silence.id.clone())
        });
        Ok(silences
            .into_iter()
            .map(|silence| silence_json(silence, now_ms))
            .collect::<Value>())
    })
    .await?;
    Ok(Json(answer).into_response())
}

fn silence_json(silence: &Silence, now_ms: i64) -> Value {
    json!({
        "id": silence.id,
        "status": { "state": silence.state(now_ms).as_str() },
        "updatedAt": format_time(silence.updated_at_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": format_time(silence.ends_at_ms),
        "matchers": silence.matchers,
        "startsAt": format_time(silence.starts_at_ms),
    })
}

pub(super) async fn post(
    alerting: OpenAlerting,
    body: axum::body::Bytes,
) -> Result<Response, ApiError> {
    let posted: PostedSilence = read(&body, "silence")?;
    if posted.matchers.is_empty() {
        let message = "matchers in body should have at least 1 items".to_owned();
        return Err(failed(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let silence = Silence {
        id: posted.id.unwrap_or_default(),
        matchers: posted.matchers,
        starts_at_ms: parse_time(&posted.starts_at)?,
        ends_at_ms: parse_time(&posted.ends_at)?,
        updated_at_ms: 0,
        created_by: posted.created_by,
        comment: posted.comment,
    };
    let answer = with_notifier(alerting, move |notifier, now_ms| {
        if silence.ends_at_ms < silence.starts_at_ms {
            return Err(bad_request(
                "failed to create silence: start time must be before end time",
            ));
        }
        if silence.ends_at_ms < now_ms {
            return Err(bad_request(
                "failed to create silence: end time can't be in the past",
            ));
        }
        let id = notifier
            .silences_mut()
            .set(silence, uuid(), now_ms)
            .map_err(silence_error)?;
        Ok(json!({ "silenceID": id }))
    })
    .await?;
    Ok(Json(answer).into_response())
}

pub(super) async fn show(
    alerting: OpenAlerting,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    check_id(&id)?;
    let answer = with_notifier(alerting, move |notifier, now_ms| {
        match notifier.silences().get(&id) {
            Some(silence) => Ok(silence_json(silence, now_ms)),
            None => Err(silence_error(SilenceError::NotFound(id))),
        }
    })
    .await?;
    Ok(Json(answer).into_response())
}

pub(super) async fn expire(
    alerting: OpenAlerting,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    check_id(&id)?;
    with_notifier(alerting, move |notifier, now_ms| {
        notifier
            .silences_mut()
            .expire(&id, now_ms)
            .map_err(silence_error)
    })
    .await?;
    Ok(StatusCode::OK.into_response())
}

fn silence_error(error: SilenceError) -> ApiError {
    let status = match &error {
        SilenceError::NotFound(_) => StatusCode::NOT_FOUND,
        SilenceError::Invalid(_) | SilenceError::Limit(_) => StatusCode::BAD_REQUEST,
        SilenceError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    failed(status, crate::report::chain(&error))
}

fn check_id(id: &str) -> Result<(), ApiError> {
    let is_dash = |index: usize| matches!(index, 8 | 13 | 18 | 23);
    let is_good = |(index, byte): (usize, u8)| match byte {
        b'-' => is_dash(index),
        byte => byte.is_ascii_hexdigit() && !is_dash(index),
    };
    if id.len() == 36 && id.bytes().enumerate().all(is_good) {
        return Ok(());
    }
    let message = format!("silenceID in path must be of type uuid: {id:?}");
    Err(failed(StatusCode::UNPROCESSABLE_ENTITY, message))
}

/// A random UUID, version 4.
fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |start: usize, end: usize| hex.get(start..end).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}
