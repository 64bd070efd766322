//! Answers in JSON, which some receivers send whatever they were sent: of `ExportTraceServiceResponse` what matters, by its
//! names in JSON and in protobuf. A text with anything wrong in it is none, as with the binary form.

use std::borrow::Cow;

use super::PartialSuccess;

/// No answer has values so deep in others.
const DEEPEST: u32 = 32;

impl<'a> PartialSuccess<'a> {
    /// None if `body` is not JSON, or not the message it should be. Of what is there twice the last counts.
    pub(in super::super) fn read_json(body: &'a [u8]) -> Option<Self> {
        let mut text = Text { rest: str::from_utf8(body).ok()?.trim_start_matches(is_blank) };
        let mut partial = Self::default();
        text.object(0, |text, name| {
            if name != "partialSuccess" && name != "partial_success" {
                return text.skip(1);
            }
            partial = Self::default();
            if text.rest.starts_with("null") {
                return text.skip(1);
            }
            text.object(1, |text, name| {
                match &*name {
                    "rejectedSpans" | "rejected_spans" => partial.rejected_spans = text.number()?,
                    "errorMessage" | "error_message" if text.rest.starts_with("null") => {
                        partial.message = Cow::Borrowed("");
                        text.skip(2)?;
                    }
                    "errorMessage" | "error_message" => partial.message = text.string()?,
                    _ => text.skip(2)?,
                }
                Some(())
            })
        })?;
        text.rest.is_empty().then_some(partial)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// What is not read yet, without blanks in front.
struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    /// What follows `beginning`, and the blanks behind it.
    fn expect(&mut self, beginning: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(beginning)?.trim_start_matches(is_blank);
        Some(())
    }

    /// Hands the names of an object to `take`, which reads the value behind each.
    fn object(&mut self, depth: u32, mut take: impl FnMut(&mut Self, Cow<'a, str>) -> Option<()>) -> Option<()> {
        self.list("{", "}", depth, |text| {
            let name = text.string()?;
            text.expect(":")?;
            take(text, name)
        })
    }

    fn list(
        &mut self,
        begin: &str,
        end: &str,
        depth: u32,
        mut take: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.expect(begin).filter(|()| depth < DEEPEST)?;
        if self.expect(end).is_some() {
            return Some(());
        }
        loop {
            take(self)?;
            if self.expect(end).is_some() {
                return Some(());
            }
            self.expect(",")?;
        }
    }

    /// Passes over a value.
    fn skip(&mut self, depth: u32) -> Option<()> {
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth, |text, _| text.skip(depth + 1)),
            b'[' => self.list("[", "]", depth, |text| text.skip(depth + 1)),
            b'"' => self.string().map(drop),
            b't' => self.expect("true"),
            b'f' => self.expect("false"),
            b'n' => self.expect("null"),
            _ => self.digits().map(drop),
        }
    }

    /// A whole number, which may stand in a string, or nothing at all.
    fn number(&mut self) -> Option<i64> {
        if self.rest.starts_with("null") {
            self.skip(1)?;
            return Some(0);
        }
        let text = if self.rest.starts_with('"') { self.string()? } else { self.digits()?.into() };
        text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
        })
    }

    /// The characters of a number.
    fn digits(&mut self) -> Option<&'a str> {
        let whole = self.rest;
        let mut rest = whole.strip_prefix('-').unwrap_or(whole);
        let run = |rest: &mut &'a str| {
            let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            let length = rest.len() - behind.len();
            *rest = behind;
            length
        };
        let starts_with_zero = rest.starts_with('0');
        let length = run(&mut rest);
        if length == 0 || starts_with_zero && length > 1 {
            return None;
        }
        if let Some(fraction) = rest.strip_prefix('.') {
            rest = fraction;
            (run(&mut rest) > 0).then_some(())?;
        }
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            rest = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            (run(&mut rest) > 0).then_some(())?;
        }
        let number = &whole[..whole.len() - rest.len()];
        self.rest = rest.trim_start_matches(is_blank);
        Some(number)
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let begun = self.rest.strip_prefix('"')?;
        let mut rest = begun;
        let mut unescaped: Option<String> = None;
        loop {
            let at = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ')?;
            let (plain, mark) = rest.split_at(at);
            if let Some(unescaped) = &mut unescaped {
                unescaped.push_str(plain);
            }
            rest = &mark[1..];
            match mark.as_bytes()[0] {
                b'"' => {
                    self.rest = rest.trim_start_matches(is_blank);
                    return Some(unescaped.map_or(Cow::Borrowed(plain), Cow::Owned));
                }
                b'\\' => unescaped.get_or_insert_with(|| plain.to_owned()).push(escaped(&mut rest)?),
                _ => return None,
            }
        }
    }
}

/// The character that stands behind a backslash.
fn escaped(rest: &mut &str) -> Option<char> {
    let kind = rest.chars().next()?;
    *rest = &rest[kind.len_utf8()..];
    Some(match kind {
        '"' | '\\' | '/' => kind,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let first = unit(rest)?;
            if !(0xD800..0xDC00).contains(&first) {
                return char::from_u32(first);
            }
            *rest = rest.strip_prefix("\\u")?;
            let second = unit(rest)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            return char::from_u32(0x10000 + ((first - 0xD800) << 10) + second);
        }
        _ => return None,
    })
}

/// Four hexadecimal digits.
fn unit(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::hostile::{assert_linear_in, mutated};

    fn read(text: &str) -> Option<(i64, String)> {
        PartialSuccess::read_json(text.as_bytes()).map(|partial| (partial.rejected_spans, partial.message.into_owned()))
    }

    #[test]
    fn a_number_of_rejected_spans_is_read_as_a_number_and_as_text() {
        // RTY-06
        for (text, expected) in [
            (r#"{}"#, Some((0, ""))),
            (r#" {"partialSuccess":{"rejectedSpans":3,"errorMessage":"no"}} "#, Some((3, "no"))),
            (
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"a\"\u00e9\ud83d\ude00\n"}}"#,
                Some((3, "a\"é😀\n")),
            ),
            (r#"{"partial_success":{"rejected_spans":2.0e0,"error_message":null}}"#, Some((2, ""))),
            (r#"{"partialSuccess":null,"other":[1,{"x":[true,false,null,-0.5e-3]}]}"#, Some((0, ""))),
            (r#"{"partialSuccess":{"rejectedSpans":3},"partialSuccess":{}}"#, Some((0, ""))),
            (r#"{"partialSuccess":{"rejectedSpans":"x"}}"#, None),
            (r#"{"partialSuccess":{"rejectedSpans":1.5}}"#, None),
            (r#"{"partialSuccess":3}"#, None),
            (r#"{"partialSuccess":{"rejectedSpans":03}}"#, None),
            (r#"{"partialSuccess":{"rejectedSpans":3}"#, None),
            (r#"{"partialSuccess":{"rejectedSpans":3}} x"#, None),
            (r#"{"a":"\ud83d"}"#, None),
            ("OK", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected.map(|(rejected, message)| (rejected, message.to_owned())), "{text}");
        }
    }

    /// What another reader makes of it.
    fn model(value: &Value) -> Option<(i64, String)> {
        let either = |object: &Value, names: [&str; 2]| {
            names.iter().find_map(|name| object.get(name).cloned()).unwrap_or(Value::Null)
        };
        value.as_object()?;
        let partial = either(value, ["partialSuccess", "partial_success"]);
        if partial.is_null() {
            return Some((0, String::new()));
        }
        partial.as_object()?;
        let rejected = match either(&partial, ["rejectedSpans", "rejected_spans"]) {
            Value::Null => 0,
            Value::String(text) => text.parse().ok()?,
            number => number.as_i64()?,
        };
        match either(&partial, ["errorMessage", "error_message"]) {
            Value::Null => Some((rejected, String::new())),
            Value::String(message) => Some((rejected, message)),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn an_answer_reads_as_it_was_written(rejected: i64, message: String, is_text: bool) {
            // RTY-06
            let number = if is_text { json!(rejected.to_string()) } else { json!(rejected) };
            let answer = json!({ "partialSuccess": { "rejectedSpans": number, "errorMessage": message } });
            prop_assert_eq!(read(&answer.to_string()), Some((rejected, message)));
        }

        #[test]
        fn whatever_comes_is_read_as_another_reader_reads_it(
            body in mutated(prop_oneof![
                (any::<i32>(), ".{0,8}").prop_map(|(rejected, message)| {
                    json!({ "partialSuccess": { "rejectedSpans": rejected, "errorMessage": message } }).to_string()
                }),
                Just(r#"{"a":[1.5e3,-0,true,null,{"b":"\u00e9\ud83d\ude00"}],"partialSuccess":{"rejectedSpans":"7"}}"#.to_owned()),
            ].prop_map(String::into_bytes)),
        ) {
            // RTY-06, RTY-11
            let ours = PartialSuccess::read_json(&body);
            // Numbers with points and exponents, and what is there twice, are read more freely here.
            match serde_json::from_slice::<Value>(&body) {
                Ok(theirs) => {
                    if let Some(expected) = model(&theirs) {
                        let ours = ours.map(|partial| (partial.rejected_spans, partial.message.into_owned()));
                        prop_assert_eq!(ours, Some(expected));
                    }
                }
                Err(error) => prop_assert!(ours.is_none() || error.to_string().contains("out of range"), "{error}"),
            }
        }
    }

    #[test]
    fn depth_is_bounded_and_time_is_in_proportion_to_length() {
        // RTY-11
        let deep = |times: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(times), "]".repeat(times));
        assert!(read(&deep(20)).is_some() && read(&deep(100)).is_none() && read(&"[".repeat(1 << 20)).is_none());
        type Make = fn(usize) -> Vec<u8>;
        let bodies: [(&str, Make); 3] = [
            ("a long message", |bytes| {
                json!({ "partialSuccess": { "errorMessage": "é\n".repeat(bytes / 4) } }).to_string().into()
            }),
            ("many names", |bytes| format!("{{{}\"b\":1}}", "\"a\":1,".repeat(bytes / 6)).into()),
            ("many blanks", |bytes| format!("{{{}}}", " ".repeat(bytes)).into()),
        ];
        for (what, make) in bodies {
            assert_linear_in(what, make, |body| PartialSuccess::read_json(body).is_some());
        }
    }
}
