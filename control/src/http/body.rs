//! Requests by field: JSON objects and queries. A field of the wrong type is refused as a missing one is; two spellings
//! of one field must agree; a key may stand once, at any depth.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http_body_util::BodyExt;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body; an empty one has no fields.
    ///
    /// # Errors
    /// 400 for what is no JSON object, or one with a key twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Fields::default());
        }
        let malformed = |_| ApiError::new(400, "malformed_json", "The body must be a JSON object with each key once.");
        match serde_json::from_slice(bytes).map_err(malformed)? {
            Unique(Value::Object(fields)) => Ok(Fields(fields)),
            Unique(_) => Err(malformed(serde::de::Error::custom("no object"))),
        }
    }

    /// A text by one of its names.
    ///
    /// # Errors
    /// 400 when it is something else, or two names are given with different values.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>, ApiError> {
        match self.value(names)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(ApiError::missing(names[0])),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 400 when it is not, or is not a text.
    pub fn required(&self, names: &[&str]) -> Result<String, ApiError> {
        self.text(names)?.ok_or_else(|| ApiError::missing(names[0]))
    }

    /// A whole number; `None` when absent.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok())) {
                Some(number) => Ok(Some(number)),
                None => Err(ApiError::new(400, "bad_field", format!("{name} must be a whole number."))),
            },
        }
    }

    /// A value as it stands, null included; `None` when absent.
    pub fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Refuses fields of other names than these.
    ///
    /// # Errors
    /// 400 that names the first.
    pub fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
                Err(ApiError::new(400, "unknown_field", format!("{shown} is no field here.")))
            }
        }
    }

    /// What is the same for two requests whose fields are, in whatever order and spacing.
    pub fn digest(&self) -> [u8; 32] {
        crate::secret::digest(&serde_json::to_string(&self.0).unwrap_or_default())
    }

    fn value(&self, names: &[&str]) -> Result<Option<&Value>, ApiError> {
        let mut found = names.iter().filter_map(|name| self.0.get(*name)).filter(|value| !value.is_null());
        let Some(first) = found.next() else { return Ok(None) };
        if found.any(|other| other != first) {
            let message = format!("{} are names of one field and differ.", names.join(" and "));
            return Err(ApiError::new(400, "conflicting_fields", message));
        }
        Ok(Some(first))
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Fields::parse(&read(request.into_body()).await?)
    }
}

/// Reads a body to its end, within bytes and time.
async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let too_slow = |_| ApiError::new(408, "body_too_slow", "The body did not arrive in time.");
    tokio::time::timeout(BODY_MAX, read_bytes(body)).await.map_err(too_slow)?
}

async fn read_bytes(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let broken = |_| ApiError::new(400, "body_broken_off", "The body did not arrive as it was announced.");
        let frame = frame.map_err(broken)?;
        let Some(part) = frame.data_ref() else { continue };
        length += part.len();
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(part);
        } else if length > DISCARDED_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX {
        let message = format!("The body must not be larger than {BODY_BYTES_MAX} bytes.");
        return Err(ApiError::new(413, "body_too_large", message));
    }
    Ok(bytes)
}

/// The parts of a query, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryFields(pub Vec<(String, String)>);

impl QueryFields {
    /// A part by one of its names.
    ///
    /// # Errors
    /// 400 when it stands there with different values.
    pub fn text(&self, names: &[&str]) -> Result<Option<&str>, ApiError> {
        let mut found = self.0.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value);
        let Some(first) = found.next() else { return Ok(None) };
        if found.any(|other| other != first) {
            return Err(ApiError::new(400, "conflicting_fields", format!("{} is given twice and differs.", names[0])));
        }
        Ok(Some(first))
    }
}

/// A JSON value whose objects have each key once.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with each key once")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, Unique(value))) = access.next_entry::<String, Unique>()? {
            if fields.insert(key, value).is_some() {
                return Err(serde::de::Error::custom("a key twice"));
            }
        }
        Ok(fields.into())
    }
}

/// 30 s: 1 MiB at 35 kB/s.
const BODY_MAX: Duration = Duration::from_secs(30);

/// 2 MiB: a body that is somewhat too large is read to its end, since a client that still writes may miss the answer.
const DISCARDED_MAX: usize = 2 << 20;

/// 1 MiB: a prompt of 500 pages.
pub const BODY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_any_of_its_names_and_they_must_agree() {
        let fields =
            Fields::parse(br#"{"sid":"CA1","callSid":"CA1","n":3,"m":"4","null":null,"deep":{"a":1}}"#).expect("JSON");
        assert_eq!(fields.text(&["sid", "callSid", "call_id"]).expect("agrees").as_deref(), Some("CA1"));
        assert!(fields.text(&["n"]).is_err(), "the wrong type");
        assert_eq!(fields.integer("n").expect("number"), Some(3));
        assert_eq!(fields.integer("m").expect("number"), Some(4));
        assert_eq!(fields.text(&["null"]).expect("alone"), None);
        let fields = Fields::parse(br#"{"sid":"CA1","callSid":"CA2"}"#).expect("JSON");
        assert!(fields.text(&["sid", "callSid"]).is_err());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in
            ["[]", "1", "{", "{}x", "{\"a\":1,\"a\":2}", "{\"d\":[{\"a\":1,\"a\":1}]}", "nul", "{\"a\":", "\u{feff}{}"]
        {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::parse(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_err());
        assert_eq!(Fields::parse(b" \r\n").expect("empty"), Fields::default());
    }
}
