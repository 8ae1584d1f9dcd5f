//! Date functions: parts of a date in UTC, from seconds since the epoch.

const DAY_SECONDS: u64 = 86_400;

/// Seconds from March 1 of the year -292,277,022,400, where Go's calendar begins, to 1970.
const EPOCH_SECONDS: u64 = 9_223_372_028_741_760_000;
/// The year in which Go's calendar begins.
const YEAR_ZERO: i64 = -292_277_022_400;

/// `minute(v)`
pub(crate) fn minute(seconds: f64) -> f64 {
    (Timestamp::of(seconds).second_of_day / 60 % 60) as f64
}

/// `hour(v)`
pub(crate) fn hour(seconds: f64) -> f64 {
    (Timestamp::of(seconds).second_of_day / 3600) as f64
}

/// `day_of_week(v)`; Sunday is 0.
pub(crate) fn day_of_week(seconds: f64) -> f64 {
    // Day 0 was a Wednesday, like every March 1 that begins 400 years.
    ((Timestamp::of(seconds).days + 3) % 7) as f64
}

/// `day_of_month(v)`
pub(crate) fn day_of_month(seconds: f64) -> f64 {
    Timestamp::of(seconds).date().day as f64
}

/// `day_of_year(v)`; January 1 is 1.
pub(crate) fn day_of_year(seconds: f64) -> f64 {
    let timestamp = Timestamp::of(seconds);
    (timestamp.days - Date::days_to(timestamp.date().year, 1) + 1) as f64
}

/// `days_in_month(v)`
pub(crate) fn days_in_month(seconds: f64) -> f64 {
    Timestamp::of(seconds).date().days_in_month() as f64
}

/// `month(v)`
pub(crate) fn month(seconds: f64) -> f64 {
    Timestamp::of(seconds).date().month as f64
}

/// `year(v)`
pub(crate) fn year(seconds: f64) -> f64 {
    (Timestamp::of(seconds).date().year + YEAR_ZERO) as f64
}

/// A time since March 1 of [`YEAR_ZERO`].
struct Timestamp {
    days: i64,
    second_of_day: i64,
}

impl Timestamp {
    /// Infinities, NaN and what 64 bits cannot hold become the most distant past, as in Go's conversion to `int64`.
    fn of(seconds: f64) -> Self {
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&seconds);
        let seconds = if fits { seconds as i64 } else { i64::MIN };
        let absolute = (seconds as u64).wrapping_add(EPOCH_SECONDS);
        Self {
            days: (absolute / DAY_SECONDS) as i64,
            second_of_day: (absolute % DAY_SECONDS) as i64,
        }
    }

    fn date(&self) -> Date {
        Date::of_days(self.days)
    }
}

/// A day of the proleptic Gregorian calendar; years are counted from [`YEAR_ZERO`].
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Returns the date `days` after March 1 of year 0. Years begin in March, so that the leap day is the last one,
    /// and form eras of 400 years.
    fn of_days(days: i64) -> Self {
        const ERA_DAYS: i64 = 146_097;
        let era = days.div_euclid(ERA_DAYS);
        let day_of_era = days.rem_euclid(ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day }
    }

    /// Returns the days from March 1 of year 0 to the first of a month.
    fn days_to(year: i64, month: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era
    }

    fn days_in_month(&self) -> i64 {
        let (next_year, next_month) = if self.month == 12 {
            (self.year + 1, 1)
        } else {
            (self.year, self.month + 1)
        };
        Self::days_to(next_year, next_month) - Self::days_to(self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: f64, want: [i64; 8]) {
        let functions = [
            year,
            month,
            day_of_month,
            day_of_week,
            day_of_year,
            days_in_month,
            hour,
            minute,
        ];
        let got = functions.map(|function: fn(f64) -> f64| function(seconds) as i64);
        assert_eq!(got, want, "{seconds}");
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        check(0.0, [1970, 1, 1, 4, 1, 31, 0, 0]);
        check(-1.0, [1969, 12, 31, 3, 365, 31, 23, 59]);
        check(1_709_208_000.0, [2024, 2, 29, 4, 60, 29, 12, 0]);
        check(951_782_400.0, [2000, 2, 29, 2, 60, 29, 0, 0]);
        check(4_107_542_399.0, [2100, 2, 28, 0, 59, 28, 23, 59]);
    }
}
