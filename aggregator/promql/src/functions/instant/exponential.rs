//! Exponentials, logarithms, powers and hyperbolic functions. They follow Go's `math` package on amd64, so that results equal
//! those of Prometheus to the last bit.
//!
//! Sources of the formulas: N. Shibata's method for `exp`, FreeBSD's msun for logarithms and inverse hyperbolic
//! functions, Cephes for hyperbolic ones.

#![expect(
    clippy::excessive_precision,
    clippy::many_single_char_names,
    clippy::suboptimal_flops,
    clippy::unreadable_literal,
    reason = "coefficients as published; where Go does not fuse a multiplication, neither may this"
)]

use std::f64::consts::{LN_2, LOG2_E, LOG10_E};

const LN2_HIGH: f64 = 6.93147180369123816490e-01;
const LN2_LOW: f64 = 1.90821492927058770002e-10;

/// Returns `value` times a power of two, rounded once.
fn scale(value: f64, exponent: i32) -> f64 {
    const fn power(exponent: i32) -> f64 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    }
    let exponent = exponent.clamp(-2200, 2200);
    match exponent {
        -1022..=1023 => value * power(exponent),
        // Near zero only the last step may round.
        ..-1022 => {
            let (fraction, own) = split(value);
            let all = exponent + own;
            if all < -1100 {
                return 0.0_f64.copysign(value);
            }
            // The fraction is at least 1/2.
            if all < -1021 {
                fraction * power(-1000) * power(all + 1000)
            } else {
                fraction * 2.0 * power(all - 1)
            }
        }
        _ => {
            let (fraction, own) = split(value);
            let all = exponent + own;
            if all > 1024 {
                return f64::INFINITY.copysign(value);
            }
            if all < -1021 {
                return fraction * power(-1000) * power(all + 1000);
            }
            fraction * 2.0 * power(all - 1)
        }
    }
}

/// Splits a value into a fraction between 1/2 and 1 and a power of two (Go's `math.Frexp`). Zero, infinities and NaN are
/// returned unchanged.
fn split(value: f64) -> (f64, i32) {
    if value == 0.0 || !value.is_finite() {
        return (value, 0);
    }
    let (value, more) = if value.abs() < f64::MIN_POSITIVE {
        (value * (1_u64 << 52) as f64, -52)
    } else {
        (value, 0)
    };
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022 + more;
    let fraction = (bits & !(0x7ff << 52)) | (1022 << 52);
    (f64::from_bits(fraction), exponent)
}

/// `exp(v)`: e to the power of x.
pub(crate) fn exp(x: f64) -> f64 {
    const LN2_UPPER: f64 = 0.69314718055966295651160180568695068359375;
    const LN2_LOWER: f64 = 0.28235290563031577122588448175013436025525412068e-12;
    const OVERFLOW: f64 = 7.09782712893384e+02;
    /// 1/n!, the highest first.
    const TAYLOR: [f64; 8] = [
        2.4801587301587301587e-5,
        1.9841269841269841270e-4,
        1.3888888888888888889e-3,
        8.3333333333333333333e-3,
        4.1666666666666666667e-2,
        1.6666666666666666667e-1,
        0.5,
        1.0,
    ];
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x > OVERFLOW {
        return f64::INFINITY;
    }
    if x < -750.0 {
        return 0.0;
    }
    let twos = (LOG2_E * x).round_ties_even();
    let rest = (-twos).mul_add(LN2_LOWER, (-twos).mul_add(LN2_UPPER, x)) * 0.0625;
    let [first, others @ ..] = TAYLOR;
    let sum = others
        .into_iter()
        .fold(first, |sum, coefficient| sum.mul_add(rest, coefficient));
    // e^x - 1 for a sixteenth of the remainder, squared four times.
    let mut less_one = rest * sum;
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    let value = less_one.mul_add(less_one + 2.0, 1.0);
    // Go's assembly returns infinity from here on, slightly too early.
    if twos > 1023.0 {
        return f64::INFINITY;
    }
    scale(value, twos as i32)
}

/// Evaluates the polynomial that all logarithms share, for 1 + f with `s` = f / (2 + f).
fn log_rest(s: f64) -> f64 {
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2
        * (6.666666666666735130e-01
            + s4 * (2.857142874366239149e-01
                + s4 * (1.818357216161805012e-01 + s4 * 1.479819860511658591e-01)));
    let even = s4
        * (3.999999999940941908e-01
            + s4 * (2.222219843214978396e-01 + s4 * 1.531383769920937332e-01));
    odd + even
}

/// `ln(v)`: the natural logarithm.
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    // Like Go's assembly, treats denormal numbers as if they had an implicit leading bit.
    let mut twos = (x.to_bits() >> 52) as i32 - 1022;
    let mut fraction = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1022 << 52));
    if fraction < std::f64::consts::FRAC_1_SQRT_2 {
        fraction *= 2.0;
        twos -= 1;
    }
    let f = fraction - 1.0;
    let k = f64::from(twos);
    let s = f / (2.0 + f);
    let half = 0.5 * f * f;
    k * LN2_HIGH - ((half - (s * (half + log_rest(s)) + k * LN2_LOW)) - f)
}

/// `log2(v)`
pub(crate) fn log2(x: f64) -> f64 {
    let (fraction, exponent) = split(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * LOG2_E + f64::from(exponent)
}

/// `log10(v)`
pub(crate) fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

/// Returns powers for which IEEE 754 or Go specify a value.
fn special_power(x: f64, y: f64) -> Option<f64> {
    let special = y == 0.0
        || x == 1.0
        || x == 0.0
        || !x.is_finite()
        || !y.is_finite()
        || (x < 0.0 && y.trunc() != y);
    if special {
        return Some(x.powf(y));
    }
    if y == 1.0 {
        return Some(x);
    }
    if y == 0.5 {
        return Some(x.sqrt());
    }
    if y == -0.5 {
        return Some(1.0 / x.sqrt());
    }
    if y.abs() >= (1_u64 << 63) as f64 {
        let small = x.abs() < 1.0;
        return Some(match () {
            () if x == -1.0 => 1.0,
            () if small == (y > 0.0) => 0.0,
            () => f64::INFINITY,
        });
    }
    None
}

/// `x ^ y`: by squaring for the integer part of y, by logarithms for its fraction.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    if let Some(value) = special_power(x, y) {
        return value;
    }
    let mut whole = y.abs().trunc();
    let mut rest = y.abs() - whole;
    let mut value = 1.0;
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        value = exp(rest * ln(x));
    }
    let mut exponent = 0_i64;
    let (mut base, twos) = split(x);
    let mut base_exponent = i64::from(twos);
    let mut left = whole as u64;
    while left != 0 {
        if base_exponent.abs() > 1 << 12 {
            // The result overflows or underflows in any case.
            exponent += base_exponent;
            break;
        }
        if left & 1 == 1 {
            value *= base;
            exponent += base_exponent;
        }
        base *= base;
        base_exponent <<= 1;
        if base < 0.5 {
            base += base;
            base_exponent -= 1;
        }
        left >>= 1;
    }
    if y < 0.0 {
        value = 1.0 / value;
        exponent = -exponent;
    }
    scale(value, exponent.clamp(-10_000, 10_000) as i32)
}

/// Returns the logarithm of 1 + x, accurate near 0.
fn ln_1p(x: f64) -> f64 {
    const SQRT2_LESS_1: f64 = 4.142135623730950488017e-01;
    const HALF_SQRT2_LESS_1: f64 = -2.928932188134524755992e-01;
    const FRACTION: u64 = (1 << 52) - 1;
    if x < -1.0 || x.is_nan() {
        return f64::NAN;
    }
    if x == -1.0 || x == f64::INFINITY {
        return if x < 0.0 { f64::NEG_INFINITY } else { x };
    }
    let size = x.abs();
    if size < 1.0 / (1_u64 << 29) as f64 {
        let tiny = size < 1.0 / (1_u64 << 54) as f64;
        return if tiny { x } else { x - x * x * 0.5 };
    }
    let near = size < SQRT2_LESS_1 && x > HALF_SQRT2_LESS_1;
    let (mut f, mut k, mut correction, mut bits) = (x, 0.0, 0.0, 1_u64);
    if !near {
        let sum = if size < (1_u64 << 53) as f64 {
            1.0 + x
        } else {
            x
        };
        bits = sum.to_bits();
        let mut twos = (bits >> 52) as i64 - 1023;
        if size < (1_u64 << 53) as f64 {
            let lost = if twos > 0 {
                1.0 - (sum - x)
            } else {
                x - (sum - 1.0)
            };
            correction = lost / sum;
        }
        bits &= FRACTION;
        let fraction = if bits < 0x0006_a09e_667f_3bcd {
            f64::from_bits(bits | 0x3ff0_0000_0000_0000)
        } else {
            twos += 1;
            let fraction = f64::from_bits(bits | 0x3fe0_0000_0000_0000);
            bits = ((1 << 52) - bits) >> 2;
            fraction
        };
        f = fraction - 1.0;
        k = twos as f64;
    }
    let half = 0.5 * f * f;
    if bits == 0 {
        if f == 0.0 {
            return k * LN2_HIGH + (correction + k * LN2_LOW);
        }
        let rest = half * (1.0 - 0.66666666666666666 * f);
        return k * LN2_HIGH - ((rest - (k * LN2_LOW + correction)) - f);
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let rest = z
        * (6.666666666666735130e-01
            + z * (3.999999999940941908e-01
                + z * (2.857142874366239149e-01
                    + z * (2.222219843214978396e-01
                        + z * (1.818357216161805012e-01
                            + z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01))))));
    if near {
        return f - (half - s * (half + rest));
    }
    k * LN2_HIGH - ((half - (s * (half + rest) + (k * LN2_LOW + correction))) - f)
}

fn negated_if(negative: bool, value: f64) -> f64 {
    if negative { -value } else { value }
}

/// `sinh(v)`
pub(crate) fn sinh(x: f64) -> f64 {
    const P: [f64; 4] = [
        -0.2630563213397497062819489e+2,
        -0.2894211355989563807284660366e+4,
        -0.8991272022039509355398013511e+5,
        -0.6307673640497716991184787251e+6,
    ];
    const Q: [f64; 3] = [
        -0.173678953558233699533450911e+3,
        0.1521517378790019070696485176e+5,
        -0.6307673640497716991212077277e+6,
    ];
    // Keeps negative zero.
    let size = if x < 0.0 { -x } else { x };
    let value = if size > 21.0 {
        exp(size) * 0.5
    } else if size > 0.5 {
        let power = exp(size);
        (power - 1.0 / power) * 0.5
    } else {
        let z = size * size;
        let above = (((P[0] * z + P[1]) * z + P[2]) * z + P[3]) * size;
        above / (((z + Q[0]) * z + Q[1]) * z + Q[2])
    };
    negated_if(x < 0.0, value)
}

/// `cosh(v)`
pub(crate) fn cosh(x: f64) -> f64 {
    let size = x.abs();
    let power = exp(size);
    if size > 21.0 {
        return power * 0.5;
    }
    (power + 1.0 / power) * 0.5
}

/// `tanh(v)`
pub(crate) fn tanh(x: f64) -> f64 {
    const P: [f64; 3] = [
        -9.64399179425052238628e-1,
        -9.92877231001918586564e1,
        -1.61468768441708447952e3,
    ];
    const Q: [f64; 3] = [
        1.12811678491632931402e2,
        2.23548839060100448583e3,
        4.84406305325125486048e3,
    ];
    const MAX: f64 = 8.8029691931113054295988e+01;
    let size = x.abs();
    if size > 0.5 * MAX {
        return 1.0_f64.copysign(x);
    }
    if size >= 0.625 {
        return negated_if(x < 0.0, 1.0 - 2.0 / (exp(2.0 * size) + 1.0));
    }
    if x == 0.0 {
        return x;
    }
    let z = x * x;
    x + x * z * ((P[0] * z + P[1]) * z + P[2]) / (((z + Q[0]) * z + Q[1]) * z + Q[2])
}

const NEAR_ZERO: f64 = 1.0 / (1_u64 << 28) as f64;
const LARGE: f64 = (1_u64 << 28) as f64;

/// `asinh(v)`
pub(crate) fn asinh(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let size = x.abs();
    let value = if size > LARGE {
        ln(size) + LN_2
    } else if size > 2.0 {
        ln(2.0 * size + 1.0 / ((size * size + 1.0).sqrt() + size))
    } else if size < NEAR_ZERO {
        size
    } else {
        ln_1p(size + size * size / (1.0 + (1.0 + size * size).sqrt()))
    };
    value.copysign(x)
}

/// `acosh(v)`
pub(crate) fn acosh(x: f64) -> f64 {
    if x < 1.0 || x.is_nan() {
        return f64::NAN;
    }
    if x == 1.0 {
        return 0.0;
    }
    if x >= LARGE {
        return ln(x) + LN_2;
    }
    if x > 2.0 {
        return ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()));
    }
    let more = x - 1.0;
    ln_1p(more + (2.0 * more + more * more).sqrt())
}

/// `atanh(v)`
pub(crate) fn atanh(x: f64) -> f64 {
    let size = x.abs();
    if size > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    let value = if size == 1.0 {
        f64::INFINITY
    } else if size < NEAR_ZERO {
        size
    } else if size < 0.5 {
        let twice = size + size;
        0.5 * ln_1p(twice + twice * size / (1.0 - size))
    } else {
        0.5 * ln_1p((size + size) / (1.0 - size))
    };
    value.copysign(x)
}
