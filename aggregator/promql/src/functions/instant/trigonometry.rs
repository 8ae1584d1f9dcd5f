//! Sine, cosine, tangent and their inverses. They use the formulas and coefficients of Go's `math` package (from the Cephes
//! library), so that results equal those of Prometheus to the last bit. The C library differs for one value in some hundred.

#![expect(
    clippy::excessive_precision,
    clippy::many_single_char_names,
    clippy::suboptimal_flops,
    clippy::unreadable_literal,
    reason = "coefficients as published; a fused multiplication would round otherwise than Go does"
)]

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

/// Evaluates a polynomial; the coefficient of the highest power comes first.
fn polynomial<const N: usize>(z: f64, coefficients: [f64; N]) -> f64 {
    coefficients
        .into_iter()
        .reduce(|sum, coefficient| sum * z + coefficient)
        .unwrap_or(0.0)
}

/// From here on, reduction by three parts of π/4 is not accurate enough.
const LARGE: f64 = (1_u64 << 29) as f64;
const PI4_PARTS: [f64; 3] = [
    7.85398125648498535156e-1,
    3.77489470793079817668e-8,
    2.69515142907905952645e-15,
];

/// The binary digits of 4/π.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

/// Returns the octant of `x`, which is finite and above 0, and the remainder, between about -π/4 and π/4.
fn reduce(x: f64) -> (u64, f64) {
    if x >= LARGE {
        return reduce_large(x);
    }
    let mut octant = (x * (4.0 / PI)) as u64;
    octant += octant & 1;
    let y = octant as f64;
    let [a, b, c] = PI4_PARTS;
    (octant & 7, ((x - y * a) - y * b) - y * c)
}

/// Payne-Hanek reduction: multiplies only the digits of 4/π that matter.
fn reduce_large(x: f64) -> (u64, f64) {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as usize;
    let fraction = (bits & ((1 << 52) - 1)) | (1 << 52);
    let (digit, shift) = ((exponent - 1014) / 64, ((exponent - 1014) % 64) as u32);
    let word = |at: usize| {
        let next = FOUR_OVER_PI[at + 1].checked_shr(64 - shift).unwrap_or(0);
        (FOUR_OVER_PI[at] << shift) | next
    };
    let product = |at: usize| u128::from(word(at)) * u128::from(fraction);
    let sum = ((u128::from(word(digit).wrapping_mul(fraction))) << 64)
        .wrapping_add(product(digit + 1))
        .wrapping_add(product(digit + 2) >> 64);
    let mut octant = (sum >> 125) as u64;
    let high = (sum >> 61) as u64;
    let zeros = high.leading_zeros();
    // As in Go, the lower bits are three positions off, which shows only just above a multiple of π/2.
    let rest = (u128::from(high) << 64) | u128::from(sum as u64);
    let mantissa = (rest << zeros << 1) >> 76;
    let mut z = f64::from_bits((mantissa as u64) | (u64::from(1022 - zeros) << 52));
    if octant & 1 == 1 {
        octant = (octant + 1) & 7;
        z -= 1.0;
    }
    (octant, z * FRAC_PI_4)
}

fn near_sine(z: f64) -> f64 {
    let zz = z * z;
    let sum = polynomial(
        zz,
        [
            1.58962301576546568060e-10,
            -2.50507477628578072866e-8,
            2.75573136213857245213e-6,
            -1.98412698295895385996e-4,
            8.33333333332211858878e-3,
            -1.66666666666666307295e-1,
        ],
    );
    z + z * zz * sum
}

fn near_cosine(z: f64) -> f64 {
    let zz = z * z;
    let sum = polynomial(
        zz,
        [
            -1.13585365213876817300e-11,
            2.08757008419747316778e-9,
            -2.75573141792967388112e-7,
            2.48015872888517045348e-5,
            -1.38888888888730564116e-3,
            4.16666666666665929218e-2,
        ],
    );
    1.0 - 0.5 * zz + zz * zz * sum
}

fn negated_if(negative: bool, value: f64) -> f64 {
    if negative { -value } else { value }
}

/// `sin(v)`
pub(crate) fn sin(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return if x.is_infinite() { f64::NAN } else { x };
    }
    let (octant, z) = reduce(x.abs());
    let value = match octant & 3 {
        1 | 2 => near_cosine(z),
        _ => near_sine(z),
    };
    negated_if((x < 0.0) != (octant > 3), value)
}

/// `cos(v)`
pub(crate) fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return f64::NAN;
    }
    let (octant, z) = reduce(x.abs());
    let value = match octant & 3 {
        1 | 2 => near_sine(z),
        _ => near_cosine(z),
    };
    negated_if((octant > 3) != (octant & 3 > 1), value)
}

/// `tan(v)`
pub(crate) fn tan(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return if x.is_infinite() { f64::NAN } else { x };
    }
    let (octant, z) = reduce(x.abs());
    let zz = z * z;
    let mut value = z;
    if zz > 1e-14 {
        let above = [
            -1.30936939181383734205e4,
            1.15351664838587416140e6,
            -1.79565251976484877988e7,
        ];
        let below = [
            1.0,
            1.36812963470692954678e4,
            -1.32089234440210967447e6,
            2.50083801823357915839e7,
            -5.38695755929454629881e7,
        ];
        value = z + z * (zz * polynomial(zz, above) / polynomial(zz, below));
    }
    if octant & 2 == 2 {
        value = -1.0 / value;
    }
    negated_if(x < 0.0, value)
}

/// Returns the arc tangent of a value between 0 and 0.66.
fn near_atan(x: f64) -> f64 {
    let z = x * x;
    let above = [
        -8.750608600031904122785e-01,
        -1.615753718733365076637e+01,
        -7.500855792314704667340e+01,
        -1.228866684490136173410e+02,
        -6.485021904942025371773e+01,
    ];
    let below = [
        1.0,
        2.485846490142306297962e+01,
        1.650270098316988542046e+02,
        4.328810604912902668951e+02,
        4.853903996359136964868e+02,
        1.945506571482613964425e+02,
    ];
    x * (z * polynomial(z, above) / polynomial(z, below)) + x
}

/// Returns the arc tangent of a value that is not negative.
fn positive_atan(x: f64) -> f64 {
    /// The rounding error of the constant for π/2.
    const MORE: f64 = 6.123233995736765886130e-17;
    const TAN_3_PI_8: f64 = 2.41421356237309504880;
    if x <= 0.66 {
        near_atan(x)
    } else if x > TAN_3_PI_8 {
        FRAC_PI_2 - near_atan(1.0 / x) + MORE
    } else {
        FRAC_PI_4 + near_atan((x - 1.0) / (x + 1.0)) + 0.5 * MORE
    }
}

/// `atan(v)`
pub(crate) fn atan(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    if x > 0.0 {
        positive_atan(x)
    } else {
        -positive_atan(-x)
    }
}

/// `asin(v)`
pub(crate) fn asin(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    let magnitude = x.abs();
    if magnitude > 1.0 || x.is_nan() {
        return f64::NAN;
    }
    let other = (1.0 - magnitude * magnitude).sqrt();
    let value = if magnitude > 0.7 {
        FRAC_PI_2 - positive_atan(other / magnitude)
    } else {
        positive_atan(magnitude / other)
    };
    negated_if(x < 0.0, value)
}

/// `acos(v)`
pub(crate) fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

/// `y atan2 x`: the angle of the point (x, y).
pub(crate) fn atan2(y: f64, x: f64) -> f64 {
    if y == 0.0 || x == 0.0 || !x.is_finite() || !y.is_finite() {
        // IEEE 754 specifies these results.
        return y.atan2(x);
    }
    let angle = atan(y / x);
    if x >= 0.0 {
        angle
    } else if angle <= 0.0 {
        angle + PI
    } else {
        angle - PI
    }
}
