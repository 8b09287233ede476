//! Numbers of schemas, compared exactly where they are whole: a bound of 9007199254740993 is one more than
//! 9007199254740992.

use std::cmp::Ordering;

use serde_json::Value;

/// A finite number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Num {
    Whole(i128),
    /// With a fraction, or beyond 38 digits.
    Real(f64),
}

impl Num {
    /// Reads a number; none for other values.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let number = value.as_number()?;
        if let Some(whole) = number.as_i64() {
            return Some(Self::Whole(whole.into()));
        }
        if let Some(whole) = number.as_u64() {
            return Some(Self::Whole(whole.into()));
        }
        number.as_f64().filter(|real| real.is_finite()).map(Self::from_real)
    }

    fn from_real(real: f64) -> Self {
        // Exact: a float without fraction below 2^126 is a whole number of that size.
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        if real.fract() == 0.0 && real.abs() < 8.5e37 { Self::Whole(real as i128) } else { Self::Real(real) }
    }

    #[expect(clippy::cast_precision_loss, reason = "only for comparing with what is no whole number")]
    pub(super) fn to_real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    pub(super) fn is_whole(self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Real(real) => real.fract() == 0.0,
        }
    }

    /// True if this is a multiple of `step`, which is above 0.
    pub(super) fn is_multiple_of(self, step: Self) -> bool {
        match (self, step) {
            (_, Self::Whole(0)) => false,
            (Self::Whole(whole), Self::Whole(step)) => whole % step == 0,
            _ => {
                let times = self.to_real() / step.to_real();
                // 0.3 is meant to be a multiple of 0.1, though no float is exactly either.
                (times - times.round()).abs() < 1e-9 * times.abs().max(1.0)
            }
        }
    }

    /// Returns the smallest whole number that is not below, if it fits.
    pub(super) fn ceil(self) -> Self {
        match self {
            Self::Whole(_) => self,
            Self::Real(real) => Self::from_real(real.ceil()),
        }
    }

    /// Returns the largest whole number that is not above.
    pub(super) fn floor(self) -> Self {
        match self {
            Self::Whole(_) => self,
            Self::Real(real) => Self::from_real(real.floor()),
        }
    }

    /// Returns the number `by` further, where it can be counted.
    pub(super) fn plus(self, by: i128) -> Self {
        match self {
            Self::Whole(whole) => Self::Whole(whole.saturating_add(by)),
            Self::Real(_) => self,
        }
    }

    pub(super) fn to_value(self) -> Value {
        match self {
            Self::Whole(whole) => i64::try_from(whole)
                .map(Value::from)
                .or_else(|_| u64::try_from(whole).map(Value::from))
                .unwrap_or_else(|_| Value::from(self.to_real())),
            Self::Real(real) => Value::from(real),
        }
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Num {}
impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Num {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Whole(_), Self::Real(b)) => self.to_real().total_cmp(b),
            (Self::Real(a), Self::Whole(_)) => a.total_cmp(&other.to_real()),
        }
    }
}

/// True for equal JSON: numbers by value, members in any order.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => Num::of(a) == Num::of(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exact_where_it_counts() {
        let num = |value: Value| Num::of(&value).unwrap();
        assert!(num(json!(9_007_199_254_740_993_i64)) > num(json!(9_007_199_254_740_992_i64)));
        assert_eq!(num(json!(1.0)), num(json!(1)));
        assert!(num(json!(0.3)).is_multiple_of(num(json!(0.1))));
        assert!(!num(json!(7)).is_multiple_of(num(json!(2))));
        assert!(equal(&json!({"a": [1.0], "b": null}), &json!({"b": null, "a": [1]})));
        assert!(!equal(&json!([1]), &json!([true])));
        assert_eq!(num(json!(-0.5)).ceil(), num(json!(0)));
    }
}
