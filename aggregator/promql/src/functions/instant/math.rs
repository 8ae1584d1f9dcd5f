//! Rounding, clamping and other arithmetic on one value.

use crate::eval::series::MISSING;

/// `sgn(v)`: keeps NaN and the sign of zero.
pub(crate) fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        value
    }
}

/// `deg(v)`
pub(crate) fn degrees(radians: f64) -> f64 {
    radians * 180.0 / std::f64::consts::PI
}

/// `rad(v)`
pub(crate) fn radians(degrees: f64) -> f64 {
    degrees * std::f64::consts::PI / 180.0
}

/// `round(v, to)`: rounds half up, also below zero, to multiples of `to`.
pub(crate) fn round(value: f64, to: f64) -> f64 {
    // The inverse of a fraction such as 0.1 is exact where the fraction is not.
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// `clamp(v, min, max)`: has no value when the bounds are in the wrong order.
pub(crate) fn clamp(value: f64, min: f64, max: f64) -> f64 {
    if max < min {
        return MISSING;
    }
    larger(min, smaller(max, value))
}

/// `clamp_min(v, min)`
pub(crate) fn clamp_min(value: f64, min: f64) -> f64 {
    larger(min, value)
}

/// `clamp_max(v, max)`
pub(crate) fn clamp_max(value: f64, max: f64) -> f64 {
    smaller(max, value)
}

/// Go's `math.Max`: NaN if either is NaN, except that +Inf wins against NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`: NaN if either is NaN, except that -Inf wins against NaN.
fn smaller(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::series::is_missing;

    #[test]
    fn rounding_is_half_up_on_both_sides_of_zero() {
        assert_eq!(round(0.5, 1.0), 1.0);
        assert_eq!(round(-0.5, 1.0), 0.0);
        assert_eq!(round(-1.5, 1.0), -1.0);
        assert_eq!(round(5.25, 0.1), 5.3);
    }

    #[test]
    fn clamp_with_bounds_in_wrong_order_has_no_value() {
        assert!(is_missing(clamp(1.0, 2.0, 1.0)));
        assert!(clamp(1.0, f64::NAN, 2.0).is_nan());
        assert_eq!(clamp(5.0, 0.0, 2.0), 2.0);
    }
}
