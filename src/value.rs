//! Attribute values: every type OTLP knows, borrowed where the caller has it and owned where it must be.

use std::borrow::Cow;

/// A value of an attribute ([OpenTelemetry `AnyValue`](https://opentelemetry.io/docs/specs/otel/common/#anyvalue)).
///
/// It converts from `&str`, `String`, `bool`, every integer type, `f32`, `f64`, bytes, and arrays, slices and
/// `Vec`s of these. A `u64` or `u128` beyond `i64::MAX` becomes its decimal string, since OTLP integers are
/// signed 64-bit. Borrowed values are encoded where they are and never copied to the heap; an array given by
/// value is, so hot paths better lend a slice (`&values[..]`).
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Value<'a> {
    /// No value: meaningful, and sent as such.
    #[default]
    Empty,
    /// Text.
    String(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// A signed 64-bit integer.
    I64(i64),
    /// A 64-bit float; NaN and the infinities are kept.
    F64(f64),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A homogeneous array of strings.
    Strs(Cow<'a, [&'a str]>),
    /// A homogeneous array of owned strings.
    Strings(Cow<'a, [String]>),
    /// A homogeneous array of booleans.
    Bools(Cow<'a, [bool]>),
    /// A homogeneous array of integers.
    I64s(Cow<'a, [i64]>),
    /// A homogeneous array of floats.
    F64s(Cow<'a, [f64]>),
    /// An array of any values. Nesting beyond 30 levels is replaced by an empty value, since
    /// common decoders would refuse the whole request; the specification's default is 64.
    List(Vec<Value<'a>>),
    /// A map with string keys; of equal keys the last wins. Nesting is limited as in `List`. Recording one of more than
    /// 128 entries allocates.
    Map(Vec<KeyValue<'a>>),
}

/// A named value: an attribute of a span, event, link, scope or resource.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue<'a> {
    /// The attribute's name, case-sensitive. An attribute with an empty name is not recorded.
    pub key: Cow<'a, str>,
    /// The attribute's value.
    pub value: Value<'a>,
}

impl<'a> KeyValue<'a> {
    /// Makes an attribute. Allocates only where a conversion must (for example from `Vec<i32>`).
    pub fn new(key: impl Into<Cow<'a, str>>, value: impl Into<Value<'a>>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// This attribute, owning its text and bytes.
    pub fn into_owned(self) -> KeyValue<'static> {
        KeyValue { key: Cow::Owned(self.key.into_owned()), value: self.value.into_owned() }
    }
}

impl Value<'_> {
    /// This value, owning its text and bytes.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Empty => Value::Empty,
            Self::String(text) => Value::String(Cow::Owned(text.into_owned())),
            Self::Bool(value) => Value::Bool(value),
            Self::I64(value) => Value::I64(value),
            Self::F64(value) => Value::F64(value),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Strs(texts) => Value::Strings(texts.iter().map(|text| (*text).to_owned()).collect()),
            Self::Strings(texts) => Value::Strings(Cow::Owned(texts.into_owned())),
            Self::Bools(values) => Value::Bools(Cow::Owned(values.into_owned())),
            Self::I64s(values) => Value::I64s(Cow::Owned(values.into_owned())),
            Self::F64s(values) => Value::F64s(Cow::Owned(values.into_owned())),
            Self::List(values) => Value::List(values.into_iter().map(Value::into_owned).collect()),
            Self::Map(entries) => Value::Map(entries.into_iter().map(KeyValue::into_owned).collect()),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Value<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f32> for Value<'_> {
    fn from(value: f32) -> Self {
        Self::F64(value.into())
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Value<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Self::Bytes(Cow::Owned(bytes.to_vec()))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

/// Integers that always fit into an `i64`, and arrays of them.
macro_rules! from_small_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value<'_> {
            fn from(value: $integer) -> Self {
                Self::I64(value.into())
            }
        }
    )*};
}

/// Integers that may exceed an `i64`.
macro_rules! from_large_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value<'_> {
            fn from(value: $integer) -> Self {
                i64::try_from(value).map_or_else(|_| Self::from(value.to_string()), Self::I64)
            }
        }
    )*};
}

from_small_integers!(i8, i16, i32, i64, u8, u16, u32);
from_large_integers!(isize, usize, u64, i128, u128);

/// Arrays in every form there is, by way of their slice.
macro_rules! from_arrays_by_slice {
    ($element:ty) => {
        impl From<Vec<$element>> for Value<'_> {
            fn from(values: Vec<$element>) -> Self {
                Self::from(values.as_slice())
            }
        }

        impl<const N: usize> From<[$element; N]> for Value<'_> {
            fn from(values: [$element; N]) -> Self {
                Self::from(values.as_slice())
            }
        }

        impl<const N: usize> From<&[$element; N]> for Value<'_> {
            fn from(values: &[$element; N]) -> Self {
                Self::from(values.as_slice())
            }
        }
    };
}

/// Arrays whose elements have to be widened, one by one: they allocate.
macro_rules! from_widened_arrays {
    ($($element:ty => $variant:ident),*) => {$(
        from_arrays_by_slice!($element);

        impl From<&[$element]> for Value<'_> {
            fn from(values: &[$element]) -> Self {
                Self::$variant(values.iter().map(|value| (*value).into()).collect())
            }
        }
    )*};
}

from_widened_arrays!(i8 => I64s, i16 => I64s, i32 => I64s, u16 => I64s, u32 => I64s, f32 => F64s);

/// Arrays of integers that may exceed an `i64`: if one does, all become decimal strings, so that the array
/// stays of one type.
macro_rules! from_large_arrays {
    ($($element:ty),*) => {$(
        from_arrays_by_slice!($element);

        impl From<&[$element]> for Value<'_> {
            fn from(values: &[$element]) -> Self {
                let narrowed: Result<Vec<i64>, _> = values.iter().map(|value| i64::try_from(*value)).collect();
                narrowed.map_or_else(
                    |_| Self::Strings(values.iter().map(ToString::to_string).collect()),
                    |values| Self::I64s(Cow::Owned(values)),
                )
            }
        }
    )*};
}

from_large_arrays!(isize, usize, u64, i128, u128);

/// Arrays that OTLP has as they are: borrowed from slices, taken over from `Vec`s.
macro_rules! from_native_arrays {
    ($($element:ty => $variant:ident),*) => {$(
        impl From<Vec<$element>> for Value<'_> {
            fn from(values: Vec<$element>) -> Self {
                Self::$variant(Cow::Owned(values))
            }
        }

        impl<'a> From<&'a [$element]> for Value<'a> {
            fn from(values: &'a [$element]) -> Self {
                Self::$variant(Cow::Borrowed(values))
            }
        }

        impl<const N: usize> From<[$element; N]> for Value<'_> {
            fn from(values: [$element; N]) -> Self {
                Self::$variant(Cow::Owned(values.to_vec()))
            }
        }

        impl<'a, const N: usize> From<&'a [$element; N]> for Value<'a> {
            fn from(values: &'a [$element; N]) -> Self {
                Self::$variant(Cow::Borrowed(values))
            }
        }
    )*};
}

from_native_arrays!(bool => Bools, i64 => I64s, f64 => F64s, String => Strings);

impl<'a> From<Vec<&'a str>> for Value<'a> {
    fn from(texts: Vec<&'a str>) -> Self {
        Self::Strs(Cow::Owned(texts))
    }
}

impl<'a> From<&'a [&'a str]> for Value<'a> {
    fn from(texts: &'a [&'a str]) -> Self {
        Self::Strs(Cow::Borrowed(texts))
    }
}

impl<'a, const N: usize> From<[&'a str; N]> for Value<'a> {
    fn from(texts: [&'a str; N]) -> Self {
        Self::Strs(Cow::Owned(texts.to_vec()))
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Value<'a> {
    fn from(texts: &'a [&'a str; N]) -> Self {
        Self::Strs(Cow::Borrowed(texts))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(values: Vec<Value<'a>>) -> Self {
        Self::List(values)
    }
}

impl<'a> From<Vec<KeyValue<'a>>> for Value<'a> {
    fn from(entries: Vec<KeyValue<'a>>) -> Self {
        Self::Map(entries)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_literals_need_no_suffix_and_every_width_converts() {
        assert_eq!(KeyValue::new("n", 1).value, Value::I64(1));
        assert_eq!(Value::from(u32::MAX), Value::I64(i64::from(u32::MAX)));
        assert_eq!(Value::from(7_usize), Value::I64(7));
        assert_eq!(Value::from(i128::MIN), Value::from(i128::MIN.to_string()));
    }

    #[test]
    fn an_integer_beyond_i64_becomes_its_decimal_string() {
        assert_eq!(Value::from(i64::MAX as u64), Value::I64(i64::MAX));
        assert_eq!(Value::from(u64::MAX), Value::from("18446744073709551615"));
        assert_eq!(Value::from([1, u64::MAX]), Value::from(vec!["1".to_owned(), u64::MAX.to_string()]));
    }

    #[test]
    fn borrowed_values_are_not_copied() {
        let text = String::from("dynamic");
        assert!(matches!(Value::from(&text), Value::String(Cow::Borrowed(_))));
        assert!(matches!(Value::from(&["a", "b"]), Value::Strs(Cow::Borrowed(_))));
        assert!(matches!(Value::from(&b"raw"[..]), Value::Bytes(Cow::Borrowed(_))));
        assert!(matches!(Value::from(&[1.5, 2.5]), Value::F64s(Cow::Borrowed(_))));
    }

    #[test]
    fn owning_a_value_keeps_it_equal() {
        let nested = Value::from(vec![Value::from("a"), Value::from(vec![KeyValue::new("k", [1, 2])])]);
        assert_eq!(nested.clone().into_owned(), nested);
    }
}
