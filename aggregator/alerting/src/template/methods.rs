//! Fields and methods of values.

use super::gotime::{format_time, month_name, weekday_name};
use super::value::Value;

/// Resolves the field or method `name` of `receiver`.
pub(super) fn field_or_method(
    receiver: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, String> {
    let method = match receiver {
        Value::List(kind, _) | Value::Map(kind, _) | Value::Struct(kind, _) => {
            (kind.methods)(receiver, name, args)
        }
        Value::Time(time) => time_method(time, name, args),
        Value::Duration(nanos) => duration_method(*nanos, name),
        _ => None,
    };
    if let Some(result) = method {
        return result.map_err(|message| format!("error calling {name}: {message}"));
    }
    match receiver {
        Value::Struct(..) => match receiver.struct_field(name) {
            Some(_) if !args.is_empty() => Err(format!(
                "{name} has arguments but cannot be invoked as function"
            )),
            Some(value) => Ok(value.clone()),
            None => Err(format!(
                "can't evaluate field {name} in type {}",
                receiver.type_name()
            )),
        },
        Value::Map(..) if !args.is_empty() => {
            Err(format!("{name} is not a method but has arguments"))
        }
        Value::Map(kind, map) => {
            let absent = if kind.text_elements {
                Value::text("")
            } else {
                Value::Nil
            };
            Ok(map.get(name).cloned().unwrap_or(absent))
        }
        Value::Nil => Err(format!("nil data; no entry for key {name:?}")),
        _ => Err(format!(
            "can't evaluate field {name} in type {}",
            receiver.type_name()
        )),
    }
}

fn time_method(time: &jiff::Zoned, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let other = || match args.first() {
        Some(Value::Time(other)) => Ok(other.timestamp()),
        _ => Err("wrong type for value; expected time.Time".to_owned()),
    };
    Some(Ok(match name {
        "Format" => {
            let Some(layout) = args.first().and_then(Value::as_text) else {
                return Some(Err(
                    "wrong number of args for Format: want 1 got 0".to_owned()
                ));
            };
            Value::text(format_time(time, layout))
        }
        "String" => Value::text(format_time(time, super::gotime::STRING_LAYOUT)),
        "UTC" => Value::Time(std::sync::Arc::new(
            time.timestamp().to_zoned(jiff::tz::TimeZone::UTC),
        )),
        "Local" => Value::Time(std::sync::Arc::new(
            time.timestamp().to_zoned(jiff::tz::TimeZone::system()),
        )),
        "Unix" => Value::Int(time.timestamp().as_second()),
        "UnixMilli" => Value::Int(time.timestamp().as_millisecond()),
        "UnixNano" => {
            Value::Int(i64::try_from(time.timestamp().as_nanosecond()).unwrap_or(i64::MIN))
        }
        "Year" => Value::Int(i64::from(time.year())),
        "Month" => Value::text(month_name(time)),
        "Day" => Value::Int(i64::from(time.day())),
        "YearDay" => Value::Int(i64::from(time.day_of_year())),
        "Weekday" => Value::text(weekday_name(time)),
        "Hour" => Value::Int(i64::from(time.hour())),
        "Minute" => Value::Int(i64::from(time.minute())),
        "Second" => Value::Int(i64::from(time.second())),
        "Nanosecond" => Value::Int(i64::from(time.subsec_nanosecond())),
        "IsZero" => Value::Bool(time.year() == 1 && time.day_of_year() == 1),
        "Add" => match args.first() {
            Some(&Value::Duration(nanos) | &Value::Int(nanos)) => {
                match time.checked_add(jiff::SignedDuration::from_nanos(nanos)) {
                    Ok(sum) => Value::Time(std::sync::Arc::new(sum)),
                    Err(error) => return Some(Err(error.to_string())),
                }
            }
            _ => {
                return Some(Err(
                    "wrong type for value; expected time.Duration".to_owned()
                ));
            }
        },
        "Sub" | "After" | "Before" | "Equal" => match other() {
            Ok(other) => compare(time.timestamp(), other, name),
            Err(message) => return Some(Err(message)),
        },
        _ => return None,
    }))
}

fn compare(time: jiff::Timestamp, other: jiff::Timestamp, name: &str) -> Value {
    match name {
        "After" => Value::Bool(time > other),
        "Before" => Value::Bool(time < other),
        "Equal" => Value::Bool(time == other),
        _ => {
            let nanos = time.as_nanosecond() - other.as_nanosecond();
            let most = i128::from(i64::MAX);
            Value::Duration(i64::try_from(nanos.clamp(-most, most)).unwrap_or(i64::MAX))
        }
    }
}

fn duration_method(nanos: i64, name: &str) -> Option<Result<Value, String>> {
    Some(Ok(match name {
        "Hours" => Value::Float(nanos as f64 / 3.6e12),
        "Minutes" => Value::Float(nanos as f64 / 6e10),
        "Seconds" => Value::Float(nanos as f64 / 1e9),
        "Milliseconds" => Value::Int(nanos / 1_000_000),
        "Microseconds" => Value::Int(nanos / 1_000),
        "Nanoseconds" => Value::Int(nanos),
        "String" => Value::text(super::gotime::format_duration(nanos)),
        _ => return None,
    }))
}
